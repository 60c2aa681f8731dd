//! A message as its bytes, encoded once: only an id and a stamp differ from one to the next.
//!
//! ```text
//!   ┌───────┬────┬──────────────┬───────────────┬──────────────────────┐
//!   │ head  │ id │ topic …      │ stamp         │ rest of the payload  │
//!   └───────┴────┴──────────────┴───────────────┴──────────────────────┘
//!           cut, if the protocol has ids         16 bytes
//! ```
//!
//! Sending is a copy and two patches; recognising is two comparisons. All protocols are
//! loaded and counted this way, so the generator costs the same with each, and every
//! received byte is compared with what was sent.

use crate::base::clock::Instant;

/// Bytes of a payload that a stamp takes: the smallest payload.
pub const STAMP_BYTES: usize = 16;

/// What each payload begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When the message was (or, in an open loop, was meant to be) sent.
    pub since: Instant,
    /// Which sender's it is.
    pub origin: u32,
    /// The sender's number for it.
    pub number: u32,
}

impl Stamp {
    #[inline]
    pub fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..8].copy_from_slice(&self.since.as_nanos().to_be_bytes());
        bytes[8..12].copy_from_slice(&self.origin.to_be_bytes());
        bytes[12..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    #[inline]
    pub fn from_bytes(bytes: &[u8; STAMP_BYTES]) -> Stamp {
        let [a, b, c, d, e, f, g, h, o0, o1, o2, o3, n0, n1, n2, n3] = *bytes;
        Stamp {
            since: Instant::from_nanos(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            origin: u32::from_be_bytes([o0, o1, o2, o3]),
            number: u32::from_be_bytes([n0, n1, n2, n3]),
        }
    }
}

/// One kind of message; see the head of this file.
#[derive(Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// Where the id ends; it begins four bytes before. 0: there is none.
    id_end: usize,
    stamp_at: usize,
}

impl Template {
    /// `bytes` with the stamp at `stamp_at` and, for protocols that number their messages,
    /// a big-endian u32 at `id_at`, before the stamp.
    pub fn new(bytes: Vec<u8>, id_at: Option<usize>, stamp_at: usize) -> Template {
        let id_end = id_at.map_or(0, |at| at + 4);
        debug_assert!(id_end <= stamp_at && stamp_at + STAMP_BYTES <= bytes.len());
        Template {
            bytes,
            id_end,
            stamp_at,
        }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where the first byte stands that may differ.
    fn head_end(&self) -> usize {
        match self.id_end {
            0 => self.stamp_at,
            end => end - 4,
        }
    }

    /// Appends one message.
    #[inline]
    pub fn put(&self, id: u32, stamp: Stamp, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&self.bytes);
        if self.id_end > 0 {
            out[at + self.id_end - 4..at + self.id_end].copy_from_slice(&id.to_be_bytes());
        }
        let stamp_at = at + self.stamp_at;
        out[stamp_at..stamp_at + STAMP_BYTES].copy_from_slice(&stamp.to_bytes());
    }

    /// The id (0 if there is none) and the stamp, when `bytes` begin with such a message.
    #[inline]
    pub fn read(&self, bytes: &[u8]) -> Option<(u32, Stamp)> {
        let message = bytes.get(..self.bytes.len())?;
        let (head_end, stamp_end) = (self.head_end(), self.stamp_at + STAMP_BYTES);
        let middle = self.id_end.max(head_end)..self.stamp_at;
        if message[..head_end] != self.bytes[..head_end]
            || message[middle.clone()] != self.bytes[middle]
            || message[stamp_end..] != self.bytes[stamp_end..]
        {
            return None;
        }
        let id = match self.id_end {
            0 => 0,
            end => u32::from_be_bytes(message[end - 4..end].try_into().ok()?),
        };
        let stamp = message[self.stamp_at..stamp_end].first_chunk()?;
        Some((id, Stamp::from_bytes(stamp)))
    }

    /// Whether `bytes` are too few, but could be the beginning of such a message.
    #[inline]
    pub fn is_begun(&self, bytes: &[u8]) -> bool {
        let head = self.head_end().min(bytes.len());
        bytes.len() < self.bytes.len() && bytes[..head] == self.bytes[..head]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        since: Instant::from_nanos(0x0102_0304_0506_0708),
        origin: 7,
        number: 0xFFFF_FFFF,
    };

    fn templates() -> [Template; 2] {
        let bytes = || [&b"head...."[..], b"IIIItopic", &[b'p'; 20], b"\r\n"].concat();
        [
            Template::new(bytes(), Some(8), 17),
            Template::new(bytes(), None, 17),
        ]
    }

    #[test]
    fn exactly_the_encoded_message_is_recognised() {
        for (template, wanted) in templates().iter().zip([99, 0]) {
            let mut out = b"before".to_vec();
            template.put(99, STAMP, &mut out);
            let message = &out[6..];
            assert_eq!(template.read(message), Some((wanted, STAMP)));
            let open = |at: usize| (17..33).contains(&at) || (wanted > 0 && (8..12).contains(&at));
            for at in (0..message.len()).filter(|&at| !open(at)) {
                let mut other = message.to_vec();
                other[at] ^= 1;
                assert_eq!(template.read(&other), None, "byte {at}");
            }
        }
    }

    #[test]
    fn a_part_is_a_beginning_as_long_as_its_head_is_right() {
        for template in templates() {
            let mut whole = Vec::new();
            template.put(1, STAMP, &mut whole);
            for count in 0..whole.len() {
                assert!(template.is_begun(&whole[..count]), "{count}");
            }
            assert!(!template.is_begun(&whole));
            assert!(!template.is_begun(b"hat"));
        }
    }
}
