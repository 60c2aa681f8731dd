//! Messages: the message phase's 8-byte header and typed payloads (PROTOCOL.md §2).
//!
//! ```text
//!   0    2        3     4        8                 8+Length
//!   ┌────┬────────┬─────┬────────┬──────────────┬─────┐
//!   │ MC │ version│type │ Length │ body         │ CRC │   CRC only with CHECKSUM,
//!   └────┴────────┴─────┴────────┴──────────────┴─────┘   Length counts it, the largest
//!                                                         payload accepted does not
//! ```
//!
//! [`Header::parse`] checks everything that depends only on the header, before any byte of the
//! payload has arrived; [`open`] then checks the CRC and returns the body; [`Message::parse`]
//! parses it. Between the two the session checks whether the type is allowed now: this is the
//! protocol's order of checks.

use super::body::{Reader, put_bytes16, put_str8};
use super::envelope::{Codec, Envelope};
use super::error::{Code, Refusal, clip};
use super::frame::MAGIC;
pub use super::kind::MessageType;
use super::kind::{Class, Control};
use super::output::{Output, Summed};
use crate::base::limits::{CHECKSUM_BYTES, ENVELOPE_FIXED_BYTES, MESSAGE_HEADER_BYTES};

/// The message phase's version byte.
pub const VERSION: u8 = 1;

/// A message's header whose magic, version, type and length are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: MessageType,
    /// Bytes of payload that follow.
    pub length: u32,
}

impl Header {
    /// Parses a header as far as it has arrived; `None` if fewer than 8 bytes have, and these are
    /// valid so far. `length_max` is the largest payload this side accepts, plus the CRC's bytes
    /// where CHECKSUM is in force.
    ///
    /// # Errors
    /// MALFORMED (magic), UNSUPPORTED_VERSION, UNKNOWN_TYPE, TOO_LARGE, in this order, as
    /// soon as the byte that decides is there.
    #[inline]
    pub fn parse(bytes: &[u8], length_max: u32) -> Result<Option<Header>, Refusal> {
        if let Some(&[m, c, VERSION, kind, l0, l1, l2, l3]) = bytes.first_chunk::<8>()
            && [m, c] == MAGIC
            && let Some(kind) = MessageType::from_wire(kind)
        {
            let length = u32::from_be_bytes([l0, l1, l2, l3]);
            if length <= length_max {
                return Ok(Some(Header { kind, length }));
            }
        }
        Header::refuse(bytes, length_max)
    }

    /// The slow path: a partial header, or the first check that fails.
    #[cold]
    fn refuse(bytes: &[u8], length_max: u32) -> Result<Option<Header>, Refusal> {
        if bytes.iter().zip(MAGIC).any(|(&byte, magic)| byte != magic) {
            return Err(Refusal::malformed("a message must start with 0x4D 0x43"));
        }
        if let Some(&version) = bytes.get(2)
            && version != VERSION
        {
            let text = format!(
                "protocol version {version} is not supported; this side speaks \
                                version 1"
            );
            return Err(Refusal::with(Code::UnsupportedVersion, text));
        }
        if let Some(&kind) = bytes.get(3)
            && MessageType::from_wire(kind).is_none()
        {
            return Err(Refusal::with(
                Code::UnknownType,
                format!("unknown message type {kind:#04x}"),
            ));
        }
        if let Some(&[l0, l1, l2, l3]) = bytes.get(4..8).and_then(|length| length.first_chunk()) {
            let length = u32::from_be_bytes([l0, l1, l2, l3]);
            let text = format!("a payload of {length} bytes; at most {length_max} are accepted");
            return Err(Refusal::with(Code::TooLarge, text));
        }
        Ok(None)
    }

    /// Bytes of the whole message.
    pub const fn message_bytes(&self) -> usize {
        MESSAGE_HEADER_BYTES + self.length as usize
    }
}

