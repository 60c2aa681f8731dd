//! The message being handled: the client's bytes in the buffer they were received into.

use crate::proto::encoded::Encoded;

/// A whole message as received, including its checksum.
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

    /// The message as it is forwarded: without a checksum. If it has one, `scratch` holds the copy.
    #[inline]
    pub fn encoded(self, scratch: &'a mut Vec<u8>) -> Encoded<'a> {
        Encoded::received(self.bytes, self.checksum, scratch)
    }

    /// The same, as a copy.
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
