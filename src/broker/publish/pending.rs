//! The pending queue: messages for a slow subscriber, behind those already in its outbox.
//!
//! ```text
//!   router ──► [ newest … ] pending queue [ … oldest ] ──► outbox ──► socket
//!               may still be dropped, replaced      being sent: only the end of
//!               or expire                           the connection can stop them
//! ```
//!
//! Entries share the message's bytes with all its other readers: ten thousand slow readers of one
//! message hold one copy. The total is bounded; beyond the bound the policy of the subscription
//! that the message was delivered through acts (header SLOW_POLICY):
//!
//! | policy | over the bound |
//! |---|---|
//! | disconnect | the new message is not queued; the caller ends the connection |
//! | drop oldest | the oldest are dropped until the new one fits; one larger than the bound is held alone |
//! | drop newest | the new message is dropped |
//! | latest per key | the older message of the same key is already gone; then like drop oldest |
//!
//! Expired messages are dropped first. Retained messages (delivered on SUBSCRIBE) are exempt: no
//! one publishes them again, so dropping one would leave the subscriber without the state it asked
//! for; and the router keeps their bytes anyway.
//!
//! When the shard's memory is exhausted, the pending queue may not grow: the policy acts until it
//! does not, and a message for which no room can be made is dropped, rather than those already
//! queued.
//!
//! **Latest per key.** A replaced message leaves its place, and the new one goes to the end: in the
//! old place it would overtake what its publisher sent on the same topic in between, and
//! PROTOCOL.md guarantees that order.
//!
//! ```text
//!   slots    [ a │ · │ b │ c │ · │ d ]      · removed from the middle
//!              ▲ first        ▲ index: key ──► number of its slot
//! ```
//!
//! Slots are numbered from `first`, so that an index entry stays valid while the front moves.
//! Removal from the middle leaves a gap; when there are more gaps than entries, the slots are
//! compacted and renumbered: O(1) per message, amortized. Expiries are in a separate heap, which
//! may contain stale entries. Index and heap are empty until a message needs them, and all memory
//! is freed when the last entry leaves.
//!
//! What it does not do: divide the reader's capacity fairly among keys (a key published faster than
//! the reader reads moves to the end each time); know outboxes, accounts or connections.
//!
//! Invariants: the first slot is never a gap; `live` slots are not gaps; all slots before
//! `droppable` are gaps or retained messages; each indexed number is that of a live slot with that
//! key; each live entry that can expire is in the heap.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::proto::envelope::SlowPolicy;
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Charged for the slot of each entry: twice its size, because storage doubles when it grows.
const SLOT_BYTES: usize = 2 * size_of::<Option<Entry>>();
/// Charged for an entry that can expire: twice, for the same reason.
const EXPIRY_BYTES: usize = 2 * size_of::<Expiry>();
/// Charged for an entry with a key, besides the key: its counts and, twice again, its place in the
/// index.
const INDEX_BYTES: usize = 16 + 2 * size_of::<(Arc<[u8]>, u64)>();
/// Gaps, stale expiries and unused slots that are not worth cleaning up.
const SLACK: usize = 32;

/// A waiting publication.
#[derive(Clone, Debug)]
pub struct Held {
    /// The whole message, header and payload, no CRC.
    pub message: Bytes,
    /// Not delivered from this moment on; [`Instant::NEVER`]: does not expire.
    pub expires: Instant,
    /// When it was queued.
    pub since: Instant,
    pub policy: SlowPolicy,
    /// A retained message delivered on SUBSCRIBE: it does not count against the bound, and no
    /// policy drops it.
    pub retained: bool,
    /// The group it was delivered through.
    pub group: Option<Key>,
}

/// The bound of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Bound on [`PendingQueue::bytes`].
    pub bytes_max: usize,
    /// The shard's memory is exhausted: the queue may not cost more than it does now.
    pub pressed: bool,
}

/// The result of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The message is queued, or was itself dropped, as [`Dropped`] says.
    Held,
    /// Policy disconnect: the message was not queued, and the caller ends the connection.
    Full,
}

/// Messages that one put dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub oldest: u32,
    pub newest: u32,
    /// Replaced by a later message of the same key.
    pub conflated: u32,
    pub expired: u32,
}

