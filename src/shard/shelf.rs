//! What waits for a slow subscriber, behind what is already committed to its outbox.
//!
//! ```text
//!   router ──► [ newest … ] shelf [ … oldest ] ──► outbox ──► socket
//!               may still be dropped, replaced      bytes on their way: only the
//!               or expire                           connection's end can stop them
//! ```
//!
//! Entries share the message's bytes with all its other readers: ten thousand slow readers
//! of one message hold one copy. What is held is bounded, and beyond the bound acts the
//! policy of the subscription the message came by (header SLOW_POLICY):
//!
//! | policy | over the bound |
//! |---|---|
//! | disconnect | nothing is put; the caller ends the connection |
//! | drop oldest | the oldest go until the new one fits; one that is larger than the bound is held alone |
//! | drop newest | the new one is not put |
//! | latest per key | the same key's older one has gone already; then as drop oldest |
//!
//! What has expired goes first. Retained messages (delivered on SUBSCRIBE) stand outside of
//! this: nobody publishes them again, so dropping one would leave the subscriber without the
//! state it asked for; and the router keeps their bytes anyway.
//!
//! When the shard's memory is exhausted the shelf may not cost more than it did: the policy
//! acts until that holds, and a message for which no room can be made is dropped, rather
//! than what is there already.
//!
//! **Latest per key.** A replaced message leaves its place, and the new one goes to the end:
//! in the old one's place it would overtake what its publisher sent on the same topic in
//! between, and PROTOCOL.md promises that order.
//!
//! ```text
//!   slots    [ a │ · │ b │ c │ · │ d ]      · gone from the middle
//!              ▲ first        ▲ index: key ──► number of its slot
//! ```
//!
//! Slots are numbered from `first` on, so that an index entry stays right while the front
//! moves. What goes from the middle leaves a gap; when there are more gaps than entries they
//! are squeezed out and the rest is numbered again: O(1) for each message in the end.
//! Expiries are in a heap beside it, which may name entries that have gone. Both are empty
//! until a message needs them, and all memory is given back when the last entry leaves.
//!
//! What it does not do: share the reader out among keys (a key that is published faster
//! than the reader reads moves to the end each time); know outboxes, accounts, connections.
//!
//! Invariants: the first slot is never a gap; `live` slots are not gaps; before `droppable`
//! there are only gaps and retained messages; each indexed number is that of a live slot
//! with that key; each live entry that can expire is in the heap.

use crate::base::clock::Instant;
use crate::proto::envelope::SlowPolicy;
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Charged for the slot of each entry: two, because storage doubles when it grows.
const SLOT_BYTES: usize = 2 * size_of::<Option<Entry>>();
/// Charged for an entry that can expire, likewise.
const EXPIRY_BYTES: usize = 2 * size_of::<Expiry>();
/// Charged for an entry that has a key, beside the key: its counts, and its place in the
/// index, likewise.
const INDEX_BYTES: usize = 16 + 2 * size_of::<(Arc<[u8]>, u64)>();
/// Gaps, stale expiries and unused slots that are not worth clearing up.
const SLACK: usize = 32;

/// A publication that waits.
#[derive(Clone, Debug)]
pub struct Held {
    /// The whole message, header and payload, no CRC.
    pub message: Bytes,
    /// Not delivered from this moment on; [`Instant::NEVER`]: at any time.
    pub expires: Instant,
    /// When it was put.
    pub since: Instant,
    pub policy: SlowPolicy,
    /// A retained message delivered on SUBSCRIBE: counts against no bound, and no policy
    /// drops it.
    pub retained: bool,
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// What [`Shelf::bytes`] may be.
    pub bytes_max: usize,
    /// The shard's memory is exhausted: what waits may not cost more than it does.
    pub pressed: bool,
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Done: the message waits, or was dropped itself, as [`Dropped`] says.
    Held,
    /// Policy disconnect: nothing was put, and the caller ends the connection.
    Full,
}

/// Messages that one put dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub oldest: u32,
    pub newest: u32,
    /// Replaced by a later one of the same key.
    pub conflated: u32,
    pub expired: u32,
}

/// When an entry expires, and its number.
type Expiry = Reverse<(Instant, u64)>;

struct Entry {
    held: Held,
    /// Set: indexed under this key.
    key: Option<Arc<[u8]>>,
}

impl Entry {
    /// What [`Shelf::bytes`] counts.
    fn bytes(&self) -> usize {
        if self.held.retained {
            0
        } else {
            self.held.message.len()
        }
    }

