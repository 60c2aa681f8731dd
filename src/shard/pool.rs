//! Chunks of memory lent to connections while they have something to send or to complete,
//! and the account of what is lent: an idle connection holds none.

use crate::base::limits::{CHUNK_BYTES, CHUNK_LARGE_BYTES};

/// Chunks of either size kept for reuse at most: 4 MiB of small ones, 4 MiB of large ones.
const SMALL_KEPT_MAX: usize = 1024;
const LARGE_KEPT_MAX: usize = 64;

/// The chunks of one shard.
pub(super) struct Pool {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    lent_bytes: usize,
    lent_bytes_max: usize,
    /// Kept for connections that have nothing lent yet: a chunk for each of them, as far as
    /// half of the budget goes.
    reserved_bytes: usize,
}

impl Pool {
    /// A pool that calls itself exhausted when more than `lent_bytes_max` are lent.
    pub(super) fn new(lent_bytes_max: usize) -> Pool {
        Pool {
            small: Vec::new(),
            large: Vec::new(),
            lent_bytes: 0,
            lent_bytes_max,
            reserved_bytes: 0,
        }
    }

    /// Reserves a chunk for each of so many connections.
    pub(super) fn reserve(&mut self, connections: u32) {
        let chunks = connections as usize * CHUNK_BYTES;
        self.reserved_bytes = chunks.min(self.lent_bytes_max / 2);
    }

    /// Lends an empty chunk of `CHUNK_BYTES`.
    #[inline]
    pub(super) fn take(&mut self) -> Vec<u8> {
        let chunk = self
            .small
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES));
        self.lent_bytes += chunk.capacity();
        chunk
    }

    /// Lends an empty chunk of `CHUNK_LARGE_BYTES`, for a backlog.
    pub(super) fn take_large(&mut self) -> Vec<u8> {
        let chunk = self
            .large
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(CHUNK_LARGE_BYTES));
        self.lent_bytes += chunk.capacity();
        chunk
    }

    /// Takes a chunk back. Its capacity must be what was lent and charged.
    #[inline]
    pub(super) fn give(&mut self, mut chunk: Vec<u8>) {
        let bytes = chunk.capacity();
        debug_assert!(bytes <= self.lent_bytes, "more came back than was lent");
        self.lent_bytes -= bytes;
        chunk.clear();
        if bytes == CHUNK_BYTES && self.small.len() < SMALL_KEPT_MAX {
            self.small.push(chunk);
        } else if bytes == CHUNK_LARGE_BYTES && self.large.len() < LARGE_KEPT_MAX {
            self.large.push(chunk);
        }
    }

    /// Charges memory that is not the pool's but is held for a connection.
    pub(super) fn charge(&mut self, bytes: usize) {
        self.lent_bytes += bytes;
    }

    /// What was charged is held no longer.
    pub(super) fn discharge(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.lent_bytes, "more was discharged than charged");
        self.lent_bytes -= bytes;
    }

    /// A lent chunk has grown in its borrower's hands.
    pub(super) fn charge_growth(&mut self, from_bytes: usize, to_bytes: usize) {
        self.lent_bytes = self.lent_bytes + to_bytes - from_bytes;
    }

    /// Bytes lent now.
    pub(super) fn lent_bytes(&self) -> usize {
        self.lent_bytes
    }

    /// Half of what may be lent beside the reserve is.
    pub(super) fn is_half_lent(&self) -> bool {
        self.lent_bytes > (self.lent_bytes_max - self.reserved_bytes) / 2
    }

    /// So much is lent that those who do not keep up get no more: the rest is for those who
    /// do, whom a few slow readers would otherwise starve.
    pub(super) fn is_crowded(&self) -> bool {
        self.lent_bytes > (self.lent_bytes_max - self.reserved_bytes) / 4 * 3
    }

    /// More is lent than the shard's budget allows: nobody should ask for more who can wait.
    pub(super) fn is_exhausted(&self) -> bool {
        self.lent_bytes > self.lent_bytes_max - self.reserved_bytes
    }
}
