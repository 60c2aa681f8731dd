//! Layer 5: the command line. One file per subcommand; arguments are syntax only.
//!
//! - `args`: the one table of subcommands and flags; help, completions and manual pages are
//!   made from it. A new subcommand is a variant there, a line in [`run`] and a file here.
//! - `publish` is the subcommand `pub`, which is a keyword.
//! - `bench` exists with the feature `bench`; without it `without_bench` takes its place, and says
//!   so.
//! - `failure`: how a subcommand fails; `main` turns it into a line and an exit code.
//!
//! Data goes to standard output, everything else to standard error.

mod access;
pub mod args;
#[cfg(feature = "bench")]
pub mod bench;
#[cfg(not(feature = "bench"))]
#[path = "without_bench.rs"]
pub mod bench;
mod check;
mod completions;
mod configuration;
mod duration;
pub mod failure;
mod interrupt;
mod man;
mod peer;
mod ping;
mod publish;
mod reply;
mod req;
mod serve;
mod sub;
mod token;
mod top;

pub use access::conceal;

use args::{Args, Command};
use failure::Failure;

/// Runs the subcommand.
///
/// # Errors
/// What failed, with the process's exit status.
pub fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(args),
        Command::Pub(args) => publish::run(args),
        Command::Sub(args) => sub::run(args),
        Command::Req(args) => req::run(args),
        Command::Reply(args) => reply::run(args),
        Command::Ping(args) => ping::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Token(args) => token::run(args),
        Command::Top(args) => top::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}
