//! Work that later turns go on with, as values: replays, what those who have gone have left, and members for whom the kernel holds much.

use super::station::Will;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::NAME_BYTES_MAX;
use crate::router::{Subscription, Walk};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How soon it is asked whether the kernel still holds much for a member, and how rarely.
pub(super) const LOOK_MIN: Duration = Duration::from_millis(1);
pub(super) const LOOK_MAX: Duration = Duration::from_millis(256);

pub(super) struct Replay {
    /// Which came first.
    pub(super) number: u64,
    /// Of the SUBSCRIBE, to be confirmed.
    pub(super) id: u32,
    pub(super) filter: Box<str>,
    pub(super) subscription: Subscription,
    pub(super) walk: Walk,
}

impl Replay {
    /// Whose it is.
    pub(super) fn to(&self) -> Key {
        self.subscription.connection
    }
}

/// Replays: of each connection one at most, because it is not read meanwhile.
#[derive(Default)]
pub(super) struct Replays {
    /// Those that can go on, by their numbers: first come, first served.
    pub(super) ready: BTreeMap<u64, Replay>,
    /// Those that wait for their subscriber to read, or to acknowledge.
    pub(super) parked: BTreeMap<Key, Replay>,
    /// The number of the next.
    pub(super) next: u64,
}

impl Replays {
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.parked.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Replay> {
        self.ready.values().chain(self.parked.values())
    }

    /// Bytes of memory that they take.
    pub(super) fn cost_bytes(&self) -> usize {
        (self.ready.len() + self.parked.len()) * (size_of::<Replay>() + 2 * NAME_BYTES_MAX)
    }
}

#[derive(Default)]
pub(super) struct Legacies {
    pub(super) wills: VecDeque<(Key, Will)>,
    pub(super) messages: VecDeque<Legacy>,
    /// When some of the messages are next handed on.
    pub(super) next_share: Instant,
    /// What the last share has said to other shards.
    pub(super) mark: u64,
    /// No member keeps up of any group that one of them is for.
    pub(super) stuck: bool,
}

pub(super) struct Legacy {
    pub(super) group: Key,
    pub(super) message: Bytes,
    pub(super) expires: Instant,
}

impl Legacies {
    /// Nothing in it that can go to anybody now.
    pub(super) fn is_settled(&self) -> bool {
        self.wills.is_empty() && (self.messages.is_empty() || self.stuck)
    }

    /// When there is something to do, if there is.
    pub(super) fn next_due(&self) -> Instant {
        match (self.wills.is_empty(), self.messages.is_empty()) {
            (false, _) => Instant::ZERO,
            (true, false) => self.next_share,
            (true, true) => Instant::NEVER,
        }
    }
}

/// Members for whom the kernel holds much.
pub(super) struct BackedUp {
    pub(super) members: Vec<Waiting>,
    /// The earliest of theirs.
    pub(super) next_look: Instant,
}

pub(super) struct Waiting {
    pub(super) member: Key,
    pub(super) next_look: Instant,
    pub(super) pause: Duration,
    /// What the kernel held when it was last asked.
    pub(super) held: usize,
}

impl Default for BackedUp {
    fn default() -> BackedUp {
        BackedUp {
            members: Vec::new(),
            next_look: Instant::NEVER,
        }
    }
}

impl BackedUp {
    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    pub(super) fn add(&mut self, member: Key, now: Instant) {
        let next_look = now + LOOK_MIN;
        // One that kept up for a moment may still be there.
        self.members.retain(|one| one.member != member);
        self.members.push(Waiting {
            member,
            next_look,
            pause: LOOK_MIN,
            held: usize::MAX,
        });
        self.next_look = self.next_look.min(next_look);
    }

    /// It reads again.
    pub(super) fn hurry(&mut self, member: Key, now: Instant) {
        let mut members = self.members.iter_mut();
        if let Some(one) = members.find(|one| one.member == member) {
            (one.pause, one.next_look) = (LOOK_MIN, now + LOOK_MIN);
            self.next_look = self.next_look.min(one.next_look);
        }
    }
}
