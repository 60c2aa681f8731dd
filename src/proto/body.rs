//! Fields of a control message's body (PROTOCOL.md §2, types below 0x10): read from its front one
//! by one, and written likewise.
//!
//! All borrow from the body; a field longer than the rest is `None`, which the caller turns into
//! MALFORMED. Bodies from type 0x10 on are envelopes, read by `envelope`.

use super::output::Output;
use crate::base::limits::PING_BYTES_MAX;

/// Reads fields from the front of a body.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Reader<'a> {
        Reader(body)
    }

    /// Whether everything has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Everything that is left, as UTF-8.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.rest()).ok()
    }

    /// Everything that is left, if a PING may carry that much.
    pub(super) fn opaque(&mut self) -> Option<&'a [u8]> {
        (self.0.len() <= PING_BYTES_MAX).then(|| self.rest())
    }

    /// A u8 length and that many bytes of UTF-8.
    pub(super) fn str8(&mut self) -> Option<&'a str> {
        let length = self.u8()?;
        std::str::from_utf8(self.take(usize::from(length))?).ok()
    }

    /// A u16 length and that many bytes.
    pub(super) fn bytes16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

pub(super) fn put_str8(text: &str, out: &mut impl Output) {
    debug_assert!(text.len() <= usize::from(u8::MAX));
    out.put(&[text.len() as u8]);
    out.put(text.as_bytes());
}

pub(super) fn put_bytes16(bytes: &[u8], out: &mut impl Output) {
    debug_assert!(bytes.len() <= usize::from(u16::MAX));
    out.put(&(bytes.len() as u16).to_be_bytes());
    out.put(bytes);
}
