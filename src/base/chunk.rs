//! Bytes to send: an outbox hands them to a driver, which sends them without a copy.

use bytes::Bytes;

/// Bytes to send.
#[derive(Debug)]
pub enum Chunk {
    /// Coalesced small messages; the vector returns to its pool.
    Own(Vec<u8>),
    /// A large message that other connections send as well.
    Shared(Bytes),
}

impl Chunk {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Chunk::Own(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }

    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory it keeps allocated.
    pub fn capacity(&self) -> usize {
        match self {
            Chunk::Own(bytes) => bytes.capacity(),
            Chunk::Shared(bytes) => bytes.len(),
        }
    }
}
