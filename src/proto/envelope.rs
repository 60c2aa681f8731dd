//! The envelope: the one layout of all messages from type 0x10 on (PROTOCOL.md §2).
//!
//! Parsing borrows everything and checks everything once, including headers, so that an
//! [`Envelope`] can be read without further checks. Whether its name is a valid topic, filter or
//! service is checked later, by `name`: the protocol checks names last.

use super::error::Refusal;
pub use super::header;
use super::kind::MessageType;
pub use super::kind::{FLAG_FAILED, FLAG_HEADERS, FLAG_RETAIN};
use super::output::Output;
use crate::base::limits::{ENVELOPE_FIXED_BYTES, MESSAGE_HEADER_BYTES, NAME_BYTES_MAX};

/// The codec of a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    #[default]
    Bytes = 0,
    Json = 1,
    Protobuf = 2,
}

impl Codec {
    pub const fn from_wire(byte: u8) -> Option<Codec> {
        match byte {
            0 => Some(Codec::Bytes),
            1 => Some(Codec::Json),
            2 => Some(Codec::Protobuf),
            _ => None,
        }
    }
}

/// The offset of the flags in a message: after the id.
pub(super) const FLAGS_AT: usize = MESSAGE_HEADER_BYTES + 4;

/// What happens to a subscriber that does not keep up (header SLOW_POLICY).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SlowPolicy {
    /// It is disconnected: ERROR SLOW_CONSUMER, fatal.
    #[default]
    Disconnect = 1,
    DropOldest = 2,
    DropNewest = 3,
    /// Of the pending messages, only the latest of each topic and KEY is kept.
    LatestPerKey = 4,
}

impl SlowPolicy {
    /// Its name in the configuration and in logs.
    pub const fn label(self) -> &'static str {
        match self {
            SlowPolicy::Disconnect => "disconnect",
            SlowPolicy::DropOldest => "drop-oldest",
            SlowPolicy::DropNewest => "drop-newest",
            SlowPolicy::LatestPerKey => "latest-per-key",
        }
    }

    /// `None` for 0 (the server's default policy) and for a byte that is not a policy.
    pub const fn from_wire(byte: u8) -> Option<SlowPolicy> {
        match byte {
            1 => Some(SlowPolicy::Disconnect),
            2 => Some(SlowPolicy::DropOldest),
            3 => Some(SlowPolicy::DropNewest),
            4 => Some(SlowPolicy::LatestPerKey),
            _ => None,
        }
    }
}

