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
pub const LEVELS_MAX: usize = 100;

/// Bytes that a level takes at least: its key and its length.
const LEVEL_BYTES: usize = 2;

pub(super) fn is_too_deep(message: &MessageDescriptor, bytes: &[u8]) -> bool {
    may_be_deep(bytes) && walk(message, bytes, LEVELS_MAX).is_none()
}

/// Likewise where the message's fields are not known: whatever reads as a message is taken
/// for one. So it may be wrong about a string or bytes that read as a hundred messages
/// within each other, which none do by chance.
pub fn could_be_too_deep(bytes: &[u8]) -> bool {
    // One more: the innermost message may have a string.
    may_be_deep(bytes) && walk(&Unknown, bytes, LEVELS_MAX + 1).is_none()
}

fn may_be_deep(bytes: &[u8]) -> bool {
    bytes.len() > LEVELS_MAX * LEVEL_BYTES
}

/// What is known of a message.
trait Shape: Clone {
    /// The message that a field holds, if it may hold one.
    fn field(&self, number: u32) -> Option<Self>;

    /// If it is a `google.protobuf.Any`: the message of this name.
    fn held(&self, name: &str) -> Option<Self>;
}

impl Shape for MessageDescriptor {
    fn field(&self, number: u32) -> Option<MessageDescriptor> {
        let field = self.get_field(number).map(|field| field.kind());
        match field.or_else(|| Some(self.get_extension(number)?.kind())) {
            Some(Kind::Message(inner)) => Some(inner),
            _ => None,
        }
    }

    fn held(&self, name: &str) -> Option<MessageDescriptor> {
        let is_any = self.full_name() == "google.protobuf.Any";
        let held = is_any.then(|| self.parent_pool().get_message_by_name(name));
        held.flatten()
    }
}

#[derive(Clone)]
struct Unknown;

impl Shape for Unknown {
    fn field(&self, _: u32) -> Option<Unknown> {
        Some(Unknown)
    }

    fn held(&self, _: &str) -> Option<Unknown> {
        None // its value is a field like any other
    }
}

/// `None`: there are more levels below this one. What is malformed ends the walk: nobody
/// else gets further.
fn walk<S: Shape>(message: &S, mut bytes: &[u8], levels: usize) -> Option<()> {
    // The message, and the groups that are open in it; `None`: one that is not known.
    let mut open = vec![Some(message.clone())];
    let (mut any_type, mut any_value) = (&[][..], &[][..]);
    while bytes.has_remaining() {
        let Ok((number, wire_type)) = decode_key(&mut bytes) else {
            break;
        };
        let within = open.last().and_then(Option::as_ref);
        let inner = within.and_then(|message| message.field(number));
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
                open.push(inner);
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
        if let (WireType::LengthDelimited, Some(inner)) = (wire_type, inner) {
            walk(&inner, value, levels.checked_sub(open.len())?)?;
        }
        match (wire_type, number) {
            (WireType::LengthDelimited, 1) => any_type = value,
            (WireType::LengthDelimited, 2) => any_value = value,
            _ => {}
        }
    }
    let url = std::str::from_utf8(any_type).unwrap_or_default();
    let name = url.rsplit('/').next().unwrap_or_default();
    match message.held(name) {
        Some(held) => walk(&held, any_value, levels.checked_sub(1)?),
        None => Some(()),
    }
}
