//! Control frames: the link phase's 13-byte header and payload (PROTOCOL.md §1).
//!
//! Parsing reports the first failing check in the protocol's order (magic, type, length, CRC) as
//! soon as the bytes that decide it have arrived; nothing is allocated. The session decides which
//! frame is allowed in which state; `option` parses the options.

use super::error::{Code, Refusal, clip};
use super::output::Output;
use crate::base::limits::{FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX};

/// "MC", the first two bytes of every frame and message.
pub const MAGIC: [u8; 2] = *b"MC";

/// The type of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameType {
    Syn = 1,
    SynAck = 2,
    Ack = 3,
    Rst = 4,
}

impl FrameType {
    pub const fn from_wire(byte: u8) -> Option<FrameType> {
        match byte {
            1 => Some(FrameType::Syn),
            2 => Some(FrameType::SynAck),
            3 => Some(FrameType::Ack),
            4 => Some(FrameType::Rst),
            _ => None,
        }
    }
}

/// A whole control frame whose magic, type, length and CRC are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: FrameType,
    pub seq: u32,
    pub payload: &'a [u8],
}

/// The result of parsing the head of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// Not complete yet: with `need` bytes in all, parsing gets further.
    Incomplete { need: usize },
    /// Complete, and `used` bytes long.
    Whole { used: usize, value: T },
}

impl<'a> Frame<'a> {
    /// Parses the frame at the head of `bytes`.
    ///
    /// # Errors
    /// MALFORMED (magic), UNKNOWN_TYPE, TOO_LARGE, BAD_CHECKSUM, in this order.
    pub fn parse(bytes: &'a [u8]) -> Result<Parsed<Frame<'a>>, Refusal> {
        if bytes.iter().zip(MAGIC).any(|(&byte, magic)| byte != magic) {
            return Err(Refusal::malformed(
                "a control frame must start with 0x4D 0x43",
            ));
        }
        let Some(&kind) = bytes.get(2) else {
            return Ok(Parsed::Incomplete {
                need: FRAME_HEADER_BYTES,
            });
        };
        let Some(kind) = FrameType::from_wire(kind) else {
            return Err(Refusal::with(
                Code::UnknownType,
                format!("unknown control frame type {kind}"),
            ));
        };
        let Some(&[high, low]) = bytes.get(7..9) else {
            return Ok(Parsed::Incomplete {
                need: FRAME_HEADER_BYTES,
            });
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > FRAME_PAYLOAD_BYTES_MAX {
            let text = format!("a control frame of {length} bytes; at most 1024 are allowed");
            return Err(Refusal::with(Code::TooLarge, text));
        }
        let need = FRAME_HEADER_BYTES + length;
        let whole = bytes.get(..need);
        let Some((header, payload)) = whole.and_then(<[u8]>::split_first_chunk) else {
            return Ok(Parsed::Incomplete { need });
        };
        if header[9..13] != crc(header, payload).to_be_bytes() {
            return Err(Refusal::new(
                Code::BadChecksum,
                "the frame's CRC does not match",
            ));
        }
        let seq = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
        Ok(Parsed::Whole {
            used: need,
            value: Frame { kind, seq, payload },
        })
    }

    /// Writes the frame. The caller's payload has at most 1,024 bytes.
    pub fn encode(&self, out: &mut impl Output) {
        debug_assert!(self.payload.len() <= FRAME_PAYLOAD_BYTES_MAX);
        let mut header = [0; FRAME_HEADER_BYTES];
        header[..2].copy_from_slice(&MAGIC);
        header[2] = self.kind as u8;
        header[3..7].copy_from_slice(&self.seq.to_be_bytes());
        header[7..9].copy_from_slice(&(self.payload.len() as u16).to_be_bytes());
        let crc = crc(&header, self.payload);
        header[9..13].copy_from_slice(&crc.to_be_bytes());
        out.put(&header);
        out.put(self.payload);
    }

    /// Writes an RST with the refusal's code and text.
    pub fn encode_rst(seq: u32, refusal: &Refusal, out: &mut impl Output) {
        let mut payload = Vec::with_capacity(2 + refusal.text.len());
        payload.extend_from_slice(&refusal.code.to_wire().to_be_bytes());
        payload.extend_from_slice(clip(&refusal.text).as_bytes());
        Frame {
            kind: FrameType::Rst,
            seq,
            payload: &payload,
        }
        .encode(out);
    }

    /// The code and reason that an RST carries, as far as they can be parsed.
    pub fn rst_refusal(&self) -> Refusal {
        match self.payload.split_first_chunk() {
            Some((code, reason)) => Refusal::with(
                Code::from_wire(u16::from_be_bytes(*code)),
                String::from_utf8_lossy(reason).into_owned(),
            ),
            None => Refusal::new(Code::Malformed, "an RST without a code"),
        }
    }
}

/// CRC-32 (IEEE 802.3) of the frame with its CRC field zero.
fn crc(header: &[u8; FRAME_HEADER_BYTES], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..9]);
    hasher.update(&[0; 4]);
    hasher.update(payload);
    hasher.finalize()
}
