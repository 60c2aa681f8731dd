//! Trace context: the header TRACEPARENT (PROTOCOL.md §2; W3C Trace Context), read, written,
//! and put into a message that goes on.
//!
//! ```text
//!   [ header 8 │ id 4, flags, codec, name │ block: … TRACEPARENT(trace-id 16, parent-id 8, flags 1) … │ payload ]
//!                                                                 └ replaced where it stands, or
//!                                                                   added at the block's end: 28 to 30 bytes more
//! ```
//!
//! Messages here are complete, without CRC, and have been parsed before: for any other the
//! result is `None`, and the message is passed on unchanged.

use super::envelope::{FLAG_HEADERS, FLAGS_AT, Headers, header};
use crate::base::limits::{ENVELOPE_FIXED_BYTES, MESSAGE_HEADER_BYTES};
use std::fmt;

/// Bytes of the header's value.
pub const TRACEPARENT_BYTES: usize = 25;
/// The trace is sampled: participants record spans.
pub const FLAG_SAMPLED: u8 = 1;
/// The most that TRACEPARENT adds to a message: its entry, and the length of the block.
pub const TRACEPARENT_ADDS_MAX: usize = ENTRY_BYTES + 2;

/// Key, length and value.
const ENTRY_BYTES: usize = 3 + TRACEPARENT_BYTES;
/// The offset of a message's name; the byte before it is the name's length.
const NAME_AT: usize = MESSAGE_HEADER_BYTES + ENVELOPE_FIXED_BYTES;

/// Which trace a message belongs to, and which span it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: [u8; 16],
    /// The span that sent it: the parent of the receiver's spans.
    pub parent_id: [u8; 8],
    pub flags: u8,
}

impl TraceContext {
    /// `None` for another length, and for ids of zeros, which W3C calls invalid.
    pub fn parse(value: &[u8]) -> Option<TraceContext> {
        let (trace_id, rest) = value.split_first_chunk::<16>()?;
        let (parent_id, flags) = rest.split_first_chunk::<8>()?;
        let &[flags] = flags else { return None };
        let context = TraceContext {
            trace_id: *trace_id,
            parent_id: *parent_id,
            flags,
        };
        (context.trace_id != [0; 16] && context.parent_id != [0; 8]).then_some(context)
    }

    /// The trace context that a message carries.
    pub fn of(headers: &Headers<'_>) -> Option<TraceContext> {
        TraceContext::parse(headers.find(header::TRACEPARENT)?)
    }

    pub const fn is_sampled(&self) -> bool {
        self.flags & FLAG_SAMPLED != 0
    }

    /// The header's value.
    pub fn to_bytes(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut value = [0; TRACEPARENT_BYTES];
        value[..16].copy_from_slice(&self.trace_id);
        value[16..24].copy_from_slice(&self.parent_id);
        value[24] = self.flags;
        value
    }
}

/// As W3C writes it, version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8], f: &mut fmt::Formatter<'_>| {
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        };
        f.write_str("00-")?;
        hex(&self.trace_id, f)?;
        f.write_str("-")?;
        hex(&self.parent_id, f)?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// How a message was given its TRACEPARENT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It had one; its length is unchanged.
    Replaced,
    /// It has grown by the header.
    Added,
}

/// Replaces the content of `out` with `message` with `context` as its TRACEPARENT. `None` if there
/// is no room for another header.
pub(super) fn carry(message: &[u8], context: &TraceContext, out: &mut Vec<u8>) -> Option<Carried> {
    let value = context.to_bytes();
    let block = Block::of(message)?;
    out.clear();
    if let Some(at) = block.traceparent_at(message) {
        out.extend_from_slice(message);
        out.get_mut(at..at + TRACEPARENT_BYTES)?
            .copy_from_slice(&value);
        return Some(Carried::Replaced);
    }
    let block_bytes = u16::try_from(block.bytes() + ENTRY_BYTES).ok()?;
    let grown = message.len() + ENTRY_BYTES + usize::from(block.is_none()) * 2;
    let length = u32::try_from(grown - MESSAGE_HEADER_BYTES).ok()?;
    out.reserve(grown);
    out.extend_from_slice(message.get(..block.length_at)?);
    out.extend_from_slice(&block_bytes.to_be_bytes());
    out.extend_from_slice(message.get(block.from..block.to)?);
    Headers::push(out, header::TRACEPARENT, &value);
    out.extend_from_slice(message.get(block.to..)?);
    out.get_mut(4..8)?.copy_from_slice(&length.to_be_bytes());
    *out.get_mut(FLAGS_AT)? |= FLAG_HEADERS;
    Some(Carried::Added)
}

