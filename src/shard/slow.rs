//! Slow consumers: what is told of them. The policies act in `shelf` and `deliver`; each act
//! is counted, and the first since a connection last kept up is logged.

use super::Shard;
use crate::base::id::Key;
use crate::proto::envelope::SlowPolicy;
use crate::ring::driver::Driver;
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
/// A line costs a few microseconds, and one publication may find ten thousand to tell of.
const SLOW_LOGS_PER_TURN: usize = 4;

impl<D: Driver> Shard<D> {
    pub(super) fn log_slow(&mut self) {
        for _ in 0..SLOW_LOGS_PER_TURN {
            let Some(report) = self.exchange.slow_reports.pop_front() else {
                return;
            };
            let Some(connection) = self.exchange.connections.get(report.connection) else {
                continue;
            };
            let address = self.driver.peer(connection.socket);
            tracing::warn!(
                shard = self.id.0,
                connection = %report.connection,
                client_id = connection.line.session.client_id(),
                principal = connection
                    .line
                    .principal()
                    .or(connection.certificate_principal()),
                address = address.map(tracing::field::display),
                policy = report.policy.label(),
                bytes_queued = report.bytes_queued,
                oldest_ms = report.oldest_age.as_millis() as u64,
                "slow consumer: it reads more slowly than others publish to it"
            );
        }
    }
}
