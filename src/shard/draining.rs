//! The progress of a drain, and which connections it ends next.

use crate::base::clock::Instant;
use crate::broker::mesh::accord::{OPEN, Phase, TOLD};

pub(super) struct Drain {
    pub(super) began: Instant,
    /// From here on all shards take no more input from clients.
    pub(super) deaf_at: Instant,
    /// From here on every connection is closed.
    pub(super) close_all: Instant,
    pub(super) deadline: Instant,
    pub(super) next_look: Instant,
    pub(super) phase: Phase,
}

/// Which connections the next pass closes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Those that are quiet and listen to nothing.
    Early,
    /// None: other shards are still busy.
    Wait,
    /// Those that have received all they are owed.
    Done,
    Everybody,
    Cut,
}

impl Drain {
    pub(super) fn next_step(&self, now: Instant) -> Instant {
        self.next_look.max(now)
    }

    /// Until all shards have closed their clients, others may still have something for this shard,
    /// or need it as a relay.
    pub(super) fn may_end(&self, now: Instant) -> bool {
        self.phase >= TOLD || now >= self.deadline
    }

    pub(super) fn look(&self, now: Instant) -> Look {
        match self.phase {
            _ if now >= self.deadline => Look::Cut,
            _ if now >= self.close_all => Look::Everybody,
            TOLD.. => Look::Done,
            OPEN => Look::Early,
            _ => Look::Wait,
        }
    }
}
