//! A message as bytes: complete, without CRC, as its sender encoded it. In this form it is passed
//! on, kept and stored; only this folder knows the offsets in it.
//!
//! ```text
//!   0         8        12     13      14            15      15+n
//!   ┌─────────┬────────┬──────┬───────┬─────────────┬───────┬─────────┬─────────┐
//!   │ header  │ id     │ flags│ codec │ length n    │ name  │ headers │ payload │
//!   └─────────┴────────┴──────┴───────┴─────────────┴───────┴─────────┴─────────┘
//!     message   └────────────────────────── envelope ───────────────────────────┘
//! ```
//!
//! [`Encoded`] borrows its bytes from their owner: a `Bytes`, a ring of bytes, a receive buffer. It
//! is a view, as large as a slice. Modified copies of a message (another id, another payload,
//! without its trace) are made here as well.
//!
//! The bytes were parsed on receipt, or were encoded here: bytes that do not parse are a bug, on
//! which debug builds panic and release builds return nothing.

use super::envelope::{Codec, Envelope, FLAG_FAILED, FLAG_RETAIN, FLAGS_AT};
use super::kind::MessageType;
use super::message::{encode_response, strip_checksum};
use super::trace::{self, Carried, TraceContext};
use crate::base::limits::{ENVELOPE_FIXED_BYTES, MESSAGE_HEADER_BYTES};
use std::ops::Range;

/// Offsets of the type, the length, the id, the codec.
const KIND_AT: usize = 3;
const LENGTH: Range<usize> = 4..MESSAGE_HEADER_BYTES;
const ID: Range<usize> = MESSAGE_HEADER_BYTES..FLAGS_AT;
const CODEC_AT: usize = FLAGS_AT + 1;

/// A whole message without CRC; see the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded<'a>(&'a [u8]);

impl<'a> Encoded<'a> {
    /// The view of these bytes.
    #[inline]
    pub const fn of(bytes: &'a [u8]) -> Encoded<'a> {
        Encoded(bytes)
    }

    /// The view of a message as received. With CHECKSUM, it is copied to `scratch` without its CRC,
    /// which has been checked.
    #[inline]
    pub fn received(message: &'a [u8], checksum: bool, scratch: &'a mut Vec<u8>) -> Encoded<'a> {
        if !checksum {
            return Encoded(message);
        }
        scratch.clear();
        strip_checksum(message, scratch);
        Encoded(scratch)
    }

    /// A copy of a message as received, without its CRC.
    pub fn copied(message: &[u8], checksum: bool) -> Vec<u8> {
        if !checksum {
            return message.to_vec();
        }
        let mut plain = Vec::with_capacity(message.len());
        strip_checksum(message, &mut plain);
        plain
    }

