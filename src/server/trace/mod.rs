//! Traces on their way to a collector: OTLP over HTTP/protobuf, from the control thread.
//!
//! ```text
//!   shards ─ rings ─► exporter: every 100 ms ─► batch ─► OTLP ─► collector
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `setting` | where spans go and what is sampled: `[trace]` and OTEL_* |
//! | `export` | collecting, batching, sending, and what is lost |
//! | `wire` | a shard's span as OpenTelemetry knows it |
//!
//! Nothing here can slow a shard: its ring is bounded, and spans without room are dropped and
//! counted. If a collector is down or slow, its spans are lost, and the log says so now and
//! then.

mod export;
mod setting;
mod wire;

use super::config::Config;
use crate::metrics::span::{SPANS_MAX, Span};

pub use export::{Exporter, Tally};
pub use setting::{Setting, TRACES_PATH, endpoint_fault, ignored, notes, sampled_share};

/// Bytes of one shard's ring of spans; 0 if nothing is traced.
pub fn ring_bytes(config: &Config) -> u64 {
    match config.trace.endpoint.is_empty() {
        true => 0,
        false => (SPANS_MAX * size_of::<Span>()) as u64,
    }
}

/// A variable of this process's environment; an empty one counts as none.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
