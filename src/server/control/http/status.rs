//! `GET /status`: the server and its shards as one JSON object, for programs and for the
//! views (`ringmail top`, the page).
//!
//! Everything is counted since the start, so that two answers give rates.

use super::admin::Admin;
use super::credential::Reader;
use crate::base::clock::unix_nanos;
use crate::metrics::counter::Counters;
use crate::metrics::gauge::Gauge;
use crate::proto::message::MessageType;
use crate::proto::sys::{Percentiles, Sums};
use crate::server::log;
use crate::shard::sys::{Span, closed, percentiles, sum};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/status", get(status))
}

/// The answer.
#[derive(Serialize)]
struct Status {
    version: &'static str,
    protocol: u8,
    pid: u32,
    /// When this was written, in milliseconds since 1970.
    time_ms: u64,
    uptime_s: f64,
    draining: bool,
    /// Servers with the same digest are configured alike, except for secrets.
    config_digest: String,
    /// Connections open now.
    connections: u64,
    /// By shard, in the order of their numbers.
    shards: Vec<ShardStatus>,
    /// Connections closed, by reason; reasons that never occurred are left out.
    closed: Sums,
    /// Lines that the log lost because its target is slow or full.
    log_lines_dropped: u64,
    /// Microseconds; of all shards since the start, as of the last second.
    timings_us: BTreeMap<String, Percentiles>,
    /// Likewise, of the last 10 to 20 seconds.
    recent_us: BTreeMap<String, Percentiles>,
    /// Left out if nothing is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    traces: Option<Traces>,
}

/// Spans on their way to the collector; those that shards had no room for are in their
/// counters.
#[derive(Serialize)]
struct Traces {
    exported: u64,
    failed: u64,
    /// Whether the last batch was not accepted.
    failing: bool,
}

#[derive(Serialize)]
struct ShardStatus {
    shard: usize,
    core: u32,
    connections: u64,
    counters: Sums,
    /// Messages that clients sent, by their type; types that never came are left out.
    received: Sums,
    gauges: Sums,
    /// As those of all shards.
    timings_us: BTreeMap<String, Percentiles>,
    recent_us: BTreeMap<String, Percentiles>,
}

impl ShardStatus {
    fn new(shard: usize, core: u32, counters: &Counters, span: &Span) -> ShardStatus {
        let received = MessageType::ALL.iter();
        let received = received.map(|kind| (kind.name().to_owned(), counters.read_received(*kind)));
        let gauges = Gauge::ALL.iter();
        ShardStatus {
            shard,
            core,
            connections: counters.open(),
            counters: sum([counters]),
            received: received.filter(|(_, count)| *count > 0).collect(),
            gauges: gauges
                .map(|gauge| (gauge.label().to_owned(), counters.gauges.read(*gauge)))
                .collect(),
            timings_us: percentiles(&span.total),
            recent_us: percentiles(&span.recent),
        }
    }
}

async fn status(_: Reader, State(admin): State<Arc<Admin>>) -> Json<Status> {
    let board = &admin.board;
    let counters = board.counters();
    let timings = board.timings();
    let shards = counters.iter().zip(&timings.shards).zip(board.cores());
    let shards = shards.enumerate();
    let shards =
        shards.map(|(shard, ((one, span), &core))| ShardStatus::new(shard, core, one, span));
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        pid: std::process::id(),
        time_ms: unix_nanos() / 1_000_000,
        uptime_s: board.uptime().as_secs_f64(),
        config_digest: board.config_digest().to_owned(),
        draining: admin.draining.load(Ordering::Relaxed),
        connections: counters.iter().map(|one| one.open()).sum(),
        shards: shards.collect(),
        closed: closed(counters),
        log_lines_dropped: log::lines_dropped(),
        timings_us: percentiles(&timings.all.total),
        recent_us: percentiles(&timings.all.recent),
        traces: admin.traces.as_ref().map(|tally| Traces {
            exported: tally.exported(),
            failed: tally.failed(),
            failing: tally.is_failing(),
        }),
    })
}
