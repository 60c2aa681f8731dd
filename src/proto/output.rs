//! Where encoded bytes go: an outbox in the server, a `Vec` in clients and tests.

/// A sink for encoded frames and messages.
pub trait Output {
    fn put(&mut self, bytes: &[u8]);
}

impl Output for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// An output that also feeds everything written to a CRC.
pub(crate) struct Summed<'o, O: Output + ?Sized> {
    pub(crate) out: &'o mut O,
    pub(crate) crc: crc32fast::Hasher,
}

impl<O: Output + ?Sized> Output for Summed<'_, O> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.out.put(bytes);
    }
}
