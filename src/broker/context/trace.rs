//! Tracing: which messages are sampled, and the spans a shard records of them.
//!
//! ```text
//!   PUBLISH   receive ─► route ─┬► deliver            (here)
//!                               ├► deliver            (each other shard that has subscribers)
//!                               └► the subscribers' own spans
//!   REQUEST   receive ─► call ──┬► deliver            (where the service's connection is)
//!                               └► the service's own spans
//!   RESPONSE  receive ─┬► deliver                     (if it carries a sampled TRACEPARENT)
//!                      └► the requester's own spans
//!   others    receive
//!   new connection     accept ─► authenticate
//! ```
//!
//! A message with TRACEPARENT follows its sampled flag; of PUBLISHes and REQUESTs without one, and
//! of new connections, a random share is sampled. A message that is not sampled passes through byte
//! for byte, at the cost of one look at its flag; without a collector, at the cost of one branch. A
//! sampled message is forwarded with one of our spans as its parent (`route`, `call`, or `receive`
//! of a RESPONSE), so it is re-encoded once, however many receive it. If we added a TRACEPARENT
//! that it did not have, and so made it larger, `Parcel::grown` records that: a peer that does not
//! accept so large a message gets the original.
//!
//! Times within a turn are read from the driver's clock; in a simulation they are the turn's.

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::broker::context::sample::Clock;
use crate::metrics::counter::{Counter, Counters};
use crate::metrics::span::{Fault, Span, SpanName, SpanSink};
use crate::proto::envelope::{Envelope, header};
use crate::proto::message::MessageType;
use crate::proto::trace::{FLAG_SAMPLED, TraceContext};
use std::collections::HashMap;
use std::sync::Arc;

/// The settings for tracing on a shard.
pub struct Tracing {
    /// The share of messages without TRACEPARENT that are sampled, 0 to 1.
    pub sample_ratio: f64,
    pub spans: SpanSink,
}

/// A span that has begun but not ended.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct Open {
    name: SpanName,
    /// The context as a forwarded message carries it: its `parent_id` is this span.
    pub(in crate::broker) context: TraceContext,
    parent_id: [u8; 8],
    remote: bool,
    begun: Instant,
}

/// A new connection that is being traced.
pub(in crate::broker) struct Arrival {
    pub(in crate::broker) context: TraceContext,
    pub(in crate::broker) accept: Option<Open>,
    pub(in crate::broker) authenticate: Option<Open>,
    /// The peer still has to send AUTH.
    pub(in crate::broker) asks: bool,
}

/// What a span reports about its message or connection, as far as known.
#[derive(Clone, Copy, Default)]
pub(in crate::broker) struct About<'a> {
    pub(in crate::broker) connection: Option<Key>,
    pub(in crate::broker) kind: Option<MessageType>,
    pub(in crate::broker) bytes: usize,
    pub(in crate::broker) reached: usize,
    pub(in crate::broker) subject: &'a str,
    pub(in crate::broker) fault: Option<Fault>,
}

impl<'a> About<'a> {
    /// A publication of this size, delivered to this many subscribers.
    pub(in crate::broker) fn delivered(topic: &'a str, bytes: usize, reached: usize) -> About<'a> {
        About {
            kind: Some(MessageType::Publish),
            bytes,
            reached,
            subject: topic,
            ..About::default()
        }
    }
}

/// The span of a call, kept until the call is answered.
pub(crate) struct CallSpan {
    open: Open,
    service: Box<str>,
    connection: Key,
}

impl CallSpan {
    /// The context as the request carries it.
    pub(in crate::broker) fn context(&self) -> &TraceContext {
        &self.open.context
    }
}

pub(crate) struct Tracer {
    shard: ShardId,
    spans: SpanSink,
    clock: Option<Clock>,
    /// A random number up to this is sampled; 0: tracing is off.
    threshold: u64,
    random: fastrand::Rng,
    counters: Arc<Counters>,
    /// Connections must send AUTH.
    pub(in crate::broker) asks: bool,
    pub(in crate::broker) arrivals: HashMap<Key, Arrival>,
    /// The `receive` span of the current message, and the code of its refusal, if it was refused.
    receive: Option<Open>,
    fault: Option<Fault>,
    /// The span of the call that is being passed to a service.
    call: Option<Box<CallSpan>>,
    /// Scratch buffer for re-encoding messages.
    pub(in crate::broker) scratch: Vec<u8>,
}

impl Tracer {
    pub(crate) fn new(
        shard: ShardId,
        tracing: Tracing,
        clock: Option<Clock>,
        counters: Arc<Counters>,
        asks: bool,
        seed: u64,
    ) -> Tracer {
        Tracer {
            shard,
            spans: tracing.spans,
            clock,
            threshold: threshold(tracing.sample_ratio),
            random: fastrand::Rng::with_seed(seed),
            counters,
            asks,
            arrivals: HashMap::new(),
            receive: None,
            fault: None,
            call: None,
            scratch: Vec::new(),
        }
    }

    // ---- spans ----

    pub(in crate::broker) fn draw(&mut self) -> bool {
        self.threshold > 0 && self.random.u64(..) <= self.threshold
    }

