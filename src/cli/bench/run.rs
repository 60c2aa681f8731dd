//! A measured run: the arguments that all loads share (pace, window, files
//! to write), and what is done around the load itself.
//!
//! A benchmark says who takes part and how its connections are loaded; this opens the files, gets
//! the server, runs, reports, and judges whether the run is void.

use super::engine::Pace;
use super::fault::Halt;
use super::meter::{Meter, Outcome};
use super::plot::{self, Panel};
use super::progress::Progress;
use super::report::{Load, Report, Setting, write_hgrm};
use super::schedule::{Schedule, Spacing};
use super::target::{Output, Site, Target};
use crate::base::clock::Instant;
use crate::base::exit::Status;
use crate::cli::duration;
use crate::cli::failure::Failure;
use std::fs::File;
use std::io::{self, BufWriter, Write, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes in flight over all connections at most: as much memory here, and again there.
const IN_FLIGHT_BYTES_MAX: usize = 1 << 30;

#[derive(Debug, clap::Args)]
pub struct Run {
    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse_bounded_positive)]
    pub duration: Duration,

    /// How long to run before measuring
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse_bounded)]
    pub warm_up: Duration,

    /// Open loop: messages sent per second, over all connections
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub rate: Option<f64>,

    /// Open loop: how the messages are spaced
    #[arg(long, value_enum, default_value_t = Spacing::Poisson, requires = "rate")]
    pub schedule: Spacing,

    /// Open loop: seed of the Poisson schedule
    #[arg(long, default_value_t = 1, requires = "rate")]
    pub seed: u64,

    /// Closed loop: never sleep while waiting for answers; uses a whole core, but spares the
    /// server the work of waking the generator
    #[arg(long, conflicts_with = "rate")]
    pub spin: bool,

    /// Write the latencies to a file as an HdrHistogram percentile distribution (.hgrm)
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,

    /// Draw the latencies by percentile, as an SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// What is loaded, and by what.
pub struct Subject {
    pub benchmark: &'static str,
    pub protocol: &'static str,
    /// What is counted, in the singular.
    pub unit: &'static str,
    pub bytes: usize,
    /// Senders, each with so many messages in flight in a closed loop.
    pub senders: usize,
    pub depth: usize,
    pub connections: usize,
    pub load: Load,
}

pub fn positive(max: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=max)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1e8).contains(&rate) => Ok(rate),
        _ => Err("messages per second, from 0.001 to 100000000".to_owned()),
    }
}

impl Run {
    /// Runs `measure`, with room for so many connections, and reports what comes of it.
    ///
    /// # Errors
    /// As `super::run`.
    pub fn conduct(
        &self,
        target: &Target,
        subject: Subject,
        descriptors: usize,
        measure: impl FnOnce(&Site, &Pace) -> Result<Outcome, Halt>,
    ) -> Result<(), Failure> {
        let pace = self.pace(&subject)?;
        // Before the run: a path that cannot be written should not cost a run.
        let hdr = self.hdr.as_deref().map(create).transpose()?;
        let plot = self.plot.as_deref().map(create).transpose()?;
        let site = target.prepare(descriptors)?;
        let setting = self.setting(subject, target, &site);
        let result = measure(&site, &pace);
        let outcome = site.leave(result)?;

        let report = Report::new(setting, &outcome);
        let mut out = stdout().lock();
        let written = match target.output {
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
            let panel = Panel::of(&report, &outcome.latency, outcome.lag.as_ref());
            let svg = plot::svg(&[panel])
                .map_err(|error| unwritable(path, &io::Error::other(error.to_string())))?;
            file.write_all(svg.as_bytes())
                .map_err(|error| unwritable(path, &error))?;
        }
        match report.void_reason() {
            Some(reason) => Err(Failure::new(Status::Runtime, reason)),
            None => Ok(()),
        }
    }

    /// A meter that starts now.
    pub fn meter(&self, now: Instant, target: &Target, site: &Site) -> Meter {
        Meter::start(
            now,
            self.warm_up,
            self.duration,
            self.rate.is_some(),
            site.process,
            Progress::start(now, target.quiet),
        )
    }

    fn pace(&self, subject: &Subject) -> Result<Pace, Failure> {
        let usage = |message: &str| Err(Failure::new(Status::Usage, message));
        let Some(rate) = self.rate else {
            let in_flight = subject
                .senders
                .saturating_mul(subject.depth)
                .saturating_mul(subject.bytes + 64);
            if in_flight > IN_FLIGHT_BYTES_MAX {
                return usage("senders × messages in flight × bytes is more than 1 GiB");
            }
            let (depth, spin) = (subject.depth, self.spin);
            return Ok(Pace::Closed { depth, spin });
        };
        let length = self.warm_up + self.duration;
        match Schedule::plan(self.schedule, rate, length, self.seed) {
            Some(schedule) => Ok(Pace::Open(schedule)),
            None => usage("--rate × --duration is more than 67 million messages"),
        }
    }

    fn setting(&self, subject: Subject, target: &Target, site: &Site) -> Setting {
        let is_open = self.rate.is_some();
        let spacing = match self.schedule {
            Spacing::Constant => "constant",
            Spacing::Poisson => "poisson",
        };
        Setting {
            benchmark: subject.benchmark,
            protocol: subject.protocol,
            unit: subject.unit,
            address: site.address.to_string(),
            mode: if is_open { "open" } else { "closed" },
            connections: subject.connections,
            bytes: subject.bytes,
            depth: (!is_open).then_some(subject.depth),
            load: subject.load,
            spin: self.spin,
            rate_wanted: self.rate,
            schedule: is_open.then_some(spacing),
            seed: is_open.then_some(self.seed),
            warm_up_seconds: self.warm_up.as_secs_f64(),
            duration_seconds: self.duration.as_secs_f64(),
            core: site.core,
            spawned_shards: target.spawn.then(|| target.spawn_shards.clone()),
        }
    }
}

fn create(path: &Path) -> Result<(&Path, File), Failure> {
    match File::create(path) {
        Ok(file) => Ok((path, file)),
        Err(error) => Err(unwritable(path, &error)),
    }
}

/// A file that cannot be written.
pub fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Status::Runtime,
        format_args!("{} cannot be written: {error}", path.display()),
    )
}