/// The body of a complete message: checks and removes the CRC where CHECKSUM is in force.
///
/// # Errors
/// BAD_CHECKSUM.
#[inline]
pub fn open(message: &[u8], checksum: bool) -> Result<&[u8], Refusal> {
    if !checksum {
        return Ok(message.get(MESSAGE_HEADER_BYTES..).unwrap_or_default());
    }
    let summed = message.split_last_chunk::<CHECKSUM_BYTES>();
    let parted =
        summed.and_then(|(summed, crc)| Some((summed, summed.get(MESSAGE_HEADER_BYTES..)?, crc)));
    let Some((summed, body, crc)) = parted else {
        return Err(Refusal::new(
            Code::BadChecksum,
            "the message is too short to hold its CRC",
        ));
    };
    if crc32fast::hash(summed) != u32::from_be_bytes(*crc) {
        return Err(Refusal::new(
            Code::BadChecksum,
            "the message's CRC does not match",
        ));
    }
    Ok(body)
}

/// A message's content, borrowed from its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    Close {
        code: Code,
        reason: &'a str,
    },
    Error {
        code: Code,
        id: u32,
        fatal: bool,
        text: &'a str,
    },
    Ok {
        id: u32,
    },
    Auth {
        method: u8,
        credential: &'a [u8],
    },
    AuthOk {
        expires_in_s: u32,
        principal: &'a str,
        access_token: &'a [u8],
        refresh_token: &'a [u8],
    },
    Drain {
        deadline_ms: u32,
        reconnect_after_ms: u32,
        alternative: &'a str,
    },
    Ack {
        received: u32,
    },
    Session {
        key: [u8; 16],
        received: u32,
    },
    SessionOk {
        key: [u8; 16],
        resumed: bool,
        last_publish_id: u32,
    },
    /// Any type from 0x10 on.
    Envelope(MessageType, Envelope<'a>),
}

