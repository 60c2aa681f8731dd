//! What all connections of a shard share: memory, calls, counters, limits, the time.

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

/// Rate limits of one connection.
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

/// A shard's limits, from the configuration's `[limits]`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections; sessions waiting for a connection, and connections that resume one, do not
    /// count.
    pub connections_max: u32,
    /// Bytes that one connection may have queued before it counts as a slow consumer.
    pub outbox_bytes_max: usize,
    /// Bytes of chunks that all connections together may hold.
    pub outbox_bytes_shard_max: usize,
    /// Unanswered requests of one connection.
    pub requests_open_max: u32,
    /// Calls that services of this shard are working on.
    pub calls_open_max: u32,
    pub request_timeout: Duration,
    /// The longest timeout that a request may ask for.
    pub request_timeout_max: Duration,
    /// Sessions without a connection: beyond this, the one that has waited longest ends.
    pub sessions_waiting_max: u32,
    /// Subscriptions and services of one connection.
    pub subscriptions_max: u32,
    /// What happens to subscribers that do not keep up, unless they ask for another policy.
    pub slow_policy: SlowPolicy,
    /// Rate limits of one connection.
    pub rates: Rates,
    /// How long a session outlives its connection.
    pub session_linger: Duration,
    /// Bytes of messages that a session keeps until they are acknowledged: publications beyond this
    /// wait.
    pub session_buffer_bytes_max: usize,
    pub pace: Pace,
}

impl Limits {
    /// How long a request waits for its answer if it asks for `asked_ms` with TIMEOUT_MS.
    pub(in crate::broker) fn timeout(&self, asked_ms: Option<u32>) -> Duration {
        match asked_ms {
            Some(ms) => Duration::from_millis(u64::from(ms)).min(self.request_timeout_max),
            None => self.request_timeout.min(self.request_timeout_max),
        }
    }

    /// Slots: for connections, for sessions waiting for one, and for connections about to be
    /// refused. The memory budget counts the same number.
    pub(crate) fn slots(&self) -> u32 {
        self.connections_max
            .saturating_add(self.sessions_waiting_max)
            .saturating_add(REFUSALS_OPEN_MAX)
    }

    /// Bound on retained messages, in bytes.
    pub(in crate::broker) fn retained_bytes_max(&self) -> usize {
        self.outbox_bytes_shard_max / RETAINED_SHARE as usize
    }

    /// Bytes of messages that a session's client may leave unacknowledged in total: requests and
    /// answers do not wait behind a full buffer.
    pub(in crate::broker) fn unacknowledged_bytes_max(&self) -> usize {
        self.session_buffer_bytes_max
            .saturating_add(self.outbox_bytes_max)
    }
}

/// The request being served now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Current {
    pub(in crate::broker) id: u32,
    pub(in crate::broker) codec: Codec,
    pub(in crate::broker) timeout_ms: Option<u32>,
    pub(in crate::broker) answered: bool,
    /// The code of the failure it was answered with.
    pub(in crate::broker) failure: Option<u16>,
}

pub(crate) struct Resources {
    pub(crate) limits: Limits,
    /// What the current lane may still do.
    pub(crate) work: Work,
    pub(crate) pool: Pool,
    pub(crate) calls: Calls,
    pub(crate) counters: Arc<Counters>,
    /// The request being served now.
    pub(crate) current: Current,
    pub(crate) histograms: Box<Histograms>,
    pub(crate) sampler: Sampler,
    /// `None`: tracing is off.
    pub(crate) tracer: Option<Box<Tracer>>,
    /// The time of this turn.
    pub(crate) now: Instant,
}

impl Resources {
    /// Called at the start of a turn.
    pub(crate) fn begin_turn(&mut self, now: Instant, connections: u32) {
        self.now = now;
        self.sampler.begin_turn(now);
        self.pool.reserve(connections);
        self.work.begin(Lane::Input);
    }

    /// Charges the checking or re-encoding of a payload of this size as the deliveries that would
    /// take as long.
    pub(in crate::broker) fn spend(&mut self, bytes: usize) {
        self.work
            .spend(CHECK_UNITS + bytes / CHECKED_BYTES_PER_UNIT);
    }

    /// Charges more if a payload, already charged by its bytes, turned out to contain many values.
    pub(in crate::broker) fn spend_values(&mut self, bytes: usize, values: usize) {
        let more = (values * CHECKED_BYTES_PER_VALUE).saturating_sub(bytes);
        self.work.spend(more / CHECKED_BYTES_PER_UNIT);
    }

    /// Counts a RESPONSE from another connection that was put into an outbox.
    #[inline]
    pub(in crate::broker) fn count_response(&self, message: Encoded<'_>) {
        self.counters.add(Counter::Responses, 1);
        if message.has_failed() {
            self.counters.add(Counter::RequestsFailed, 1);
        }
    }

    /// Called before a message is handled. Returns the time if the message is to be timed (see
    /// `sample`).
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

    /// Bytes that a connection may have in its outbox before publications go to its pending queue
    /// instead; fewer while the shard's memory is running out. Asked for each delivery, because the
    /// large chunks that one publication can make thousands of outboxes borrow exceed the budget.
    #[inline]
    pub(in crate::broker) fn direct_bytes_max(&self) -> usize {
        let most = match self.pool.is_half_lent() {
            true => CHUNK_BYTES,
            false => CHUNK_LARGE_BYTES,
        };
        most.min(self.limits.outbox_bytes_max / 2)
    }
}

/// Reports to the tracer, if there is one.
impl Resources {
    /// Begins the `deliver` span of a message with these headers, if it is sampled. Every message
    /// that gets here was received by a shard of this server, which put a span of its own into it.
    #[inline]
    pub(in crate::broker) fn begin_deliver(&mut self, headers: &Headers<'_>) -> Option<Open> {
        let tracer = self.tracer.as_mut()?;
        if headers.is_empty() {
            return None;
        }
        let parent = TraceContext::of(headers).filter(TraceContext::is_sampled)?;
        Some(tracer.begin(SpanName::Deliver, &parent, self.now))
    }

    /// The same for a message that has not been parsed here.
    #[inline]
    pub(in crate::broker) fn begin_deliver_of(&mut self, message: Encoded<'_>) -> Option<Open> {
        let tracer = self.tracer.as_mut()?;
        let parent = message.trace().filter(TraceContext::is_sampled)?;
        Some(tracer.begin(SpanName::Deliver, &parent, self.now))
    }

    /// Ends a span, if there is one.
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

    /// The current message is refused.
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

    /// A connection has left its slot: it has ended for `reason`, or has moved.
    pub(crate) fn forget_arrival(&mut self, key: Key, reason: Option<Reason>) {
        if let Some(tracer) = &mut self.tracer {
            tracer.gone(key, reason, self.now);
        }
    }
}