    #[inline]
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }

    #[inline]
    pub const fn len(self) -> usize {
        self.0.len()
    }

    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of the body, which a peer's limit applies to.
    pub const fn body_bytes(self) -> usize {
        self.0.len().saturating_sub(MESSAGE_HEADER_BYTES)
    }

    // ---- content ----

    pub fn kind(self) -> Option<MessageType> {
        MessageType::of(self.0)
    }

    pub fn id(self) -> Option<u32> {
        let id = self.0.get(ID)?.first_chunk()?;
        Some(u32::from_be_bytes(*id))
    }

    /// The envelope, whatever the type.
    pub fn envelope(self) -> Option<Envelope<'a>> {
        self.envelope_of(self.kind()?)
    }

    /// The envelope of a PUBLISH.
    #[inline]
    pub fn publication(self) -> Option<Envelope<'a>> {
        debug_assert_eq!(self.kind(), Some(MessageType::Publish));
        self.envelope_of(MessageType::Publish)
    }

    #[inline]
    fn envelope_of(self, kind: MessageType) -> Option<Envelope<'a>> {
        let body = self.0.get(MESSAGE_HEADER_BYTES..)?;
        let envelope = Envelope::parse(kind, body);
        debug_assert!(envelope.is_ok(), "{envelope:?}: it was parsed before");
        envelope.ok()
    }

    /// The topic of a PUBLISH; for another type `""`, which is not a valid topic.
    pub fn topic(self) -> &'a str {
        self.publication().map_or("", |envelope| envelope.name)
    }

    /// Whether a RESPONSE carries FAILED, read without parsing it.
    #[inline]
    pub fn has_failed(self) -> bool {
        let flags = self.0.get(FLAGS_AT);
        flags.is_some_and(|flags| flags & FLAG_FAILED != 0)
    }

    /// The trace context it carries, if any; searches the header block only if the flags announce
    /// one.
    pub fn trace(self) -> Option<TraceContext> {
        trace::carried(self.0)
    }

    // ---- modified copies ----

    /// A copy with another id.
    pub fn with_id(self, id: u32) -> Vec<u8> {
        let mut message = self.0.to_vec();
        set_id(&mut message, id);
        message
    }

    /// The PUBLISH that a WILL becomes: the same envelope under the other type.
    pub fn published(self) -> Box<[u8]> {
        let mut message: Box<[u8]> = self.0.into();
        if let Some(kind) = message.get_mut(KIND_AT) {
            *kind = MessageType::Publish as u8;
        }
        message
    }

    /// A copy in another codec: what `write` appends replaces the last `payload_bytes`. `None` if
    /// `write` returns `None`.
    pub fn with_payload(
        self,
        payload_bytes: usize,
        codec: Codec,
        write: impl FnOnce(&mut Vec<u8>) -> Option<()>,
    ) -> Option<Vec<u8>> {
        let head = self.0.get(..self.0.len().checked_sub(payload_bytes)?)?;
        let mut message = Vec::with_capacity(self.0.len() + payload_bytes / 2);
        message.extend_from_slice(head);
        *message.get_mut(CODEC_AT)? = codec as u8;
        write(&mut message)?;
        let body_bytes = message.len() - MESSAGE_HEADER_BYTES;
        message
            .get_mut(LENGTH)?
            .copy_from_slice(&(body_bytes as u32).to_be_bytes());
        message.shrink_to_fit();
        Some(message)
    }

    /// Replaces the content of `out` with this message with `context` as its TRACEPARENT. `None` if
    /// there is no room for another header.
    pub fn with_trace(self, context: &TraceContext, out: &mut Vec<u8>) -> Option<Carried> {
        trace::carry(self.0, context, out)
    }

    /// A copy without its TRACEPARENT. `None` if it has none.
    pub fn without_trace(self) -> Option<Vec<u8>> {
        let mut message = Vec::new();
        trace::strip(self.0, &mut message)?;
        Some(message)
    }

    /// A RESPONSE without headers.
    pub fn response(id: u32, flags: u8, codec: Codec, payload: &[u8]) -> Vec<u8> {
        let head_bytes = MESSAGE_HEADER_BYTES + ENVELOPE_FIXED_BYTES;
        let mut message = Vec::with_capacity(head_bytes + payload.len());
        encode_response(id, flags, codec, payload, &mut message);
        message
    }
}

// ---- messages that are equal but for their ids ----

/// The byte range of the id.
pub const fn id_range() -> Range<usize> {
    ID
}

/// Sets a message's id.
#[inline]
pub fn set_id(message: &mut [u8], id: u32) {
    if let Some(bytes) = message.get_mut(ID) {
        bytes.copy_from_slice(&id.to_be_bytes());
    }
}

/// Whether two messages are equal but for their ids.
#[inline]
pub fn is_alike(one: &[u8], other: &[u8]) -> bool {
    one.get(..ID.start) == other.get(..ID.start) && one.get(ID.end..) == other.get(ID.end..)
}

// ---- looking ahead at the beginning of a message ----

/// The topic of a PUBLISH without RETAIN that begins with these bytes. `None`: it is something
/// else, or the topic is not complete yet.
#[inline]
pub fn live_topic(begun: &[u8]) -> Option<&[u8]> {
    if MessageType::of(begun)? != MessageType::Publish || begun.get(FLAGS_AT)? & FLAG_RETAIN != 0 {
        return None;
    }
    let body = begun.get(MESSAGE_HEADER_BYTES..)?;
    let (fixed, rest) = body.split_first_chunk::<ENVELOPE_FIXED_BYTES>()?;
    rest.get(..usize::from(fixed[ENVELOPE_FIXED_BYTES - 1]))
}