    fn cost_bytes(&self) -> usize {
        let key = |key: &Arc<[u8]>| INDEX_BYTES + key.len();
        let expiry = if self.can_expire() { EXPIRY_BYTES } else { 0 };
        self.held.message.len() + SLOT_BYTES + expiry + self.key.as_ref().map_or(0, key)
    }

    fn can_expire(&self) -> bool {
        self.held.expires != Instant::NEVER
    }
}

/// The publications that wait for one slow subscriber. See the module's head.
#[derive(Default)]
pub struct Shelf {
    slots: VecDeque<Option<Entry>>,
    /// The number of the first slot.
    first: u64,
    /// No slot before this number holds what a policy may drop.
    droppable: u64,
    live: usize,
    bytes: usize,
    cost_bytes: usize,
    /// The part of the cost that no policy can free.
    cost_bytes_retained: usize,
    /// Found expired by [`Shelf::next`], and not yet told.
    expired: u32,
    expiries: BinaryHeap<Expiry>,
    /// Numbers of the indexed entries, by key. Boxed: most shelves never have it.
    latest: Option<Box<HashMap<Arc<[u8]>, u64>>>,
}

impl Shelf {
    /// An empty shelf. Allocates nothing.
    pub fn new() -> Shelf {
        Shelf::default()
    }

    pub fn len(&self) -> usize {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Bytes of the messages that wait, retained ones aside: what a [`Bound`] is about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the shard's account is charged: the bytes of every message that waits, as if
    /// nobody shared them, and the memory to hold it.
    pub fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }

    /// How long the oldest entry has been waiting; zero when there is none.
    pub fn oldest_age(&self, now: Instant) -> Duration {
        let oldest = self.slots.front().and_then(Option::as_ref);
        oldest.map_or(Duration::ZERO, |entry| now.since(entry.held.since))
    }

    /// Messages found expired by [`Shelf::next`] since the last call of this.
    pub fn take_expired(&mut self) -> u32 {
        std::mem::take(&mut self.expired)
    }

    /// Puts a message at the end, or does what its policy says. `key`: for the policy latest
    /// per key, what the message is the latest of (the KEY header's value, or the topic);
    /// ignored under other policies.
    pub fn put(
        &mut self,
        held: Held,
        key: Option<&[u8]>,
        bound: &Bound,
        now: Instant,
    ) -> (Put, Dropped) {
        let cost_max = if bound.pressed {
            self.cost_bytes
        } else {
            usize::MAX
        };
        let mut dropped = Dropped {
            expired: self.drop_expired(now),
            ..Dropped::default()
        };
        if held.expires <= now {
            dropped.expired += 1;
            return (Put::Held, dropped);
        }
        let policy = held.policy;
        let key = key.filter(|_| policy == SlowPolicy::LatestPerKey && !held.retained);
        let key = key.map(|key| self.share(key));
        let entry = Entry { held, key };
        if entry.held.retained {
            self.push(entry);
            return (Put::Held, dropped);
        }
        let makes_room = matches!(policy, SlowPolicy::DropOldest | SlowPolicy::LatestPerKey);
        if makes_room && self.cost_bytes_retained + entry.cost_bytes() > cost_max {
            dropped.newest += 1;
            return (Put::Held, dropped);
        }
        dropped.conflated = self.drop_older(&entry);
        while !self.fits(&entry, bound.bytes_max, cost_max) {
            match policy {
                SlowPolicy::Disconnect => return (Put::Full, dropped),
                SlowPolicy::DropNewest => {
                    dropped.newest += 1;
                    return (Put::Held, dropped);
                }
                SlowPolicy::DropOldest | SlowPolicy::LatestPerKey => {
                    if !self.drop_oldest() {
                        break; // larger than the bound, alone
                    }
                    dropped.oldest += 1;
                }
            }
        }
        self.push(entry);
        (Put::Held, dropped)
    }

    /// Takes the oldest message that has not expired.
    pub fn next(&mut self, now: Instant) -> Option<Held> {
        while !self.is_empty() {
            let entry = self.remove(self.first)?;
            if entry.held.expires > now {
                return Some(entry.held);
            }
            self.expired += 1;
        }
        None
    }

    /// Forgets everything that waits. Returns its cost.
    pub fn clear(&mut self) -> usize {
        let cost_bytes = self.cost_bytes;
        *self = Shelf {
            expired: self.expired,
            ..Shelf::default()
        };
        cost_bytes
    }

