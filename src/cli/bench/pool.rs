//! `ringmail bench pool`: requests through the client's pool against a connection for each.
//!
//! Here the load is the library's own async client on one thread: what is compared is what a
//! program gets. Rounds of both kinds alternate, and ratios are taken within a round.

use super::fault::Halt;
use super::process::Process;
use super::run::positive;
use super::target::{Site, Target};
use crate::cli::access;
use crate::cli::args::exit_codes;
use crate::cli::duration;
use crate::cli::failure::Failure;
use crate::client::{Builder, Client, Error, Pool, PooledClient};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

const SERVICE: &str = "$sys/echo";
/// Times beyond it count as this.
const LONGEST_NS: u64 = 60_000_000_000;

/// Compare requests through a pool with a connection for each request
///
/// Each task, all on one thread, sends requests to $sys/echo one after the other. In one kind
/// of round it acquires a connection from a pool for each request and returns it; in the other
/// it connects, sends the request and closes. Rounds alternate. Latency runs from asking for a
/// connection to receiving the answer; closing counts only in the requests per second.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail bench pool --spawn
  ringmail bench pool --spawn --tasks 100 --connections 4
  ringmail bench pool --address ringmails://mail.example:7411 --output json",
    exit_codes!()
))]
pub struct Args {
    /// How many tasks send requests at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = positive(4096))]
    tasks: u32,

    /// The pool's connections_max; by default, the number of tasks
    #[arg(long, value_name = "N", value_parser = positive(4096))]
    connections: Option<u32>,

    /// Rounds of each kind
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive(1000))]
    rounds: u32,

    /// How long a round takes
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse_bounded_positive)]
    duration: Duration,

    /// Bytes of each payload
    #[arg(long, visible_alias = "bytes", value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    payload_bytes: u32,

    #[command(flatten)]
    target: Target,
}

/// How the tasks of a round get their connections.
#[derive(Clone)]
enum Way {
    Pooled(Pool),
    Each(Rc<(Builder<Client>, String)>),
}

/// What one round showed.
struct Round {
    times: Histogram<u64>,
    length: Duration,
    server_cpu: Option<Duration>,
}

impl Round {
    fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.length.as_secs_f64()
    }
}

#[derive(Debug, Serialize)]
struct Report {
    benchmark: &'static str,
    address: String,
    tasks: u32,
    connections_max: u32,
    payload_bytes: u32,
    /// How many were measured.
    rounds: usize,
    /// A signal ended the run before all of them.
    interrupted: bool,
    round_seconds: f64,
    pooled: Kind,
    each: Kind,
    /// Pooled by connection-for-each, within each round; the median of the rounds.
    requests_per_s_ratio: f64,
    mean_ratio: f64,
}

/// Rounds of one kind: medians of theirs, and percentiles of all requests together.
#[derive(Debug, Serialize)]
struct Kind {
    requests: u64,
    requests_per_s: f64,
    mean_us: f64,
    p50_us: f64,
    p99_us: f64,
    /// Where the server's process is named.
    server_cpu_us_per_request: Option<f64>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    // Connections that are being closed have descriptors as well.
    let site = args.target.prepare(2 * args.tasks as usize + 1024)?;
    let address = match args.target.spawn {
        true => site.address.to_string(),
        false => args.target.address(),
    };
    let builder = Client::builder()
        .connect_timeout(args.target.timeout)
        .request_timeout(args.target.timeout);
    let builder = access::apply(builder, &args.target.access)?;
    let result = args.measure(&site, &builder, &address);
    let rounds = site.leave(result)?;
    let report = args.report(address, &rounds);
    let output = args.target.output;
    output.print(&report, |out| report.write_table(out))
}

impl Args {
    fn connections_max(&self) -> u32 {
        self.connections.unwrap_or(self.tasks)
    }

