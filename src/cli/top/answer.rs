//! The admin address's answers, as far as `top` shows them.
//!
//! Every field may be missing: an older server reports less, a newer one more.

use serde::Deserialize;
use std::collections::BTreeMap;

pub type Sums = BTreeMap<String, u64>;
pub type Timings = BTreeMap<String, Percentiles>;

/// `GET /status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: String,
    pub pid: u64,
    pub uptime_s: f64,
    pub draining: bool,
    pub connections: u64,
    pub shards: Vec<Shard>,
    /// Connections closed, by reason.
    pub closed: Sums,
    /// Since the start.
    pub timings_us: Timings,
    /// Of the last 10 to 20 s.
    pub recent_us: Timings,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Shard {
    pub shard: u64,
    pub core: Option<u64>,
    pub connections: u64,
    pub counters: Sums,
    pub gauges: BTreeMap<String, f64>,
    pub timings_us: Timings,
    pub recent_us: Timings,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Percentiles {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// `GET /connections`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Connections {
    pub total: u64,
    pub connections: Vec<Connection>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Connection {
    pub id: String,
    pub shard: u64,
    pub address: String,
    pub principal: Option<String>,
    pub client_id: Option<String>,
    pub age_s: f64,
    pub messages_in: u64,
    pub bytes_in: u64,
    pub messages_out: u64,
    pub bytes_out: u64,
    pub queued_bytes: u64,
    pub oldest_queued_ms: f64,
    pub round_trip_us: Option<f64>,
    pub session: bool,
    pub state: String,
}

/// `GET /topics`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Topics {
    pub topics: Vec<Topic>,
    /// Of all topics together.
    pub messages: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Topic {
    pub topic: String,
    pub messages: u64,
    /// By how much `messages` may be too many.
    pub error: u64,
}

/// All answers of one moment; `None` where the server has no such endpoint.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub status: Status,
    pub connections: Option<Connections>,
    pub topics: Option<Topics>,
}
