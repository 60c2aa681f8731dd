//! Payloads of simulated messages: a receiver can tell who sent a message, and whether it arrived
//! unchanged.
//!
//! ```text
//!  payload   [ sender u32 | number u32 | noise seeded with both ]
//!  JSON, protobuf   the same bytes as a field `raw`, number 6: `site.Reading` of the tests
//!  empty     the first eight bytes, in an application header
//! ```

use crate::proto::envelope::{Codec, Envelope, FLAG_HEADERS, Headers, header};
use crate::ring::sim::client::ClientId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

/// The application header that names the sender of an empty message.
const HEADER_LABEL: u8 = header::APPLICATION;

/// Who sent a message, and which of its messages it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    pub sender: ClientId,
    pub number: u32,
}

impl Label {
    fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.sender.0) << 32 | u64::from(self.number)).to_be_bytes()
    }

    fn from_bytes(bytes: [u8; 8]) -> Label {
        let both = u64::from_be_bytes(bytes);
        Label {
            sender: ClientId((both >> 32) as u32),
            number: both as u32,
        }
    }

    /// The message's payload, derived from the label alone.
    pub(super) fn payload(self, bytes: usize) -> Vec<u8> {
        let mut payload = vec![0; 8 + bytes];
        payload[..8].copy_from_slice(&self.to_bytes());
        let seed = u64::from_be_bytes(self.to_bytes());
        fastrand::Rng::with_seed(seed).fill(&mut payload[8..]);
        payload
    }

    /// Appends the header that carries the label of an empty message.
    pub(super) fn push_header(self, block: &mut Vec<u8>) {
        Headers::push(block, HEADER_LABEL, &self.to_bytes());
    }

    /// Reads a message's label; `None` if it has none.
    pub(super) fn read(envelope: &Envelope<'_>) -> Option<Label> {
        let bytes = match envelope.headers.find(HEADER_LABEL) {
            Some(value) => value.into(),
            None => decode_payload(envelope.codec, envelope.payload)?,
        };
        bytes.first_chunk().map(|bytes| Label::from_bytes(*bytes))
    }
}

/// What precedes and follows the bytes in JSON.
const JSON: (&[u8], &[u8]) = (b"{\"raw\":\"", b"\"}");
/// The protobuf key of the bytes: field 6, length-delimited.
const PROTOBUF: u8 = 6 << 3 | 2;

/// Encodes bytes as a payload of this codec.
pub(super) fn encode_payload(codec: Codec, bytes: Vec<u8>) -> Vec<u8> {
    match codec {
        Codec::Bytes => bytes,
        Codec::Json => [JSON.0, STANDARD.encode(bytes).as_bytes(), JSON.1].concat(),
        Codec::Protobuf => {
            let mut payload = vec![PROTOBUF];
            prost::encoding::encode_varint(bytes.len() as u64, &mut payload);
            payload.extend(bytes);
            payload
        }
    }
}

/// The bytes in a payload; `None` if `encode_payload` did not make it.
fn decode_payload(codec: Codec, payload: &[u8]) -> Option<Cow<'_, [u8]>> {
    match codec {
        Codec::Bytes => Some(payload.into()),
        Codec::Json => {
            let text = payload.strip_prefix(JSON.0)?.strip_suffix(JSON.1)?;
            Some(STANDARD.decode(text).ok()?.into())
        }
        Codec::Protobuf => {
            let mut rest = payload.strip_prefix(&[PROTOBUF])?;
            let length = prost::encoding::decode_varint(&mut rest).ok()?;
            (length == rest.len() as u64).then_some(rest.into())
        }
    }
}

/// A digest (FNV-1a) of an envelope without what a server may change: its id, its TRACEPARENT, and
/// which of the two codecs with a schema it is in.
pub(super) fn digest(envelope: &Envelope<'_>) -> u64 {
    let mut digest = 0xCBF2_9CE4_8422_2325_u64;
    let mut fold = |bytes: &[u8]| {
        for byte in bytes {
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    };
    let flags = envelope.flags & !FLAG_HEADERS;
    let name_bytes = envelope.name.len() as u8;
    let has_schema = u8::from(envelope.codec != Codec::Bytes);
    fold(&[flags, has_schema, name_bytes]);
    fold(envelope.name.as_bytes());
    for (key, value) in envelope.headers.iter() {
        if key != header::TRACEPARENT {
            fold(&[key]);
            fold(&(value.len() as u16).to_be_bytes());
            fold(value);
        }
    }
    match decode_payload(envelope.codec, envelope.payload) {
        Some(bytes) => fold(&bytes),
        None => fold(envelope.payload),
    }
    digest
}
