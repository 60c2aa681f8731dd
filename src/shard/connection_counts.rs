//! The number of connections of each shard, shared by all shards so that new ones go where there
//! are fewest; and which shards are short of memory because of other shards' clients.

use crate::base::id::ShardId;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// The connections of each shard, including those on their way to it.
pub struct ConnectionCounts {
    shards: Box<[Count]>,
    /// Shards that are short of memory.
    short: AtomicU32,
}

#[repr(align(128))]
#[derive(Default)]
struct Count {
    connections: AtomicU32,
    sessions: AtomicU32,
    is_short: AtomicBool,
}

impl ConnectionCounts {
    pub fn new(shards: usize) -> ConnectionCounts {
        ConnectionCounts {
            shards: (0..shards).map(|_| Count::default()).collect(),
            short: AtomicU32::new(0),
        }
    }

    pub(super) fn of(&self, shard: ShardId) -> u32 {
        self.shards[shard.index()].connections.load(Relaxed)
    }

    pub(super) fn join(&self, shard: ShardId) {
        self.shards[shard.index()].connections.fetch_add(1, Relaxed);
    }

    pub(super) fn leave(&self, shard: ShardId) {
        self.shards[shard.index()].connections.fetch_sub(1, Relaxed);
    }

    /// Sets the number of sessions of a shard.
    pub(super) fn note_sessions(&self, shard: ShardId, count: usize) {
        self.shards[shard.index()]
            .sessions
            .store(count as u32, Relaxed);
    }

    /// There is a session on some shard.
    pub(super) fn has_sessions(&self) -> bool {
        self.shards.iter().any(|one| one.sessions.load(Relaxed) > 0)
    }

    /// Notes whether a shard is short of memory with no connection of its own left to press. True:
    /// that has changed.
    pub(super) fn note_short(&self, shard: ShardId, is_short: bool) -> bool {
        let own = &self.shards[shard.index()].is_short;
        if own.load(Relaxed) == is_short {
            return false;
        }
        own.store(is_short, Relaxed);
        match is_short {
            true => self.short.fetch_add(1, Relaxed),
            false => self.short.fetch_sub(1, Relaxed),
        };
        true
    }

    /// Another shard is short of memory.
    pub(super) fn is_short_beside(&self, shard: ShardId) -> bool {
        let own = || u32::from(self.shards[shard.index()].is_short.load(Relaxed));
        let short = self.short.load(Relaxed);
        short > 0 && short > own()
    }

    /// A connection moves from one shard to another.
    pub(super) fn pass(&self, from: ShardId, to: ShardId) {
        self.leave(from);
        self.join(to);
    }

    /// The shard that should get a connection accepted on `here`: the emptiest, if `here` has
    /// clearly more, else `here`.
    pub(super) fn choose(&self, here: ShardId) -> ShardId {
        let counts = self.shards.iter().map(|one| one.connections.load(Relaxed));
        let emptiest = counts.enumerate().min_by_key(|&(_, count)| count);
        match emptiest {
            // A lead of one is even; a sixteenth more is not worth a hand-over.
            Some((index, least)) if self.of(here) > least + least / 16 => ShardId(index as u16),
            _ => here,
        }
    }
}