    fn fits(&self, entry: &Entry, bytes_max: usize, cost_max: usize) -> bool {
        self.bytes + entry.bytes() <= bytes_max && self.cost_bytes + entry.cost_bytes() <= cost_max
    }

    /// The key as the index has it already, or a copy.
    fn share(&self, key: &[u8]) -> Arc<[u8]> {
        let indexed = self.latest.as_ref().and_then(|l| l.get_key_value(key));
        indexed.map_or_else(|| Arc::from(key), |(key, _)| key.clone())
    }

    fn push(&mut self, entry: Entry) {
        let number = self.first + self.slots.len() as u64;
        self.live += 1;
        self.bytes += entry.bytes();
        self.cost_bytes += entry.cost_bytes();
        if entry.held.retained {
            self.cost_bytes_retained += entry.cost_bytes();
        }
        if entry.can_expire() {
            self.expiries.push(Reverse((entry.held.expires, number)));
        }
        if let Some(key) = &entry.key {
            let latest = self.latest.get_or_insert_default();
            latest.insert(key.clone(), number);
        }
        self.slots.push_back(Some(entry));
    }

    /// Drops the older message of the same key.
    fn drop_older(&mut self, entry: &Entry) -> u32 {
        let key = entry.key.as_ref();
        let number = key.and_then(|key| self.latest.as_ref()?.get(key).copied());
        u32::from(number.and_then(|number| self.remove(number)).is_some())
    }

    /// Drops the oldest message that is not retained, if there is one.
    fn drop_oldest(&mut self) -> bool {
        let from = (self.droppable.max(self.first) - self.first) as usize;
        let mut slots = self.slots.range(from.min(self.slots.len())..);
        let droppable = |slot: &Option<Entry>| slot.as_ref().is_some_and(|e| !e.held.retained);
        let passed = slots.position(droppable);
        let number = self.first + from as u64 + passed.unwrap_or(self.slots.len() - from) as u64;
        self.droppable = number;
        passed.is_some() && self.remove(number).is_some()
    }

    fn drop_expired(&mut self, now: Instant) -> u32 {
        let mut count = 0;
        while let Some(&Reverse((expires, number))) = self.expiries.peek()
            && expires <= now
        {
            self.expiries.pop();
            count += u32::from(self.remove(number).is_some());
        }
        count
    }

    /// Takes an entry from wherever it is; `None` when it has gone already.
    fn remove(&mut self, number: u64) -> Option<Entry> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let entry = self.slots.get_mut(index)?.take()?;
        self.live -= 1;
        if self.live == 0 {
            self.clear();
            return Some(entry);
        }
        self.bytes -= entry.bytes();
        self.cost_bytes -= entry.cost_bytes();
        if entry.held.retained {
            self.cost_bytes_retained -= entry.cost_bytes();
        }
        if let Some(key) = &entry.key
            && let Some(latest) = &mut self.latest
        {
            latest.remove(key);
        }
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
        self.tidy();
        Some(entry)
    }

    /// Squeezes gaps and stale expiries out when there are more of them than entries, and
    /// gives memory back when most of it is unused.
    fn tidy(&mut self) {
        let stale_max = 2 * self.live + SLACK;
        if self.slots.len() > stale_max || self.expiries.len() > stale_max {
            self.renumber();
        }
        if self.slots.capacity() > 4 * self.slots.len() + SLACK {
            self.slots.shrink_to(2 * self.slots.len());
        }
        if self.expiries.capacity() > 4 * self.expiries.len() + SLACK {
            self.expiries.shrink_to(2 * self.expiries.len());
        }
        if let Some(latest) = &mut self.latest
            && latest.capacity() > 4 * latest.len() + SLACK
        {
            latest.shrink_to(2 * latest.len());
        }
        debug_assert!(matches!(self.slots.front(), Some(Some(_))));
        debug_assert!(self.live <= self.slots.len());
        debug_assert!(self.bytes <= self.cost_bytes);
    }

    #[cold]
    fn renumber(&mut self) {
        self.slots.retain(Option::is_some);
        self.droppable = self.first;
        self.expiries.clear();
        for (number, entry) in (self.first..).zip(self.slots.iter().flatten()) {
            if entry.can_expire() {
                self.expiries.push(Reverse((entry.held.expires, number)));
            }
            if let Some(key) = &entry.key
                && let Some(latest) = &mut self.latest
                && let Some(indexed) = latest.get_mut(key)
            {
                *indexed = number;
            }
        }
    }
}