/// When an entry expires, and its number.
type Expiry = Reverse<(Instant, u64)>;

struct Entry {
    held: Held,
    /// If set, the entry is indexed under this key.
    key: Option<Arc<[u8]>>,
}

impl Entry {
    /// The bytes that [`PendingQueue::bytes`] counts.
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

/// The publications waiting for one slow subscriber. See the module's head.
#[derive(Default)]
pub struct PendingQueue {
    slots: VecDeque<Option<Entry>>,
    /// The number of the first slot.
    first: u64,
    /// No slot before this number holds anything a policy may drop.
    droppable: u64,
    live: usize,
    bytes: usize,
    cost_bytes: usize,
    /// The part of the cost that is the messages' own bytes, including retained ones.
    message_bytes: usize,
    /// The part of the cost that no policy can free.
    cost_bytes_retained: usize,
    /// Found expired by [`PendingQueue::next`], and not reported yet.
    expired: u32,
    expiries: BinaryHeap<Expiry>,
    /// Numbers of the indexed entries, by key.
    latest: HashMap<Arc<[u8]>, u64>,
}

impl PendingQueue {
    #[cfg(test)]
    /// An empty pending queue. Allocates nothing.
    pub fn new() -> PendingQueue {
        PendingQueue::default()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Bytes of the waiting messages without retained ones: what a [`Bound`] limits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What this reader holds up: the bytes of every waiting message, as if they were not shared,
    /// and the memory of the queue itself.
    pub fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }

    /// What is charged for it: the same without the messages, which carry their own charge.
    pub fn entry_bytes(&self) -> usize {
        self.cost_bytes - self.message_bytes
    }

    /// Bytes of the oldest waiting message.
    pub fn oldest_bytes(&self) -> usize {
        let oldest = self.slots.front().and_then(Option::as_ref);
        oldest.map_or(0, |entry| entry.held.message.len())
    }

    /// When the oldest waiting message expires.
    pub fn oldest_expires(&self) -> Instant {
        let oldest = self.slots.front().and_then(Option::as_ref);
        oldest.map_or(Instant::NEVER, |entry| entry.held.expires)
    }

    /// How long the oldest entry has been waiting; zero when there is none.
    pub fn oldest_age(&self, now: Instant) -> Duration {
        let oldest = self.slots.front().and_then(Option::as_ref);
        oldest.map_or(Duration::ZERO, |entry| now.since(entry.held.since))
    }

    /// Messages found expired by [`PendingQueue::next`] since the last call.
    pub fn take_expired(&mut self) -> u32 {
        std::mem::take(&mut self.expired)
    }

    /// Queues a message at the end, or does what its policy says. `key`: for the policy latest per
    /// key, the key the message is the latest of (topic and KEY); ignored under other policies.
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

    /// Drops about half of the queue, each message as its policy would: memory is needed, and this
    /// reader holds much of it. What no policy may drop stays.
    pub fn shed(&mut self) -> Dropped {
        let (most, mut dropped) = (self.bytes / 2, Dropped::default());
        for newest in [false, true] {
            for step in 0..self.slots.len() {
                if self.bytes <= most {
                    break;
                }
                let index = if newest {
                    self.slots.len() - 1 - step
                } else {
                    step
                };
                let goes = |one: &mut Entry| {
                    let is_newest = one.held.policy == SlowPolicy::DropNewest;
                    let drops = one.held.policy != SlowPolicy::Disconnect;
                    drops && is_newest == newest && !one.held.retained
                };
                let Some(entry) = self.slots[index].take_if(goes) else {
                    continue;
                };
                self.forget(&entry);
                match newest {
                    true => dropped.newest += 1,
                    false => dropped.oldest += 1,
                }
            }
        }
        match self.live {
            0 => drop(self.clear()),
            _ => self.renumber(),
        }
        dropped
    }

    /// Drops everything that waits. Returns its cost.
    pub fn clear(&mut self) -> usize {
        let cost_bytes = self.cost_bytes;
        *self = PendingQueue {
            expired: self.expired,
            ..PendingQueue::default()
        };
        cost_bytes
    }

