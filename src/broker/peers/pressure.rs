//! Memory pressure: what a shard does when more is charged to it than it may hold.
//!
//! ```text
//!   half         chunks lent are small
//!   3/4          crowded: for the largest holders, the slow policy acts as if at its bound
//!   all of it    exhausted: connections with output waiting are not read from, a large message
//!                waits where it is; for the largest holders that make no progress, the policy
//!                acts, then they end
//! ```
//!
//! No connection is closed for what others hold: a publisher waits, a SUBSCRIBE succeeds. Large
//! holders are kept ordered by the power of two below what they hold, shared bytes counted in full,
//! because that is what ending them may free. A connection that holds less than `floor` is not
//! listed and costs one comparison when it is reconciled. Only if none of the listed can be pressed
//! are all slots examined, some at a time, for those that hold a chunk or more.
//!
//! A connection that makes progress is left alone: a reader whose send the kernel takes within
//! `PATIENCE` frees what it holds by itself.
//!
//! A message may wait for readers on another shard than the one it is charged to. A shard that
//! finds no one to press announces that it is short (`connection_counts`), and the other shards
//! press theirs.
//!
//! Tables (the interest map, waiting answers, …) are charged at the end of each turn, from counts
//! that are kept anyway.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::{CHUNK_BYTES, SUBSCRIPTION_BYTES};
use crate::broker::Broker;
use crate::broker::mesh::confirmation::Pending;
use crate::broker::peers::connection::Connection;
use crate::broker::peers::transport::{Stage, Transport};
use crate::broker::publish::backlog::Legacy;
use crate::broker::publish::deliver::count_dropped;
use crate::broker::publish::parcel::SHARED_BYTES_MIN;
use crate::proto::error::Code;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// How long a shard must be exhausted, and a send in flight, before a connection is pressed.
const PATIENCE: Duration = Duration::from_millis(100);
/// Time between two looks at the largest holders.
const PAUSE: Duration = Duration::from_millis(10);
/// Holders pressed at a time, and looked at for that.
const PRESSED_MAX: usize = 8;
const LOOKED_AT_MAX: usize = 256;
/// Slots examined at a time when no listed holder can be pressed.
const WEIGHED_MAX: u32 = 1024;
/// Bytes charged for an open request.
const CALL_BYTES: usize = 256;

/// What a connection holds up: one that only sends is pressed only if there is no slow reader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Messages for it, and perhaps some of what it has sent.
    ForIt,
    /// Only its own message that is incomplete, or that has to wait.
    FromIt,
}

