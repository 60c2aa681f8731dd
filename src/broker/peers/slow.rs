//! Slow consumers: reports for the log. The policies act in `pending` and `deliver`; every action
//! is counted, and the first since a connection last kept up is logged.

use crate::base::id::Key;
use crate::proto::envelope::SlowPolicy;
use std::time::Duration;

/// A policy has begun to act on a connection.
pub(crate) struct SlowReport {
    pub(crate) connection: Key,
    pub(crate) policy: SlowPolicy,
    pub(crate) bytes_queued: usize,
    pub(crate) oldest_age: Duration,
}

/// Reports waiting to be logged, at most; further ones are only counted.
pub(in crate::broker) const SLOW_REPORTS_MAX: usize = 16_384;