    fn fits(&self, entry: &Entry, bytes_max: usize, cost_max: usize) -> bool {
        self.bytes + entry.bytes() <= bytes_max && self.cost_bytes + entry.cost_bytes() <= cost_max
    }

    /// The key as already stored in the index, or a copy.
    fn share(&self, key: &[u8]) -> Arc<[u8]> {
        let indexed = self.latest.get_key_value(key);
        indexed.map_or_else(|| Arc::from(key), |(key, _)| key.clone())
    }

    fn push(&mut self, entry: Entry) {
        let number = self.first + self.slots.len() as u64;
        self.live += 1;
        self.bytes += entry.bytes();
        self.cost_bytes += entry.cost_bytes();
        self.message_bytes += entry.held.message.len();
        if entry.held.retained {
            self.cost_bytes_retained += entry.cost_bytes();
        }
        if entry.can_expire() {
            self.expiries.push(Reverse((entry.held.expires, number)));
        }
        if let Some(key) = &entry.key {
            self.latest.insert(key.clone(), number);
        }
        self.slots.push_back(Some(entry));
    }

    /// Drops the older message of the same key.
    fn drop_older(&mut self, entry: &Entry) -> u32 {
        let key = entry.key.as_ref();
        let number = key.and_then(|key| self.latest.get(key).copied());
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

    /// Removes an entry from anywhere in the queue; `None` if it has already gone.
    fn remove(&mut self, number: u64) -> Option<Entry> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let entry = self.slots.get_mut(index)?.take()?;
        self.forget(&entry);
        if self.live == 0 {
            self.clear();
            return Some(entry);
        }
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
        self.tidy();
        Some(entry)
    }

    /// An entry has been taken out of its slot.
    fn forget(&mut self, entry: &Entry) {
        self.live -= 1;
        self.bytes -= entry.bytes();
        self.cost_bytes -= entry.cost_bytes();
        self.message_bytes -= entry.held.message.len();
        if entry.held.retained {
            self.cost_bytes_retained -= entry.cost_bytes();
        }
        if let Some(key) = &entry.key {
            self.latest.remove(key);
        }
    }

