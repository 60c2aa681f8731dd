//! Who holds much of a shard's memory, in the order of how much, and how the shard stands:
//! what `pressure` acts by.
//!
//! Invariant: a connection is in the list once, by its `weight_class`, unless that is 0.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::{CHUNK_BYTES, CHUNK_LARGE_BYTES};
use std::collections::BTreeSet;

pub(crate) struct Holders {
    /// Who holds much, by the power of two below that.
    pub(in crate::broker) list: BTreeSet<(u8, Key)>,
    /// Bytes from which on a connection is among them: usually, and now.
    pub(in crate::broker) heavy_min: usize,
    pub(in crate::broker) floor: usize,
    /// The next slot to be looked at, when all are.
    pub(in crate::broker) next_slot: u32,
    /// When more was charged than may be; `NEVER`: it is not.
    pub(in crate::broker) since: Instant,
    pub(in crate::broker) next_look: Instant,
    /// Until then those may still end who were pressed last.
    pub(in crate::broker) ends_until: Instant,
    /// At the last look there was nobody to press.
    pub(in crate::broker) is_short: bool,
    /// Somebody waits for memory.
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

    /// When somebody has to be looked at, if nothing else happens.
    pub(crate) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Bytes from which on it is of interest what a connection holds.
    #[inline]
    pub(crate) fn floor(&self) -> usize {
        self.floor
    }

    /// The class of who holds so much; 0: that is little.
    pub(in crate::broker) fn class_of(&self, bytes: usize) -> u8 {
        match bytes >= self.floor {
            true => bytes.ilog2() as u8,
            false => 0,
        }
    }

    /// Whether a holder of so much is among those who hold most.
    pub(in crate::broker) fn is_among_largest(&self, bytes: usize) -> bool {
        let largest = self.list.last().map_or(0, |last| last.0);
        largest == 0 || self.class_of(bytes) + 1 >= largest
    }

    /// What it holds has changed, or it has gone (0).
    pub(in crate::broker) fn put(&mut self, key: Key, before: u8, now: u8) {
        if before != 0 {
            self.list.remove(&(before, key));
        }
        if now != 0 {
            self.list.insert((now, key));
        }
    }
}
