//! What all connections of a shard share: memory, calls, counters, bounds, the time.

use super::call::Calls;
use super::pool::Pool;
use super::service::Current;
use crate::base::clock::Instant;
use crate::metrics::counter::Counters;
use crate::metrics::histogram::Histograms;
use std::sync::Arc;
use std::time::Duration;

/// A shard's bounds, from the configuration's `[limits]`.
#[derive(Clone, Debug)]
pub struct Limits {
    pub connections_max: u32,
    /// Bytes one connection may have queued before it counts as a slow consumer.
    pub outbox_bytes_max: usize,
    /// Bytes of chunks all connections may hold together.
    pub outbox_bytes_shard_max: usize,
    /// Unanswered requests of one connection.
    pub requests_open_max: u32,
    /// Calls that services of this shard still work on.
    pub calls_open_max: u32,
    pub request_timeout: Duration,
}

pub(super) struct Resources {
    pub(super) limits: Limits,
    pub(super) pool: Pool,
    pub(super) calls: Calls,
    pub(super) counters: Arc<Counters>,
    /// The request being served.
    pub(super) current: Current,
    pub(super) histograms: Box<Histograms>,
    /// The time of this turn.
    pub(super) now: Instant,
}
