//! New connections: their slot, their shard, or why they are refused.
//!
//! Beyond `connections_max` a newcomer is refused, unless somebody has a session: then it may
//! be who comes back for that, because its old connection has gone, or stands without it
//! knowing. It is let in on trial: it may show who it is and resume a session, whose place it
//! then takes, and nothing else. So sessions find room however many strangers there are, and
//! no more slots are ever needed than the budget counts: connections, sessions that wait, and
//! a few for refusals.
//!
//! SO_REUSEPORT deals connections out by a hash, unevenly when there are few. So a shard
//! that has clearly more of them than the emptiest one passes a new descriptor on; the
//! census both look at is written once per connection, not per message.

use super::Shard;
use super::command::Command;
use super::connection::Connection;
use crate::base::id::{Key, ShardId};
use crate::base::limits::REFUSALS_OPEN_MAX;
use crate::metrics::counter::Counter;
use crate::proto::session::Session;
use crate::ring::driver::{Driver, Socket};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// How long accepting pauses when descriptors or memory are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections each shard has, those on their way to it included.
pub struct Census(Box<[Count]>);

#[repr(align(128))]
#[derive(Default)]
struct Count {
    connections: AtomicU32,
    sessions: AtomicU32,
}

impl Census {
    pub fn new(shards: usize) -> Census {
        Census((0..shards).map(|_| Count::default()).collect())
    }

    pub(super) fn of(&self, shard: ShardId) -> u32 {
        self.0[shard.index()].connections.load(Relaxed)
    }

    fn join(&self, shard: ShardId) {
        self.0[shard.index()].connections.fetch_add(1, Relaxed);
    }

    pub(super) fn leave(&self, shard: ShardId) {
        self.0[shard.index()].connections.fetch_sub(1, Relaxed);
    }

    /// A shard has so many sessions.
    pub(super) fn note_sessions(&self, shard: ShardId, count: usize) {
        self.0[shard.index()].sessions.store(count as u32, Relaxed);
    }

    /// Somebody has a session, on whichever shard.
    fn has_sessions(&self) -> bool {
        self.0.iter().any(|one| one.sessions.load(Relaxed) > 0)
    }

    /// A connection goes from one shard to another.
    pub(super) fn pass(&self, from: ShardId, to: ShardId) {
        self.leave(from);
        self.join(to);
    }

    /// The shard a connection accepted on `here` should go to: the emptiest, if `here` has
    /// clearly more, else `here`.
    fn choose(&self, here: ShardId) -> ShardId {
        let counts = self.0.iter().map(|one| one.connections.load(Relaxed));
        let emptiest = counts.enumerate().min_by_key(|&(_, count)| count);
        match emptiest {
            // One ahead is even; a sixteenth more is not worth a hand-over.
            Some((index, least)) if self.of(here) > least + least / 16 => ShardId(index as u16),
            _ => here,
        }
    }
}

/// Where a shard's random numbers come from.
pub enum Entropy {
    /// The system's cryptographic generator, asked for many at a time.
    System(Vec<u8>),
    /// A seed, for simulations that shall run the same again.
    Seeded(fastrand::Rng),
}

impl Entropy {
    const DRAWN_BYTES: usize = 1024;

    pub fn system() -> Entropy {
        Entropy::System(Vec::new())
    }

    pub fn seeded(seed: u64) -> Entropy {
        Entropy::Seeded(fastrand::Rng::with_seed(seed))
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.u32().to_be_bytes()[..chunk.len()]);
        }
    }

    pub(super) fn u32(&mut self) -> u32 {
        let drawn = match self {
            Entropy::System(drawn) => drawn,
            Entropy::Seeded(generator) => return generator.u32(..),
        };
        if let Some(&number) = drawn.last_chunk() {
            drawn.truncate(drawn.len() - 4);
            return u32::from_be_bytes(number);
        }
        drawn.resize(Entropy::DRAWN_BYTES, 0);
        if let Err(error) = getrandom::fill(drawn) {
            // Since Linux 3.17 this cannot fail once the system has booted.
            panic!("the system's random generator failed: {error}");
        }
        self.u32()
    }
}