impl<'a> Message<'a> {
    /// Reads the body of a message of type `kind`.
    ///
    /// # Errors
    /// MALFORMED.
    #[inline]
    pub fn parse(kind: MessageType, body: &'a [u8]) -> Result<Message<'a>, Refusal> {
        match kind.class() {
            Class::Control(control) => {
                let text = "the body does not match the message type";
                Message::parse_control(control, &mut Reader::new(body))
                    .ok_or(Refusal::malformed(text))
            }
            Class::Publication | Class::Change(_) | Class::Request | Class::Response => {
                Envelope::parse(kind, body).map(|envelope| Message::Envelope(kind, envelope))
            }
        }
    }

    fn parse_control(kind: Control, body: &mut Reader<'a>) -> Option<Message<'a>> {
        let message = match kind {
            Control::Ping => Message::Ping(body.opaque()?),
            Control::Pong => Message::Pong(body.opaque()?),
            Control::Close => Message::Close {
                code: Code::from_wire(body.u16()?),
                reason: body.text()?,
            },
            Control::Error => Message::Error {
                code: Code::from_wire(body.u16()?),
                id: body.u32()?,
                fatal: body.bool()?,
                text: body.text()?,
            },
            Control::Ok => {
                let id = body.u32()?;
                // Fields of later versions may follow.
                body.rest();
                Message::Ok { id }
            }
            Control::Auth => Message::Auth {
                method: body.u8()?,
                credential: body.rest(),
            },
            Control::AuthOk => Message::AuthOk {
                expires_in_s: body.u32()?,
                principal: body.str8()?,
                access_token: body.bytes16()?,
                refresh_token: body.bytes16()?,
            },
            Control::Drain => Message::Drain {
                deadline_ms: body.u32()?,
                reconnect_after_ms: body.u32()?,
                alternative: body.str8()?,
            },
            Control::Ack => Message::Ack {
                received: body.u32()?,
            },
            Control::Session => Message::Session {
                key: body.array()?,
                received: body.u32()?,
            },
            Control::SessionOk => Message::SessionOk {
                key: body.array()?,
                resumed: body.bool()?,
                last_publish_id: body.u32()?,
            },
        };
        body.is_empty().then_some(message)
    }

    pub const fn kind(&self) -> MessageType {
        match self {
            Message::Ping(_) => MessageType::Ping,
            Message::Pong(_) => MessageType::Pong,
            Message::Close { .. } => MessageType::Close,
            Message::Error { .. } => MessageType::Error,
            Message::Ok { .. } => MessageType::Ok,
            Message::Auth { .. } => MessageType::Auth,
            Message::AuthOk { .. } => MessageType::AuthOk,
            Message::Drain { .. } => MessageType::Drain,
            Message::Ack { .. } => MessageType::Ack,
            Message::Session { .. } => MessageType::Session,
            Message::SessionOk { .. } => MessageType::SessionOk,
            Message::Envelope(kind, _) => *kind,
        }
    }

    /// Bytes of the body, without header and CRC. Reason and error texts count as clipped.
    pub fn body_len(&self) -> usize {
        match self {
            Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
            Message::Close { reason, .. } => 2 + clip(reason).len(),
            Message::Error { text, .. } => 7 + clip(text).len(),
            Message::Ok { .. } | Message::Ack { .. } => 4,
            Message::Auth { credential, .. } => 1 + credential.len(),
            Message::AuthOk {
                principal,
                access_token,
                refresh_token,
                ..
            } => 4 + 1 + principal.len() + 2 + access_token.len() + 2 + refresh_token.len(),
            Message::Drain { alternative, .. } => 8 + 1 + alternative.len(),
            Message::Session { .. } => 20,
            Message::SessionOk { .. } => 21,
            Message::Envelope(_, envelope) => envelope.encoded_len(),
        }
    }

    /// Writes the whole message, with its CRC when CHECKSUM is in force.
    #[inline]
    pub fn encode(&self, checksum: bool, out: &mut impl Output) {
        let length = self.body_len() + if checksum { CHECKSUM_BYTES } else { 0 };
        debug_assert!(u32::try_from(length).is_ok());
        let [l0, l1, l2, l3] = (length as u32).to_be_bytes();
        let header = [
            MAGIC[0],
            MAGIC[1],
            VERSION,
            self.kind() as u8,
            l0,
            l1,
            l2,
            l3,
        ];
        if checksum {
            let mut summed = Summed {
                crc: crc32fast::Hasher::new(),
                out,
            };
            self.encode_from(&header, &mut summed);
            let crc = summed.crc.finalize();
            out.put(&crc.to_be_bytes());
        } else {
            self.encode_from(&header, out);
        }
    }

    #[inline]
    fn encode_from(&self, header: &[u8; MESSAGE_HEADER_BYTES], out: &mut impl Output) {
        if let Message::Envelope(_, envelope) = self {
            envelope.encode(header, out);
        } else {
            out.put(header);
            self.encode_control(out);
        }
    }

    fn encode_control(&self, out: &mut impl Output) {
        match *self {
            Message::Envelope(..) => {}
            Message::Ping(bytes) | Message::Pong(bytes) => out.put(bytes),
            Message::Close { code, reason } => {
                out.put(&code.to_wire().to_be_bytes());
                out.put(clip(reason).as_bytes());
            }
            Message::Error {
                code,
                id,
                fatal,
                text,
            } => {
                out.put(&code.to_wire().to_be_bytes());
                out.put(&id.to_be_bytes());
                out.put(&[u8::from(fatal)]);
                out.put(clip(text).as_bytes());
            }
            Message::Ok { id: number } | Message::Ack { received: number } => {
                out.put(&number.to_be_bytes());
            }
            Message::Auth { method, credential } => {
                out.put(&[method]);
                out.put(credential);
            }
            Message::AuthOk {
                expires_in_s,
                principal,
                access_token,
                refresh_token,
            } => {
                out.put(&expires_in_s.to_be_bytes());
                put_str8(principal, out);
                put_bytes16(access_token, out);
                put_bytes16(refresh_token, out);
            }
            Message::Drain {
                deadline_ms,
                reconnect_after_ms,
                alternative,
            } => {
                out.put(&deadline_ms.to_be_bytes());
                out.put(&reconnect_after_ms.to_be_bytes());
                put_str8(alternative, out);
            }
            Message::Session { key, received } => {
                out.put(&key);
                out.put(&received.to_be_bytes());
            }
            Message::SessionOk {
                key,
                resumed,
                last_publish_id,
            } => {
                out.put(&key);
                out.put(&[u8::from(resumed)]);
                out.put(&last_publish_id.to_be_bytes());
            }
        }
    }
}

/// Writes a complete message that was encoded without CRC: as it is, or with a CRC where CHECKSUM
/// is in force; with another id if one is given (types from 0x10 on).
#[inline]
pub(super) fn reframe(message: &[u8], id: Option<u32>, checksum: bool, out: &mut impl Output) {
    match (id, checksum) {
        (None, false) => out.put(message),
        (Some(id), false) => put_with_id(message, id, out),
        (_, true) => reframe_summed(message, id, out),
    }
}

#[expect(clippy::indexing_slicing, reason = "this crate has encoded it")]
fn put_with_id(message: &[u8], id: u32, out: &mut impl Output) {
    out.put(&message[..MESSAGE_HEADER_BYTES]);
    out.put(&id.to_be_bytes());
    out.put(&message[MESSAGE_HEADER_BYTES + 4..]);
}

#[expect(clippy::indexing_slicing, reason = "this crate has encoded it")]
fn reframe_summed(message: &[u8], id: Option<u32>, out: &mut impl Output) {
    let body = &message[MESSAGE_HEADER_BYTES..];
    let [l0, l1, l2, l3] = ((body.len() + CHECKSUM_BYTES) as u32).to_be_bytes();
    let mut summed = Summed {
        crc: crc32fast::Hasher::new(),
        out,
    };
    summed.put(&[
        message[0], message[1], message[2], message[3], l0, l1, l2, l3,
    ]);
    match id {
        None => summed.put(body),
        Some(id) => {
            summed.put(&id.to_be_bytes());
            summed.put(&body[4..]);
        }
    }
    let crc = summed.crc.finalize();
    out.put(&crc.to_be_bytes());
}

/// Appends a complete message, whose CRC has been checked, in the form it has without CHECKSUM.
#[expect(
    clippy::indexing_slicing,
    reason = "it has come whole, or its CRC were wrong"
)]
pub(super) fn strip_checksum(message: &[u8], out: &mut Vec<u8>) {
    let body = &message[MESSAGE_HEADER_BYTES..message.len() - CHECKSUM_BYTES];
    out.extend_from_slice(&message[..4]);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
}