/// Replaces the content of `out` with `message` without its TRACEPARENT. `None` if it has none.
pub(super) fn strip(message: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let block = Block::of(message)?;
    let at = block.traceparent_at(message)?;
    let block_bytes = block.bytes().checked_sub(ENTRY_BYTES)?;
    out.clear();
    out.extend_from_slice(message.get(..block.length_at)?);
    if block_bytes == 0 {
        *out.get_mut(FLAGS_AT)? &= !FLAG_HEADERS;
    } else {
        out.extend_from_slice(&(block_bytes as u16).to_be_bytes());
    }
    out.extend_from_slice(message.get(block.from..at - 3)?);
    out.extend_from_slice(message.get(at + TRACEPARENT_BYTES..)?);
    let length = u32::try_from(out.len() - MESSAGE_HEADER_BYTES).ok()?;
    out.get_mut(4..8)?.copy_from_slice(&length.to_be_bytes());
    Some(())
}

/// Replaces the content of `out` with the entries of `headers` and `context` as TRACEPARENT. `None`
/// if there is no room.
pub fn headers_with(
    headers: &Headers<'_>,
    context: &TraceContext,
    out: &mut Vec<u8>,
) -> Option<()> {
    out.clear();
    for (key, value) in headers.iter() {
        if key != header::TRACEPARENT {
            Headers::push(out, key, value);
        }
    }
    Headers::push(out, header::TRACEPARENT, &context.to_bytes());
    u16::try_from(out.len()).ok().map(|_| ())
}

/// The trace context that a message carries; searches its header block only if the flags announce
/// one.
pub(super) fn carried(message: &[u8]) -> Option<TraceContext> {
    let block = Block::of(message)?;
    let at = block.traceparent_at(message)?;
    TraceContext::parse(message.get(at..at + TRACEPARENT_BYTES)?)
}

/// The range of a message's header block: `from..to`, preceded by its length. Without a block, all
/// offsets are where it would begin.
struct Block {
    length_at: usize,
    from: usize,
    to: usize,
}

impl Block {
    fn of(message: &[u8]) -> Option<Block> {
        let name_bytes = usize::from(*message.get(NAME_AT - 1)?);
        let length_at = NAME_AT + name_bytes;
        if message.get(FLAGS_AT)? & FLAG_HEADERS == 0 {
            let (from, to) = (length_at, length_at);
            return (to <= message.len()).then_some(Block {
                length_at,
                from,
                to,
            });
        }
        let length = message.get(length_at..)?.first_chunk::<2>()?;
        let from = length_at + 2;
        let to = from + usize::from(u16::from_be_bytes(*length));
        (to <= message.len()).then_some(Block {
            length_at,
            from,
            to,
        })
    }

    fn bytes(&self) -> usize {
        self.to - self.from
    }

    /// Whether there is no block, not even an empty one.
    fn is_none(&self) -> bool {
        self.length_at == self.from
    }

