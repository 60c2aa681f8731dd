//! Slow consumers: what is told of them. The policies act in `pending` and `deliver`; each act
//! is counted, and the first since a connection last kept up is logged.

use crate::base::id::Key;
use crate::proto::envelope::SlowPolicy;
use std::time::Duration;

/// A policy has begun to act on a connection.
pub(super) struct SlowReport {
    pub(super) connection: Key,
    pub(super) policy: SlowPolicy,
    pub(super) bytes_queued: usize,
    pub(super) oldest_age: Duration,
}

/// Reports that wait to be logged at most; what is more is counted only.
pub(super) const SLOW_REPORTS_MAX: usize = 16_384;
