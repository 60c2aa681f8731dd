//! Decodes protobuf to a prost type. Such a type may contain itself: decoding recurses, and without
//! a bound as deep as the payload's author likes.
//!
//! prost bounds the recursion to [`LEVELS_MAX`], unless any crate of the build turns that off by
//! the feature `no-recursion-limit`. One does wherever the server is built too: `pprof_util`, under
//! `jemalloc_pprof`. Nor can the depth be read off the payload: a string of `#` looks like groups
//! within groups, and only the type knows that it is a string. So both checks use the type itself:
//!
//! - How much stack decoding takes, measured each time it reads the next bytes: beyond
//!   [`STACK_BYTES_MAX`] it gets bytes that are invalid everywhere, and fails. This works whatever
//!   the nested lengths claim.
//! - Whether there are too many levels, once a payload has been decoded that might have them: where
//!   the first level too deep would begin, a byte that cannot begin a field is written, and the
//!   payload is decoded once more. Only code that reads a message there fails; strings, bytes and
//!   numbers accept the byte. (An empty message is not noticed, but it holds nothing either.)

use crate::base::protobuf::{LEVELS_MAX, Reader, WireType};
use prost::DecodeError;
use prost::bytes::Buf;
use std::cell::Cell;
use std::hint::black_box;

/// Half of a thread's default stack. A level takes some hundred bytes, in a build without
/// optimization a few thousand.
const STACK_BYTES_MAX: usize = 1 << 20;

/// A key of wire type 7, which does not exist; and a valid character.
const NO_KEY: u8 = 0x07;

/// A varint of more than ten bytes.
const NOTHING: [u8; 16] = [0xff; 16];

/// Why a payload cannot be decoded to a type.
#[derive(Debug, thiserror::Error)]
pub enum TypedError {
    #[error("messages nested more than {LEVELS_MAX} levels deep")]
    TooDeep,
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// # Errors
/// If it is not a message of this type, or nests more than [`LEVELS_MAX`] messages.
pub fn decode_typed<T: prost::Message + Default>(payload: &[u8]) -> Result<T, TypedError> {
    let decoded = decode_guarded(payload)?;
    let mut marks = Vec::new();
    mark_too_deep(&mut Walk::new(payload), LEVELS_MAX, None, &mut marks);
    if !marks.is_empty() {
        let mut marked = payload.to_vec();
        for mark in marks {
            spoil(&mut marked[mark]);
        }
        if decode_guarded::<T>(&marked).is_err() {
            return Err(TypedError::TooDeep);
        }
    }
    Ok(decoded)
}

fn decode_guarded<T: prost::Message + Default>(payload: &[u8]) -> Result<T, TypedError> {
    let is_too_deep = Cell::new(false);
    let decoded = T::decode(Guarded {
        rest: payload,
        start: here(),
        is_too_deep: &is_too_deep,
    });
    match is_too_deep.get() {
        true => Err(TypedError::TooDeep),
        false => Ok(decoded?),
    }
}

/// An address on the stack.
#[inline(always)]
fn here() -> usize {
    let byte = 0u8;
    black_box(&raw const byte).addr()
}

struct Guarded<'a> {
    rest: &'a [u8],
    /// The stack address at which decoding began.
    start: usize,
    is_too_deep: &'a Cell<bool>,
}

impl Buf for Guarded<'_> {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        if self.start.abs_diff(here()) > STACK_BYTES_MAX {
            self.is_too_deep.set(true);
        }
        match self.is_too_deep.get() {
            true => &NOTHING[..self.rest.len().min(NOTHING.len())],
            false => self.rest,
        }
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        self.rest = &self.rest[count.min(self.rest.len())..];
    }
}

/// A [`Reader`] with its position in the payload.
struct Walk<'a> {
    payload: &'a [u8],
    reader: Reader<'a>,
    /// The offset at which the reader's bytes end.
    end: usize,
}