impl Broker {
    /// Updates the order of holders after a change in what a connection holds.
    #[cold]
    pub(crate) fn note_weight(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            let class = self.holders.class_of(connection.weight());
            let before = std::mem::replace(&mut connection.member.weight_class, class);
            if before != class {
                self.holders.put(key, before, class);
            }
        }
    }

    /// Takes a connection out of its slot.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Connection> {
        let mut connection = self.connections.remove(key)?;
        let class = std::mem::take(&mut connection.member.weight_class);
        self.holders.put(key, class, 0);
        Some(connection)
    }

    /// Presses the largest holders while more is charged than allowed; otherwise unblocks the
    /// connections that waited for that. `is_asked`: another shard is short. True: this shard is
    /// short, and found no one to press.
    pub(crate) fn press(&mut self, is_asked: bool) -> bool {
        let (now, is_exhausted) = (self.resources.now, self.resources.pool.is_exhausted());
        let was_exhausted = self.holders.since != Instant::NEVER;
        if was_exhausted && !is_exhausted {
            self.holders.since = Instant::NEVER;
            self.holders.floor = self.holders.heavy_min;
        }
        // The shortage may have lasted for only part of this turn.
        if !is_exhausted && std::mem::take(&mut self.holders.blocks) {
            self.unblock();
        }
        if !(is_exhausted || is_asked) {
            self.holders.next_look = Instant::NEVER;
            return false;
        }
        if is_exhausted && !was_exhausted {
            self.holders.since = now;
        }
        if self.holders.next_look == Instant::NEVER {
            self.holders.next_look = now + PATIENCE;
        }
        if self.holders.next_look > now {
            return self.holders.is_short;
        }
        self.holders.next_look = now + PAUSE;
        let largest = self.holders.list.iter().rev().take(LOOKED_AT_MAX);
        let largest: Vec<Key> = largest.map(|holder| holder.1).collect();
        let ending = self.ending_bytes(&largest);
        let pool = &self.resources.pool;
        if is_exhausted && pool.charged_bytes().saturating_sub(ending) <= pool.bytes_max() {
            return false;
        }
        let mut pressed = 0;
        for holds in [Holds::ForIt, Holds::FromIt] {
            if holds == Holds::FromIt && now < self.holders.ends_until {
                break;
            }
            for &key in &largest {
                pressed += usize::from(self.press_one(key, holds, !is_exhausted));
                let is_enough = is_exhausted && !self.resources.pool.is_exhausted();
                if pressed == PRESSED_MAX || is_enough {
                    break;
                }
            }
            if pressed > 0 {
                self.holders.ends_until = now + Transport::STAGE_TIME + PATIENCE;
                break;
            }
        }
        self.holders.is_short = is_exhausted && now >= self.holders.ends_until;
        if self.holders.is_short {
            self.weigh_some();
        }
        self.holders.is_short
    }

    /// Bytes held by connections that are already ending, which have a second to do so.
    fn ending_bytes(&self, largest: &[Key]) -> usize {
        let largest = largest.iter().filter_map(|&key| self.connections.get(key));
        let transports = largest.map(|one| &one.transport);
        let ending = transports.filter(|one| {
            let ends = [Stage::Flushing, Stage::Lingering, Stage::Closing];
            ends.contains(&one.stage)
        });
        ending.map(|one| one.outbox.queued_bytes()).sum()
    }

    /// No listed holder can be pressed: examines some more slots.
    fn weigh_some(&mut self) {
        self.holders.floor = CHUNK_BYTES;
        let slots = self.connections.slots();
        for _ in 0..WEIGHED_MAX.min(slots) {
            let slot = self.holders.next_slot % slots;
            self.holders.next_slot = slot + 1;
            if let Some(key) = self.connections.key_of(slot) {
                self.note_weight(key);
            }
        }
    }

    /// Makes one of the largest holders hold less. False: it makes progress, or is ending already;
    /// or, if pressed for another shard, it holds nothing that may be charged to that shard.
    fn press_one(&mut self, key: Key, holds: Holds, for_other: bool) -> bool {
        let now = self.resources.now;
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        if holds != connection.holds() || for_other && !connection.may_hold_others() {
            return false;
        }
        let is_away = connection.transport.has_left;
        let is_running = connection.transport.stage == Stage::Running;
        if !(is_running || is_away && connection.member.counted) || connection.is_moving() {
            return false;
        }
        let transport = &mut connection.transport;
        let gets_on = transport.sending && transport.outbox.sending_age(now) < PATIENCE;
        if gets_on && !is_away {
            return false;
        }
        if let Some(state) = &mut connection.member.state {
            let dropped = state.pending.shed();
            if dropped.oldest + dropped.newest > 0 {
                connection.member.recharge(&mut self.resources);
                count_dropped(&dropped, &self.resources);
                self.note_weight(key);
                return true;
            }
        }
        if is_away {
            connection.lapse(&mut self.resources);
        } else if holds == Holds::FromIt {
            let text = "this shard's memory is used up, and your message takes much of it: try \
                        again later";
            transport.cut_off(Code::Overloaded, text, &mut self.resources);
        } else {
            let logged = connection.member.durable();
            if logged.is_some_and(|one| one.log.bytes() > connection.weight() / 2) {
                // It would stay with the session.
                connection.lapse(&mut self.resources);
            }
            let transport = &mut connection.transport;
            let text = "this shard's memory is used up, and you hold much of it: you do not read \
                        or acknowledge what you are sent";
            transport.cut_off(Code::SlowConsumer, text, &mut self.resources);
        }
        self.touch(key);
        true
    }

    /// Bytes of the interest map: subscriptions and services of this shard and, as far as this
    /// shard has to know of them, of others.
    pub(in crate::broker) fn interest_bytes(&self) -> usize {
        self.router.interest_bytes() + self.memberships * SUBSCRIPTION_BYTES
    }

    /// Bytes of entries in tables, counted one by one: the charge is at least as much.
    pub(crate) fn entry_bytes(&self) -> usize {
        let lanes = self.fanouts.lanes.iter();
        let batches = lanes.flat_map(|lane| &lane.batches);
        let lists: BTreeMap<_, _> = batches
            .map(|batch| (Rc::as_ptr(&batch.list), batch.list.held_bytes()))
            .collect();
        self.confirmations.queue.len() * size_of::<Pending>()
            + lists.values().sum::<usize>()
            + self.interest_bytes()
    }

    /// Sets the charge for tables to what they hold.
    pub(crate) fn charge_tables(&mut self) {
        let calls = self.forwarded.len() + self.resources.calls.len();
        let bytes = self.interest_bytes()
            + self.confirmations.queue.len() * 2 * size_of::<Pending>()
            + self.fanouts.cost_bytes()
            + self.replays.cost_bytes()
            + self.seeking.cost_bytes()
            + self.legacies.messages.len() * size_of::<Legacy>()
            + calls as usize * CALL_BYTES;
        self.table_charge.set(&self.resources.pool.ledger, bytes);
    }
}

impl Connection {
    /// Whether it may hold `floor` or more, or did: then `note_weight` finds out.
    #[inline]
    pub(crate) fn may_weigh(&self, floor: usize) -> bool {
        let Connection { member, transport } = self;
        member.weight_class != 0
            || member.careful
            || member.trails
            || transport.outbox.queued_bytes() + transport.input.len() >= floor
    }

    /// Bytes it holds up: waiting for it (shared ones in full) and sent by it; hardly used chunks
    /// count with their whole capacity.
    pub(in crate::broker) fn weight(&self) -> usize {
        let input = match self.transport.input.is_empty() {
            true => 0,
            false => self.transport.input.capacity(),
        };
        self.waiting_bytes() + input
    }

    fn waiting_bytes(&self) -> usize {
        let state = self.member.state.as_ref();
        self.transport.outbox.weight() + state.map_or(0, |state| state.held_bytes())
    }

    fn holds(&self) -> Holds {
        match self.waiting_bytes() > 0 {
            true => Holds::ForIt,
            false => Holds::FromIt,
        }
    }

    /// Messages wait for it that are large enough to have come from another shard uncopied.
    fn may_hold_others(&self) -> bool {
        let state = self.member.state.as_ref();
        let waits = state.map_or(0, |state| state.pending.cost_bytes());
        waits.max(self.transport.outbox.queued_bytes()) >= SHARED_BYTES_MIN
    }
}
