//! What all connections of a shard share: memory, calls, counters, bounds, the time.

use super::call::{Asked, Calls, Place};
use super::line::Line;
use super::pool::Pool;
use super::rate::Rates;
use super::sample::Sampler;
use super::service::Current;
use super::trace::Tracer;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::{
    CHECK_DELIVERIES, CHECKED_BYTES_PER_DELIVERY, CHECKED_BYTES_PER_VALUE, CHUNK_BYTES,
    CHUNK_LARGE_BYTES, DELIVERIES_PER_TURN, REFUSALS_OPEN_MAX, RETAINED_SHARE,
};
use crate::metrics::counter::{Counter, Counters};
use crate::metrics::histogram::Histograms;
use crate::proto::envelope::{Codec, SlowPolicy, is_failed_response};
use crate::proto::error::Code;
use crate::proto::outcome::Failure;
use std::sync::Arc;
use std::time::Duration;

/// A shard's bounds, from the configuration's `[limits]`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sessions that wait for a connection aside, and who comes back for one.
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
    /// What a request may ask for at most.
    pub request_timeout_max: Duration,
    /// Sessions whose connection has gone: beyond it, the one that has waited longest ends.
    pub sessions_waiting_max: u32,
    /// Subscriptions and services of one connection.
    pub subscriptions_max: u32,
    /// What happens to subscribers that do not keep up, unless they ask otherwise.
    pub slow_policy: SlowPolicy,
    /// What one connection may send.
    pub rates: Rates,
    /// How long a session outlives its connection.
    pub session_linger: Duration,
    /// Bytes of messages a session keeps until they are acknowledged: publications beyond it
    /// wait.
    pub session_buffer_bytes_max: usize,
    /// Retained messages looked at for a new subscription in one turn.
    pub retained_looks: usize,
}

impl Limits {
    /// How long a request waits for its answer that asks for so much with TIMEOUT_MS.
    fn timeout(&self, asked_ms: Option<u32>) -> Duration {
        match asked_ms {
            Some(ms) => Duration::from_millis(u64::from(ms)).min(self.request_timeout_max),
            None => self.request_timeout.min(self.request_timeout_max),
        }
    }

    /// Slots: of connections, of sessions that wait for one, and of connections that are
    /// refused. The memory budget counts as many.
    pub(super) fn slots(&self) -> u32 {
        self.connections_max
            .saturating_add(self.sessions_waiting_max)
            .saturating_add(REFUSALS_OPEN_MAX)
    }

    /// Bytes of retained messages.
    pub(super) fn retained_bytes_max(&self) -> usize {
        self.outbox_bytes_shard_max / RETAINED_SHARE as usize
    }

    /// Bytes of messages that a session's client may leave unacknowledged, in all: requests
    /// and answers do not wait behind a full buffer.
    pub(super) fn unacknowledged_bytes_max(&self) -> usize {
        self.session_buffer_bytes_max
            .saturating_add(self.outbox_bytes_max)
    }
}

pub(super) struct Resources {
    pub(super) limits: Limits,
    /// Deliveries that this turn may still make: then publishers wait for the next one.
    pub(super) deliveries_left: usize,
    /// Deliveries made since the start, those of slices aside.
    pub(super) deliveries_made: usize,
    pub(super) pool: Pool,
    pub(super) calls: Calls,
    pub(super) counters: Arc<Counters>,
    /// The request being served.
    pub(super) current: Current,
    pub(super) histograms: Box<Histograms>,
    pub(super) sampler: Sampler,
    /// None: nothing is traced.
    pub(super) tracer: Option<Box<Tracer>>,
    /// The time of this turn.
    pub(super) now: Instant,
}

impl Resources {
    /// At the begin of a turn.
    pub(super) fn begin_turn(&mut self, now: Instant, connections: u32) {
        self.now = now;
        self.sampler.begin_turn(now);
        self.pool.reserve(connections);
        self.deliveries_left = DELIVERIES_PER_TURN;
    }

    /// A payload of so many bytes is checked, or written in another codec: it counts as the
    /// deliveries that take as long.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.note_deliveries(CHECK_DELIVERIES + bytes / CHECKED_BYTES_PER_DELIVERY);
    }

    /// What has been spent for its bytes turned out to have so many values.
    pub(super) fn spend_values(&mut self, bytes: usize, values: usize) {
        let more = (values * CHECKED_BYTES_PER_VALUE).saturating_sub(bytes);
        self.note_deliveries(more / CHECKED_BYTES_PER_DELIVERY);
    }

    /// So many deliveries are made, at once.
    #[inline]
    pub(super) fn note_deliveries(&mut self, deliveries: usize) {
        self.deliveries_made += deliveries;
        self.deliveries_left = self.deliveries_left.saturating_sub(deliveries);
    }

    /// Opens a call for a REQUEST of this line's, within all bounds; with its deadline.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS, OVERLOADED.
    pub(super) fn open_call(
        &mut self,
        line: &mut Line,
        (id, codec): (u32, Codec),
        place: Place,
        timeout_ms: Option<u32>,
    ) -> Result<(Key, Instant), Failure> {
        if line.calls_open >= self.limits.requests_open_max {
            let text = "too many unanswered requests on this connection";
            return Err(Failure::of(Code::TooManyRequests, text));
        }
        let asked = Asked {
            connection: line.key,
            id,
            codec,
        };
        let deadline = self.now + self.limits.timeout(timeout_ms);
        let call = self.calls.open(asked, place, self.now, deadline)?;
        line.calls_open += 1;
        Ok((call, deadline))
    }

    /// A RESPONSE that somebody else made was put into an outbox.
    #[inline]
    pub(super) fn count_response(&self, message: &[u8]) {
        self.counters.add(Counter::Responses, 1);
        if is_failed_response(message) {
            self.counters.add(Counter::RequestsFailed, 1);
        }
    }

    /// Before a message is handled: the time, if it is to be timed (see `sample`).
    #[inline]
    pub(super) fn begin_message(&mut self) -> Option<Instant> {
        self.sampler.begin_message(self.now, &mut self.histograms)
    }

    #[cold]
    pub(super) fn parsed(&mut self, began: Instant) -> Option<Instant> {
        self.sampler.parsed(began, &mut self.histograms)
    }

    #[cold]
    pub(super) fn routed(&mut self, parsed: Instant) {
        self.sampler.routed(parsed, &mut self.histograms);
    }

    /// Bytes a connection may have in its outbox while publications are put into it rather
    /// than on its shelf; fewer while the shard's memory is running out. Asked for each
    /// delivery: the large chunks that one publication makes thousands of outboxes lend are
    /// more than the budget.
    #[inline]
    pub(super) fn direct_bytes_max(&self) -> usize {
        let most = match self.pool.is_half_lent() {
            true => CHUNK_BYTES,
            false => CHUNK_LARGE_BYTES,
        };
        most.min(self.limits.outbox_bytes_max / 2)
    }
}
