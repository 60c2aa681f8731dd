//! What the shards of a server agree on during shutdown: first that all of them have been quiet for
//! a while, and then, phase by phase, that each has done the same.
//!
//! ```text
//!   open ── quiet on all shards, or time is up ──► deaf ── all are, and everything each has said
//!                                                          is handled ──► … ──► told
//! ```
//!
//! Each shard writes its own place and reads all. A shard never goes back a phase, and enters the
//! next one only when all have reached the current one: so by the time any shard closes its
//! subscribers, all shards have delivered what any of them had confirmed before it went deaf.

use crate::base::clock::Instant;
use crate::base::id::ShardId;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};

/// How far a shard is in shutting down.
pub(crate) type Phase = u8;
pub(crate) const OPEN: Phase = 0;
/// It handles no more input from its clients.
pub(crate) const DEAF: Phase = 1;
/// The last phase: everything said between shards before they went deaf has been handled, and so
/// has everything that followed from it (a group's message sent on).
pub(crate) const TOLD: Phase = 4;

#[derive(Default)]
pub(crate) struct Accord(Box<[Place]>);

#[repr(align(128))]
struct Place {
    /// When a client of that shard was last active; `NEVER` until the shard drains.
    busy_at: AtomicU64,
    phase: AtomicU8,
}

impl Accord {
    pub(in crate::broker) fn new(shards: usize) -> Accord {
        let place = |_| Place {
            busy_at: AtomicU64::new(Instant::NEVER.as_nanos()),
            phase: AtomicU8::new(OPEN),
        };
        Accord((0..shards).map(place).collect())
    }

    fn place(&self, shard: ShardId) -> Option<&Place> {
        self.0.get(shard.index())
    }

    /// A client of that shard was active at `now`.
    pub(crate) fn note_busy(&self, shard: ShardId, now: Instant) {
        if let Some(place) = self.place(shard) {
            place.busy_at.store(now.as_nanos(), SeqCst);
        }
    }

    /// The last activity on any shard; `NEVER` until all shards drain.
    pub(crate) fn busy_at(&self) -> Instant {
        let times = self.0.iter().map(|place| place.busy_at.load(SeqCst));
        Instant::from_nanos(times.max().unwrap_or(0))
    }

    pub(crate) fn enter(&self, shard: ShardId, phase: Phase) {
        if let Some(place) = self.place(shard) {
            place.phase.store(phase, SeqCst);
        }
    }

    /// The shard has ended: the others no longer wait for it.
    pub(crate) fn leave(&self, shard: ShardId) {
        self.note_busy(shard, Instant::ZERO);
        self.enter(shard, Phase::MAX);
    }

    /// A shard that has not ended has gone deaf.
    pub(crate) fn has_begun(&self) -> bool {
        let mut phases = self.0.iter().map(|place| place.phase.load(SeqCst));
        phases.any(|phase| (DEAF..=TOLD).contains(&phase))
    }

    /// All shards have reached this phase.
    pub(crate) fn have_all(&self, phase: Phase) -> bool {
        self.0.iter().all(|place| place.phase.load(SeqCst) >= phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_agreed_on_before_every_shard_has_said_so() {
        let accord = Accord::new(3);
        let at = Instant::from_nanos;
        let shards = [0, 1, 2].map(ShardId);
        accord.note_busy(shards[0], at(5));
        accord.note_busy(shards[1], at(9));
        assert_eq!(accord.busy_at(), Instant::NEVER);
        accord.leave(shards[2]);
        assert_eq!((accord.busy_at(), accord.has_begun()), (at(9), false));
        accord.enter(shards[0], DEAF);
        assert!(accord.has_begun() && !accord.have_all(DEAF));
        accord.enter(shards[1], DEAF);
        assert!(accord.have_all(DEAF) && !accord.have_all(TOLD));
    }
}
