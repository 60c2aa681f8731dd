//! What will happen when: the events of the simulated world in the order of their times.
//!
//! Events of the same time happen in the order in which they were entered, so that one
//! seed makes one run.

use super::id::ClientId;
use super::link::{LinkId, Way};
use crate::base::clock::Instant;
use crate::base::id::Key;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What travels through a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Parcel {
    /// The client's SYN reaches the listener of a shard.
    Connect(u16),
    Bytes(u32),
    Fin,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Arrive {
        link: LinkId,
        way: Way,
        parcel: Parcel,
    },
    /// A client wants to look around.
    Client(ClientId),
    /// A send held back may begin.
    Send {
        shard: u16,
        key: Key,
    },
    CancelReceive {
        shard: u16,
        key: Key,
    },
    CancelSend {
        shard: u16,
        key: Key,
    },
}

#[derive(Default)]
pub(super) struct Agenda {
    entries: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    entered: u64,
}

impl Agenda {
    pub(super) fn enter(&mut self, at: Instant, event: Event) {
        self.entered += 1;
        self.entries.push(Reverse((at, self.entered, event)));
    }

    /// When the next event is; `NEVER` when there is none.
    pub(super) fn next_at(&self) -> Instant {
        self.entries
            .peek()
            .map_or(Instant::NEVER, |Reverse((at, ..))| *at)
    }

    /// Takes the next event that is due at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Event> {
        if self.next_at() > now {
            return None;
        }
        self.entries.pop().map(|Reverse((.., event))| event)
    }
}
