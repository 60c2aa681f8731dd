//! The server's own services: `$sys/echo`, `$sys/time`, `$sys/info`, `$sys/stats`.
//!
//! The last three answer in the request's codec: protobuf for 2 (`proto::sys`), JSON for the rest.

use crate::base::clock::{Instant, unix_nanos};
use crate::base::id::ShardId;
use crate::base::reason::Reason;
use crate::broker::request::service::{Reply, Request};
use crate::metrics::counter::{Counter, Counters};
use crate::metrics::histogram::{Histograms, Timing};
use crate::proto::envelope::Codec;
use crate::proto::error::Code;
use crate::proto::outcome::Failure;
use crate::proto::sys::{Counters as SysCounters, Info, Percentiles, Stats, Sums, Time};
use crate::ring::driver::Driver;
use crate::shard::state::Shard;
use prost::Message;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What `$sys/info`, `$sys/stats` and the admin address report: written by the shards' counters
/// and, once a second, by the stats thread.
pub struct Board {
    product: String,
    /// See `Config::digest`.
    config_digest: String,
    /// The core of each shard.
    cores: Vec<u32>,
    started: Instant,
    counters: Vec<Arc<Counters>>,
    timings: Mutex<Timings>,
}

/// The histograms as of the last second. Cheap to clone.
#[derive(Clone, Default)]
pub struct Timings {
    /// All shards together.
    pub all: Span,
    /// Each shard.
    pub shards: Vec<Span>,
}

#[derive(Clone, Default)]
pub struct Span {
    /// Since the start.
    pub total: Arc<Histograms>,
    /// Of the last 10 to 20 seconds.
    pub recent: Arc<Histograms>,
}

impl Board {
    /// The board of a server with its shards on these cores.
    pub fn new(product: String, config_digest: String, cores: &[u32], started: Instant) -> Board {
        let timings = Timings {
            all: Span::default(),
            shards: vec![Span::default(); cores.len()],
        };
        Board {
            product,
            config_digest,
            cores: cores.to_vec(),
            started,
            counters: cores.iter().map(|_| Arc::default()).collect(),
            timings: Mutex::new(timings),
        }
    }

    /// The histograms, as of the last second.
    pub fn timings(&self) -> Timings {
        self.timings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn put_timings(&self, timings: Timings) {
        *self.timings.lock().unwrap_or_else(PoisonError::into_inner) = timings;
    }

    pub fn config_digest(&self) -> &str {
        &self.config_digest
    }

    pub fn cores(&self) -> &[u32] {
        &self.cores
    }

    /// Time since the server started.
    pub fn uptime(&self) -> Duration {
        self.started.age()
    }

    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// All counters, for `$sys/stats` and the log.
    pub fn stats(&self) -> Stats {
        let timings = self.timings();
        Stats {
            connections: self.counters.iter().map(|counters| counters.open()).sum(),
            total: sum(self.counters.iter().map(Arc::as_ref)),
            closed: closed(&self.counters),
            shards: self
                .counters
                .iter()
                .map(|one| SysCounters {
                    counters: sum([one.as_ref()]),
                })
                .collect(),
            timings_us: percentiles(&timings.all.total),
        }
    }
}

/// Percentiles of each timing by name, in microseconds.
pub fn percentiles(histograms: &Histograms) -> BTreeMap<String, Percentiles> {
    let all = Timing::ALL.iter();
    all.map(|&timing| (timing.label().to_owned(), in_short(histograms, timing)))
        .collect()
}

fn in_short(histograms: &Histograms, timing: Timing) -> Percentiles {
    let histogram = histograms.of(timing);
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    Percentiles {
        count: histogram.len(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max() as f64 / 1000.0,
    }
}

/// Counters by name, summed over these shards.
pub fn sum<'a>(counters: impl IntoIterator<Item = &'a Counters> + Clone) -> Sums {
    let of = |counter| {
        let counters = counters.clone().into_iter();
        counters.map(|one| one.read(counter)).sum()
    };
    Counter::ALL
        .iter()
        .map(|&counter| (counter.label().to_owned(), of(counter)))
        .collect()
}

/// Closed connections of these shards by reason; reasons that never occurred are left out.
pub fn closed(counters: &[Arc<Counters>]) -> Sums {
    let of = |reason| counters.iter().map(|one| one.read_closed(reason)).sum();
    let all = Reason::ALL
        .iter()
        .map(|&reason| (reason.label().to_owned(), of(reason)));
    all.filter(|(_, count): &(_, u64)| *count > 0).collect()
}

/// Adds the `$sys` services to a shard.
pub fn install<D: Driver>(shard: &mut Shard<D>, board: Arc<Board>) {
    let id = shard.id();
    shard.serve("$sys/echo", Box::new(echo));
    shard.serve("$sys/time", Box::new(time));
    let about = board.clone();
    let answer_info = move |request: Request<'_>, reply: Reply<'_>| {
        answer(&request, reply, &info(&about, id));
    };
    shard.serve("$sys/info", Box::new(answer_info));
    let answer_stats = move |request: Request<'_>, reply: Reply<'_>| {
        answer(&request, reply, &board.stats());
    };
    shard.serve("$sys/stats", Box::new(answer_stats));
}

fn echo(request: Request<'_>, reply: Reply<'_>) {
    reply.send(request.payload());
}

fn time(request: Request<'_>, reply: Reply<'_>) {
    let unix_ns = unix_nanos();
    answer(&request, reply, &Time { unix_ns });
}

fn info(board: &Board, shard: ShardId) -> Info {
    Info {
        product: board.product.clone(),
        protocol: 1,
        shard: shard.0.into(),
        shards: board.counters.len() as u32,
        uptime_s: board.uptime().as_secs(),
        pid: std::process::id(),
    }
}

/// Answers in the request's codec; JSON if it names none.
fn answer(request: &Request<'_>, reply: Reply<'_>, answer: &(impl Serialize + Message)) {
    if request.codec() == Codec::Protobuf {
        return reply.send_as(Codec::Protobuf, &answer.encode_to_vec());
    }
    match serde_json::to_vec(answer) {
        Ok(json) => reply.send_as(Codec::Json, &json),
        Err(error) => reply.fail(&Failure::of(Code::Internal, &error.to_string())),
    }
}
