//! How far a drain has got, and whom it tells to end next.

use crate::base::clock::Instant;
use crate::broker::mesh::accord::{OPEN, Phase, TOLD};

pub(super) struct Drain {
    pub(super) began: Instant,
    /// From here on nothing is taken any more, on any shard.
    pub(super) deaf_at: Instant,
    /// From here on every connection is told to end.
    pub(super) close_all: Instant,
    pub(super) deadline: Instant,
    pub(super) next_look: Instant,
    pub(super) phase: Phase,
}

/// Whom a look tells to end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Who is quiet, and does not listen.
    Early,
    /// Nobody: other shards are waited for.
    Wait,
    /// Who has all that is due to it.
    Done,
    Everybody,
    Cut,
}

impl Drain {
    pub(super) fn next_step(&self, now: Instant) -> Instant {
        self.next_look.max(now)
    }

    /// Others may still have something for this shard, or by way of it, until all have told
    /// their clients the end.
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