/// A message from type 0x10 on, borrowed from its encoded bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The sender's number for this operation.
    pub id: u32,
    /// `FLAG_*`. Headers are written whether or not `FLAG_HEADERS` is set; set without headers it
    /// means an empty block, so that a parsed message is written unchanged.
    pub flags: u8,
    pub codec: Codec,
    pub name: &'a str,
    pub headers: Headers<'a>,
    pub payload: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Parses the body of a message of type `kind`.
    ///
    /// # Errors
    /// MALFORMED, with a text that names the field.
    #[inline]
    pub fn parse(kind: MessageType, body: &'a [u8]) -> Result<Envelope<'a>, Refusal> {
        Envelope::parse_from(false, kind, body)
    }

    /// The same; a client's message may not have headers that only a server may send.
    ///
    /// # Errors
    /// As [`Envelope::parse`].
    #[inline]
    pub(super) fn parse_from(
        is_client: bool,
        kind: MessageType,
        body: &'a [u8],
    ) -> Result<Envelope<'a>, Refusal> {
        let Some((fixed, rest)) = body.split_first_chunk::<ENVELOPE_FIXED_BYTES>() else {
            return Err(Refusal::malformed("an envelope is at least 7 bytes"));
        };
        let [i0, i1, i2, i3, flags, codec, name_bytes] = *fixed;
        if flags & !kind.flags() != 0 {
            return Err(Refusal::malformed(
                "a flag this message type does not allow",
            ));
        }
        let Some(codec) = Codec::from_wire(codec) else {
            return Err(Refusal::malformed("unknown codec"));
        };
        let Some((name, mut payload)) = rest.split_at_checked(usize::from(name_bytes)) else {
            return Err(Refusal::malformed(
                "the name runs past the end of the message",
            ));
        };
        let Ok(name) = std::str::from_utf8(name) else {
            return Err(Refusal::malformed("the name is not UTF-8"));
        };
        if kind == MessageType::Response && !name.is_empty() {
            return Err(Refusal::malformed("the name of a RESPONSE must be empty"));
        }
        let mut headers = Headers::default();
        if flags & FLAG_HEADERS != 0 {
            (headers, payload) = Headers::parse(payload, is_client.then_some(kind))?;
        }
        let id = u32::from_be_bytes([i0, i1, i2, i3]);
        Ok(Envelope {
            id,
            flags,
            codec,
            name,
            headers,
            payload,
        })
    }

    pub const fn failed(&self) -> bool {
        self.flags & FLAG_FAILED != 0
    }

    /// Bytes of the encoded envelope.
    pub fn encoded_len(&self) -> usize {
        let headers = if self.has_header_block() {
            2 + self.headers.0.len()
        } else {
            0
        };
        ENVELOPE_FIXED_BYTES + self.name.len() + headers + self.payload.len()
    }

    /// Bytes of the largest payload that this envelope may have if a message's body is limited to
    /// `body_bytes_max`.
    pub fn payload_bytes_max(&self, body_bytes_max: usize) -> usize {
        body_bytes_max.saturating_sub(self.encoded_len() - self.payload.len())
    }

    /// Bytes of the largest body with a payload of this size and no headers.
    pub const fn body_bytes_max(payload_bytes: usize) -> usize {
        ENVELOPE_FIXED_BYTES + NAME_BYTES_MAX + payload_bytes
    }

    /// The body of a message, as [`Envelope::parse`] takes it.
    pub fn to_body(&self) -> Box<[u8]> {
        let mut message = Vec::with_capacity(MESSAGE_HEADER_BYTES + self.encoded_len());
        self.encode(&[0; MESSAGE_HEADER_BYTES], &mut message);
        message.split_off(MESSAGE_HEADER_BYTES).into_boxed_slice()
    }

    const fn has_header_block(&self) -> bool {
        self.flags & FLAG_HEADERS != 0 || !self.headers.is_empty()
    }

    /// Writes the envelope after its message's header; the fixed-length part in one piece.
    #[inline]
    pub(super) fn encode(&self, header: &[u8; MESSAGE_HEADER_BYTES], out: &mut impl Output) {
        debug_assert!(self.name.len() <= NAME_BYTES_MAX);
        let has_block = self.has_header_block();
        let flags = self.flags | if has_block { FLAG_HEADERS } else { 0 };
        let mut fixed = [0; MESSAGE_HEADER_BYTES + ENVELOPE_FIXED_BYTES];
        fixed[..8].copy_from_slice(header);
        fixed[8..12].copy_from_slice(&self.id.to_be_bytes());
        fixed[FLAGS_AT] = flags;
        fixed[13] = self.codec as u8;
        fixed[14] = self.name.len() as u8;
        out.put(&fixed);
        if !self.name.is_empty() {
            out.put(self.name.as_bytes());
        }
        if has_block {
            out.put(&(self.headers.0.len() as u16).to_be_bytes());
            out.put(self.headers.0);
        }
        out.put(self.payload);
    }
}

/// A checked header block: entries of `key u8, length u16, value`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    /// Splits the block (`u16 length` and that many bytes) from the payload that follows it.
    fn parse(
        bytes: &'a [u8],
        client_sends: Option<MessageType>,
    ) -> Result<(Headers<'a>, &'a [u8]), Refusal> {
        let past = Refusal::malformed("the header block runs past the end of the message");
        let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
            return Err(past);
        };
        match rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) {
            Some((block, payload)) => Ok((Headers::check_from(block, client_sends)?, payload)),
            None => Err(past),
        }
    }

    /// Checks a block of entries in its wire form.
    ///
    /// # Errors
    /// MALFORMED for an entry past the end, and for a known key given twice or with a value
    /// that its definition does not allow.
    pub fn check(block: &'a [u8]) -> Result<Headers<'a>, Refusal> {
        Headers::check_from(block, None)
    }

    /// The same, and checks that a client may send them on a message of this type.
    ///
    /// # Errors
    /// As [`Headers::check`].
    pub fn check_sent(block: &'a [u8], kind: MessageType) -> Result<Headers<'a>, Refusal> {
        Headers::check_from(block, Some(kind))
    }

    fn check_from(
        block: &'a [u8],
        client_sends: Option<MessageType>,
    ) -> Result<Headers<'a>, Refusal> {
        let mut seen = 0u64;
        let mut rest = block;
        while !rest.is_empty() {
            let Some((key, value, after)) = split_entry(rest) else {
                return Err(Refusal::malformed(
                    "a header runs past the end of its block",
                ));
            };
            if key < header::APPLICATION {
                let bit = 1u64 << key;
                if seen & bit != 0 && !header::may_repeat(key) {
                    return Err(Refusal::malformed("a header appears twice"));
                }
                seen |= bit;
                if !header::allows(key, value) {
                    return Err(Refusal::malformed(
                        "a header's length or value is out of range",
                    ));
                }
                if client_sends.is_some_and(|kind| !header::client_sends(key, kind)) {
                    return Err(Refusal::malformed(
                        "a client may send START only on SUBSCRIBE, and SEQ never",
                    ));
                }
            }
            rest = after;
        }
        Ok(Headers(block))
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The block as on the wire, without its length.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (key, value, after) = split_entry(rest)?;
            rest = after;
            Some((key, value))
        })
    }

    /// The first value of a key.
    pub fn find(&self, key: u8) -> Option<&'a [u8]> {
        self.iter()
            .find(|entry| entry.0 == key)
            .map(|entry| entry.1)
    }

    /// TIMEOUT_MS, if present.
    pub fn timeout_ms(&self) -> Option<u32> {
        self.find_u32(header::TIMEOUT_MS)
    }

    /// EXPIRES_MS, if present.
    pub fn expires_ms(&self) -> Option<u32> {
        self.find_u32(header::EXPIRES_MS)
    }

    /// SLOW_POLICY, if it is present and not 0 (the server's default).
    pub fn slow_policy(&self) -> Option<SlowPolicy> {
        match self.find(header::SLOW_POLICY)? {
            &[byte] => SlowPolicy::from_wire(byte),
            _ => None,
        }
    }

    fn find_u32(&self, key: u8) -> Option<u32> {
        self.find(key)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Appends one entry to a block under construction.
    pub fn push(block: &mut Vec<u8>, key: u8, value: &[u8]) {
        debug_assert!(value.len() <= usize::from(u16::MAX));
        block.push(key);
        block.extend_from_slice(&(value.len() as u16).to_be_bytes());
        block.extend_from_slice(value);
    }
}

