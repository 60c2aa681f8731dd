//! Types for ids, so that one kind of id cannot be mistaken for another.

use std::fmt;

/// A shard: one core's executor, 0-based and dense (not the number of the core).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A slot of a slab, and how often the slot has been reused: a key kept after its entry is removed
/// finds nothing, rather than the slot's next entry.
///
/// `slot` is at most 2^32−1; `generation` counts modulo 2^24, so that key and operation
/// fit the 64 bits of user data that io_uring carries (see `ring::driver`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub slot: u32,
    pub generation: u32,
}

impl Key {
    /// Generations wrap at this bound: a stale key could be mistaken only if its slot were reused
    /// this often before it is dropped.
    pub const GENERATIONS: u32 = 1 << 24;
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
