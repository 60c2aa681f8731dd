//! The event queue: what will happen in the simulated world, ordered by time.
//!
//! Events with the same time happen in the order in which they were pushed, so that a seed
//! determines the run.

use super::id::ClientId;
use super::link::{Direction, LinkId};
use crate::base::clock::Instant;
use crate::base::id::Key;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What travels through the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Segment {
    /// The client's SYN reaches the listener of a shard.
    Syn(u16),
    Bytes(u32),
    Fin,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Arrive {
        link: LinkId,
        direction: Direction,
        segment: Segment,
    },
    /// A client's timer fires, or something at its end of a connection has changed.
    Client(ClientId),
    /// A send that a fault delayed may start.
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
pub(super) struct EventQueue {
    entries: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    pushed: u64,
}

impl EventQueue {
    pub(super) fn push(&mut self, at: Instant, event: Event) {
        self.pushed += 1;
        self.entries.push(Reverse((at, self.pushed, event)));
    }

    /// The time of the next event; `NEVER` if there is none.
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