fn split_entry(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([key, high, low], rest) = bytes.split_first_chunk::<3>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
    Some((*key, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::message::Message;

    fn written(kind: MessageType, envelope: Envelope<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Message::Envelope(kind, envelope).encode(false, &mut out);
        assert_eq!(out.len(), MESSAGE_HEADER_BYTES + envelope.encoded_len());
        out.split_off(MESSAGE_HEADER_BYTES)
    }

    #[test]
    fn an_empty_header_block_is_written_as_it_came() {
        let body = b"\0\0\0\x01\x02\0\x01x\0\0payload";
        let envelope = Envelope::parse(MessageType::Publish, body).unwrap();
        assert_eq!(
            (envelope.payload, envelope.headers.is_empty()),
            (&b"payload"[..], true)
        );
        assert_eq!(written(MessageType::Publish, envelope), body);
    }

    #[test]
    fn headers_are_announced_whether_or_not_the_flag_is_set() {
        let mut block = Vec::new();
        Headers::push(&mut block, header::TIMEOUT_MS, &500u32.to_be_bytes());
        for flags in [0, FLAG_HEADERS] {
            let envelope = Envelope {
                flags,
                name: "x",
                headers: Headers::check(&block).unwrap(),
                ..Envelope::default()
            };
            let body = written(MessageType::Request, envelope);
            let read = Envelope::parse(MessageType::Request, &body).unwrap();
            assert_eq!(
                (read.flags, read.headers.timeout_ms()),
                (FLAG_HEADERS, Some(500))
            );
        }
    }

    #[test]
    fn only_properties_and_unknown_headers_may_repeat() {
        let values: &[&[u8]] = &[
            b"v",
            &[1; 25],
            &[1; 4],
            &[1; 4],
            b"g",
            &[1],
            b"k",
            b"s",
            &[1; 8],
            &[1],
            &[1; 8],
            b"t",
            b"a",
            b"c",
        ];
        for key in 0..=u8::MAX {
            let value = values.get(usize::from(key)).copied().unwrap_or(b"\x01kv");
            let is_once = (1..=13).contains(&key);
            let mut block = Vec::new();
            Headers::push(&mut block, key, value);
            assert!(Headers::check(&block).is_ok(), "{key}");
            Headers::push(&mut block, key, value);
            assert_eq!(Headers::check(&block).is_err(), is_once, "{key}");
        }
    }

    #[test]
    fn headers_reserved_for_servers_are_accepted_from_a_server() {
        let mut block = Vec::new();
        Headers::push(&mut block, header::SEQ, &[0; 8]);
        let envelope = Envelope {
            name: "x",
            headers: Headers::check(&block).unwrap(),
            ..Envelope::default()
        };
        let kind = MessageType::Publish;
        let body = written(kind, envelope);
        assert!(Envelope::parse(kind, &body).is_ok());
        assert!(Envelope::parse_from(true, kind, &body).is_err());
        assert!(Headers::check_sent(&block, kind).is_err());
    }
}
