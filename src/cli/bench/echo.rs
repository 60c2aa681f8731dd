//! `ringmail bench echo`: requests to `$sys/echo`, or bytes to a bare echo.

use super::engine::{self, Pace};
use super::fault::{Fault, Halt};
use super::fleet::Fleet;
use super::meter::{Meter, Outcome};
use super::plot;
use super::progress::Progress;
use super::report::{Report, Setting, write_hgrm};
use super::schedule::{Schedule, Spacing};
use super::speaker::{Echo, Raw, Shape, Speaker};
use super::target::{Output, Site, Target};
use crate::base::clock::Instant;
use crate::base::exit::Status;
use crate::cli::args::exit_codes;
use crate::cli::duration;
use crate::cli::failure::Failure;
use std::fs::File;
use std::io::{self, BufWriter, Write, stdout};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// Bytes in flight over all connections at most: as much memory here, and again there.
const IN_FLIGHT_BYTES_MAX: usize = 1 << 30;

/// Measure echoed requests: throughput, latency, CPU time per message
///
/// Without --rate a closed loop: each connection keeps --depth requests in flight, and
/// latency runs from the actual send. This finds the throughput.
///
/// With --rate an open loop: messages go out on a schedule made beforehand, whatever is
/// unanswered, and latency runs from the time a message was meant to go. This finds the
/// latency. The generator then spins on its core; the run is void (exit 1) when its own
/// lag exceeds a tenth of the measured p99.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail bench echo --spawn --connections 50 --depth 16
  ringmail bench echo --address 10.0.0.7:7411 --bytes 1024 --duration 1m
  ringmail bench echo --server-pid $(pidof ringmail) --output json | jq .server_cpu_us_per_message
  ringmail bench echo --spawn --rate 20000 --plot latency.svg --hdr latency.hgrm
  ringmail bench echo --rate 5000 --schedule constant --connections 1000",
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

    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse_bounded_positive)]
    duration: Duration,

    /// How long to run before measuring
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse_bounded)]
    warm_up: Duration,

    /// Open loop: messages per second, over all connections
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    rate: Option<f64>,

    /// Open loop: how the messages are spaced
    #[arg(long, value_enum, default_value_t = Spacing::Poisson, requires = "rate")]
    schedule: Spacing,

    /// Open loop: what the Poisson schedule is drawn from
    #[arg(long, default_value_t = 1, requires = "rate")]
    seed: u64,

    /// Closed loop: never sleep while waiting for answers; costs a core, hides its wake-ups
    #[arg(long, conflicts_with = "rate")]
    spin: bool,

    /// No handshake: the server is a bare echo that sends back the very bytes
    #[arg(long)]
    raw: bool,

    /// Write the latencies to a file as an HdrHistogram percentile distribution (.hgrm)
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,

    /// Draw the latencies over their percentiles, as an SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    #[command(flatten)]
    target: Target,
}

pub(super) fn positive(max: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=max)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1e8).contains(&rate) => Ok(rate),
        _ => Err("messages per second, from 0.001 to 100000000".to_owned()),
    }
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let pace = args.pace()?;
    // Before the run: a path that cannot be written should not cost a run.
    let hdr = args.hdr.as_deref().map(create).transpose()?;
    let plot = args.plot.as_deref().map(create).transpose()?;
    let site = args.target.prepare(args.connections as usize)?;
    let setting = args.setting(&site);
    let result = args.measure(&site, &pace);
    let outcome = site.leave(result)?;

    let report = Report::new(setting, &outcome);
    let mut out = stdout().lock();
    let written = match args.target.output {
        Output::Json => report.write_json(&mut out),
        Output::Table => report.write_table(&mut out),
    };
    written.map_err(|error| Failure::new(Status::Runtime, format_args!("stdout: {error}")))?;
    if let Some((path, file)) = hdr {
        let mut file = BufWriter::new(file);
        let written = write_hgrm(&outcome.latency, &mut file).and_then(|()| file.flush());
        written.map_err(|error| unwritable(path, &error))?;
    }
    if let Some((path, mut file)) = plot {
        let svg = plot::svg(&report, &outcome.latency, outcome.lag.as_ref())
            .map_err(|error| unwritable(path, &io::Error::other(error.to_string())))?;
        file.write_all(svg.as_bytes())
            .map_err(|error| unwritable(path, &error))?;
    }
    match report.void_reason() {
        Some(reason) => Err(Failure::new(Status::Runtime, reason)),
        None => Ok(()),
    }
}