    fn span_id(&mut self) -> [u8; 8] {
        self.random.u64(1..).to_be_bytes()
    }

    fn time(&self, turn: Instant) -> Instant {
        self.clock.map_or(turn, |clock| clock().max(turn))
    }

    /// Begins a child span of `parent`, now.
    pub(in crate::broker) fn begin(
        &mut self,
        name: SpanName,
        parent: &TraceContext,
        turn: Instant,
    ) -> Open {
        let begun = self.time(turn);
        self.begin_at(name, parent, begun)
    }

    fn begin_at(&mut self, name: SpanName, parent: &TraceContext, begun: Instant) -> Open {
        Open {
            name,
            context: TraceContext {
                parent_id: self.span_id(),
                ..*parent
            },
            parent_id: parent.parent_id,
            remote: false,
            begun,
        }
    }

    /// Begins the root span of a new trace.
    pub(in crate::broker) fn begin_trace(&mut self, name: SpanName, begun: Instant) -> Open {
        let root = TraceContext {
            trace_id: self.random.u128(1..).to_be_bytes(),
            parent_id: [0; 8],
            flags: FLAG_SAMPLED,
        };
        self.begin_at(name, &root, begun)
    }

    /// Ends a span now, and records it.
    pub(in crate::broker) fn end(&mut self, open: Open, about: About<'_>, turn: Instant) {
        let span = Span {
            name: open.name,
            trace_id: open.context.trace_id,
            span_id: open.context.parent_id,
            parent_id: open.parent_id,
            remote: open.remote,
            flags: open.context.flags,
            begun: open.begun,
            ended: self.time(turn),
            shard: self.shard,
            connection: about.connection,
            kind: about.kind,
            bytes: u32::try_from(about.bytes).unwrap_or(u32::MAX),
            reached: u32::try_from(about.reached).unwrap_or(u32::MAX),
            subject: (!about.subject.is_empty()).then(|| about.subject.into()),
            fault: about.fault,
        };
        if !self.spans.record(span) {
            self.counters.add(Counter::SpansDropped, 1);
        }
    }

    // ---- the current message ----

    /// Decides whether a received message is sampled; a message that `begins` something may start a
    /// new trace. If this returns true, the message's `receive` span has begun and `end_receive`
    /// must follow.
    #[inline]
    pub(in crate::broker) fn receive(
        &mut self,
        begins: bool,
        envelope: &Envelope<'_>,
        turn: Instant,
    ) -> bool {
        let value = match envelope.headers.is_empty() {
            true => None,
            false => envelope.headers.find(header::TRACEPARENT),
        };
        match value {
            Some(value) => self.receive_carried(value, turn),
            None => begins && self.draw() && self.receive_first(turn),
        }
    }

    fn receive_carried(&mut self, value: &[u8], turn: Instant) -> bool {
        let Some(parent) = TraceContext::parse(value).filter(TraceContext::is_sampled) else {
            return false;
        };
        let mut open = self.begin_at(SpanName::Receive, &parent, turn);
        open.remote = true;
        self.receive = Some(open);
        true
    }

    #[cold]
    fn receive_first(&mut self, turn: Instant) -> bool {
        self.receive = Some(self.begin_trace(SpanName::Receive, turn));
        true
    }

    /// The context under which spans of the current message belong, if it is sampled.
    pub(in crate::broker) fn received(&self) -> Option<TraceContext> {
        self.receive.map(|open| open.context)
    }

    /// Records that the current message, if sampled, was refused.
    pub(in crate::broker) fn note_refusal(&mut self, code: u16) {
        if self.receive.is_some() {
            self.fault.get_or_insert(Fault::Code(code));
        }
    }

    pub(in crate::broker) fn end_receive(&mut self, about: About<'_>, turn: Instant) {
        let fault = self.fault.take();
        if let Some(open) = self.receive.take() {
            self.end(open, About { fault, ..about }, turn);
        }
    }

    // ---- calls ----

    pub(in crate::broker) fn begin_call(
        &mut self,
        parent: &TraceContext,
        service: &str,
        connection: Key,
        turn: Instant,
    ) -> Box<CallSpan> {
        Box::new(CallSpan {
            open: self.begin(SpanName::Call, parent, turn),
            service: service.into(),
            connection,
        })
    }

    pub(in crate::broker) fn end_call(
        &mut self,
        span: &CallSpan,
        fault: Option<Fault>,
        turn: Instant,
    ) {
        let about = About {
            connection: Some(span.connection),
            kind: Some(MessageType::Request),
            subject: &span.service,
            fault,
            ..About::default()
        };
        self.end(span.open, about, turn);
    }

    /// A service is about to be called.
    pub(in crate::broker) fn put_call(&mut self, span: Box<CallSpan>) {
        self.call = Some(span);
    }

    /// Takes the span of the current call: it moves to whoever answers later, or no one took the
    /// call.
    pub(in crate::broker) fn take_call(&mut self) -> Option<Box<CallSpan>> {
        self.call.take()
    }
}

/// The largest 64-bit random number that is sampled.
fn threshold(ratio: f64) -> u64 {
    // Saturates: a ratio of 1.0 or more samples everything.
    (ratio.max(0.0) * 2f64.powi(64)) as u64
}
