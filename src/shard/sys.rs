//! The server's own services: `$sys/echo`, `$sys/time`, `$sys/info`, `$sys/stats`.
//!
//! The last three answer in JSON; a request whose codec is protobuf is told that this is
//! not offered yet.

use super::Shard;
use super::service::{Failure, Reply, Request};
use crate::base::clock::{Instant, unix_nanos};
use crate::base::id::ShardId;
use crate::base::reason::Reason;
use crate::metrics::counter::{Counter, Counters};
use crate::metrics::histogram::{Histograms, Timing};
use crate::proto::envelope::Codec;
use crate::proto::error::Code;
use crate::ring::driver::Driver;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What `$sys/info`, `$sys/stats` and the admin address tell: written by the shards'
/// counters and, once a second, by the stats thread.
pub struct Board {
    product: String,
    /// See `Config::digest`.
    config_digest: String,
    /// Each shard's core.
    cores: Vec<u32>,
    started: Instant,
    counters: Vec<Arc<Counters>>,
    timings: Mutex<Timings>,
}

/// The histograms as of the last second. Cheap to clone.
#[derive(Clone, Default)]
pub struct Timings {
    /// Of all shards together.
    pub all: Span,
    /// Of each shard.
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
    /// The board of a server with shards on these cores.
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

    /// Time since the server was started.
    pub fn uptime(&self) -> Duration {
        self.started.age()
    }

    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// Everything counted, for `$sys/stats` and the log.
    pub fn stats(&self) -> Stats {
        let timings = self.timings();
        Stats {
            connections: self.counters.iter().map(|counters| counters.open()).sum(),
            total: sum(self.counters.iter().map(Arc::as_ref)),
            closed: closed(&self.counters),
            shards: self
                .counters
                .iter()
                .map(|one| sum([one.as_ref()]))
                .collect(),
            timings_us: Percentiles::of_all(&timings.all.total),
        }
    }
}

pub type Sums = BTreeMap<&'static str, u64>;

/// The answer of `$sys/stats`.
#[derive(Debug, Serialize)]
pub struct Stats {
    /// Connections open now.
    pub connections: u64,
    /// Counters of all shards together.
    pub total: Sums,
    /// Connections closed, by reason; reasons that never occurred are left out.
    pub closed: Sums,
    /// Counters of each shard.
    pub shards: Vec<Sums>,
    /// Microseconds; of all shards since the start, as of the last second.
    pub timings_us: BTreeMap<&'static str, Percentiles>,
}

/// A histogram in short, in microseconds.
#[derive(Debug, Serialize)]
pub struct Percentiles {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Percentiles {
    /// Of each timing, by its name.
    pub fn of_all(histograms: &Histograms) -> BTreeMap<&'static str, Percentiles> {
        let all = Timing::ALL.iter();
        all.map(|&timing| (timing.label(), Percentiles::of(histograms, timing)))
            .collect()
    }

    fn of(histograms: &Histograms, timing: Timing) -> Percentiles {
        let histogram = histograms.of(timing);
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
        let (count, max) = (histogram.len(), histogram.max() as f64 / 1000.0);
        Percentiles {
            count,
            p50,
            p90,
            p99,
            p999,
            max,
        }
    }
}

/// Counters by name, of these shards together.
pub fn sum<'a>(counters: impl IntoIterator<Item = &'a Counters> + Clone) -> Sums {
    let of = |counter| {
        let counters = counters.clone().into_iter();
        counters.map(|one| one.read(counter)).sum()
    };
    Counter::ALL
        .iter()
        .map(|&counter| (counter.label(), of(counter)))
        .collect()
}

/// Connections of these shards that were closed, by reason; those that never occurred are
/// left out.
pub fn closed(counters: &[Arc<Counters>]) -> Sums {
    let of = |reason| counters.iter().map(|one| one.read_closed(reason)).sum();
    let all = Reason::ALL
        .iter()
        .map(|&reason| (reason.label(), of(reason)));
    all.filter(|&(_, count): &(_, u64)| count > 0).collect()
}

/// Gives a shard the `$sys` services.
pub fn install<D: Driver>(shard: &mut Shard<D>, board: Arc<Board>) {
    let id = shard.id();
    shard.serve("$sys/echo", Box::new(echo));
    shard.serve("$sys/time", Box::new(time));
    let info = board.clone();
    let answer_info = move |request: Request<'_>, reply: Reply<'_>| {
        answer_json(&request, reply, &Info::of(&info, id));
    };
    shard.serve("$sys/info", Box::new(answer_info));
    let answer_stats = move |request: Request<'_>, reply: Reply<'_>| {
        answer_json(&request, reply, &board.stats());
    };
    shard.serve("$sys/stats", Box::new(answer_stats));
}

fn echo(request: Request<'_>, reply: Reply<'_>) {
    reply.send(request.payload());
}

/// The answer of `$sys/time`.
#[derive(Serialize)]
struct Time {
    unix_ns: u64,
}

fn time(request: Request<'_>, reply: Reply<'_>) {
    answer_json(
        &request,
        reply,
        &Time {
            unix_ns: unix_nanos(),
        },
    );
}

/// The answer of `$sys/info`.
#[derive(Serialize)]
struct Info<'a> {
    product: &'a str,
    protocol: u8,
    shard: u16,
    shards: usize,
    uptime_s: u64,
    pid: u32,
}

impl<'a> Info<'a> {
    fn of(board: &'a Board, shard: ShardId) -> Info<'a> {
        Info {
            product: &board.product,
            protocol: 1,
            shard: shard.0,
            shards: board.counters.len(),
            uptime_s: board.uptime().as_secs(),
            pid: std::process::id(),
        }
    }
}

fn answer_json(request: &Request<'_>, reply: Reply<'_>, answer: &impl Serialize) {
    if request.codec() == Codec::Protobuf {
        let text = "protobuf is not offered yet: ask with codec 0 or 1 for JSON";
        return reply.fail(&Failure::of(Code::Unexpected, text));
    }
    match serde_json::to_vec(answer) {
        Ok(json) => reply.send_as(Codec::Json, &json),
        Err(error) => reply.fail(&Failure::of(Code::Internal, &error.to_string())),
    }
}
