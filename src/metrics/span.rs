//! Spans of sampled messages: recorded by a shard, exported by the control thread.
//!
//! ```text
//!   shard ─ record ─► bounded ring ─ take ─► control thread ─► collector
//!               └ full: dropped, and counted by the shard
//! ```
//!
//! A span is plain data with monotonic times; the exporter translates it for a collector. Only
//! the name of the topic or service is allocated, and only for sampled messages.

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::reason::Reason;
use crate::proto::message::MessageType;
use rtrb::{Consumer, Producer, RingBuffer};

/// How many spans of one shard may wait to be taken: taken every tenth of a second, that is 40,000
/// a second.
pub const SPANS_MAX: usize = 4096;

/// What a span covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanName {
    /// From the accept of a connection until it is established.
    Accept,
    /// From AUTH to its answer.
    Authenticate,
    /// A client's message: from the turn that received it until it has been handled.
    Receive,
    /// Finding a publication's receivers, and handing it to them.
    Route,
    /// Putting a message into the outboxes of one shard.
    Deliver,
    /// From a REQUEST to its RESPONSE.
    Call,
}

impl SpanName {
    pub const fn label(self) -> &'static str {
        match self {
            SpanName::Accept => "accept",
            SpanName::Authenticate => "authenticate",
            SpanName::Receive => "receive",
            SpanName::Route => "route",
            SpanName::Deliver => "deliver",
            SpanName::Call => "call",
        }
    }
}

/// Why the operation of a span failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A code of the protocol (PROTOCOL.md §3).
    Code(u16),
    /// The connection ended.
    Ended(Reason),
}

/// One span, which has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub name: SpanName,
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    /// Zeros: the root span of the trace.
    pub parent_id: [u8; 8],
    /// Whether the parent is a client's span.
    pub remote: bool,
    /// W3C trace flags.
    pub flags: u8,
    pub begun: Instant,
    pub ended: Instant,
    pub shard: ShardId,
    /// The connection whose message it is; `None` if there are many.
    pub connection: Option<Key>,
    pub kind: Option<MessageType>,
    /// Bytes of the message with its header.
    pub bytes: u32,
    /// How many connections it was delivered to.
    pub reached: u32,
    /// The topic or the service.
    pub subject: Option<Box<str>>,
    pub fault: Option<Fault>,
}

/// The shard's end.
pub struct SpanSink(Producer<Span>);

/// The exporter's end.
pub struct SpanSource(Consumer<Span>);

/// Both ends, with room for `spans_max` spans.
pub fn channel(spans_max: usize) -> (SpanSink, SpanSource) {
    let (sink, source) = RingBuffer::new(spans_max);
    (SpanSink(sink), SpanSource(source))
}

impl SpanSink {
    /// Records a span. False: there is no room.
    #[must_use]
    pub fn record(&mut self, span: Span) -> bool {
        self.0.push(span).is_ok()
    }
}

impl SpanSource {
    /// The oldest waiting span.
    pub fn take(&mut self) -> Option<Span> {
        self.0.pop().ok()
    }

    /// How many spans wait.
    pub fn len(&self) -> usize {
        self.0.slots()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