    /// The offset of the value in the message.
    fn traceparent_at(&self, message: &[u8]) -> Option<usize> {
        let mut at = self.from;
        while at < self.to {
            let &[key, high, low] = message.get(at..)?.first_chunk::<3>()?;
            let length = usize::from(u16::from_be_bytes([high, low]));
            if key == header::TRACEPARENT {
                let whole = length == TRACEPARENT_BYTES && at + 3 + length <= self.to;
                return whole.then_some(at + 3);
            }
            at += 3 + length;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::envelope::Envelope;
    use crate::proto::message::{Header, Message, MessageType};

    const CONTEXT: TraceContext = TraceContext {
        trace_id: [0xAB; 16],
        parent_id: [0xCD; 8],
        flags: FLAG_SAMPLED,
    };

    fn message(headers: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
        let mut block = Vec::new();
        for (key, value) in headers {
            Headers::push(&mut block, *key, value);
        }
        let envelope = Envelope {
            id: 7,
            name: "a/topic",
            headers: Headers::check(&block).unwrap(),
            payload,
            ..Envelope::default()
        };
        let mut out = Vec::new();
        Message::Envelope(MessageType::Publish, envelope).encode(false, &mut out);
        out
    }

    fn parsed(message: &[u8]) -> Envelope<'_> {
        let header = Header::parse(message, u32::MAX).unwrap().unwrap();
        let body = &message[MESSAGE_HEADER_BYTES..];
        assert_eq!(header.length as usize, body.len());
        Envelope::parse(header.kind, body).unwrap()
    }

    #[test]
    fn a_context_is_read_as_it_was_written() {
        assert_eq!(TraceContext::parse(&CONTEXT.to_bytes()), Some(CONTEXT));
        let text = format!("00-{}-{}-01", "ab".repeat(16), "cd".repeat(8));
        assert_eq!(CONTEXT.to_string(), text);
    }

    #[test]
    fn ids_of_zeros_and_other_lengths_are_no_context() {
        let mut no_trace = CONTEXT;
        no_trace.trace_id = [0; 16];
        let mut no_parent = CONTEXT;
        no_parent.parent_id = [0; 8];
        for value in [no_trace.to_bytes(), no_parent.to_bytes()] {
            assert_eq!(TraceContext::parse(&value), None);
        }
        let value = CONTEXT.to_bytes();
        for length in 0..TRACEPARENT_BYTES {
            assert_eq!(TraceContext::parse(&value[..length]), None);
        }
        assert_eq!(
            TraceContext::parse(&[value.as_slice(), &[0]].concat()),
            None
        );
    }

    #[test]
    fn a_new_parent_replaces_the_old_one_in_place() {
        let other = TraceContext {
            parent_id: [1; 8],
            ..CONTEXT
        };
        let before = [
            (header::KEY, &b"k"[..]),
            (1, &other.to_bytes()),
            (0x40, b""),
        ];
        let after = [
            (header::KEY, &b"k"[..]),
            (1, &CONTEXT.to_bytes()),
            (0x40, b""),
        ];
        let mut out = vec![1, 2, 3];
        let done = carry(&message(&before, b"payload"), &CONTEXT, &mut out);
        assert_eq!(done, Some(Carried::Replaced));
        assert_eq!(out, message(&after, b"payload"));
        assert_eq!(carried(&out), Some(CONTEXT));
    }

    #[test]
    fn a_message_without_context_gets_one_and_gives_it_back() {
        let blocks: [&[(u8, &[u8])]; 3] =
            [&[], &[(header::KEY, b"k")], &[(0x40, b""), (0xFF, b"v")]];
        for headers in blocks {
            for payload in [&b""[..], b"payload"] {
                let original = message(headers, payload);
                let mut out = Vec::new();
                assert_eq!(carried(&original), None);
                assert_eq!(carry(&original, &CONTEXT, &mut out), Some(Carried::Added));
                let envelope = parsed(&out);
                assert_eq!(TraceContext::of(&envelope.headers), Some(CONTEXT));
                assert_eq!(envelope.payload, payload);
                assert!(out.len() - original.len() <= TRACEPARENT_ADDS_MAX);
                let mut back = Vec::new();
                assert_eq!(strip(&out, &mut back), Some(()));
                assert_eq!(back, original);
                assert_eq!(strip(&original, &mut back), None);
            }
        }
    }

    #[test]
    fn a_full_block_takes_no_context() {
        let value = vec![0; usize::from(u16::MAX) - 3 - ENTRY_BYTES + 1];
        let full = message(&[(0x40, &value)], b"");
        assert_eq!(carry(&full, &CONTEXT, &mut Vec::new()), None);
        let room = message(&[(0x40, &value[1..])], b"");
        assert_eq!(
            carry(&room, &CONTEXT, &mut Vec::new()),
            Some(Carried::Added)
        );
    }

    #[test]
    fn a_cut_message_is_no_reason_to_panic() {
        let whole = message(&[(header::KEY, b"k"), (1, &CONTEXT.to_bytes())], b"p");
        for length in 0..whole.len() - 1 {
            let cut = &whole[..length];
            let mut out = Vec::new();
            carry(cut, &CONTEXT, &mut out);
            strip(cut, &mut out);
            carried(cut);
        }
    }
}
