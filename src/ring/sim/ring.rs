//! One shard's end of the simulated kernel: its listener, receive buffers, operations in
//! flight and completion queue.
//!
//! A completion is posted with the time from which the shard can see it. Those of one receive, and
//! those of the accept, keep their order; all others may overtake each other. An operation is in
//! flight until the shard has *taken* its last completion: that is what the shard can know, so the
//! checks use it.

use super::link::LinkId;
use crate::base::chunk::Chunk;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::ring::driver::Completion;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Sizes of a simulated shard's ring.
#[derive(Clone, Copy, Debug)]
pub struct RingSize {
    /// Receive buffers.
    pub buffers: u16,
    pub buffer_bytes: u32,
    /// Entries of the completion queue: when it is full, multishots end.
    pub completions: usize,
    /// How many connections may wait to be accepted.
    pub backlog: usize,
}

impl Default for RingSize {
    fn default() -> RingSize {
        RingSize {
            buffers: 256,
            buffer_bytes: 4096,
            completions: 1024,
            backlog: 4096,
        }
    }
}

/// How far an operation has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Requested, not yet submitted.
    Queued,
    /// In the kernel.
    Armed,
    /// Its last completion is posted, but the shard has not taken it.
    Done,
}

#[derive(Debug)]
pub(super) struct Receive {
    pub(super) socket: i32,
    pub(super) phase: Phase,
    /// When its latest completion becomes visible.
    pub(super) visible_at: Instant,
}

#[derive(Debug)]
pub(super) struct Send {
    pub(super) socket: i32,
    pub(super) phase: Phase,
    /// Delayed by a fault.
    pub(super) held: bool,
    pub(super) chunk: Option<Chunk>,
    pub(super) from: usize,
}

/// The operations in flight of one slot.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) receive: Option<Receive>,
    pub(super) send: Option<Box<Send>>,
}

/// A completion, and the contents of the buffer it lends.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) completion: Completion,
    pub(super) bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepting {
    Idle,
    Queued,
    Armed,
    /// The listener is closed.
    Stopped,
}

/// Whether a shard runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    Awake,
    SleepingUntil(Instant),
    /// Its driver is not made yet, or dropped.
    Gone,
}

type Slots = HashMap<u32, Slot, BuildHasherDefault<DefaultHasher>>;

pub(super) struct Ring {
    pub(super) size: RingSize,
    pub(super) accepting: Accepting,
    pub(super) accept_visible_at: Instant,
    pub(super) backlog: VecDeque<LinkId>,
    pub(super) buffers_free: Vec<u16>,
    pub(super) slots: Slots,
    posted: BTreeMap<(Instant, u64), Posted>,
    posts: u64,
    pub(super) activity: Activity,
    /// The shard gets no CPU.
    pub(super) stalled: bool,
    /// Until then the shard is busy with its last turn.
    pub(super) busy_until: Instant,
    pub(super) woken: Arc<AtomicBool>,
    /// Calls of `poll`: turns of the shard.
    pub(super) polls: u64,
    /// Polls that returned nothing and did not sleep.
    pub(super) polls_vain: u64,
    pub(super) sends: u64,
}

impl Ring {
    /// The memory of sends whose completion the shard has not taken: bytes that it alone owns, and
    /// the number of shared chunks.
    pub(super) fn sending(&self) -> (usize, usize) {
        let slots = self.slots.values();
        let sends = slots.filter_map(|slot| slot.send.as_ref()?.chunk.as_ref());
        let posted = self
            .posted
            .values()
            .filter_map(|one| match &one.completion {
                Completion::Sent { chunk, .. } => Some(chunk),
                _ => None,
            });
        sends.chain(posted).fold((0, 0), |sum, chunk| match chunk {
            Chunk::Own(bytes) => (sum.0 + bytes.capacity(), sum.1),
            Chunk::Shared(_) => (sum.0, sum.1 + 1),
        })
    }

    pub(super) fn new(size: RingSize) -> Ring {
        Ring {
            size,
            accepting: Accepting::Idle,
            accept_visible_at: Instant::ZERO,
            backlog: VecDeque::new(),
            buffers_free: (0..size.buffers).rev().collect(),
            slots: Slots::default(),
            posted: BTreeMap::new(),
            posts: 0,
            activity: Activity::Gone,
            stalled: false,
            busy_until: Instant::ZERO,
            woken: Arc::new(AtomicBool::new(false)),
            polls: 0,
            polls_vain: 0,
            sends: 0,
        }
    }

    /// The slot of `key`, if operations of exactly this key are in flight.
    pub(super) fn slot_mut(&mut self, key: Key) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(&key.slot)?;
        (slot.generation == key.generation).then_some(slot)
    }

    pub(super) fn receive_mut(&mut self, key: Key) -> Option<&mut Receive> {
        self.slot_mut(key)?.receive.as_mut()
    }

    pub(super) fn send_mut(&mut self, key: Key) -> Option<&mut Send> {
        self.slot_mut(key)?.send.as_deref_mut()
    }

    /// The slot of `key`, created if needed; `None` if operations of another generation are in
    /// flight.
    pub(super) fn slot_entry(&mut self, key: Key) -> Option<&mut Slot> {
        let slot = self.slots.entry(key.slot).or_insert(Slot {
            generation: key.generation,
            receive: None,
            send: None,
        });
        (slot.generation == key.generation).then_some(slot)
    }

    /// Removes the slot if nothing of it is in flight.
    pub(super) fn drop_idle_slot(&mut self, key: Key) {
        let idle = |slot: &mut Slot| slot.receive.is_none() && slot.send.is_none();
        if self.slot_mut(key).is_some_and(idle) {
            self.slots.remove(&key.slot);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.posted.len() >= self.size.completions
    }

    pub(super) fn post(&mut self, visible_at: Instant, completion: Completion, bytes: Vec<u8>) {
        self.posts += 1;
        let posted = Posted { completion, bytes };
        self.posted.insert((visible_at, self.posts), posted);
    }

    /// When the next completion becomes visible.
    pub(super) fn visible_at(&self) -> Instant {
        let first = self.posted.first_key_value();
        first.map_or(Instant::NEVER, |((at, _), _)| *at)
    }

    pub(super) fn take_visible(&mut self, now: Instant) -> Option<Posted> {
        if self.visible_at() > now {
            return None;
        }
        self.posted.pop_first().map(|(_, posted)| posted)
    }
}
