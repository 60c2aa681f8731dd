//! How deep messages stand in each other in a protobuf payload, asked before anything that
//! goes down there by recursion: a megabyte may be half a million levels.
//!
//! prost has a limit of its own, which any crate of a build can turn off for all of it
//! (feature `no-recursion-limit`; one that writes profiles does), and which begins anew in
//! every `google.protobuf.Any`. Unknown groups are followed by recursion too.

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{Kind, MessageDescriptor};

/// Messages within messages, as Google's libraries have it.
pub(super) const LEVELS_MAX: usize = 100;

/// Bytes that a level takes at least: its key and its length.
const LEVEL_BYTES: usize = 2;

pub(super) fn is_too_deep(message: &MessageDescriptor, bytes: &[u8]) -> bool {
    bytes.len() > LEVELS_MAX * LEVEL_BYTES && walk(message, bytes, LEVELS_MAX).is_none()
}

/// `None`: there are more levels below this one. What is malformed ends the walk: nobody
/// else gets further.
fn walk(message: &MessageDescriptor, mut bytes: &[u8], levels: usize) -> Option<()> {
    // The message, and the groups that are open in it; `None`: one that is not known.
    let mut open = vec![Some(message.clone())];
    let (mut any_type, mut any_value) = (&[][..], &[][..]);
    while bytes.has_remaining() {
        let Ok((number, wire_type)) = decode_key(&mut bytes) else {
            break;
        };
        let kind = open.last().and_then(Option::as_ref).and_then(|message| {
            let field = message.get_field(number).map(|field| field.kind());
            field.or_else(|| Some(message.get_extension(number)?.kind()))
        });
        let length = match wire_type {
            WireType::Varint => match decode_varint(&mut bytes) {
                Ok(_) => 0,
                Err(_) => break,
            },
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => match decode_varint(&mut bytes) {
                Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
                Err(_) => break,
            },
            WireType::StartGroup => {
                open.push(match kind {
                    Some(Kind::Message(inner)) => Some(inner),
                    _ => None,
                });
                if open.len() > levels {
                    return None;
                }
                continue;
            }
            WireType::EndGroup => {
                open.pop();
                if open.is_empty() {
                    break;
                }
                continue;
            }
        };
        let Some((value, rest)) = bytes.split_at_checked(length) else {
            break;
        };
        bytes = rest;
        if let (WireType::LengthDelimited, Some(Kind::Message(inner))) = (wire_type, kind) {
            walk(&inner, value, levels.checked_sub(open.len())?)?;
        }
        match (wire_type, number) {
            (WireType::LengthDelimited, 1) => any_type = value,
            (WireType::LengthDelimited, 2) => any_value = value,
            _ => {}
        }
    }
    if message.full_name() == "google.protobuf.Any" {
        let url = std::str::from_utf8(any_type).unwrap_or_default();
        let name = url.rsplit('/').next().unwrap_or_default();
        if let Some(inner) = message.parent_pool().get_message_by_name(name) {
            walk(&inner, any_value, levels.checked_sub(1)?)?;
        }
    }
    Some(())
}
