//! What a run found, for people (a table), for programs (one JSON object) and for
//! HdrHistogram's tools (`.hgrm`, its percentile distribution as text).
//!
//! Times are in microseconds everywhere. The payload alone counts as bytes, once: what
//! went there, and not what came back as well.

use super::impact::Impact;
use super::meter::Outcome;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt;
use std::io::{self, Write};

/// What was asked for: the parameters of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    pub benchmark: &'static str,
    pub protocol: &'static str,
    pub address: String,
    pub mode: &'static str,
    /// What is counted as a message, in the singular.
    pub unit: &'static str,
    pub connections: usize,
    pub bytes: usize,
    /// Closed loop: messages of each sender in flight.
    pub depth: Option<usize>,
    #[serde(flatten)]
    pub load: Load,
    pub spin: bool,
    /// Open loop.
    pub rate_wanted: Option<f64>,
    pub schedule: Option<&'static str>,
    pub seed: Option<u64>,
    pub warm_up_seconds: f64,
    pub duration_seconds: f64,
    pub core: Option<usize>,
    pub spawned_shards: Option<String>,
}

/// Who sends and who receives.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Load {
    /// All connections do both.
    Echo {},
    PubSub(PubSub),
    Request(Request),
}

#[derive(Clone, Debug, Serialize)]
pub struct PubSub {
    pub publishers: u32,
    pub subscribers: u32,
    pub topics: u32,
    pub group: Option<String>,
    pub confirmed: bool,
    pub idle_subscriptions: u32,
    pub placement: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub struct Request {
    pub requesters: u32,
    pub responders: u32,
    pub placement: &'static str,
}

impl Setting {
    /// The load in a few words.
    pub fn summary(&self) -> String {
        let connections = self.connections;
        let pace = match self.depth {
            Some(depth) => format!("{depth} in flight"),
            None => format!(
                "{:.0}/s {}",
                self.rate_wanted.unwrap_or(0.0),
                self.schedule.unwrap_or("")
            ),
        };
        let whom = match (&self.load, self.depth) {
            (Load::Echo {}, Some(_)) => return format!("closed loop, {connections} × {pace}"),
            (Load::Echo {}, None) => format!("over {connections} connections"),
            (Load::PubSub(load), _) => load.to_string(),
            (Load::Request(load), _) => load.to_string(),
        };
        format!("{} loop, {pace} {whom}", self.mode)
    }

    /// What is counted, of more than one.
    pub fn units(&self) -> &'static str {
        match self.load {
            Load::Echo {} => "messages",
            Load::PubSub(_) => "deliveries",
            Load::Request(_) => "requests",
        }
    }
}

impl fmt::Display for PubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PubSub {
            publishers,
            subscribers,
            topics,
            ..
        } = self;
        write!(f, "{publishers} → {subscribers} on {topics} topic")?;
        f.write_str(if *topics > 1 { "s" } else { "" })?;
        if let Some(group) = &self.group {
            write!(f, " in group {group}")?;
        }
        if self.idle_subscriptions > 0 {
            write!(f, " beside {} idle", self.idle_subscriptions)?;
        }
        f.write_str(if self.confirmed { ", confirmed" } else { "" })?;
        place(self.placement, f)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {} connections", self.requesters, self.responders)?;
        place(self.placement, f)
    }
}

fn place(placement: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match placement {
        "same" => f.write_str(", on one shard"),
        "apart" => f.write_str(", on two shards"),
        _ => Ok(()),
    }
}

/// A histogram in figures, µs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p75: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
}

impl Quantiles {
    pub fn of(histogram: &Histogram<u64>) -> Quantiles {
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Quantiles {
            count: histogram.len(),
            mean: histogram.mean() / 1000.0,
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: us(histogram.max()),
        }
    }

    fn rows(&self) -> [(&'static str, f64); 8] {
        [
            ("p50", self.p50),
            ("p75", self.p75),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p99_9),
            ("p99.99", self.p99_99),
            ("max", self.max),
            ("mean", self.mean),
        ]
    }
}

/// The whole result.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub setting: Setting,
    pub messages: u64,
    pub seconds: f64,
    pub rate: f64,
    pub megabytes_per_second: f64,
    pub latency_us: Quantiles,
    pub lag_us: Option<Quantiles>,
    /// The sender was late often enough to show in the latencies: they mean nothing.
    pub void: bool,
    /// A signal ended the run before its time: `seconds` is what was measured.
    pub interrupted: bool,
    pub server_cpu_us_per_message: Option<f64>,
    pub server_cpu_cores: Option<f64>,
    pub generator_cpu_us_per_message: f64,
    pub generator_cpu_cores: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Impact>,
}

