//! How many connections each shard has: counted by all, so that new ones go where there are fewest.

use crate::base::id::ShardId;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many connections each shard has, those on their way to it included.
pub struct Census(Box<[Count]>);

#[repr(align(128))]
#[derive(Default)]
struct Count {
    connections: AtomicU32,
    sessions: AtomicU32,
}

impl Census {
    pub fn new(shards: usize) -> Census {
        Census((0..shards).map(|_| Count::default()).collect())
    }

    pub(super) fn of(&self, shard: ShardId) -> u32 {
        self.0[shard.index()].connections.load(Relaxed)
    }

    pub(super) fn join(&self, shard: ShardId) {
        self.0[shard.index()].connections.fetch_add(1, Relaxed);
    }

    pub(super) fn leave(&self, shard: ShardId) {
        self.0[shard.index()].connections.fetch_sub(1, Relaxed);
    }

    /// A shard has so many sessions.
    pub(super) fn note_sessions(&self, shard: ShardId, count: usize) {
        self.0[shard.index()].sessions.store(count as u32, Relaxed);
    }

    /// Somebody has a session, on whichever shard.
    pub(super) fn has_sessions(&self) -> bool {
        self.0.iter().any(|one| one.sessions.load(Relaxed) > 0)
    }

    /// A connection goes from one shard to another.
    pub(super) fn pass(&self, from: ShardId, to: ShardId) {
        self.leave(from);
        self.join(to);
    }

    /// The shard a connection accepted on `here` should go to: the emptiest, if `here` has
    /// clearly more, else `here`.
    pub(super) fn choose(&self, here: ShardId) -> ShardId {
        let counts = self.0.iter().map(|one| one.connections.load(Relaxed));
        let emptiest = counts.enumerate().min_by_key(|&(_, count)| count);
        match emptiest {
            // One ahead is even; a sixteenth more is not worth a hand-over.
            Some((index, least)) if self.of(here) > least + least / 16 => ShardId(index as u16),
            _ => here,
        }
    }
}
