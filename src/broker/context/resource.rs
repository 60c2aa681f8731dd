//! What all connections of a shard share: memory, calls, counters, bounds, the time.

use crate::auth::bucket::Limit;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::{
    CHECK_UNITS, CHECKED_BYTES_PER_UNIT, CHECKED_BYTES_PER_VALUE, CHUNK_BYTES, CHUNK_LARGE_BYTES,
    REFUSALS_OPEN_MAX, RETAINED_SHARE,
};
use crate::base::reason::Reason;
use crate::broker::context::pool::Pool;
use crate::broker::context::sample::Sampler;
use crate::broker::context::scheduler::{Lane, Pace, Work};
use crate::broker::context::trace::{About, CallSpan, Open, Tracer};
use crate::broker::request::call::Calls;
use crate::metrics::counter::{Counter, Counters};
use crate::metrics::histogram::Histograms;
use crate::metrics::span::{Fault, SpanName};
use crate::proto::encoded::Encoded;
use crate::proto::envelope::{Codec, Headers, SlowPolicy};
use crate::proto::error::Code;
use crate::proto::trace::TraceContext;
use std::sync::Arc;
use std::time::Duration;

/// What one connection may send.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub messages: Limit,
    pub bytes: Limit,
}

impl Rates {
    pub const NONE: Rates = Rates {
        messages: Limit::NONE,
        bytes: Limit::NONE,
    };

    #[inline]
    pub(in crate::broker) fn is_none(&self) -> bool {
        self.messages.is_none() && self.bytes.is_none()
    }
}

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
    pub pace: Pace,
}

impl Limits {
    /// How long a request waits for its answer that asks for so much with TIMEOUT_MS.
    pub(in crate::broker) fn timeout(&self, asked_ms: Option<u32>) -> Duration {
        match asked_ms {
            Some(ms) => Duration::from_millis(u64::from(ms)).min(self.request_timeout_max),
            None => self.request_timeout.min(self.request_timeout_max),
        }
    }

    /// Slots: of connections, of sessions that wait for one, and of connections that are
    /// refused. The memory budget counts as many.
    pub(crate) fn slots(&self) -> u32 {
        self.connections_max
            .saturating_add(self.sessions_waiting_max)
            .saturating_add(REFUSALS_OPEN_MAX)
    }

    /// Bytes of retained messages.
    pub(in crate::broker) fn retained_bytes_max(&self) -> usize {
        self.outbox_bytes_shard_max / RETAINED_SHARE as usize
    }

    /// Bytes of messages that a session's client may leave unacknowledged, in all: requests
    /// and answers do not wait behind a full buffer.
    pub(in crate::broker) fn unacknowledged_bytes_max(&self) -> usize {
        self.session_buffer_bytes_max
            .saturating_add(self.outbox_bytes_max)
    }
}

/// The request being served.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Current {
    pub(in crate::broker) id: u32,
    pub(in crate::broker) codec: Codec,
    pub(in crate::broker) timeout_ms: Option<u32>,
    pub(in crate::broker) answered: bool,
    /// It was answered with a failure of this code.
    pub(in crate::broker) failure: Option<u16>,
}

pub(crate) struct Resources {
    pub(crate) limits: Limits,
    /// What the lane whose turn it is may still do.
    pub(crate) work: Work,
    pub(crate) pool: Pool,
    pub(crate) calls: Calls,
    pub(crate) counters: Arc<Counters>,
    /// The request being served.
    pub(crate) current: Current,
    pub(crate) histograms: Box<Histograms>,
    pub(crate) sampler: Sampler,
    /// None: nothing is traced.
    pub(crate) tracer: Option<Box<Tracer>>,
    /// The time of this turn.
    pub(crate) now: Instant,
}

impl Resources {
    /// At the begin of a turn.
    pub(crate) fn begin_turn(&mut self, now: Instant, connections: u32) {
        self.now = now;
        self.sampler.begin_turn(now);
        self.pool.reserve(connections);
        self.work.begin(Lane::Input);
    }

    /// A payload of so many bytes is checked, or written in another codec: it counts as the
    /// deliveries that take as long.
    pub(in crate::broker) fn spend(&mut self, bytes: usize) {
        self.work
            .spend(CHECK_UNITS + bytes / CHECKED_BYTES_PER_UNIT);
    }

