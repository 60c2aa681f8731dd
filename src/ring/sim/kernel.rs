//! The simulated machine without its clients: clock, random generator, network and all rings.
//!
//! This file has what all parts share: faults, when a completion becomes visible, when a segment
//! arrives, the trace. The operations are in `accept` and `socket`, the clients' ends in `remote`.

use super::descriptor::Descriptors;
use super::event_queue::{Event, EventQueue, Segment};
use super::fault::Faults;
use super::id::ClientId;
use super::link::{Direction, LinkId, Links};
use super::ring::Ring;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::ring::driver::{Completion, Received};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

/// An operation that a shard has requested and its next `poll` submits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Accept,
    Receive { key: Key, socket: i32 },
    CancelReceive(Key),
    Send { key: Key, socket: i32 },
    CancelSend(Key),
}

pub(super) struct Kernel {
    seed: u64,
    pub(super) now: Instant,
    pub(super) rng: fastrand::Rng,
    pub(super) faults: Faults,
    pub(super) event_queue: EventQueue,
    pub(super) links: Links,
    pub(super) descriptors: Descriptors,
    pub(super) rings: Vec<Ring>,
    /// Bytes that fit between a writer and its reader.
    pub(super) pipe_bytes: usize,
    trace: u64,
    events: u64,
    /// How often each fault and each shortage happened.
    pub(super) coverage: BTreeMap<&'static str, u64>,
}

