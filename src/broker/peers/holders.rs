//! The largest holders of a shard's memory, in order of size, and the state of memory pressure: the
//! data that `pressure` works on.
//!
//! Invariant: a connection is in the list once, by its `weight_class`, unless that is 0.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::{CHUNK_BYTES, CHUNK_LARGE_BYTES};
use std::collections::BTreeSet;

pub(crate) struct Holders {
    /// Large holders, by the power of two below what they hold.
    pub(in crate::broker) list: BTreeSet<(u8, Key)>,
    /// From how many bytes on a connection is listed: the usual threshold, and the current one.
    pub(in crate::broker) heavy_min: usize,
    pub(in crate::broker) floor: usize,
    /// The next slot to look at when all are examined.
    pub(in crate::broker) next_slot: u32,
    /// Since when more is charged than allowed; `NEVER`: it is not.
    pub(in crate::broker) since: Instant,
    pub(in crate::broker) next_look: Instant,
    /// Until this time the connections pressed last may still be ending.
    pub(in crate::broker) ends_until: Instant,
    /// The last look found no one to press.
    pub(in crate::broker) is_short: bool,
    /// Some connection waits for memory.
    pub(in crate::broker) blocks: bool,
}

impl Holders {
    pub(in crate::broker) fn new(bytes_max: usize) -> Holders {
        let heavy_min = (bytes_max / 1024).clamp(CHUNK_BYTES, CHUNK_LARGE_BYTES);
        Holders {
            list: BTreeSet::new(),
            heavy_min,
            floor: heavy_min,
            next_slot: 0,
            since: Instant::NEVER,
            next_look: Instant::NEVER,
            ends_until: Instant::ZERO,
            is_short: false,
            blocks: false,
        }
    }

    /// The next time to look for connections to press.
    pub(crate) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// From how many bytes on a connection is listed.
    #[inline]
    pub(crate) fn floor(&self) -> usize {
        self.floor
    }

    /// The class of a holder of this many bytes; 0: too few to list.
    pub(in crate::broker) fn class_of(&self, bytes: usize) -> u8 {
        match bytes >= self.floor {
            true => bytes.ilog2() as u8,
            false => 0,
        }
    }

    /// Whether a holder of this many bytes is among the largest.
    pub(in crate::broker) fn is_among_largest(&self, bytes: usize) -> bool {
        let largest = self.list.last().map_or(0, |last| last.0);
        largest == 0 || self.class_of(bytes) + 1 >= largest
    }

    /// Updates the class of a holder; 0: it holds little, or has gone.
    pub(in crate::broker) fn put(&mut self, key: Key, before: u8, now: u8) {
        if before != 0 {
            self.list.remove(&(before, key));
        }
        if now != 0 {
            self.list.insert((now, key));
        }
    }
}