    /// Compacts gaps and stale expiries when there are more of them than entries, and frees memory
    /// when most of it is unused.
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
        if self.latest.capacity() > 4 * self.latest.len() + SLACK {
            self.latest.shrink_to(2 * self.latest.len());
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
                && let Some(indexed) = self.latest.get_mut(key)
            {
                *indexed = number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const NEVER: Instant = Instant::NEVER;
    const OPEN: Bound = Bound {
        bytes_max: usize::MAX,
        pressed: false,
    };

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn held(message: &[u8], policy: SlowPolicy) -> Held {
        Held {
            message: Bytes::copy_from_slice(message),
            expires: NEVER,
            since: at(0),
            policy,
            retained: false,
            group: None,
        }
    }

    fn retained(message: &[u8]) -> Held {
        Held {
            retained: true,
            ..held(message, SlowPolicy::DropOldest)
        }
    }

    fn bound(bytes_max: usize) -> Bound {
        Bound {
            bytes_max,
            pressed: false,
        }
    }

    /// Puts at time 0 and checks the invariants.
    fn put(pending: &mut PendingQueue, held: Held, key: &str, bound: Bound) -> (Put, Dropped) {
        let done = pending.put(held, Some(key.as_bytes()), &bound, at(0));
        check_invariants(pending);
        done
    }

    fn drain(pending: &mut PendingQueue, now: u64) -> Vec<Bytes> {
        let messages = std::iter::from_fn(|| {
            let next = pending.next(at(now));
            check_invariants(pending);
            next.map(|held| held.message)
        });
        messages.collect()
    }

    /// Everything the module's head promises, and the sums.
    fn check_invariants(pending: &PendingQueue) {
        let Some(Some(_)) = pending.slots.front() else {
            assert!(pending.slots.is_empty() && pending.is_empty());
            assert_eq!((pending.bytes, pending.cost_bytes), (0, 0));
            assert_eq!(pending.slots.capacity() + pending.expiries.capacity(), 0);
            assert_eq!(
                (pending.latest.capacity(), pending.cost_bytes_retained),
                (0, 0)
            );
            return;
        };
        let entries = || pending.slots.iter().flatten();
        assert_eq!(pending.live, entries().count());
        assert_eq!(pending.bytes, entries().map(Entry::bytes).sum::<usize>());
        assert_eq!(
            pending.cost_bytes,
            entries().map(Entry::cost_bytes).sum::<usize>()
        );
        let messages = entries().map(|entry| entry.held.message.len());
        assert_eq!(pending.message_bytes, messages.sum::<usize>());
        let kept = entries().filter(|entry| entry.held.retained);
        assert_eq!(
            pending.cost_bytes_retained,
            kept.map(Entry::cost_bytes).sum::<usize>()
        );
        let expiries: HashSet<_> = pending.expiries.iter().map(|expiry| expiry.0).collect();
        let mut indexed = 0;
        for (number, slot) in (pending.first..).zip(&pending.slots) {
            let Some(entry) = slot else { continue };
            assert!(entry.held.retained || number >= pending.droppable);
            assert!(!entry.can_expire() || expiries.contains(&(entry.held.expires, number)));
            if let Some(key) = &entry.key {
                assert_eq!(pending.latest[key], number);
                indexed += 1;
            }
        }
        assert_eq!(pending.latest.len(), indexed);
        let clutter_max = 2 * pending.live + SLACK + 2;
        assert!(pending.slots.len().max(pending.expiries.len()) <= clutter_max);
    }

    #[test]
    fn an_empty_pending_queue_is_small() {
        assert!(size_of::<PendingQueue>() <= 176);
        check_invariants(&PendingQueue::new());
    }

    #[test]
    fn what_is_shed_goes_as_its_policy_says_and_no_further_than_half() {
        use SlowPolicy::{Disconnect, DropNewest, DropOldest, LatestPerKey};
        for (policies, left) in [
            (&[DropOldest; 8][..], &[4, 5, 6, 7][..]),
            (&[DropNewest; 8], &[0, 1, 2, 3]),
            (&[LatestPerKey; 4], &[2, 3]),
            (&[Disconnect; 4], &[0, 1, 2, 3]),
            (&[DropNewest, DropOldest, Disconnect, DropNewest], &[0, 2]),
            (&[], &[]),
        ] {
            let mut pending = PendingQueue::new();
            for (number, &policy) in policies.iter().enumerate() {
                let message = held(&[number as u8; 100], policy);
                put(&mut pending, message, &number.to_string(), OPEN);
            }
            put(&mut pending, retained(&[9; 1000]), "", OPEN);
            pending.shed();
            check_invariants(&pending);
            let found = drain(&mut pending, 0);
            let found: Vec<u8> = found.iter().map(|message| message[0]).collect();
            let expected = left.iter().copied().chain([9]).collect::<Vec<u8>>();
            assert_eq!(found, expected, "{policies:?}");
        }
    }

    #[test]
    fn what_waits_shares_its_bytes() {
        let message = Bytes::from(vec![7; 1000]);
        let mut pending = PendingQueue::new();
        let entry = Held {
            message: message.clone(),
            ..held(b"", SlowPolicy::Disconnect)
        };
        put(&mut pending, entry, "", OPEN);
        assert_eq!(
            pending.next(at(0)).unwrap().message.as_ptr(),
            message.as_ptr()
        );
    }

    #[test]
    fn drop_oldest_makes_room_at_the_front() {
        let mut pending = PendingQueue::new();
        for message in [b"aaaa", b"bbbb", b"cccc"] {
            let done = put(
                &mut pending,
                held(message, SlowPolicy::DropOldest),
                "",
                bound(12),
            );
            assert_eq!(done, (Put::Held, Dropped::default()));
        }
        let (_, dropped) = put(
            &mut pending,
            held(b"dddddd", SlowPolicy::DropOldest),
            "",
            bound(12),
        );
        assert_eq!((dropped.oldest, pending.bytes()), (2, 10));
        assert_eq!(drain(&mut pending, 0), ["cccc", "dddddd"]);
    }

    #[test]
    fn a_message_larger_than_the_bound_is_held_alone() {
        for policy in [SlowPolicy::DropOldest, SlowPolicy::LatestPerKey] {
            let mut pending = PendingQueue::new();
            put(&mut pending, held(b"small", policy), "a", bound(8));
            let (done, dropped) = put(&mut pending, held(b"larger than it", policy), "b", bound(8));
            assert_eq!((done, dropped.oldest, dropped.newest), (Put::Held, 1, 0));
            assert_eq!(drain(&mut pending, 0), ["larger than it"]);
        }
    }

    #[test]
    fn drop_newest_keeps_what_waits() {
        let mut pending = PendingQueue::new();
        for (message, newest) in [("aaaa", 0), ("bbbbbb", 1), ("cccc", 0), ("d", 1)] {
            let newer = held(message.as_bytes(), SlowPolicy::DropNewest);
            assert_eq!(put(&mut pending, newer, "", bound(8)).1.newest, newest);
        }
        assert_eq!(drain(&mut pending, 0), ["aaaa", "cccc"]);
    }

    #[test]
    fn disconnect_is_told_and_puts_nothing() {
        let mut pending = PendingQueue::new();
        let put = |pending: &mut PendingQueue| {
            let one = held(b"12345", SlowPolicy::Disconnect);
            put(pending, one, "", bound(14)).0
        };
        assert_eq!(put(&mut pending), Put::Held);
        assert_eq!(put(&mut pending), Put::Held);
        assert_eq!(put(&mut pending), Put::Full);
        assert_eq!((pending.len(), pending.bytes()), (2, 10));
    }

    #[test]
    fn the_latest_of_a_key_goes_to_the_end() {
        let mut pending = PendingQueue::new();
        for (key, message) in [
            ("a", "a1"),
            ("b", "b1"),
            ("a", "a2"),
            ("c", "c1"),
            ("a", "a3"),
        ] {
            put(
                &mut pending,
                held(message.as_bytes(), SlowPolicy::LatestPerKey),
                key,
                OPEN,
            );
        }
        assert_eq!(drain(&mut pending, 0), ["b1", "c1", "a3"]);
    }

    #[test]
    fn keys_matter_under_their_policy_only() {
        let mut pending = PendingQueue::new();
        put(
            &mut pending,
            held(b"oldest", SlowPolicy::DropOldest),
            "k",
            OPEN,
        );
        put(
            &mut pending,
            held(b"latest", SlowPolicy::LatestPerKey),
            "k",
            OPEN,
        );
        put(
            &mut pending,
            held(b"newest", SlowPolicy::DropNewest),
            "k",
            OPEN,
        );
        assert_eq!(drain(&mut pending, 0), ["oldest", "latest", "newest"]);
        pending.put(held(b"1", SlowPolicy::DropOldest), Some(b"k"), &OPEN, at(0));
        assert!(pending.latest.capacity() == 0, "no index without need");
    }

    #[test]
    fn a_conflated_flood_costs_what_its_keys_cost() {
        let mut pending = PendingQueue::new();
        let mut one_round = 0;
        for round in 0..1000 {
            for key in 0..10 {
                let message = format!("{key} {round:04}");
                let newer = held(message.as_bytes(), SlowPolicy::LatestPerKey);
                put(&mut pending, newer, &key.to_string(), OPEN);
            }
            if round == 0 {
                one_round = pending.cost_bytes();
            }
        }
        assert_eq!((pending.len(), pending.cost_bytes()), (10, one_round));
        let latest: Vec<_> = (0..10).map(|key| format!("{key} 0999")).collect();
        assert_eq!(drain(&mut pending, 0), latest);
    }

    #[test]
    fn retained_messages_are_outside_of_the_bound() {
        let mut pending = PendingQueue::new();
        let newer = |message: &[u8]| held(message, SlowPolicy::DropOldest);
        put(&mut pending, retained(b"retained one"), "k", bound(4));
        put(&mut pending, newer(b"1111"), "", bound(4));
        put(&mut pending, retained(b"retained two"), "k", bound(4));
        assert_eq!(pending.bytes(), 4);
        assert_eq!(put(&mut pending, newer(b"2222"), "", bound(4)).1.oldest, 1);
        assert_eq!(put(&mut pending, newer(b"3333"), "", bound(4)).1.oldest, 1);
        assert_eq!(
            drain(&mut pending, 0),
            ["retained one", "retained two", "3333"]
        );
    }

    #[test]
    fn what_has_expired_goes_before_a_policy_acts() {
        let mut pending = PendingQueue::new();
        let one = |message: &[u8], expires| Held {
            expires: at(expires),
            ..held(message, SlowPolicy::DropOldest)
        };
        put(&mut pending, one(b"1111", 50), "", bound(12));
        put(&mut pending, one(b"2222", 10), "", bound(12));
        put(&mut pending, one(b"3333", 50), "", bound(12));
        let (_, dropped) = pending.put(one(b"4444", 50), None, &bound(12), at(10));
        assert_eq!((dropped.expired, dropped.oldest), (1, 0));
        let (done, dropped) = pending.put(one(b"late", 10), None, &bound(12), at(10));
        assert_eq!((done, dropped.expired, pending.len()), (Put::Held, 1, 3));
        assert_eq!(pending.take_expired(), 0);
        assert!(pending.next(at(49)).is_some());
        assert_eq!(drain(&mut pending, 50), [""; 0]);
        assert_eq!((pending.take_expired(), pending.take_expired()), (2, 0));
    }

    #[test]
    fn under_pressure_a_pending_queue_does_not_grow() {
        let pressed = Bound {
            bytes_max: 1000,
            pressed: true,
        };
        for (policy, oldest, newest, full) in [
            (SlowPolicy::DropOldest, 1, 0, false),
            (SlowPolicy::LatestPerKey, 1, 0, false),
            (SlowPolicy::DropNewest, 0, 1, false),
            (SlowPolicy::Disconnect, 0, 0, true),
        ] {
            let mut pending = PendingQueue::new();
            let (_, dropped) = put(
                &mut pending,
                held(b"1", SlowPolicy::DropOldest),
                "",
                pressed,
            );
            assert_eq!(dropped.newest, 1, "nothing could make room for it");
            put(
                &mut pending,
                held(&[1; 400], SlowPolicy::DropOldest),
                "1",
                OPEN,
            );
            put(
                &mut pending,
                held(&[2; 400], SlowPolicy::DropOldest),
                "2",
                OPEN,
            );
            let cost_bytes = pending.cost_bytes();
            let (done, dropped) = put(&mut pending, held(&[3; 50], policy), "3", pressed);
            assert_eq!((dropped.oldest, dropped.newest), (oldest, newest));
            assert_eq!(done == Put::Full, full);
            assert!(pending.cost_bytes() <= cost_bytes);
        }
    }

    #[test]
    fn a_large_message_under_pressure_does_not_cost_the_small_ones() {
        let pressed = Bound {
            bytes_max: 100_000,
            pressed: true,
        };
        let mut pending = PendingQueue::new();
        put(
            &mut pending,
            held(b"small", SlowPolicy::LatestPerKey),
            "k",
            OPEN,
        );
        let large = held(&[7; 10_000], SlowPolicy::LatestPerKey);
        assert_eq!(put(&mut pending, large, "k", pressed).1.newest, 1);
        assert_eq!(drain(&mut pending, 0), ["small"]);
    }

    #[test]
    fn clearing_returns_the_cost_and_the_memory() {
        let mut pending = PendingQueue::new();
        for key in ["a", "b"] {
            put(
                &mut pending,
                held(b"message", SlowPolicy::LatestPerKey),
                key,
                OPEN,
            );
        }
        let cost_bytes = pending.cost_bytes();
        assert!(cost_bytes > 14 && pending.clear() == cost_bytes && pending.clear() == 0);
        check_invariants(&pending);
    }

    #[test]
    fn the_oldest_age_is_that_of_the_front() {
        let mut pending = PendingQueue::new();
        assert_eq!(pending.oldest_age(at(9)), Duration::ZERO);
        for since in [3, 5] {
            let entry = Held {
                since: at(since),
                ..held(b"m", SlowPolicy::DropOldest)
            };
            put(&mut pending, entry, "", OPEN);
        }
        assert_eq!(pending.oldest_age(at(9)), Duration::from_nanos(6));
        pending.next(at(9));
        assert_eq!(pending.oldest_age(at(9)), Duration::from_nanos(4));
    }

    #[test]
    fn a_long_pending_queue_gives_memory_back_as_it_empties() {
        let mut pending = PendingQueue::new();
        for key in 0..10_000u32 {
            let entry = Held {
                expires: at(1_000_000 + u64::from(key)),
                ..held(b"m", SlowPolicy::LatestPerKey)
            };
            pending.put(entry, Some(&key.to_be_bytes()), &OPEN, at(0));
        }
        while pending.len() > 10 {
            pending.next(at(0));
        }
        check_invariants(&pending);
        assert!(pending.slots.capacity() <= 4 * 10 + SLACK);
        assert!(pending.expiries.capacity() <= 4 * (2 * 10 + SLACK) + SLACK);
        assert!(pending.latest.capacity() <= 4 * 10 + SLACK);
    }

    /// The rules of the pending queue in their simplest form: a list, searched from the front.
    #[derive(Default)]
    struct Model {
        entries: Vec<(Held, Option<u8>)>,
    }

    impl Model {
        fn bytes(&self) -> usize {
            let counted = self.entries.iter().filter(|entry| !entry.0.retained);
            counted.map(|entry| entry.0.message.len()).sum()
        }

        fn purge(&mut self, now: Instant) -> u32 {
            let before = self.entries.len();
            self.entries.retain(|entry| entry.0.expires > now);
            (before - self.entries.len()) as u32
        }

        fn put(&mut self, held: Held, key: u8, bytes_max: usize, now: Instant) -> (Put, Dropped) {
            let expired = self.purge(now) + u32::from(held.expires <= now);
            let mut dropped = Dropped {
                expired,
                ..Dropped::default()
            };
            if held.expires <= now {
                return (Put::Held, dropped);
            }
            let latest = held.policy == SlowPolicy::LatestPerKey && !held.retained;
            let key = latest.then_some(key);
            if let Some(older) = self.entries.iter().position(|e| latest && e.1 == key) {
                self.entries.remove(older);
                dropped.conflated = 1;
            }
            while !held.retained && self.bytes() + held.message.len() > bytes_max {
                match held.policy {
                    SlowPolicy::Disconnect => return (Put::Full, dropped),
                    SlowPolicy::DropNewest => {
                        dropped.newest = 1;
                        return (Put::Held, dropped);
                    }
                    SlowPolicy::DropOldest | SlowPolicy::LatestPerKey => {
                        let Some(oldest) = self.entries.iter().position(|e| !e.0.retained) else {
                            break;
                        };
                        self.entries.remove(oldest);
                        dropped.oldest += 1;
                    }
                }
            }
            self.entries.push((held, key));
            (Put::Held, dropped)
        }

        /// The next message, and how many expired ones preceded it.
        fn next(&mut self, now: Instant) -> (Option<Held>, u32) {
            let good = self.entries.iter().position(|e| e.0.expires > now);
            let expired = good.unwrap_or(self.entries.len());
            self.entries.drain(..expired);
            let next = good.map(|_| self.entries.remove(0).0);
            (next, expired as u32)
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Put {
            length: usize,
            policy: u8,
            key: u8,
            expires: Option<u64>,
            retained: bool,
            pressed: bool,
        },
        Next,
        Wait(u64),
        Clear,
    }

    fn op() -> impl Strategy<Value = Op> {
        let length = prop_oneof![20 => 1usize..40, 1 => 100usize..400];
        // Mostly the policies that replace and drop, or disconnects would fill every pending queue.
        let policy = prop_oneof![1 => Just(1u8), 3 => Just(2), 2 => Just(3), 5 => Just(4)];
        let expires = prop::option::weighted(0.3, 0u64..60);
        let (retained, pressed) = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
        prop_oneof![
            200 => (length, policy, 0u8..8, expires, retained, pressed).prop_map(
                |(length, policy, key, expires, retained, pressed)| {
                    Op::Put { length, policy, key, expires, retained, pressed }
                }
            ),
            60 => Just(Op::Next),
            40 => (1u64..20).prop_map(Op::Wait),
            1 => Just(Op::Clear),
        ]
    }

    fn ops(pressure: bool) -> impl Strategy<Value = Vec<Op>> {
        let relieve = move |mut op| {
            if let Op::Put { pressed, .. } = &mut op {
                *pressed &= pressure;
            }
            op
        };
        prop::collection::vec(op().prop_map(relieve), 0..600)
    }

    fn entry(op: &Op, serial: usize, now: Instant) -> Option<(Held, u8, bool)> {
        let Op::Put {
            length,
            policy,
            key,
            expires,
            retained,
            pressed,
        } = *op
        else {
            return None;
        };
        let mut message = vec![0; length.max(8)];
        message[..8].copy_from_slice(&serial.to_be_bytes());
        let held = Held {
            message: message.into(),
            expires: expires.map_or(NEVER, |e| at(now.as_nanos() + e)),
            since: now,
            policy: SlowPolicy::from_wire(policy).unwrap(),
            retained,
            group: None,
        };
        Some((held, key, pressed))
    }

    proptest! {
        #[test]
        fn a_pending_queue_holds_what_a_list_holds(
            bytes_max in prop_oneof![1 => 0usize..2000, 1 => Just(usize::MAX)],
            ops in ops(false),
        ) {
            let (mut pending, mut model) = (PendingQueue::new(), Model::default());
            let mut now = at(0);
            for (serial, op) in ops.iter().enumerate() {
                match op {
                    Op::Put { .. } => {
                        let (held, key, _) = entry(op, serial, now).unwrap();
                        let expected = model.put(held.clone(), key, bytes_max, now);
                        let done = pending.put(held, Some(&[key]), &bound(bytes_max), now);
                        prop_assert_eq!(done, expected);
                    }
                    Op::Next => {
                        let (next, expired) = model.next(now);
                        let taken = pending.next(now);
                        prop_assert_eq!(taken.map(|h| h.message), next.map(|h| h.message));
                        prop_assert_eq!(pending.take_expired(), expired);
                    }
                    Op::Wait(nanos) => now = at(now.as_nanos() + nanos),
                    Op::Clear => {
                        pending.clear();
                        model.entries.clear();
                    }
                }
                check_invariants(&pending);
                prop_assert_eq!(pending.len(), model.entries.len());
                prop_assert_eq!(pending.bytes(), model.bytes());
                let age = model.entries.first().map_or(Duration::ZERO, |e| now.since(e.0.since));
                prop_assert_eq!(pending.oldest_age(now), age);
            }
            let rest = model.entries.iter().filter(|e| e.0.expires > now);
            let rest: Vec<_> = rest.map(|e| e.0.message.clone()).collect();
            prop_assert_eq!(drain(&mut pending, now.as_nanos()), rest);
        }

        #[test]
        fn every_message_put_is_taken_or_counted_and_pressure_lets_nothing_grow(
            bytes_max in 0usize..2000,
            ops in ops(true),
        ) {
            let (mut pending, mut now) = (PendingQueue::new(), at(0));
            let (mut put, mut gone) = (0, 0);
            for (serial, op) in ops.iter().enumerate() {
                match op {
                    Op::Put { .. } => {
                        let (held, key, pressed) = entry(op, serial, now).unwrap();
                        let (cost_before, retained) = (pending.cost_bytes(), held.retained);
                        let bound = Bound { bytes_max, pressed };
                        let (done, dropped) = pending.put(held, Some(&[key]), &bound, now);
                        put += u32::from(done == Put::Held);
                        gone += dropped.oldest + dropped.newest + dropped.conflated;
                        gone += dropped.expired;
                        let grown = pending.cost_bytes() > cost_before;
                        prop_assert!(!grown || !pressed || retained);
                    }
                    Op::Next => gone += u32::from(pending.next(now).is_some()),
                    Op::Wait(nanos) => now = at(now.as_nanos() + nanos),
                    Op::Clear => {}
                }
                check_invariants(&pending);
            }
            gone += drain(&mut pending, now.as_nanos()).len() as u32 + pending.take_expired();
            prop_assert_eq!(put, gone);
        }
    }
}
