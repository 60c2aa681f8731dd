//! Chunks of memory, lent to connections while they have something to send or to reassemble: an
//! idle connection holds none.
//!
//! A chunk is plain memory, and its capacity is its charge: chunks lent are counted here, by the
//! one shard that owns the pool. Everything else that is charged is in the
//! [`ledger`](crate::broker::context::ledger); both together tell how close the shard is to its
//! bound.

use crate::base::limits::{CHUNK_BYTES, CHUNK_LARGE_BYTES};
use crate::broker::context::ledger::Ledger;

/// Chunks of each size kept for reuse: at most 4 MiB of small ones and 4 MiB of large ones.
const SMALL_KEPT_MAX: usize = 1024;
const LARGE_KEPT_MAX: usize = 64;

/// The chunks of one shard, and the total charged to it.
pub(crate) struct Pool {
    pub(crate) ledger: Ledger,
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    /// Bytes of chunks lent.
    lent_bytes: usize,
    /// Bound on everything charged.
    charged_bytes_max: usize,
    /// Reserved for connections that have borrowed nothing yet: one chunk for each of them, up to
    /// half of the budget.
    reserved_bytes: usize,
}

impl Pool {
    /// A pool that counts as exhausted when more than `charged_bytes_max` is charged.
    pub(crate) fn new(charged_bytes_max: usize) -> Pool {
        Pool {
            ledger: Ledger::default(),
            small: Vec::new(),
            large: Vec::new(),
            lent_bytes: 0,
            charged_bytes_max,
            reserved_bytes: 0,
        }
    }

    /// Reserves one chunk for each of this many connections.
    pub(in crate::broker) fn reserve(&mut self, connections: u32) {
        let chunks = connections as usize * CHUNK_BYTES;
        self.reserved_bytes = chunks.min(self.charged_bytes_max / 2);
    }

    /// Lends an empty chunk of `CHUNK_BYTES`.
    #[inline]
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let chunk = self
            .small
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES));
        self.lent_bytes += chunk.capacity();
        chunk
    }

    /// Lends an empty chunk of `CHUNK_LARGE_BYTES`, for use in a backlog.
    pub(crate) fn take_large(&mut self) -> Vec<u8> {
        let chunk = self
            .large
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(CHUNK_LARGE_BYTES));
        self.lent_bytes += chunk.capacity();
        chunk
    }

    /// Takes a chunk back. Its capacity must be the one that was lent and charged.
    #[inline]
    pub(crate) fn give(&mut self, mut chunk: Vec<u8>) {
        let bytes = chunk.capacity();
        self.count(bytes, 0);
        chunk.clear();
        if bytes == CHUNK_BYTES && self.small.len() < SMALL_KEPT_MAX {
            self.small.push(chunk);
        } else if bytes == CHUNK_LARGE_BYTES && self.large.len() < LARGE_KEPT_MAX {
            self.large.push(chunk);
        }
    }

    /// Changes what is counted for a borrower from `before` to `now`: it has grown or dropped a
    /// chunk, or has moved here with its chunks from another shard.
    #[inline]
    pub(crate) fn count(&mut self, before: usize, now: usize) {
        let after = (self.lent_bytes + now).checked_sub(before);
        debug_assert!(after.is_some(), "more came back than was lent");
        self.lent_bytes = after.unwrap_or(0);
    }

    /// Bytes of chunks lent now.
    pub(crate) fn lent_bytes(&self) -> usize {
        self.lent_bytes
    }

    /// Bytes charged now: chunks and the ledger.
    #[inline]
    pub(crate) fn charged_bytes(&self) -> usize {
        self.lent_bytes + self.ledger.bytes()
    }

    /// Bytes that may be charged besides the reserve.
    pub(in crate::broker) fn bytes_max(&self) -> usize {
        self.charged_bytes_max - self.reserved_bytes
    }

    /// More than half of the budget is charged.
    pub(crate) fn is_half_lent(&self) -> bool {
        self.charged_bytes() > self.bytes_max() / 2
    }

    /// So much is charged that connections that do not keep up get no more: the rest is for those
    /// that do, which a few slow readers would otherwise starve.
    pub(in crate::broker) fn is_crowded(&self) -> bool {
        self.charged_bytes() > self.bytes_max() / 4 * 3
    }

    /// More is charged than the shard's budget allows: whoever can wait has to, and the largest
    /// holders lose what they hold.
    pub(in crate::broker) fn is_exhausted(&self) -> bool {
        self.charged_bytes() > self.bytes_max()
    }
}
