//! Work that later turns continue, as values: replays, legacies of departed members, and members
//! for which the kernel holds much.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::NAME_BYTES_MAX;
use crate::broker::peers::client_state::Will;
use crate::router::{Subscription, Walk};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The shortest and the longest interval between polls of what the kernel holds for a member.
pub(crate) const LOOK_MIN: Duration = Duration::from_millis(1);
pub(crate) const LOOK_MAX: Duration = Duration::from_millis(256);

pub(crate) struct Replay {
    /// The order of arrival.
    pub(in crate::broker) number: u64,
    /// The id of the SUBSCRIBE, which will be confirmed.
    pub(in crate::broker) id: u32,
    pub(in crate::broker) filter: Box<str>,
    pub(in crate::broker) subscription: Subscription,
    pub(in crate::broker) walk: Walk,
}

impl Replay {
    /// The subscriber.
    pub(in crate::broker) fn to(&self) -> Key {
        self.subscription.connection
    }
}

/// Replays: at most one per connection, because a connection is not read from during its replay.
#[derive(Default)]
pub(crate) struct Replays {
    /// Those that can continue, by number: first come, first served.
    pub(crate) ready: BTreeMap<u64, Replay>,
    /// Those whose subscriber has to read or acknowledge first.
    pub(crate) parked: BTreeMap<Key, Replay>,
    /// The next number.
    pub(in crate::broker) next: u64,
}

impl Replays {
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.parked.is_empty()
    }

    pub(in crate::broker) fn iter(&self) -> impl Iterator<Item = &Replay> {
        self.ready.values().chain(self.parked.values())
    }

    /// Bytes of memory they occupy.
    pub(in crate::broker) fn cost_bytes(&self) -> usize {
        (self.ready.len() + self.parked.len()) * (size_of::<Replay>() + 2 * NAME_BYTES_MAX)
    }
}

#[derive(Default)]
pub(crate) struct Legacies {
    pub(crate) wills: VecDeque<(Key, Will)>,
    pub(in crate::broker) messages: VecDeque<Legacy>,
    /// When the next share of the messages is handed on.
    pub(in crate::broker) next_share: Instant,
    /// The mesh epoch of what the last share sent to other shards.
    pub(in crate::broker) mark: u64,
    /// In none of the groups of these messages does any member keep up.
    pub(in crate::broker) stuck: bool,
}

pub(in crate::broker) struct Legacy {
    pub(in crate::broker) group: Key,
    pub(in crate::broker) message: Bytes,
    pub(in crate::broker) expires: Instant,
}

impl Legacies {
    /// Nothing in it can go to anyone now.
    pub(crate) fn is_settled(&self) -> bool {
        self.wills.is_empty() && (self.messages.is_empty() || self.stuck)
    }

    /// When there is something to do; `NEVER` if nothing is waiting.
    pub(crate) fn next_due(&self) -> Instant {
        match (self.wills.is_empty(), self.messages.is_empty()) {
            (false, _) => Instant::ZERO,
            (true, false) => self.next_share,
            (true, true) => Instant::NEVER,
        }
    }
}

/// Members for which the kernel holds much.
pub(crate) struct BackedUp {
    pub(crate) members: Vec<Waiting>,
    /// The earliest `next_look` of the members.
    pub(crate) next_look: Instant,
}

pub(crate) struct Waiting {
    pub(crate) member: Key,
    pub(crate) next_look: Instant,
    pub(crate) pause: Duration,
    /// What the kernel held at the last poll.
    pub(crate) held: usize,
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
    pub(crate) fn next_look(&self) -> Instant {
        self.next_look
    }

    pub(crate) fn add(&mut self, member: Key, now: Instant) {
        let next_look = now + LOOK_MIN;
        // A member that kept up for a moment may still be listed.
        self.members.retain(|one| one.member != member);
        self.members.push(Waiting {
            member,
            next_look,
            pause: LOOK_MIN,
            held: usize::MAX,
        });
        self.next_look = self.next_look.min(next_look);
    }

    /// The member reads again: polls it soon.
    pub(crate) fn hurry(&mut self, member: Key, now: Instant) {
        let mut members = self.members.iter_mut();
        if let Some(one) = members.find(|one| one.member == member) {
            (one.pause, one.next_look) = (LOOK_MIN, now + LOOK_MIN);
            self.next_look = self.next_look.min(one.next_look);
        }
    }
}