/// The sender's lag may make up a tenth of the tail it is measured with, not more.
fn is_void(lag: &Quantiles, latency: &Quantiles) -> bool {
    lag.p99 * 10.0 > latency.p99
}

impl Report {
    pub fn new(setting: Setting, outcome: &Outcome) -> Report {
        let seconds = outcome.window.as_secs_f64();
        let latency_us = Quantiles::of(&outcome.latency);
        let lag_us = outcome.lag.as_ref().map(Quantiles::of);
        let rate = outcome.messages as f64 / seconds;
        // A run of no messages has no cost per message; a division would say infinity,
        // which JSON cannot.
        let messages = outcome.messages.max(1) as f64;
        let per_message = |cpu: std::time::Duration| cpu.as_secs_f64() * 1e6 / messages;
        Report {
            messages: outcome.messages,
            seconds,
            rate,
            megabytes_per_second: rate * setting.bytes as f64 / 1e6,
            latency_us,
            lag_us,
            void: lag_us.is_some_and(|lag| is_void(&lag, &latency_us)),
            interrupted: outcome.is_interrupted,
            server_cpu_us_per_message: outcome.server_cpu.map(per_message),
            server_cpu_cores: outcome.server_cpu.map(|cpu| cpu.as_secs_f64() / seconds),
            generator_cpu_us_per_message: per_message(outcome.generator_cpu),
            generator_cpu_cores: outcome.generator_cpu.as_secs_f64() / seconds,
            slow: outcome.slow.clone(),
            setting,
        }
    }

    /// Why the run is void, if it is.
    pub fn void_reason(&self) -> Option<String> {
        let lag = self.lag_us.filter(|_| self.void)?;
        Some(format!(
            "the run is void: the sender's own lag (p99 {:.1} µs) exceeds a tenth of the measured \
             p99 ({:.1} µs); give the generator a core of its own (--core), or lower --rate",
            lag.p99, self.latency_us.p99
        ))
    }

    /// One JSON object on one line.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    pub fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let setting = &self.setting;
        writeln!(
            out,
            "{} ({}), {}, {} bytes, {}\n",
            setting.benchmark,
            setting.protocol,
            setting.summary(),
            setting.bytes,
            setting.address
        )?;
        match &self.lag_us {
            None => writeln!(out, "  {:<8}{:>12}", "", "latency µs")?,
            Some(_) => writeln!(
                out,
                "  {:<8}{:>12}{:>14}",
                "", "latency µs", "sender lag µs"
            )?,
        }
        let lag = self.lag_us.map(|lag| lag.rows());
        for (row, (name, value)) in self.latency_us.rows().into_iter().enumerate() {
            write!(out, "  {name:<8}{value:>12.1}")?;
            match lag {
                None => writeln!(out)?,
                Some(lag) => writeln!(out, "{:>14.1}", lag[row].1)?,
            }
        }
        writeln!(
            out,
            "\n  {:<14}{} in {:.2} s\n  throughput    {:.0} {0}/s, {:.2} MB/s",
            setting.units(),
            self.messages,
            self.seconds,
            self.rate,
            self.megabytes_per_second
        )?;
        let mut cpu = |name: &str, us: f64, cores: f64| {
            writeln!(
                out,
                "  {name}{us:.3} µs per {}, {:.1} % of a core",
                setting.unit,
                cores * 100.0
            )
        };
        if let (Some(us), Some(cores)) = (self.server_cpu_us_per_message, self.server_cpu_cores) {
            cpu("server CPU    ", us, cores)?;
        }
        cpu(
            "generator CPU ",
            self.generator_cpu_us_per_message,
            self.generator_cpu_cores,
        )?;
        if let Some(slow) = &self.slow {
            write!(out, "\n{slow}")?;
        }
        if self.interrupted {
            let (seconds, wanted) = (self.seconds, setting.duration_seconds);
            writeln!(out, "\n  interrupted after {seconds:.2} of {wanted} s")?;
        }
        if self.void {
            writeln!(out, "\n  VOID: the sender was late")?;
        }
        Ok(())
    }
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

