//! `ringmail bench idle`: the cost of connections that do nothing but stay alive.
//!
//! ```text
//!    some come and go                      settle          quiet: --duration
//!  ├──────────────────┼─ memory ─┬─ connect ─┬──────┼─ CPU ───────────── CPU ─┤ memory
//! ```
//!
//! Memory per connection is the growth of the server's resident memory by all connections,
//! divided by their number. What the server set aside at its start, or takes once when it
//! is first used (statistics, spare buffers, the allocator's caches), is not in it: some
//! connections come and go before. Kernel memory (sockets) is not resident user memory and
//! not in it either.

use super::connections::Connections;
use super::fault::Halt;
use super::process::{Memory, Process, own_cpu_time};
use super::run::positive;
use super::speaker::{Echo, Shape};
use super::target::{Site, Target};
use crate::base::clock::Instant;
use crate::base::exit::Status;
use crate::cli::args::exit_codes;
use crate::cli::duration;
use crate::cli::failure::Failure;
use serde::Serialize;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

/// Connections that come and go before the first reading.
const FIRST: u32 = 100;

/// Measure idle connections: the server's memory for each, and its CPU time
///
/// Opens the connections, answers the server's PINGs, and reads the server's memory before
/// and after, and its CPU time in between. Needs --spawn or --server-pid.
///
/// Memory per connection is the growth of the server's resident memory, divided by the
/// number of connections. A few connections come and go first, so that what a server
/// allocates once is not counted; nor is what the kernel keeps for the sockets. Each
/// connection takes a descriptor here and one in the server: see ulimit -n.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail bench idle --spawn --connections 15000
  ringmail bench idle --server-pid $(pidof ringmail) --duration 5m
  ringmail bench idle --spawn --connections 1000 --heartbeat-ms 1000 --output json",
    exit_codes!()
))]
pub struct Args {
    /// How many connections to open
    #[arg(long, short, value_name = "N", default_value_t = 1000, value_parser = positive(1_000_000))]
    connections: u32,

    /// How long to stay idle
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse_bounded_positive)]
    duration: Duration,

    /// How long to wait before measuring, after connecting and after the first few
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse_bounded)]
    settle: Duration,

    /// Heartbeat interval to ask the server for, in ms; 0: the server's own
    #[arg(long, value_name = "MS", default_value_t = 0)]
    heartbeat_ms: u32,

    #[command(flatten)]
    target: Target,
}

/// What the idle time showed.
#[derive(Debug, Serialize)]
struct Report {
    benchmark: &'static str,
    address: String,
    connections: usize,
    seconds: f64,
    heartbeat_ms: u32,
    resident_before_bytes: u64,
    resident_after_bytes: u64,
    anonymous_before_bytes: u64,
    anonymous_after_bytes: u64,
    resident_bytes_per_connection: f64,
    anonymous_bytes_per_connection: f64,
    /// Connections that heard from the server in the quiet time, each as often as it did.
    server_messages: u64,
    /// A signal ended the quiet time early: `seconds` is how long it was.
    interrupted: bool,
    server_cpu_cores: f64,
    generator_cpu_cores: f64,
}

struct Outcome {
    before: Memory,
    after: Memory,
    quiet: Duration,
    server_cpu: Duration,
    generator_cpu: Duration,
    server_messages: u64,
    is_interrupted: bool,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    if !args.target.spawn && args.target.server_pid.is_none() {
        return Err(Failure::new(
            Status::Usage,
            "bench idle measures the server's process: give --spawn or --server-pid PID",
        ));
    }
    let site = args.target.prepare(args.connections as usize)?;
    let address = site.address.to_string();
    let result = args.measure(&site);
    let outcome = site.leave(result)?;
    let report = args.report(address, &outcome);
    let output = args.target.output;
    output.print(&report, |out| report.write_table(out))
}

impl Args {
    fn measure(&self, site: &Site) -> Result<Outcome, Halt> {
        let Some(server) = site.process else {
            return Err(Halt::Process(io::Error::other(
                "no server process was given",
            )));
        };
        let shape = Rc::new(Shape::echo(0));
        let settings = Echo::settings(&shape, self.target.timeout);
        let open = |connections: u32| {
            Connections::open(
                site.endpoint.clone(),
                connections as usize,
                self.target.timeout,
                &site.interrupted,
                |now, out| {
                    let echo = Echo::open(&shape, &settings, self.heartbeat_ms, now, out)?;
                    Ok(echo.proving_by(site.credential.as_ref()))
                },
            )
        };
        let mut first = open(self.connections.min(FIRST))?;
        stay(&mut first, self.settle, &mut 0)?;
        first.close();
        let before = server.memory().map_err(Halt::Process)?;
        let mut connections = open(self.connections)?;
        stay(&mut connections, self.settle, &mut 0)?;
        let outcome = quiet(&mut connections, server, before, self.duration)?;
        connections.close();
        Ok(outcome)
    }

