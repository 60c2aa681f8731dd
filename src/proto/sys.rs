//! What `$sys/time`, `$sys/info` and `$sys/stats` answer, in JSON and in protobuf.
//!
//! The schema is `ringmail.proto` beside this file ([`SCHEMA`]). The structs are written by
//! hand, so that building this crate does not need protoc; a test (`tests/proto/schema.rs`)
//! compiles the schema with protoc and compares the two, field by field.
//!
//! ```
//! use prost::Message;
//! use ringmail::sys::Time;
//!
//! let time = Time { unix_ns: 1_790_000_000_000_000_000 };
//! assert_eq!(Time::decode(&*time.encode_to_vec())?, time);
//! assert_eq!(serde_json::to_string(&time)?, r#"{"unix_ns":1790000000000000000}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Deref;

/// `ringmail.proto`, for protoc and similar tools.
pub const SCHEMA: &str = include_str!("ringmail.proto");

/// Counts by name.
pub type Sums = BTreeMap<String, u64>;

/// The answer of `$sys/time`.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
pub struct Time {
    /// The server's wall clock, in nanoseconds since 1970.
    #[prost(uint64, tag = "1")]
    pub unix_ns: u64,
}

/// The answer of `$sys/info`.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
pub struct Info {
    /// Product and version.
    #[prost(string, tag = "1")]
    pub product: String,
    /// The protocol's version.
    #[prost(uint32, tag = "2")]
    pub protocol: u32,
    /// The shard that answers: the one this connection is on.
    #[prost(uint32, tag = "3")]
    pub shard: u32,
    /// The number of shards.
    #[prost(uint32, tag = "4")]
    pub shards: u32,
    /// Time since the server started, in whole seconds.
    #[prost(uint64, tag = "5")]
    pub uptime_s: u64,
    /// The server's process.
    #[prost(uint32, tag = "6")]
    pub pid: u32,
}

/// The answer of `$sys/stats`.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub struct Stats {
    /// Connections open now.
    #[prost(uint64, tag = "1")]
    pub connections: u64,
    /// Counters of all shards together, since the start.
    #[prost(btree_map = "string, uint64", tag = "2")]
    pub total: Sums,
    /// Connections closed, by reason; reasons that never occurred are left out.
    #[prost(btree_map = "string, uint64", tag = "3")]
    pub closed: Sums,
    /// Counters of each shard, in the order of their numbers.
    #[prost(message, repeated, tag = "4")]
    pub shards: Vec<Counters>,
    /// In microseconds, of all shards since the start, as of the last second.
    #[prost(btree_map = "string, message", tag = "5")]
    pub timings_us: BTreeMap<String, Percentiles>,
}

/// Counters of one shard. In JSON this is the bare object of its counters.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counters {
    #[prost(btree_map = "string, uint64", tag = "1")]
    pub counters: Sums,
}

impl Deref for Counters {
    type Target = Sums;

    fn deref(&self) -> &Sums {
        &self.counters
    }
}

/// A summary of a histogram. Its unit is that of the field that holds it.
#[derive(Clone, Copy, PartialEq, Message, Serialize, Deserialize)]
pub struct Percentiles {
    #[prost(uint64, tag = "1")]
    pub count: u64,
    #[prost(double, tag = "2")]
    pub p50: f64,
    #[prost(double, tag = "3")]
    pub p90: f64,
    #[prost(double, tag = "4")]
    pub p99: f64,
    #[prost(double, tag = "5")]
    pub p999: f64,
    #[prost(double, tag = "6")]
    pub max: f64,
}