/// Writes a RESPONSE without headers and CRC: the same bytes as encoding the [`Message`],
/// from its fields. Most of what a server sends is this.
#[inline]
pub(super) fn encode_response(
    id: u32,
    flags: u8,
    codec: Codec,
    payload: &[u8],
    out: &mut impl Output,
) {
    encode_response_head(id, flags, codec, payload.len(), out);
    out.put(payload);
}

/// Writes all of such a RESPONSE but its payload, of which only the length is needed.
#[inline]
pub(super) fn encode_response_head(
    id: u32,
    flags: u8,
    codec: Codec,
    payload_len: usize,
    out: &mut impl Output,
) {
    let [l0, l1, l2, l3] = ((ENVELOPE_FIXED_BYTES + payload_len) as u32).to_be_bytes();
    let [i0, i1, i2, i3] = id.to_be_bytes();
    let ([m, c], kind, codec) = (MAGIC, MessageType::Response as u8, codec as u8);
    out.put(&[
        m, c, VERSION, kind, l0, l1, l2, l3, i0, i1, i2, i3, flags, codec, 0,
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::envelope::FLAG_FAILED;

    #[test]
    fn a_response_from_its_fields_is_the_same_bytes_as_from_its_message() {
        for (flags, payload) in [(0, &b"hello"[..]), (FLAG_FAILED, b""), (0, &[7; 70_000])] {
            let (mut fields, mut message) = (Vec::new(), Vec::new());
            let codec = Codec::Json;
            encode_response(0xFFFF_0102, flags, codec, payload, &mut fields);
            let id = 0xFFFF_0102;
            let envelope = Envelope {
                id,
                flags,
                codec,
                payload,
                ..Envelope::default()
            };
            Message::Envelope(MessageType::Response, envelope).encode(false, &mut message);
            assert_eq!(fields, message);
        }
    }
}
