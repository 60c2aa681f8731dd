//! Protobuf to a type of prost's, which may hold itself: decoded by recursion, and so deep as
//! whoever wrote the payload likes, were it not bounded.
//!
//! prost bounds it to [`LEVELS_MAX`], unless any crate of the whole build asks it not to, by
//! the feature `no-recursion-limit`. One does that writes profiles (`pprof_util`, under
//! `jemalloc_pprof`), wherever the server is built too. What the payload is like cannot tell how
//! deep it is, either: in a string of `#` one finds groups within groups, and only the type
//! knows that it is a string. So two things are asked of the type itself:
//!
//! - How much stack decoding takes, each time it looks at the next bytes: from
//!   [`STACK_BYTES_MAX`] on it reads bytes that nothing can be made of, and gives up. That holds
//!   whatever lengths inside each other say.
//! - Whether there are more levels than may be, once a payload has been decoded that could have
//!   them: where the level below the last would begin, a byte is put that begins no field, and
//!   it is decoded once more. Only what reads a message there finds fault with it; strings, bytes
//!   and numbers take it as it is. (One that is empty is not seen. It holds nothing either.)

use crate::base::protobuf::{LEVELS_MAX, Reader, WireType};
use prost::DecodeError;
use prost::bytes::Buf;
use std::cell::Cell;
use std::hint::black_box;

/// Half of what a thread has by default. A level takes some hundred bytes, and in a build
/// without optimization a few thousand.
const STACK_BYTES_MAX: usize = 1 << 20;

/// A key of wire type 7, which there is not; and a character.
const NO_KEY: u8 = 0x07;

/// A varint of more than ten bytes.
const NOTHING: [u8; 16] = [0xff; 16];

/// Why a payload is not of a type.
#[derive(Debug, thiserror::Error)]
pub enum TypedError {
    #[error("messages nested more than {LEVELS_MAX} levels deep")]
    TooDeep,
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// # Errors
/// It is none, or has more than [`LEVELS_MAX`] messages within each other.
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
    /// Where on the stack decoding began.
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

/// Where in the payload a [`Reader`] is.
struct Walk<'a> {
    payload: &'a [u8],
    reader: Reader<'a>,
    /// Where the reader's bytes end.
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

/// Notes where the level begins that is one too deep, if all that could be a message is one,
/// until what is read could be none; in a group of this number until it ends. Of what is a
/// message indeed all levels are counted so, and none but those.
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
                // If this is a message, that is a level; if not, nothing that follows is one.
                marks.push(walk.at()..walk.end);
                return None;
            }
            WireType::EndGroup => return (group == Some(number)).then_some(()),
            _ => walk.reader.skip(number, wire_type, 0).ok()?,
        }
    }
    group.is_none().then_some(())
}

/// Puts a byte in front that begins no field. What stands before is below 0x80, the end of a
/// key or a length: so if this is text, a character begins here, and all of it is replaced.
fn spoil(bytes: &mut [u8]) {
    let character_bytes = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 1,
    };
    // One that reaches beyond would be no key either.
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

    /// So many levels around some bytes, written from the end.
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
    fn what_looks_deep_and_is_not_is_decoded() {
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
                // Beside what only looks so.
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
            // A level that says it is longer than the one around it.
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