    /// What has been spent for its bytes turned out to have so many values.
    pub(in crate::broker) fn spend_values(&mut self, bytes: usize, values: usize) {
        let more = (values * CHECKED_BYTES_PER_VALUE).saturating_sub(bytes);
        self.work.spend(more / CHECKED_BYTES_PER_UNIT);
    }

    /// A RESPONSE that somebody else made was put into an outbox.
    #[inline]
    pub(in crate::broker) fn count_response(&self, message: Encoded<'_>) {
        self.counters.add(Counter::Responses, 1);
        if message.has_failed() {
            self.counters.add(Counter::RequestsFailed, 1);
        }
    }

    /// Before a message is handled: the time, if it is to be timed (see `sample`).
    #[inline]
    pub(in crate::broker) fn begin_message(&mut self) -> Option<Instant> {
        self.sampler.begin_message(self.now, &mut self.histograms)
    }

    #[cold]
    pub(in crate::broker) fn parsed(&mut self, began: Instant) -> Option<Instant> {
        self.sampler.parsed(began, &mut self.histograms)
    }

    #[cold]
    pub(in crate::broker) fn routed(&mut self, parsed: Instant) {
        self.sampler.routed(parsed, &mut self.histograms);
    }

    /// Bytes a connection may have in its outbox while publications are put into it rather
    /// than on its pending queue; fewer while the shard's memory is running out. Asked for each
    /// delivery: the large chunks that one publication makes thousands of outboxes lend are
    /// more than the budget.
    #[inline]
    pub(in crate::broker) fn direct_bytes_max(&self) -> usize {
        let most = match self.pool.is_half_lent() {
            true => CHUNK_BYTES,
            false => CHUNK_LARGE_BYTES,
        };
        most.min(self.limits.outbox_bytes_max / 2)
    }
}

/// What is told of a message or a connection to the tracer, if there is one.
impl Resources {
    /// Begins the `deliver` span of a message whose headers these are, if it is sampled.
    /// All that passes here has been received by a shard of this server, which has put a
    /// span of its own into it.
    #[inline]
    pub(in crate::broker) fn begin_deliver(&mut self, headers: &Headers<'_>) -> Option<Open> {
        let tracer = self.tracer.as_mut()?;
        if headers.is_empty() {
            return None;
        }
        let parent = TraceContext::of(headers).filter(TraceContext::is_sampled)?;
        Some(tracer.begin(SpanName::Deliver, &parent, self.now))
    }

    /// The same of a message that has not been parsed here.
    #[inline]
    pub(in crate::broker) fn begin_deliver_of(&mut self, message: Encoded<'_>) -> Option<Open> {
        let tracer = self.tracer.as_mut()?;
        let parent = message.trace().filter(TraceContext::is_sampled)?;
        Some(tracer.begin(SpanName::Deliver, &parent, self.now))
    }

    /// Ends a span, if one has begun.
    #[inline]
    pub(in crate::broker) fn end_span<'a>(
        &mut self,
        open: Option<Open>,
        about: impl FnOnce() -> About<'a>,
    ) {
        if let (Some(open), Some(tracer)) = (open, &mut self.tracer) {
            tracer.end(open, about(), self.now);
        }
    }

    #[inline]
    pub(crate) fn end_call(&mut self, span: Option<Box<CallSpan>>, fault: Option<Fault>) {
        if let (Some(span), Some(tracer)) = (span, &mut self.tracer) {
            tracer.end_call(&span, fault, self.now);
        }
    }

    /// The message in hand is refused.
    #[inline]
    pub(in crate::broker) fn note_refusal(&mut self, code: u16) {
        if let Some(tracer) = &mut self.tracer {
            tracer.note_refusal(code);
        }
    }

    /// A connection is established.
    pub(in crate::broker) fn note_arrival(&mut self, key: Key) {
        if let Some(tracer) = &mut self.tracer {
            tracer.established(key, self.now);
        }
    }

    /// AUTH has been answered.
    pub(in crate::broker) fn end_authenticate(&mut self, key: Key, refused: Option<Code>) {
        if let Some(tracer) = &mut self.tracer {
            let fault = refused.map(|code| Fault::Code(code.to_wire()));
            tracer.end_authenticate(key, fault, self.now);
        }
    }

    /// A connection has left its slot: it has ended for a reason, or moved.
    pub(crate) fn forget_arrival(&mut self, key: Key, reason: Option<Reason>) {
        if let Some(tracer) = &mut self.tracer {
            tracer.gone(key, reason, self.now);
        }
    }
}