/// Writes HdrHistogram's percentile distribution, values in µs, five ticks per half distance.
pub fn write_hgrm(histogram: &Histogram<u64>, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0;
    for step in histogram.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let value = us(step.value_iterated_to().min(histogram.max()));
        write!(out, "{value:>12.3} {quantile:>14.12} {total:>10}")?;
        if quantile < 1.0 {
            write!(out, " {:>14.2}", 1.0 / (1.0 - quantile))?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n\
         #[Max     = {:>12.3}, Total count    = {:>12}]\n\
         #[Buckets = {:>12}, SubBuckets     = {:>12}]",
        histogram.mean() / 1000.0,
        histogram.stdev() / 1000.0,
        us(histogram.max()),
        histogram.len(),
        histogram.buckets(),
        2048,
    )
}

#[cfg(test)]
mod tests {
    use super::super::meter::histogram;
    use super::*;
    use std::time::Duration;

    fn setting() -> Setting {
        Setting {
            benchmark: "echo",
            protocol: "mcp",
            address: "127.0.0.1:7411".to_owned(),
            mode: "open",
            unit: "message",
            connections: 3,
            bytes: 100,
            depth: None,
            load: Load::Echo {},
            spin: false,
            rate_wanted: Some(500.0),
            schedule: Some("poisson"),
            seed: Some(1),
            warm_up_seconds: 1.0,
            duration_seconds: 2.0,
            core: None,
            spawned_shards: None,
        }
    }

    /// 1,000 latencies of 1..=1000 µs, and as many lags of `lag_us`.
    fn outcome(lag_us: u64) -> Outcome {
        let (mut latency, mut lag) = (histogram(), histogram());
        for us in 1..=1000 {
            latency.record(us * 1000).unwrap();
            lag.record(lag_us * 1000).unwrap();
        }
        Outcome {
            messages: 1000,
            window: Duration::from_secs(2),
            latency,
            lag: Some(lag),
            server_cpu: Some(Duration::from_millis(500)),
            generator_cpu: Duration::from_millis(250),
            slow: None,
            is_interrupted: false,
        }
    }

    #[test]
    fn a_run_whose_sender_lags_by_more_than_a_tenth_of_its_p99_is_void() {
        let report = |lag_us| Report::new(setting(), &outcome(lag_us));
        // The p99 is 990 µs.
        assert!(!report(98).void && report(98).void_reason().is_none());
        assert!(report(101).void);
        assert!(report(101).void_reason().unwrap().contains("void"));
    }

    #[test]
    fn a_program_can_read_the_report() {
        let mut text = Vec::new();
        let report = Report::new(setting(), &outcome(500));
        report.write_json(&mut text).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let number = |key: &str| json.pointer(key).unwrap().as_f64().unwrap();
        let close = |key: &str, wanted: f64| (number(key) / wanted - 1.0).abs() < 0.002;
        assert_eq!(number("/messages"), 1000.0);
        assert_eq!(number("/connections"), 3.0);
        assert!(close("/seconds", 2.0) && close("/rate", 500.0));
        assert!(close("/latency_us/p50", 500.0) && close("/latency_us/p99_9", 999.0));
        assert!(close("/lag_us/p99", 500.0));
        assert!(close("/server_cpu_us_per_message", 500.0));
        assert!(close("/generator_cpu_us_per_message", 250.0));
        assert!(close("/megabytes_per_second", 0.05));
        assert_eq!(json["void"], true);
        assert_eq!(json["schedule"], "poisson");
    }

    #[test]
    fn a_run_without_a_single_answer_is_still_valid_json() {
        let mut outcome = outcome(1);
        (outcome.messages, outcome.latency) = (0, histogram());
        let mut text = Vec::new();
        Report::new(setting(), &outcome)
            .write_json(&mut text)
            .unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn a_person_can_read_the_report() {
        let mut text = Vec::new();
        let report = Report::new(setting(), &outcome(500));
        report.write_table(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for part in [
            "open loop, 500/s poisson over 3 connections, 100 bytes",
            "p99.99",
            "1000 in 2.00 s",
            "500 messages/s, 0.05 MB/s",
            "server CPU    500.000 µs per message, 25.0 % of a core",
            "VOID",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

    #[test]
    fn the_distribution_rises_to_all_values_at_one() {
        let mut text = Vec::new();
        write_hgrm(&outcome(1).latency, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let fields = line.split_whitespace();
                fields.map(|field| field.parse().unwrap()).collect()
            })
            .collect();
        assert!(rows.len() > 20);
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]));
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2]), (1.0, 1000.0));
        let median = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert!((median[0] - 500.0).abs() < 1.0 && median[3] == 2.0);
    }
}
