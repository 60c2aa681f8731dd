//! The message in hand: the bytes a client has sent, where they were received.

use crate::proto::encoded::Encoded;

/// A whole message as it came, its checksum included.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    bytes: &'a [u8],
    checksum: bool,
}

impl<'a> Received<'a> {
    #[inline]
    pub(super) const fn new(bytes: &'a [u8], checksum: bool) -> Received<'a> {
        Received { bytes, checksum }
    }

    /// As it is passed on: without checksum, for which `scratch` is needed if it has one.
    #[inline]
    pub fn encoded(self, scratch: &'a mut Vec<u8>) -> Encoded<'a> {
        Encoded::received(self.bytes, self.checksum, scratch)
    }

    /// A copy of that.
    pub fn copied(self) -> Vec<u8> {
        Encoded::copied(self.bytes, self.checksum)
    }

    #[inline]
    pub const fn len(self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub const fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }
}
