//! What a hostile peer says: bytes, or frames and messages that are right on the outside (magic,
//! length, CRC), so that what is wrong inside is reached.

use super::Draw;
use crate::pair::{frame, raw};
use ringmail::proto::frame::FrameType;
use ringmail::proto::message::MessageType;

/// Names that meet each other, and some that are none.
pub const NAMES: &[&str] = &[
    "a",
    "a/b",
    "a/+",
    "a/#",
    "#",
    "+",
    "$sys/echo",
    "$sys/time",
    "later",
    "worker",
    "b",
    "",
    "a//b",
    "a/#/b",
    "+/b",
    "a+",
];

/// Keeps a word that is others' out of what one peer says, in whatever pieces.
pub struct Censor {
    word: &'static [u8],
    /// The end of what was said.
    tail: Vec<u8>,
}

impl Censor {
    pub const fn new(word: &'static [u8]) -> Censor {
        Censor {
            word,
            tail: Vec::new(),
        }
    }

    pub fn admits(&mut self, bytes: &[u8]) -> bool {
        let mut said = [&self.tail, bytes].concat();
        if said.windows(self.word.len()).any(|part| part == self.word) {
            return false;
        }
        said.drain(..said.len().saturating_sub(self.word.len() - 1));
        self.tail = said;
        true
    }
}

/// The next piece of speech. `seqs` are numbers that may be right in a frame.
pub fn piece(draw: &mut Draw<'_>, seqs: &[u32], checksum: bool, out: &mut Vec<u8>) {
    match draw.byte() & 7 {
        0 => out.extend_from_slice(draw.piece()),
        1 => {
            let kind = FrameType::from_wire(1 + draw.byte() % 4).expect("1 to 4");
            let seq = *draw.pick(seqs);
            let mut payload = Vec::new();
            if draw.bool() {
                payload.extend(draw.pick(seqs).to_be_bytes());
            }
            payload.extend_from_slice(draw.piece());
            out.extend(frame(kind, seq, &payload));
        }
        2 | 3 => {
            let kind = *draw.pick(MessageType::ALL);
            message(kind as u8, draw.piece(), checksum, out);
        }
        _ => {
            let kind = *draw.pick(MessageType::ALL);
            let body = envelope(draw);
            message(kind as u8, &body, checksum, out);
        }
    }
}

/// The body of a message of type 0x10 or more, nearly always a right one.
fn envelope(draw: &mut Draw<'_>) -> Vec<u8> {
    let mut body = u32::from(draw.byte() & 15).to_be_bytes().to_vec();
    let (flags, codec) = (draw.byte() & 7, draw.byte() % 3);
    let name = draw.pick(NAMES);
    body.extend([flags, codec, name.len() as u8]);
    body.extend(name.as_bytes());
    if flags & 2 != 0 {
        let mut block = Vec::new();
        for _ in 0..draw.below(4) {
            let (key, value) = (draw.byte() & 15, draw.piece());
            block.push(key);
            block.extend((value.len() as u16).to_be_bytes());
            block.extend_from_slice(value);
        }
        body.extend((block.len() as u16).to_be_bytes());
        body.extend(block);
    }
    body.extend_from_slice(draw.piece());
    body
}

fn message(kind: u8, body: &[u8], checksum: bool, out: &mut Vec<u8>) {
    if !checksum {
        out.extend(raw(kind, body));
        return;
    }
    let mut bytes = raw(kind, &[body, &[0; 4]].concat());
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_be_bytes());
    out.extend(bytes);
}