impl<'a> Walk<'a> {
    fn new(payload: &'a [u8]) -> Walk<'a> {
        Walk {
            payload,
            reader: Reader::new(payload),
            end: payload.len(),
        }
    }

    fn at(&self) -> usize {
        self.end - self.reader.len()
    }
}

/// Marks where the first level too deep begins, on the assumption that everything that could be a
/// message is one; stops at bytes that cannot be a message, in a group at its end. For true
/// messages this counts exactly their levels.
fn mark_too_deep(
    walk: &mut Walk<'_>,
    levels: usize,
    group: Option<u32>,
    marks: &mut Vec<std::ops::Range<usize>>,
) -> Option<()> {
    while !walk.reader.is_empty() {
        let (number, wire_type) = walk.reader.key().ok()?;
        match wire_type {
            WireType::Delimited => {
                let inner = walk.reader.delimited().ok()?;
                let end = walk.at();
                if levels > 0 {
                    let mut inner = Walk {
                        payload: walk.payload,
                        reader: Reader::new(inner),
                        end,
                    };
                    let _ = mark_too_deep(&mut inner, levels - 1, None, marks);
                } else if !inner.is_empty() {
                    marks.push(end - inner.len()..end);
                }
            }
            WireType::StartGroup if levels > 0 => {
                mark_too_deep(walk, levels - 1, Some(number), marks)?;
            }
            WireType::StartGroup => {
                // If this is a message, that is a level; if not, nothing after it is.
                marks.push(walk.at()..walk.end);
                return None;
            }
            WireType::EndGroup => return (group == Some(number)).then_some(()),
            _ => walk.reader.skip(number, wire_type, 0).ok()?,
        }
    }
    group.is_none().then_some(())
}

/// Overwrites the start with a byte that cannot begin a field. The byte before it is below 0x80,
/// the end of a key or a length: so if this is text, a character begins here, and all of it is
/// replaced.
fn spoil(bytes: &mut [u8]) {
    let character_bytes = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 1,
    };
    // One that extends beyond would not be a key either.
    if let Some(character) = bytes.get_mut(..character_bytes) {
        character.fill(NO_KEY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::protobuf::{put_key, put_varint};
    use prost::Message as _;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Node {
        #[prost(message, optional, boxed, tag = "1")]
        within: Option<Box<Node>>,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
        #[prost(string, repeated, tag = "3")]
        texts: Vec<String>,
        #[prost(int32, repeated, tag = "4")]
        numbers: Vec<i32>,
        #[prost(message, repeated, tag = "16")]
        many: Vec<Node>,
        #[prost(btree_map = "string, message", tag = "17")]
        named: std::collections::BTreeMap<String, Node>,
        #[prost(group, optional, boxed, tag = "18")]
        group: Option<Box<Node>>,
    }

    /// This many levels around some bytes, written from the end.
    fn nested(number: u32, levels: usize, innermost: &[u8]) -> Vec<u8> {
        let mut backwards = innermost.to_vec();
        backwards.reverse();
        for _ in 0..levels {
            let mut head = Vec::new();
            put_key(number, WireType::Delimited, &mut head);
            put_varint(backwards.len() as u64, &mut head);
            backwards.extend(head.iter().rev());
        }
        backwards.reverse();
        backwards
    }

    fn groups(number: u32, levels: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..levels {
            put_key(number, WireType::StartGroup, &mut bytes);
        }
        for _ in 0..levels {
            put_key(number, WireType::EndGroup, &mut bytes);
        }
        bytes
    }

    fn is_too_deep(payload: &[u8]) -> bool {
        match decode_typed::<Node>(payload) {
            Ok(_) => false,
            Err(TypedError::TooDeep) => true,
            Err(TypedError::Malformed(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn payloads_that_only_look_deep_are_decoded() {
        let image: Vec<u8> = (0..20_000u32).map(|i| (i * 7 + i / 300) as u8).collect();
        let alike = [
            b"#".repeat(250),
            "ä#\n\u{1}".repeat(300).into_bytes(),
            nested(1, 3000, b"\x08\x01"),
            nested(16, 3000, b"\x12\x01x"),
            [nested(1, 60, b""), nested(4, 200, b"")].concat(),
            groups(4, 5000),
            image,
        ];
        for bytes in alike {
            let mut node = Node {
                numbers: bytes.iter().map(|byte| i32::from(*byte)).collect(),
                value: bytes.clone(),
                ..Node::default()
            };
            node.texts
                .push(bytes.iter().map(|byte| char::from(byte & 0x7f)).collect());
            node.texts.extend(String::from_utf8(bytes));
            for level in 0..90 {
                if level % 30 == 0 {
                    let decoded = decode_typed::<Node>(&node.encode_to_vec()).unwrap();
                    assert!(decoded == node);
                }
                node = match node.many.len() {
                    0 => Node {
                        many: vec![node],
                        ..Node::default()
                    },
                    _ => Node {
                        within: Some(Box::new(node)),
                        ..Node::default()
                    },
                };
            }
        }
    }

    #[test]
    fn a_hundred_levels_are_decoded_and_one_more_is_not() {
        for (levels, wanted) in [(1, false), (100, false), (101, true), (1000, true)] {
            for number in [1, 16] {
                let payload = nested(number, levels, b"\x12\x01x");
                assert_eq!(is_too_deep(&payload), wanted, "{levels} of {number}");
                // Beside data that only looks nested.
                let both = [nested(2, 300, b"\x08\x01"), payload].concat();
                assert_eq!(is_too_deep(&both), wanted, "{levels} of {number}");
            }
            for number in [18, 99] {
                assert_eq!(
                    is_too_deep(&groups(number, levels)),
                    wanted,
                    "{levels} of {number}"
                );
            }
            // Entries of maps are levels too.
            let (mut named, mut level) = (b"\x12\x01x".to_vec(), 0);
            while level < levels {
                let number = if level % 2 == 0 { 2 } else { 17 };
                named = nested(number, 1, &named);
                level += 1;
            }
            if levels % 2 == 0 {
                assert_eq!(is_too_deep(&named), wanted, "{levels} of entries");
            }
        }
    }

    #[test]
    fn no_depth_overflows_the_stack() {
        for number in [1, 16] {
            let deep = nested(number, 200_000, b"\x12\x01x");
            assert!(is_too_deep(&deep));
            // A level that claims to be longer than the enclosing one.
            let longer = [&b"\x0a\x02\x0a\x7f"[..], &deep].concat();
            assert!(decode_typed::<Node>(&longer).is_err());
        }
        for number in [18, 99] {
            assert!(is_too_deep(&groups(number, 500_000)));
            let open = [0x93, 0x01].repeat(500_000);
            assert!(decode_typed::<Node>(&open).is_err());
        }
    }
}
