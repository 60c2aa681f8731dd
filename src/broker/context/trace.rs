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
//! A message that carries TRACEPARENT follows its flag; of PUBLISHes and REQUESTs without
//! one, and of new connections, a share is drawn. What is not sampled passes untouched, byte
//! for byte, and costs the look at its flag; without a collector it costs one branch. A
//! sampled message goes on with one of our spans as its parent (`route`, `call`, or
//! `receive` of a RESPONSE): it is written anew once, whoever it is for. That it has been
//! given TRACEPARENT here and grown by it is remembered (`Parcel::grown`): a peer that does
//! not accept so large a message gets it as it came.
//!
//! Times within a turn come from the driver's clock; where time is simulated they are the
//! turn's.

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

/// What a shard needs to trace.
pub struct Tracing {
    /// The share of messages without TRACEPARENT that are sampled, 0 to 1.
    pub sample_ratio: f64,
    pub spans: SpanSink,
}

/// A span that has begun.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct Open {
    name: SpanName,
    /// As a message carries it on: its `parent_id` is this span.
    pub(in crate::broker) context: TraceContext,
    parent_id: [u8; 8],
    remote: bool,
    begun: Instant,
}

/// A new connection that is traced.
pub(in crate::broker) struct Arrival {
    pub(in crate::broker) context: TraceContext,
    pub(in crate::broker) accept: Option<Open>,
    pub(in crate::broker) authenticate: Option<Open>,
    /// AUTH is still to come.
    pub(in crate::broker) asks: bool,
}

/// What a span is about, as far as there is something to say.
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
    /// A publication of so many bytes, delivered to so many.
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

/// The span of a call, kept with it until its answer.
pub(crate) struct CallSpan {
    open: Open,
    service: Box<str>,
    connection: Key,
}

impl CallSpan {
    /// As the request carries it on.
    pub(in crate::broker) fn context(&self) -> &TraceContext {
        &self.open.context
    }
}

pub(crate) struct Tracer {
    shard: ShardId,
    spans: SpanSink,
    clock: Option<Clock>,
    /// Sampled is what draws this or less; 0: nothing.
    threshold: u64,
    random: fastrand::Rng,
    counters: Arc<Counters>,
    /// Connections have to send AUTH.
    pub(in crate::broker) asks: bool,
    pub(in crate::broker) arrivals: HashMap<Key, Arrival>,
    /// The `receive` span of the message in hand, and why it was refused, if it was.
    receive: Option<Open>,
    fault: Option<Fault>,
    /// The call a service is being asked for.
    call: Option<Box<CallSpan>>,
    /// For messages that are written anew.
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

    /// Begins a span below `parent`, now.
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

    /// Begins the first span of a new trace.
    pub(in crate::broker) fn begin_trace(&mut self, name: SpanName, begun: Instant) -> Open {
        let root = TraceContext {
            trace_id: self.random.u128(1..).to_be_bytes(),
            parent_id: [0; 8],
            flags: FLAG_SAMPLED,
        };
        self.begin_at(name, &root, begun)
    }

    /// Records a span that ends now.
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

    // ---- the message in hand ----

    /// Looks whether a message that has just come is sampled; a trace may begin with one that
    /// `begins` something. True: its `receive` span has
    /// begun, and `end_receive` must follow.
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

    /// The message in hand is sampled: this is where its spans belong.
    pub(in crate::broker) fn received(&self) -> Option<TraceContext> {
        self.receive.map(|open| open.context)
    }

    /// The message in hand, if there is a sampled one, has been refused.
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

    /// A service is about to be asked.
    pub(in crate::broker) fn put_call(&mut self, span: Box<CallSpan>) {
        self.call = Some(span);
    }

    /// The span of the call in hand goes to who answers it later; or nobody took it.
    pub(in crate::broker) fn take_call(&mut self) -> Option<Box<CallSpan>> {
        self.call.take()
    }
}

/// The largest number of 64 bits that is sampled.
fn threshold(ratio: f64) -> u64 {
    // Saturating: 1.0 and more are everything.
    (ratio.max(0.0) * 2f64.powi(64)) as u64
}
