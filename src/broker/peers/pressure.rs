//! Pressure: what a shard does when more is charged to it than it may hold.
//!
//! ```text
//!   half         chunks lent are small
//!   3/4          crowded: on who holds most, the slow policy acts as if its bound were reached
//!   all of it    exhausted: who has output waiting is not read from, a large message waits where
//!                it is; who holds most, and does not get on, has its policy act, then ends
//! ```
//!
//! Nobody is closed for what others hold: a publisher waits, a SUBSCRIBE goes through. Who
//! holds much is kept in order of the power of two below what it holds, shared bytes in full,
//! because that is what ending it may set free; who holds less than `floor` is in no list, and
//! costs a comparison when it is reconciled. Only when none of those can be pressed are all looked
//! at, some at a time, for who holds a chunk or more.
//!
//! Who gets on is left alone for as long: a reader whose send is taken by the kernel within
//! `PATIENCE` frees what it holds by itself.
//!
//! A message may wait for readers of another shard than the one it is charged to. A shard that
//! finds nobody to press says that it is short (`connection_counts`), and the others press theirs.
//!
//! What stands in tables (the interest map, answers that wait, …) is charged at the end of
//! each turn, by counts that are there anyway.

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
use std::time::Duration;

/// How long a shard is exhausted, and a send on its way, before somebody loses by it.
const PATIENCE: Duration = Duration::from_millis(100);
/// Between two looks at who holds most.
const PAUSE: Duration = Duration::from_millis(10);
/// Holders pressed at a time, and looked at for it.
const PRESSED_MAX: usize = 8;
const LOOKED_AT_MAX: usize = 256;
/// Slots looked at, at a time, when nobody is known who can be pressed.
const WEIGHED_MAX: u32 = 1024;
/// Bytes that a request is charged which somebody has to answer.
const CALL_BYTES: usize = 256;

/// What it is that is held up: who but sends is pressed only where nobody does not read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Messages for it, perhaps beside what it has sent.
    ForIt,
    /// Only a message of its own that is not whole, or has to wait.
    FromIt,
}

impl Broker {
    /// Brings the order of holders in line with what a connection holds.
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

    /// With more charged than may be, presses who holds most; with that over, lets go on who
    /// had to wait for it. `is_asked`: another shard is short. True: this one is, and has found
    /// nobody to press.
    pub(crate) fn press(&mut self, is_asked: bool) -> bool {
        let (now, is_exhausted) = (self.resources.now, self.resources.pool.is_exhausted());
        let was_exhausted = self.holders.since != Instant::NEVER;
        if was_exhausted && !is_exhausted {
            self.holders.since = Instant::NEVER;
            self.holders.floor = self.holders.heavy_min;
        }
        // Perhaps it was for a part of this turn only.
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

    /// Bytes for those that end already: they have a second for that.
    fn ending_bytes(&self, largest: &[Key]) -> usize {
        let largest = largest.iter().filter_map(|&key| self.connections.get(key));
        let transports = largest.map(|one| &one.transport);
        let ending = transports.filter(|one| {
            let ends = [Stage::Flushing, Stage::Lingering, Stage::Closing];
            ends.contains(&one.stage)
        });
        ending.map(|one| one.outbox.queued_bytes()).sum()
    }

    /// Nobody is known to hold much and can be pressed: looks at some more.
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

    /// Has one of the largest holders hold less. False: it gets on, or ends already; or, for
    /// another shard, it holds nothing that may be that one's.
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
        if let Some(station) = &mut connection.member.station {
            let dropped = station.pending.shed();
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

    /// Bytes of what clients subscribe to and serve, here and, as far as this shard has to know
    /// of it, elsewhere.
    pub(in crate::broker) fn interest_bytes(&self) -> usize {
        self.router.interest_bytes() + self.memberships * SUBSCRIPTION_BYTES
    }

    /// Brings what is charged for tables in line with what stands in them.
    pub(crate) fn charge_tables(&mut self) {
        let calls = self.forwarded.len() + self.resources.calls.len();
        let bytes = self.interest_bytes()
            + self.confirmations.queue.len() * 2 * size_of::<Pending>()
            + self.fanouts.cost_bytes()
            + self.replays.cost_bytes()
            + self.legacies.messages.len() * size_of::<Legacy>()
            + calls as usize * CALL_BYTES;
        self.table_charge.set(&self.resources.pool.ledger, bytes);
    }
}

impl Connection {
    /// Whether it may hold as much as `floor`, or has: then `note_weight` tells.
    #[inline]
    pub(crate) fn may_weigh(&self, floor: usize) -> bool {
        let Connection { member, transport } = self;
        member.weight_class != 0
            || member.careful
            || member.trails
            || transport.outbox.queued_bytes() + transport.input.len() >= floor
    }

    /// Bytes that it holds up: of what waits for it, shared ones in full, and of what it has
    /// sent; chunks that are hardly used count whole.
    pub(in crate::broker) fn weight(&self) -> usize {
        let input = match self.transport.input.is_empty() {
            true => 0,
            false => self.transport.input.capacity(),
        };
        self.waiting_bytes() + input
    }

    fn waiting_bytes(&self) -> usize {
        let station = self.member.station.as_ref();
        self.transport.outbox.weight() + station.map_or(0, |station| station.held_bytes())
    }

    fn holds(&self) -> Holds {
        match self.waiting_bytes() > 0 {
            true => Holds::ForIt,
            false => Holds::FromIt,
        }
    }

    /// Messages wait for it that are large enough to have come from another shard as they are.
    fn may_hold_others(&self) -> bool {
        let station = self.member.station.as_ref();
        let waits = station.map_or(0, |station| station.pending.cost_bytes());
        waits.max(self.transport.outbox.queued_bytes()) >= SHARED_BYTES_MIN
    }
}
