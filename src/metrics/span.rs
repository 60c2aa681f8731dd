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

/// Spans of one shard that may wait to be taken: at a tenth of a second between, 40,000 a
/// second.
pub const SPANS_MAX: usize = 4096;

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanName {
    /// From the connection's coming to its being established.
    Accept,
    /// From AUTH to its answer.
    Authenticate,
    /// A message of a client's: from the turn that brought it until it has been handled.
    Receive,
    /// Finding whom a publication is for, and handing it to them.
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

/// Why what a span is of did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A code of the protocol's (PROTOCOL.md §3).
    Code(u16),
    /// The connection ended.
    Ended(Reason),
}

/// One span, over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub name: SpanName,
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    /// Zeros: it is the trace's first.
    pub parent_id: [u8; 8],
    /// The parent is a client's.
    pub remote: bool,
    /// W3C trace flags.
    pub flags: u8,
    pub begun: Instant,
    pub ended: Instant,
    pub shard: ShardId,
    /// Whose message it is; none where there are many.
    pub connection: Option<Key>,
    pub kind: Option<MessageType>,
    /// Bytes of the message with its header.
    pub bytes: u32,
    /// Connections it was delivered to.
    pub reached: u32,
    /// The topic or the service.
    pub subject: Option<Box<str>>,
    pub fault: Option<Fault>,
}

/// A shard's end.
pub struct SpanSink(Producer<Span>);

/// The end of whoever exports.
pub struct SpanSource(Consumer<Span>);

/// Both ends, with room for so many spans.
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
    /// The oldest span that waits.
    pub fn take(&mut self) -> Option<Span> {
        self.0.pop().ok()
    }

    /// Spans that wait.
    pub fn len(&self) -> usize {
        self.0.slots()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