/// The id of a RESPONSE that begins with these bytes, likewise.
pub fn response_id(begun: &[u8]) -> Option<u32> {
    let message = Encoded(begun);
    let id = message.id()?;
    (message.kind() == Some(MessageType::Response)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::message::{Header, Message};

    fn encoded(kind: MessageType, envelope: Envelope<'_>, checksum: bool) -> Vec<u8> {
        let mut out = Vec::new();
        Message::Envelope(kind, envelope).encode(checksum, &mut out);
        out
    }

    fn sample() -> Envelope<'static> {
        Envelope {
            id: 0x0102_0304,
            codec: Codec::Json,
            name: "a/topic",
            payload: b"payload",
            ..Envelope::default()
        }
    }

    #[test]
    fn a_modified_copy_equals_encoding_the_modified_message() {
        let message = encoded(MessageType::Publish, sample(), false);
        let one = Encoded::of(&message);
        let expect = |envelope| encoded(MessageType::Publish, envelope, false);
        assert_eq!(one.with_id(9), expect(Envelope { id: 9, ..sample() }));
        assert!(is_alike(&message, &one.with_id(9)));
        let other = one.with_payload(sample().payload.len(), Codec::Protobuf, |out| {
            out.extend_from_slice(b"another payload");
            Some(())
        });
        let other = other.unwrap();
        let wanted = Envelope {
            codec: Codec::Protobuf,
            payload: b"another payload",
            ..sample()
        };
        assert_eq!(other, expect(wanted));
        assert!(!is_alike(&message, &other));
        assert_eq!(one.with_payload(7, Codec::Json, |_| None), None);
        let will = encoded(MessageType::Will, sample(), false);
        assert_eq!(*Encoded::of(&will).published(), *message);
        let context = TraceContext {
            trace_id: [1; 16],
            parent_id: [2; 8],
            flags: 1,
        };
        let mut traced = Vec::new();
        assert_eq!(one.with_trace(&context, &mut traced), Some(Carried::Added));
        assert_eq!(Encoded::of(&traced).trace(), Some(context));
        assert_eq!(Encoded::of(&traced).without_trace(), Some(message));
    }

    #[test]
    fn fields_read_from_a_message_are_those_written() {
        let message = encoded(MessageType::Publish, sample(), false);
        let summed = encoded(MessageType::Publish, sample(), true);
        let mut scratch = Vec::new();
        let one = Encoded::received(&summed, true, &mut scratch);
        assert_eq!(one, Encoded::of(&message));
        assert_eq!(Encoded::copied(&summed, true), message);
        assert_eq!(Encoded::copied(&message, false), message);
        assert_eq!(one.id(), Some(sample().id));
        assert_eq!(
            (one.kind(), one.topic()),
            (Some(MessageType::Publish), sample().name)
        );
        assert_eq!(one.envelope(), Some(sample()));
        let answer = Encoded::response(7, FLAG_FAILED, Codec::Bytes, b"\0\x01why");
        let one = Encoded::of(&answer);
        assert!(one.has_failed());
        let header = Header::parse(&answer, u32::MAX).unwrap().unwrap();
        assert_eq!(header.message_bytes(), answer.len());
    }

    #[test]
    fn a_beginning_yields_each_field_once_it_is_complete() {
        let message = encoded(MessageType::Publish, sample(), false);
        let retained = Envelope {
            flags: FLAG_RETAIN,
            ..sample()
        };
        let retained = encoded(MessageType::Publish, retained, false);
        let answer = Encoded::response(7, 0, Codec::Bytes, b"answer");
        let topic_end = message.len() - sample().payload.len();
        for length in 0..=message.len() {
            let topic = (length >= topic_end).then_some(sample().name.as_bytes());
            assert_eq!(live_topic(&message[..length]), topic, "{length}");
            assert_eq!(response_id(&message[..length]), None);
        }
        for length in 0..=answer.len() {
            let id = (length >= ID.end).then_some(7);
            assert_eq!(response_id(&answer[..length]), id, "{length}");
        }
        assert_eq!(live_topic(&retained), None);
        assert_eq!(live_topic(&answer), None);
    }
}