    fn report(&self, address: String, outcome: &Outcome) -> Report {
        let connections = self.connections as usize;
        let Outcome { before, after, .. } = outcome;
        let seconds = outcome.quiet.as_secs_f64();
        let each = |before: u64, after: u64| (after as f64 - before as f64) / connections as f64;
        Report {
            benchmark: "idle",
            address,
            connections,
            seconds,
            heartbeat_ms: self.heartbeat_ms,
            resident_before_bytes: before.resident_bytes,
            resident_after_bytes: after.resident_bytes,
            anonymous_before_bytes: before.anonymous_bytes,
            anonymous_after_bytes: after.anonymous_bytes,
            resident_bytes_per_connection: each(before.resident_bytes, after.resident_bytes),
            anonymous_bytes_per_connection: each(before.anonymous_bytes, after.anonymous_bytes),
            server_messages: outcome.server_messages,
            interrupted: outcome.is_interrupted,
            server_cpu_cores: outcome.server_cpu.as_secs_f64() / seconds,
            generator_cpu_cores: outcome.generator_cpu.as_secs_f64() / seconds,
        }
    }
}

fn quiet(
    connections: &mut Connections<Echo>,
    server: Process,
    before: Memory,
    duration: Duration,
) -> Result<Outcome, Halt> {
    let own = own_cpu_time();
    let cpu = server.cpu_time().map_err(Halt::Process)?;
    let begin = Instant::now();
    let mut server_messages = 0;
    let is_interrupted = match stay(connections, duration, &mut server_messages) {
        Ok(()) => false,
        Err(Halt::Interrupted) => true,
        Err(halt) => return Err(halt),
    };
    let quiet = Instant::now() - begin;
    let server_cpu = server.cpu_time().map_err(Halt::Process)?.since(&cpu);
    Ok(Outcome {
        before,
        after: server.memory().map_err(Halt::Process)?,
        quiet,
        server_cpu,
        generator_cpu: own_cpu_time().saturating_sub(own),
        server_messages,
        is_interrupted,
    })
}

/// Answers PINGs for a while; counts how often connections had something to read.
fn stay(
    connections: &mut Connections<Echo>,
    duration: Duration,
    reads: &mut u64,
) -> Result<(), Halt> {
    let mut events = Connections::<Echo>::events();
    let end = Instant::now() + duration;
    loop {
        let left = end - Instant::now();
        if left.is_zero() {
            return Ok(());
        }
        connections.wait(&mut events, Some(left.min(Duration::from_millis(100))))?;
        for event in &events {
            *reads += u64::from(event.is_readable());
            connections.handle(event, |_, _| Ok(()))?.flush();
        }
    }
}

impl Report {
    fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let kib = |bytes: u64| bytes / 1024;
        writeln!(
            out,
            "idle, {} connections, {:.1} s, {}\n",
            self.connections, self.seconds, self.address
        )?;
        writeln!(
            out,
            "  server memory {:>10}{:>10}{:>18}",
            "before", "after", "per connection"
        )?;
        for (name, before, after, each) in [
            (
                "resident",
                self.resident_before_bytes,
                self.resident_after_bytes,
                self.resident_bytes_per_connection,
            ),
            (
                "anonymous",
                self.anonymous_before_bytes,
                self.anonymous_after_bytes,
                self.anonymous_bytes_per_connection,
            ),
        ] {
            let (before, after) = (kib(before), kib(after));
            writeln!(
                out,
                "  {name:<12}{before:>8} KiB{after:>6} KiB{each:>16.0} B"
            )?;
        }
        writeln!(
            out,
            "\n  server CPU    {:.3} % of a core\n  generator CPU {:.3} % of a core\n  \
             heard from the server {} times",
            self.server_cpu_cores * 100.0,
            self.generator_cpu_cores * 100.0,
            self.server_messages
        )?;
        if self.interrupted {
            writeln!(out, "\n  interrupted after {:.1} s", self.seconds)?;
        }
        Ok(())
    }
}
