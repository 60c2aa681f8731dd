//! `GET /status`: the server and its shards as one JSON object, for programs and for the
//! views (`ringmail top`, the page).
//!
//! Everything is counted since the start, so that two answers give rates.

use super::Admin;
use super::credential::Reader;
use crate::base::clock::unix_nanos;
use crate::shard::sys::{Percentiles, Sums, closed, sum};
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
    /// Connections open now.
    connections: u64,
    /// By shard, in the order of their numbers.
    shards: Vec<ShardStatus>,
    /// Connections closed, by reason; reasons that never occurred are left out.
    closed: Sums,
    /// Microseconds; of all shards since the start, as of the last second.
    timings_us: BTreeMap<&'static str, Percentiles>,
}

#[derive(Serialize)]
struct ShardStatus {
    shard: usize,
    connections: u64,
    counters: Sums,
}

async fn status(_: Reader, State(admin): State<Arc<Admin>>) -> Json<Status> {
    let board = &admin.board;
    let counters = board.counters();
    let shards = counters.iter().enumerate().map(|(shard, one)| ShardStatus {
        shard,
        connections: one.open(),
        counters: sum(std::slice::from_ref(one)),
    });
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        pid: std::process::id(),
        time_ms: unix_nanos() / 1_000_000,
        uptime_s: board.uptime().as_secs_f64(),
        draining: admin.draining.load(Ordering::Relaxed),
        connections: counters.iter().map(|one| one.open()).sum(),
        shards: shards.collect(),
        closed: closed(counters),
        timings_us: Percentiles::of_all(&board.timings()),
    })
}
