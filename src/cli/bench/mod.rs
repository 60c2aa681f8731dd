//! `ringmail bench`: the load generator. `BENCHMARKS` of the design is its specification.
//!
//! ```text
//!   echo, pubsub, request, idle      what is measured: arguments, settings
//!     │   run                        what measured runs share: pace, window, report
//!     │   participants               who takes part in an exchange (pubsub, request)
//!     │   target                     which server; spawn, process: one of its own, /proc
//!     ▼
//!   engine ── flight                 asking: each answer comes on its own connection
//!   exchange ── window, slow_readers messages go out here and arrive there
//!     │   schedule                   open loops           meter ── progress
//!     ▼                                                     ▼
//!   connections ── connection                             report, plot ── overlay
//!     ▼
//!   speaker, dialect                 the protocols: the only parts that know what is said
//! ```
//!
//! `pool` measures the library's client rather than the server, and so is made of that.
//!
//! Another protocol (a peer's, to compare with) is another `Dialect`, or another `Speaker`
//! if all it has is an echo; another benchmark is another subcommand.
//!
//! It shares the machine with what it measures, so it is made of one thread, epoll and
//! reused buffers, and reports its own CPU time and its own lateness with every result.

mod connection;
mod connections;
mod dialect;
mod echo;
mod engine;
mod exchange;
mod fault;
mod flight;
mod idle;
mod impact;
mod meter;
mod overlay;
mod participants;
mod plot;
mod pool;
mod process;
mod progress;
mod pubsub;
mod report;
mod request;
mod run;
mod schedule;
mod slow_readers;
mod spawn;
mod speaker;
mod target;
#[cfg(test)]
mod tests;
mod window;

use crate::cli::args::exit_codes;
use crate::cli::failure::Failure;

/// Load a server and measure it: throughput, latency, CPU time, memory
///
/// One thread generates the load. It shares the machine with what it measures: give it a
/// core of its own (--core; --spawn places both sides), and compare only figures of one
/// machine. Every result includes the generator's own CPU time.
///
/// The server's CPU time and memory are read from /proc: for these it must run on this
/// machine, and --server-pid or --spawn must name it. The result is written to standard
/// output, progress to standard error.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail bench echo --spawn                         throughput of a server started for it
  ringmail bench echo --spawn --rate 20000            latency at a rate it should bear
  ringmail bench pubsub --spawn                       one publisher, 50 subscribers
  ringmail bench request --spawn                      requests that connections answer
  ringmail bench idle --spawn --connections 15000     memory and CPU time of idle connections
  ringmail bench pool --spawn                         a pool against a connection for each request
  ringmail bench help echo                            what a benchmark can do",
    exit_codes!()
))]
pub struct Args {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, clap::Subcommand)]
enum Benchmark {
    Echo(echo::Args),
    Pubsub(pubsub::Args),
    Request(request::Args),
    Idle(idle::Args),
    Pool(pool::Args),
    Plot(overlay::Args),
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
        Benchmark::Pubsub(args) => pubsub::run(args),
        Benchmark::Request(args) => request::run(args),
        Benchmark::Idle(args) => idle::run(args),
        Benchmark::Pool(args) => pool::run(args),
        Benchmark::Plot(args) => overlay::run(args),
    }
}
