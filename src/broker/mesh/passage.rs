//! Publications on their way through a topic's home, as values.

use crate::base::id::{Key, ShardId};
use std::collections::{HashMap, VecDeque};

/// Bytes on their way through one home before publishers slow down.
pub(in crate::broker) const PASSAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes each of them counts besides its message.
const PASSAGE_BYTES: usize = 128;
/// Capacity for topics that is kept when none is on its way.
const TOPICS_KEPT: usize = 1024;

/// The home of a topic, on another shard.
#[derive(Clone, Copy)]
pub(in crate::broker) struct Home {
    pub(in crate::broker) link: usize,
    /// The topic's hash: if two topics of one home collide, one may wait for the other needlessly.
    pub(in crate::broker) topic: u32,
}

/// A publication on its way through a home.
#[derive(Clone, Copy)]
pub(in crate::broker) struct Ticket {
    pub(in crate::broker) link: usize,
    pub(in crate::broker) number: u64,
}

/// What must be handled before a home's publication: how much the publishing shard had said to each
/// shard but the home and itself, in the order of the shards.
#[derive(Clone, Copy)]
pub(in crate::broker) struct Cause<'a> {
    pub(in crate::broker) from: ShardId,
    pub(in crate::broker) counts: &'a [u64],
}

impl Cause<'_> {
    /// How much of the publishing shard's entries a peer has to handle first: the next of the
    /// counts. Must be called for one peer after the other.
    pub(in crate::broker) fn next_for(&mut self, peer: ShardId) -> Option<u64> {
        if peer == self.from {
            return None;
        }
        let (first, rest) = self.counts.split_first()?;
        self.counts = rest;
        Some(*first)
    }
}

/// Publications on their way through one peer as their home.
#[derive(Default)]
pub(in crate::broker) struct Passage {
    /// Publications sent this way, and those that the home has confirmed.
    pub(in crate::broker) sent: u64,
    pub(in crate::broker) done: u64,
    pub(in crate::broker) bytes: usize,
    /// Units of work they make on the shard on which they make the most.
    units: usize,
    /// The last one of each connection and topic, and all of them in order, with their units.
    pub(in crate::broker) last: HashMap<(Key, u32), u64>,
    pub(in crate::broker) order: VecDeque<((Key, u32), usize)>,
}

impl Passage {
    /// Whether more is on its way than so many units, or than it may hold.
    pub(in crate::broker) fn has_more(&self, units_max: usize) -> bool {
        self.bytes > PASSAGE_BYTES_MAX || self.units > units_max
    }

    pub(in crate::broker) fn enter(
        &mut self,
        by: Key,
        topic: u32,
        bytes: usize,
        units: usize,
    ) -> u64 {
        self.sent += 1;
        self.bytes += cost(bytes);
        self.units += units;
        self.last.insert((by, topic), self.sent);
        self.order.push_back(((by, topic), units));
        self.sent
    }

    pub(in crate::broker) const fn left(&self) -> u64 {
        self.sent - self.done
    }

    pub(in crate::broker) fn leave(&mut self, count: u64, bytes: usize) {
        for _ in 0..count {
            self.done += 1;
            let Some((of, units)) = self.order.pop_front() else {
                continue;
            };
            self.units -= units;
            if self.last.get(&of) == Some(&self.done) {
                self.last.remove(&of);
            }
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.last.is_empty() && self.last.capacity() > TOPICS_KEPT {
            self.last.shrink_to(TOPICS_KEPT);
            self.order.shrink_to(TOPICS_KEPT);
        }
    }
}

pub(in crate::broker) const fn cost(bytes: usize) -> usize {
    bytes + PASSAGE_BYTES
}

/// Confirmations that this shard, as a home, still owes to the shard of `link`.
pub(in crate::broker) struct Owed {
    pub(in crate::broker) mark: u64,
    pub(in crate::broker) link: usize,
    pub(in crate::broker) count: u32,
    pub(in crate::broker) bytes: usize,
}