impl<D: Driver> Shard<D> {
    pub(super) fn take_accepted(&mut self, socket: Socket) {
        self.accept_short = false;
        if self.drain.is_some() {
            return self.driver.close(socket);
        }
        let shard = if self.balance {
            self.census.choose(self.id)
        } else {
            self.id
        };
        self.census.join(shard);
        if shard != self.id
            && let Some(peer) = self.peers.get(shard.index())
            && peer.post(Command::Adopt(socket)).is_ok()
        {
            return self.exchange.resources.counters.add(Counter::HandedOver, 1);
        }
        if shard != self.id {
            // Its mailbox is full, or it is ending: this shard keeps the connection.
            self.census.leave(shard);
            self.census.join(self.id);
        }
        self.open(socket);
    }

    pub(super) fn arm_accept(&mut self) {
        self.accepting = true;
        self.driver.accept();
    }

    pub(super) fn take_accept_ended(&mut self, error: Option<io::Error>) {
        self.accepting = false;
        if self.drain.is_some() {
            return;
        }
        let Some(error) = error else {
            return self.arm_accept();
        };
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return self.arm_accept();
        }
        self.exchange
            .resources
            .counters
            .add(Counter::AcceptPaused, 1);
        self.accept_again = self.exchange.resources.now + ACCEPT_PAUSE;
        if std::mem::replace(&mut self.accept_short, true) {
            return; // Said already; once an episode is enough.
        }
        tracing::warn!(
            shard = self.id.0,
            "accepting pauses for {ACCEPT_PAUSE:?}: {error}; raise LimitNOFILE (ulimit -n) or \
             lower limits.connections_max"
        );
    }

    /// Takes over a connection that another shard accepted and counted for this one.
    pub(super) fn adopt(&mut self, socket: Socket) {
        if self.drain.is_some() {
            self.census.leave(self.id);
            self.driver.close(socket);
        } else {
            self.open(socket);
        }
    }

    fn open(&mut self, socket: Socket) {
        let (address, unwelcome) = self.ask_at_door(socket);
        let room = self.room();
        if room == Room::None || (room != Room::Free && unwelcome.is_some()) {
            // Beyond even the refusals, or what those are kept for: no memory is spent on
            // saying why.
            self.leave_door(address);
            self.census.leave(self.id);
            return self.driver.close(socket);
        }
        let (settings, now) = (self.settings.clone(), self.exchange.resources.now);
        let seq = self.exchange.entropy.u32();
        let made =
            |key: Key| Connection::new(key, socket, Session::accept(settings, seq, now), now);
        let Some(key) = self.exchange.connections.insert_with(made) else {
            debug_assert!(false, "there was room");
            self.leave_door(address);
            self.census.leave(self.id);
            return self.driver.close(socket);
        };
        self.exchange.resources.counters.add(Counter::Opened, 1);
        if let Some(tracer) = &mut self.exchange.resources.tracer {
            tracer.accept(key, now);
        }
        if self.exchange.tls.is_some()
            && let Some(connection) = self.exchange.connections.get_mut(key)
        {
            connection.undecided = true;
        }
        tracing::debug!(shard = self.id.0, connection = %key, "accepted");
        let full = (room == Room::Refusal).then(Session::full);
        if let Some(connection) = self.exchange.connections.get_mut(key) {
            if address.is_some() {
                connection.line.guest_mut().address = address;
            }
            if room == Room::Trial {
                connection.line.session.put_on_trial(now);
            }
            if let Some(refusal) = unwelcome.or(full) {
                connection.refuse_with(&refusal, &mut self.exchange.resources);
            }
        }
        self.exchange.touch(key);
    }

    /// What there is room for.
    fn room(&self) -> Room {
        let exchange = &self.exchange;
        let most = exchange.resources.limits.connections_max;
        let connections = exchange.connection_count();
        let slots = exchange.connections.vacant();
        if connections < most {
            // Enough of them: sessions that wait have slots of their own.
            Room::Free
        } else if self.census.has_sessions() && slots > REFUSALS_OPEN_MAX {
            Room::Trial
        } else if slots > 0
            && (connections - most < REFUSALS_OPEN_MAX || slots <= REFUSALS_OPEN_MAX)
        {
            Room::Refusal
        } else {
            Room::None
        }
    }
}

/// What a new connection finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// Only for who resumes a session.
    Trial,
    /// Only to be told that there is none.
    Refusal,
    None,
}
