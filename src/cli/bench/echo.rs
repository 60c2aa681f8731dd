//! `ringmail bench echo`: requests to `$sys/echo`, to Redis' ECHO, or bytes to a bare echo.

use super::connections::Connections;
use super::dialect::redis;
use super::engine::{self, Pace};
use super::fault::{Fault, Halt};
use super::meter::Outcome;
use super::report::Load;
use super::run::{Run, Subject, positive};
use super::speaker::{Asker, Echo, Raw, Shape};
use super::target::{Site, Target};
use crate::base::clock::Instant;
use crate::cli::args::exit_codes;
use crate::cli::failure::Failure;
use std::rc::Rc;

/// Measure echoed requests: throughput, latency, CPU time per message
///
/// Without --rate a closed loop: each connection keeps --depth requests in flight, and
/// latency runs from the actual send. This finds the throughput.
///
/// With --rate an open loop: messages go out on a schedule fixed beforehand, whatever is
/// unanswered, and latency runs from the time a message was due. This finds the latency.
/// The generator then spins on its core; the run is void (exit 1) if its own lag exceeds
/// a tenth of the measured p99.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail bench echo --spawn --connections 50 --depth 16
  ringmail bench echo --address 10.0.0.7:7411 --bytes 1024 --duration 1m
  ringmail bench echo --server-pid $(pidof ringmail) --output json | jq .server_cpu_us_per_message
  ringmail bench echo --spawn --rate 20000 --plot latency.svg --hdr latency.hgrm
  ringmail bench echo --rate 5000 --schedule constant --connections 1000
  ringmail bench echo --protocol redis --address 127.0.0.1:6379",
    exit_codes!()
))]
pub struct Args {
    /// How many connections to open
    #[arg(long, short, value_name = "N", default_value_t = 50, value_parser = positive(1_000_000))]
    connections: u32,

    /// Closed loop: requests in flight on each connection
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "rate", value_parser = positive(1 << 20))]
    depth: u32,

    /// Bytes of each request's payload
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=1 << 26))]
    bytes: u32,

    /// The server's protocol
    #[arg(long, value_enum, default_value_t = Protocol::Ringmail, conflicts_with = "spawn")]
    protocol: Protocol,

    /// The same as --protocol raw
    #[arg(long, conflicts_with = "protocol")]
    raw: bool,

    #[command(flatten)]
    run: Run,

    #[command(flatten)]
    target: Target,
}

/// Protocols with an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    /// Requests to `$sys/echo`.
    Ringmail,
    /// Redis' ECHO, RESP2.
    Redis,
    /// No handshake: a bare echo that sends back the very bytes.
    Raw,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let protocol = match args.raw {
        true => Protocol::Raw,
        false => args.protocol,
    };
    let connections = args.connections as usize;
    let subject = Subject {
        benchmark: "echo",
        protocol: match protocol {
            Protocol::Ringmail => "mcp",
            Protocol::Redis => "redis",
            Protocol::Raw => "raw",
        },
        unit: "message",
        bytes: args.bytes as usize,
        senders: connections,
        depth: args.depth as usize,
        connections,
        load: Load::Echo {},
    };
    let measure = |site: &Site, pace: &Pace| args.measure(protocol, site, pace);
    args.run
        .conduct(&args.target, subject, connections, measure)
}

impl Args {
    fn measure(&self, protocol: Protocol, site: &Site, pace: &Pace) -> Result<Outcome, Halt> {
        let bytes = self.bytes as usize;
        match protocol {
            Protocol::Raw => {
                let shape = Rc::new(Shape::raw(bytes));
                self.load(site, pace, |_, _| Ok(Raw::open(&shape)))
            }
            Protocol::Redis => {
                let shape = Rc::new(redis::EchoShape::new(bytes));
                self.load(site, pace, |_, _| Ok(redis::Echo::open(&shape)))
            }
            Protocol::Ringmail => {
                let shape = Rc::new(Shape::echo(bytes));
                let settings = Echo::settings(&shape, self.target.timeout);
                self.load(site, pace, |now, out| {
                    let echo = Echo::open(&shape, &settings, 0, now, out)?;
                    Ok(echo.proving_by(site.credential.as_ref()))
                })
            }
        }
    }

    fn load<S: Asker>(
        &self,
        site: &Site,
        pace: &Pace,
        speak: impl FnMut(Instant, &mut Vec<u8>) -> Result<S, Fault>,
    ) -> Result<Outcome, Halt> {
        let timeout = self.target.timeout;
        let count = self.connections as usize;
        let mut connections = Connections::open(
            site.endpoint.clone(),
            count,
            timeout,
            &site.interrupted,
            speak,
        )?;
        let now = Instant::now();
        let meter = self.run.meter(now, &self.target, site);
        let outcome = engine::run(&mut connections, pace, meter, now, timeout)?;
        connections.close();
        Ok(outcome)
    }
}