fn create(path: &Path) -> Result<(&Path, File), Failure> {
    match File::create(path) {
        Ok(file) => Ok((path, file)),
        Err(error) => Err(unwritable(path, &error)),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Status::Runtime,
        format_args!("{} cannot be written: {error}", path.display()),
    )
}

impl Args {
    fn pace(&self) -> Result<Pace, Failure> {
        let usage = |message: &str| Err(Failure::new(Status::Usage, message));
        let Some(rate) = self.rate else {
            let depth = self.depth as usize;
            let in_flight = (self.connections as usize)
                .saturating_mul(depth)
                .saturating_mul(self.bytes as usize + 64);
            if in_flight > IN_FLIGHT_BYTES_MAX {
                return usage("--connections × --depth × --bytes is more than 1 GiB in flight");
            }
            let spin = self.spin;
            return Ok(Pace::Closed { depth, spin });
        };
        let length = self.warm_up + self.duration;
        match Schedule::plan(self.schedule, rate, length, self.seed) {
            Some(schedule) => Ok(Pace::Open(schedule)),
            None => usage("--rate × --duration is more than 67 million messages"),
        }
    }

    fn setting(&self, site: &Site) -> Setting {
        let is_open = self.rate.is_some();
        let spacing = match self.schedule {
            Spacing::Constant => "constant",
            Spacing::Poisson => "poisson",
        };
        Setting {
            benchmark: "echo",
            protocol: if self.raw { "raw" } else { "mcp" },
            address: site.address.to_string(),
            mode: if is_open { "open" } else { "closed" },
            connections: self.connections as usize,
            bytes: self.bytes as usize,
            depth: (!is_open).then_some(self.depth as usize),
            spin: self.spin,
            rate_wanted: self.rate,
            schedule: is_open.then_some(spacing),
            seed: is_open.then_some(self.seed),
            warm_up_seconds: self.warm_up.as_secs_f64(),
            duration_seconds: self.duration.as_secs_f64(),
            core: site.core,
            spawned_shards: self.target.spawn.then(|| self.target.spawn_shards.clone()),
        }
    }

    fn measure(&self, site: &Site, pace: &Pace) -> Result<Outcome, Halt> {
        let bytes = self.bytes as usize;
        if self.raw {
            let shape = Rc::new(Shape::raw(bytes));
            return self.load(site, pace, |_, _| Ok(Raw::open(&shape)));
        }
        let shape = Rc::new(Shape::echo(bytes));
        let settings = Echo::settings(&shape, self.target.timeout);
        self.load(site, pace, |now, out| {
            Echo::open(&shape, &settings, 0, now, out)
        })
    }

    fn load<S: Speaker>(
        &self,
        site: &Site,
        pace: &Pace,
        speak: impl FnMut(Instant, &mut Vec<u8>) -> Result<S, Fault>,
    ) -> Result<Outcome, Halt> {
        let timeout = self.target.timeout;
        let count = self.connections as usize;
        let mut fleet = Fleet::open(site.address, count, timeout, &site.interrupted, speak)?;
        let now = Instant::now();
        let meter = Meter::start(
            now,
            self.warm_up,
            self.duration,
            self.rate.is_some(),
            site.process,
            Progress::start(now, self.target.quiet),
        );
        let outcome = engine::run(&mut fleet, pace, meter, now, timeout)?;
        fleet.close();
        Ok(outcome)
    }
}