impl Kernel {
    pub(super) fn new(seed: u64, faults: Faults) -> Kernel {
        Kernel {
            seed,
            // Not zero, so that a shard that forgets to read the clock is found out.
            now: Instant::from_nanos(1_000_000_000),
            rng: fastrand::Rng::with_seed(seed),
            faults,
            event_queue: EventQueue::default(),
            links: Links::default(),
            descriptors: Descriptors::new(),
            rings: Vec::new(),
            pipe_bytes: 128 * 1024,
            trace: 0xCBF2_9CE4_8422_2325,
            events: 0,
            coverage: BTreeMap::new(),
        }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// The shard broke a rule of the driver's contract.
    pub(super) fn fail(&self, shard: u16, what: impl Display) -> ! {
        let (seed, now) = (self.seed, self.now);
        panic!("seed {seed}: shard {shard} at {now:?}: {what}")
    }

    // ---- random ----

    pub(super) fn chance(&mut self, chance: f32) -> bool {
        chance > 0.0 && self.rng.f32() < chance
    }

    /// Whether a fault happens now; counts it by name if it does.
    pub(super) fn fault(&mut self, name: &'static str, chance: f32) -> bool {
        let happens = self.chance(chance);
        if happens {
            self.cover(name);
        }
        happens
    }

    /// One of these errors, counted by the name of its number.
    pub(super) fn any_error(&mut self, all: &[(i32, &'static str)]) -> i32 {
        let (errno, name) = all[self.rng.usize(..all.len())];
        self.cover(name);
        errno
    }

    /// Counts the occurrence of something that tests require to happen.
    pub(super) fn cover(&mut self, name: &'static str) {
        *self.coverage.entry(name).or_default() += 1;
    }

    /// A random time up to `max`.
    pub(super) fn delay(&mut self, max: Duration) -> Duration {
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.u64(0..=nanos))
    }

    fn latency(&mut self) -> Duration {
        let (min, max) = self.faults.latency;
        min + self.delay(max.saturating_sub(min))
    }

    // ---- the trace ----

    /// Folds what happened into the trace (FNV-1a over words).
    pub(super) fn note(&mut self, what: &str, numbers: &[u64]) {
        let mut fold = |word: u64| {
            self.trace = (self.trace ^ word).wrapping_mul(0x0000_0100_0000_01B3);
        };
        fold(self.now.as_nanos());
        what.bytes().for_each(|byte| fold(u64::from(byte)));
        numbers.iter().for_each(|&number| fold(number));
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    // ---- completions ----

    /// When the completion of something that happens now becomes visible, not before `after`.
    fn visible_at(&mut self, after: Instant) -> Instant {
        let mut at = self.now;
        if self.fault("late", self.faults.late) {
            at = at + self.delay(self.faults.late_max);
        } else if self.fault("reorder", self.faults.reorder) {
            at = at + self.delay(Duration::from_micros(20));
        }
        at.max(after)
    }

    pub(super) fn post(&mut self, shard: u16, after: Instant, completion: Completion) -> Instant {
        let at = self.visible_at(after);
        self.rings[usize::from(shard)].post(at, completion, Vec::new());
        at
    }

    /// Posts a completion of a receive, behind its earlier ones.
    pub(super) fn post_received(
        &mut self,
        shard: u16,
        key: Key,
        result: Received,
        bytes: Vec<u8>,
        more: bool,
    ) {
        let after = match self.rings[usize::from(shard)].receive_mut(key) {
            Some(receive) => receive.visible_at,
            None => self.fail(shard, format_args!("no receive of {key} to complete")),
        };
        let at = self.visible_at(after);
        let ring = &mut self.rings[usize::from(shard)];
        let socket = ring.receive_mut(key).map(|receive| {
            receive.visible_at = at;
            if !more {
                receive.phase = super::ring::Phase::Done;
            }
            receive.socket
        });
        let completion = Completion::Received { key, result, more };
        ring.post(at, completion, bytes);
        if !more {
            let link = socket.and_then(|socket| self.link_of(socket));
            if let Some(link) = link.and_then(|link| self.links.find_mut(link)) {
                link.receiver = None;
            }
        }
    }

    pub(super) fn link_of(&self, socket: i32) -> Option<LinkId> {
        self.descriptors.find(socket).map(|open| open.link)
    }

    // ---- the network ----

    /// Sends a segment; it overtakes none before it.
    pub(super) fn dispatch(&mut self, link: LinkId, direction: Direction, segment: Segment) {
        let at = self.now + self.latency();
        if let Some(found) = self.links.find_mut(link) {
            let stream = found.stream_mut(direction);
            let at = at.max(stream.last_arrival);
            stream.last_arrival = at;
            self.event_queue.push(
                at,
                Event::Arrive {
                    link,
                    direction,
                    segment,
                },
            );
        }
    }

    /// Puts bytes into a pipe; they arrive in one piece or several.
    pub(super) fn transmit(&mut self, id: LinkId, direction: Direction, bytes: &[u8]) {
        let Some(link) = self.links.find_mut(id) else {
            return;
        };
        link.stream_mut(direction).write(bytes);
        let mut left = bytes.len();
        while left > 0 {
            let mut count = left;
            if left > 1 && self.fault("segments", self.faults.segments) {
                count = self.rng.usize(1..left);
            }
            self.dispatch(id, direction, Segment::Bytes(count as u32));
            left -= count;
        }
    }

    /// Applies one event. Returns the client to poke, if any.
    pub(super) fn apply(&mut self, event: Event) -> Option<ClientId> {
        self.events += 1;
        match event {
            Event::Arrive {
                link,
                direction,
                segment,
            } => self.arrive(link, direction, segment),
            Event::Client(client) => Some(client),
            Event::Send { shard, key } => {
                let link = self.release_send(shard, key);
                link.and_then(|link| self.pump_send(link));
                None
            }
            Event::CancelReceive { shard, key } => {
                self.end_receive(shard, key);
                None
            }
            Event::CancelSend { shard, key } => {
                self.end_send(shard, key);
                None
            }
        }
    }

    fn arrive(&mut self, id: LinkId, direction: Direction, segment: Segment) -> Option<ClientId> {
        match (direction, segment) {
            (_, Segment::Syn(shard)) => {
                self.arrive_connect(shard, id);
                None
            }
            (Direction::Up, Segment::Bytes(count)) => {
                self.arrive_up(id, count as usize);
                None
            }
            (Direction::Up, Segment::Fin) => {
                let link = self.links.find_mut(id)?;
                link.up.ended |= !link.up.cut;
                self.pump_receive(id);
                None
            }
            (Direction::Up, Segment::Reset) => {
                self.reset_server_end(id);
                None
            }
            (Direction::Down, segment) => self.arrive_down(id, segment),
        }
    }

    /// Pokes the client after the network's latency: something at its end has changed.
    pub(super) fn poke_later(&mut self, client: ClientId) {
        let at = self.now + self.latency();
        self.event_queue.push(at, Event::Client(client));
    }
}
