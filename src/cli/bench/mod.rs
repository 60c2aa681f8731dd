//! `ringmail bench`: the load generator. `BENCHMARKS` of the design is its specification.
//!
//! ```text
//!   echo, idle           what is measured: arguments, settings, report
//!     │   target         which server; spawn and process: a server of its own, /proc
//!     ▼
//!   engine ── schedule   closed and open loop      meter ── progress    what comes of it
//!     ▼                                              ▼
//!   fleet ── connection ── flight                  report, plot
//!     ▼
//!   speaker              the protocol: the only part that knows what is said
//! ```
//!
//! Another protocol (a peer's, to compare with) is another `Speaker`; another benchmark is
//! another subcommand beside `echo`.
//!
//! It shares the machine with what it measures, so it is made of one thread, epoll and
//! reused buffers, and reports its own CPU time and its own lateness with every result.

mod connection;
mod echo;
mod engine;
mod fault;
mod fleet;
mod flight;
mod idle;
mod meter;
mod plot;
mod process;
mod progress;
mod report;
mod schedule;
mod spawn;
mod speaker;
mod target;
#[cfg(test)]
mod tests;

use crate::cli::failure::Failure;

/// Arguments of `ringmail bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, clap::Subcommand)]
enum Benchmark {
    Echo(echo::Args),
    Idle(idle::Args),
}

/// Runs a benchmark: the result on standard output, progress on standard error.
///
/// # Errors
/// UNAVAILABLE when the server cannot be reached, PERMISSION when descriptors are short,
/// USAGE for arguments that do not go together, RUNTIME for a fault during the run and for
/// a void result (which is printed nevertheless).
pub fn run(args: &Args) -> Result<(), Failure> {
    match &args.benchmark {
        Benchmark::Echo(args) => echo::run(args),
        Benchmark::Idle(args) => idle::run(args),
    }
}
