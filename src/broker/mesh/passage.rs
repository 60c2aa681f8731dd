//! What is on its way through a topic's home, as values.

use crate::base::id::{Key, ShardId};
use std::collections::{HashMap, VecDeque};

/// Bytes on their way through one home before publishers slow down.
pub(in crate::broker) const PASSAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes that one of them counts beside its message.
const PASSAGE_BYTES: usize = 128;
/// Room for topics that is kept when none is on its way.
const TOPICS_KEPT: usize = 1024;

/// The home of a topic that is another shard's.
#[derive(Clone, Copy)]
pub(in crate::broker) struct Home {
    pub(in crate::broker) link: usize,
    /// Its hash: that two of one home have the same makes one of them wait in vain.
    pub(in crate::broker) topic: u32,
}

/// A publication that is on its way through a home.
#[derive(Clone, Copy)]
pub(in crate::broker) struct Ticket {
    pub(in crate::broker) link: usize,
    pub(in crate::broker) number: u64,
}

/// What a home's publication comes behind: what the shard it is from had said to each shard
/// but the home and itself, in their order.
#[derive(Clone, Copy)]
pub(in crate::broker) struct Cause<'a> {
    pub(in crate::broker) from: ShardId,
    pub(in crate::broker) counts: &'a [u64],
}

impl Cause<'_> {
    /// How much of its shard's a peer has to have taken: the next of the counts. Asked of one
    /// peer after the other.
    pub(in crate::broker) fn next_for(&mut self, peer: ShardId) -> Option<u64> {
        if peer == self.from {
            return None;
        }
        let (first, rest) = self.counts.split_first()?;
        self.counts = rest;
        Some(*first)
    }
}

/// What is on its way through one peer as its home.
#[derive(Default)]
pub(in crate::broker) struct Passage {
    /// Publications that went this way, and those of which the home has said that all have
    /// them.
    pub(in crate::broker) sent: u64,
    pub(in crate::broker) done: u64,
    pub(in crate::broker) bytes: usize,
    /// The last of each connection and topic, and all in their order.
    pub(in crate::broker) last: HashMap<(Key, u32), u64>,
    pub(in crate::broker) order: VecDeque<(Key, u32)>,
}

impl Passage {
    pub(in crate::broker) fn is_pressed(&self) -> bool {
        self.bytes > PASSAGE_BYTES_MAX
    }

    pub(in crate::broker) fn enter(&mut self, by: Key, topic: u32, bytes: usize) -> u64 {
        self.sent += 1;
        self.bytes += cost(bytes);
        self.last.insert((by, topic), self.sent);
        self.order.push_back((by, topic));
        self.sent
    }

    pub(in crate::broker) const fn left(&self) -> u64 {
        self.sent - self.done
    }

    pub(in crate::broker) fn leave(&mut self, count: u64, bytes: usize) {
        for _ in 0..count {
            self.done += 1;
            if let Some(of) = self.order.pop_front()
                && self.last.get(&of) == Some(&self.done)
            {
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

/// What this shard, as a home, still has to say to the shard of `link`.
pub(in crate::broker) struct Owed {
    pub(in crate::broker) mark: u64,
    pub(in crate::broker) link: usize,
    pub(in crate::broker) count: u32,
    pub(in crate::broker) bytes: usize,
}