    /// Pairs of rounds, pooled and each; every other pair in the other order.
    fn measure(
        &self,
        site: &Site,
        builder: &Builder<Client>,
        address: &str,
    ) -> Result<Vec<[Round; 2]>, Halt> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().map_err(Halt::Poll)?;
        let each = || Way::Each(Rc::new((builder.clone(), address.to_owned())));
        let mut pairs = Vec::new();
        for number in 0..self.rounds {
            if !self.target.quiet {
                eprintln!("round {} of {}", number + 1, self.rounds);
            }
            let pooled = || {
                let round = async {
                    let pool = Pool::builder()
                        .client(builder.clone())
                        .connections_max(self.connections_max() as usize)
                        .acquire_timeout(self.target.timeout)
                        .open(address)
                        .map_err(Halt::Client)?;
                    let round = self.round(Way::Pooled(pool.clone()), site).await;
                    pool.close().await;
                    round
                };
                runtime.block_on(round)
            };
            let unpooled = || runtime.block_on(self.round(each(), site));
            let pair = match number % 2 {
                0 => pooled().and_then(|pooled| Ok([pooled, unpooled()?])),
                _ => unpooled().and_then(|unpooled| Ok([pooled()?, unpooled])),
            };
            match pair {
                Ok(pair) => pairs.push(pair),
                // Of a round that was cut short nothing can be compared.
                Err(Halt::Interrupted) if !pairs.is_empty() => break,
                Err(halt) => return Err(halt),
            }
        }
        Ok(pairs)
    }

    async fn round(&self, way: Way, site: &Site) -> Result<Round, Halt> {
        let payload: Rc<[u8]> = vec![0x5A; self.payload_bytes as usize].into();
        let times = Histogram::new_with_bounds(1, LONGEST_NS, 3);
        let times = times.map_err(|error| Halt::Stats(error.to_string()))?;
        let times = Rc::new(RefCell::new(times));
        let before = cpu(site.process)?;
        let started = Instant::now();
        let end = started + self.duration;
        let tasks = LocalSet::new();
        let load = tasks.run_until(async {
            let task = |_| {
                let (way, payload, times) = (way.clone(), payload.clone(), times.clone());
                let interrupted = site.interrupted.clone();
                tokio::task::spawn_local(async move {
                    ask(&way, &payload, &times, end, &interrupted).await
                })
            };
            let tasks: Vec<_> = (0..self.tasks).map(task).collect();
            for task in tasks {
                let ended = task.await;
                ended.map_err(|error| Halt::Poll(io::Error::other(error)))??;
            }
            Ok::<(), Halt>(())
        });
        load.await?;
        let length = started.elapsed();
        let after = cpu(site.process)?;
        drop(tasks);
        let server_cpu = after
            .zip(before)
            .map(|(after, before)| after.since(&before));
        let times = times.borrow().clone();
        Ok(Round {
            times,
            length,
            server_cpu,
        })
    }

    fn report(&self, address: String, rounds: &[[Round; 2]]) -> Report {
        let ratio = |of: fn(&Round) -> f64| {
            median(
                rounds
                    .iter()
                    .map(|[pooled, each]| of(pooled) / of(each))
                    .collect(),
            )
        };
        Report {
            benchmark: "pool",
            address,
            tasks: self.tasks,
            connections_max: self.connections_max(),
            payload_bytes: self.payload_bytes,
            rounds: rounds.len(),
            interrupted: rounds.len() < self.rounds as usize,
            round_seconds: self.duration.as_secs_f64(),
            pooled: Kind::of(rounds.iter().map(|[pooled, _]| pooled).collect()),
            each: Kind::of(rounds.iter().map(|[_, each]| each).collect()),
            requests_per_s_ratio: ratio(Round::per_second),
            mean_ratio: ratio(|round| round.times.mean()),
        }
    }
}

fn cpu(process: Option<Process>) -> Result<Option<super::process::CpuTime>, Halt> {
    let read = process.map(|process| process.cpu_time());
    read.transpose().map_err(Halt::Process)
}

/// One task: requests, one after the other, until the round is over.
async fn ask(
    way: &Way,
    payload: &[u8],
    times: &RefCell<Histogram<u64>>,
    end: Instant,
    interrupted: &AtomicBool,
) -> Result<(), Halt> {
    loop {
        if interrupted.load(Ordering::Relaxed) {
            return Err(Halt::Interrupted);
        }
        let started = Instant::now();
        if started >= end {
            return Ok(());
        }
        // What is held until the time is taken, and what is still to be closed behind it.
        let (mut pooled, mut own) = (None::<PooledClient>, None::<Client>);
        let asked = async {
            let client = match way {
                Way::Pooled(pool) => &**pooled.insert(pool.acquire().await?),
                Way::Each(to) => &*own.insert(to.0.connect(&to.1).await?),
            };
            client.request(SERVICE, payload).await
        };
        let answer = asked.await.map_err(Halt::Client)?;
        let time = nanos(started.elapsed());
        if answer.payload != payload {
            let text = "the answer is not the request's payload".to_owned();
            return Err(Halt::Client(Error::Invalid { text }));
        }
        times.borrow_mut().saturating_record(time);
        if let Some(client) = own {
            client.close().await.map_err(Halt::Client)?;
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => {
            values[middle.saturating_sub(1)..=middle]
                .iter()
                .sum::<f64>()
                / 2.0
        }
    }
}

impl Kind {
    fn of(rounds: Vec<&Round>) -> Kind {
        let mut all = rounds[0].times.clone();
        for round in &rounds[1..] {
            // Both have the same bounds and precision.
            let _ = all.add(&round.times);
        }
        let us = |nanos: f64| nanos / 1000.0;
        let cpu: Option<Duration> = rounds.iter().map(|round| round.server_cpu).sum();
        let of_each = |of: fn(&Round) -> f64| median(rounds.iter().map(|r| of(r)).collect());
        Kind {
            requests: all.len(),
            requests_per_s: of_each(Round::per_second),
            mean_us: us(of_each(|round| round.times.mean())),
            p50_us: us(all.value_at_quantile(0.5) as f64),
            p99_us: us(all.value_at_quantile(0.99) as f64),
            server_cpu_us_per_request: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / all.len() as f64),
        }
    }
}

impl Report {
    fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "pool, {} tasks, {} connections at most, {} B, {} rounds of {} s each way, {}\n",
            self.tasks,
            self.connections_max,
            self.payload_bytes,
            self.rounds,
            self.round_seconds,
            self.address
        )?;
        writeln!(
            out,
            "| | requests/s | mean | p50 | p99 | server CPU per request |\n|---|---|---|---|---|---|"
        )?;
        for (name, kind) in [("pool", &self.pooled), ("connection for each", &self.each)] {
            let cpu = kind.server_cpu_us_per_request;
            let cpu = cpu.map_or_else(|| "–".to_owned(), |us| format!("{us:.1} µs"));
            writeln!(
                out,
                "| {name} | {:.0} | {:.0} µs | {:.0} µs | {:.0} µs | {cpu} |",
                kind.requests_per_s, kind.mean_us, kind.p50_us, kind.p99_us
            )?;
        }
        writeln!(
            out,
            "| ratio | {:.2} × | {:.3} × | | | |",
            self.requests_per_s_ratio, self.mean_ratio
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_both_in_it() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
