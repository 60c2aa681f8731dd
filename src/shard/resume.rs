//! Sessions: how one begins, outlives its connection, and is taken up again.
//!
//! A session stays in the slot of the connection that began it: subscriptions, services,
//! calls and errands name that slot and never have to be changed. What comes and goes is
//! the transport in it (socket, protocol session, outbox, input):
//!
//! ```text
//!   slot 7  [ station │ transport ]      the connection breaks
//!   slot 7  [ station │ ─         ]      detached: messages go to the log, for linger_ms
//!   slot 9  [ ─       │ transport ]      the client is back with SESSION(key)
//!   slot 7  [ station │ transport ]      its transport has moved; slot 9 is free
//! ```
//!
//! A key names the shard of its session. A client that comes back elsewhere is handed to
//! that shard, connection and all, like one that is passed on when accepted. Nothing of a
//! transport that moves may be in flight: its receive is cancelled and its send awaited.
//!
//! A session whose old connection still stands is taken over: the old transport moves out
//! into a slot of its own and is told SESSION_TAKEN.
//!
//! Invariants: one transport for each session at any time; a key that cannot be resumed for
//! whatever reason is SESSION_UNKNOWN, and the reasons cannot be told apart.

use super::Shard;
use super::command::Command;
use super::connection::{Connection, Resumption, Stage};
use super::exchange::Exchange;
use super::line::Line;
use super::log::Log;
use super::outbox::Writer;
use super::resource::Resources;
use super::station::Durable;
use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::limits::SESSION_KEY_BYTES;
use crate::base::reason::Reason;
use crate::metrics::counter::Counter;
use crate::proto::error::{Code, Refusal};
use crate::proto::message::Message;
use crate::proto::session::Event;
use crate::ring::driver::Driver;
use std::mem;

/// A key asks for a new session.
const NEW: [u8; SESSION_KEY_BYTES] = [0; SESSION_KEY_BYTES];

fn home(key: &[u8; SESSION_KEY_BYTES]) -> ShardId {
    ShardId(u16::from_be_bytes([key[0], key[1]]))
}

impl Exchange {
    /// Takes SESSION: begins a session, or sets out to resume one.
    pub(super) fn take_session(
        &mut self,
        key: Key,
        session: &[u8; SESSION_KEY_BYTES],
        received: u32,
    ) -> Option<Reason> {
        let connection = self.connections.get_mut(key)?;
        let line = &connection.line;
        let fresh = line
            .station
            .as_ref()
            .is_none_or(|station| station.is_idle());
        if line.durable().is_some()
            || (*session != NEW && !(fresh && line.calls_open == 0 && line.answers_open == 0))
        {
            let text = "SESSION comes once, and before what it would resume";
            let refusal = Refusal::new(Code::Unexpected, text);
            connection.refuse_with(&refusal, &mut self.resources);
            return None;
        }
        if *session == NEW {
            self.begin_session(key);
            return None;
        }
        let home = home(session);
        let is_here = home == self.id;
        if home.index() > self.mesh.len() || (is_here && !self.can_resume(session, received)) {
            return self.refuse_session(key);
        }
        // When nothing of its transport is in flight `settle` goes on.
        let connection = self.connections.get_mut(key)?;
        connection.moving = Some(Box::new(Resumption {
            key: *session,
            received,
            home,
        }));
        None
    }

    fn begin_session(&mut self, key: Key) {
        let mut session = NEW;
        session[..2].copy_from_slice(&self.id.0.to_be_bytes());
        self.entropy.fill(&mut session[2..]);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let line = &mut connection.line;
        line.station_mut().durable = Some(Box::new(Durable {
            key: session,
            log: Log::new(),
            lapsed: false,
            accepted_publish_id: 0,
            confirmed_publish_id: 0,
        }));
        (line.counted, line.careful) = (true, true);
        let begun = Message::SessionOk {
            key: session,
            resumed: false,
            last_publish_id: 0,
        };
        line.send(&begun, &mut self.resources);
        self.sessions.insert(session, key);
        self.resources.counters.add(Counter::SessionsBegun, 1);
    }

    /// Whether a key is one of a session here whose client may have `received` so much.
    fn can_resume(&self, session: &[u8; SESSION_KEY_BYTES], received: u32) -> bool {
        let slot = self.sessions.get(session).copied();
        let durable = slot.and_then(|slot| self.connections.get(slot)?.line.durable());
        durable.is_some_and(|durable| !durable.lapsed && durable.log.covers(received))
    }

    /// The key cannot be resumed; the connection goes on without a session.
    fn refuse_session(&mut self, key: Key) -> Option<Reason> {
        let connection = self.connections.get_mut(key)?;
        let text = "no session of that key can be resumed here: begin a new one";
        let now = self.resources.now;
        let line = &mut connection.line;
        let mut out = Writer {
            outbox: &mut line.outbox,
            pool: &mut self.resources.pool,
        };
        match line
            .session
            .error(Code::SessionUnknown, 0, text, now, &mut out)
        {
            Event::Ended(reason) => Some(reason),
            _ => None,
        }
    }

    /// Takes ACK: what the client has got is kept no longer.
    pub(super) fn take_ack(&mut self, key: Key, received: u32) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let text = match connection.line.durable_mut() {
            None => "there is no session to acknowledge messages of",
            Some(durable) => {
                if durable.lapsed || durable.log.ack(received) {
                    return connection.line.recharge(&mut self.resources);
                }
                "more is acknowledged than was sent, or less than before"
            }
        };
        connection.refuse_with(&Refusal::new(Code::Unexpected, text), &mut self.resources);
    }

    /// A connection has begun to end: its session waits for another, or all it had at the
    /// exchange is dissolved. May be called any number of times.
    pub(super) fn depart(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let in_order = matches!(
            connection.reason,
            Some(Reason::PeerClose | Reason::Drained | Reason::Shutdown)
        );
        let line = &mut connection.line;
        if line.station.is_none() || line.away {
            return;
        }
        let will = !in_order && !self.draining;
        if !line.counted || !will {
            return self.dissolve(key, will);
        }
        line.away = true;
        // What waited for the outbox has never been sent, and now waits for the next one.
        let now = self.resources.now;
        while let Some(held) = line.station_mut().shelf.next(now) {
            line.log(&held.message, held.expires, false, &mut self.resources);
        }
        line.shelved = false;
        line.careful = line.counted;
        line.recharge(&mut self.resources);
        if line.counted {
            self.note_stalled(key, true);
        } else {
            self.dissolve(key, true);
        }
    }

    /// Takes a connection out of everything it is part of.
    pub(super) fn dissolve(&mut self, key: Key, publish_will: bool) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let line = &mut connection.line;
        let Some(mut station) = line.station.take() else {
            return;
        };
        (line.counted, line.shelved, line.careful) = (false, false, false);
        self.resources.pool.discharge(station.charged);
        if let Some(durable) = &station.durable {
            self.sessions.remove(&durable.key);
            self.resources.counters.add(Counter::SessionsEnded, 1);
        }
        self.leave_all(key, &mut station);
        if station.errands_open > 0 {
            self.fail_errands(key);
        }
        if publish_will && let Some(will) = &station.will {
            self.publish_will(will);
        }
    }

    /// The transport has moved in: the session goes on where the client has got to.
    fn resumed(&mut self, key: Key, received: u32) {
        let now = self.resources.now;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let line = &mut connection.line;
        line.away = false;
        let Line {
            session,
            outbox,
            station: Some(station),
            ..
        } = line
        else {
            return;
        };
        let Some(durable) = &mut station.durable else {
            return;
        };
        let covered = durable.log.resume(received, now);
        debug_assert!(covered, "asked before it moved");
        let mut out = Writer {
            outbox,
            pool: &mut self.resources.pool,
        };
        let resumed = Message::SessionOk {
            key: durable.key,
            resumed: true,
            last_publish_id: durable.confirmed_publish_id,
        };
        session.send(&resumed, &mut out);
        durable.log.replay(|first, second| {
            if second.is_empty() {
                session.forward(first, None, &mut out);
            } else {
                session.forward(&[first, second].concat(), None, &mut out);
            }
        });
        line.recharge(&mut self.resources);
        self.resources.counters.add(Counter::SessionsResumed, 1);
        self.note_stalled(key, false);
        if let Some(connection) = self.connections.get_mut(key)
            && connection.has_input()
            && !mem::replace(&mut connection.ready, true)
        {
            self.ready.push_back(key);
        }
        self.touch(key);
    }
}

impl<D: Driver> Shard<D> {
    /// Nothing of this connection's transport is in flight any more: it moves to its
    /// session, on this shard or another.
    pub(super) fn move_on(&mut self, key: Key) {
        let Some(connection) = self.exchange.connections.get_mut(key) else {
            return;
        };
        let Some(resumption) = &connection.moving else {
            return;
        };
        let Resumption {
            key: session,
            received,
            home,
        } = **resumption;
        if home != self.id {
            return self.hand_over(key, home);
        }
        if !self.exchange.can_resume(&session, received) {
            let ended = self.exchange.refuse_session(key);
            return self.go_on(key, ended);
        }
        let Some(&slot) = self.exchange.sessions.get(&session) else {
            return;
        };
        let newcomers = &self.exchange.connections;
        let Some(old) = newcomers.get(slot) else {
            return;
        };
        // One at a time takes over, and whoever waits looks again in the next turn.
        let taken_by_other = old.yields_to.is_some_and(|other| {
            other != key
                && newcomers
                    .get(other)
                    .is_some_and(|other| other.moving.is_some())
        });
        if old.is_quiet() && !taken_by_other {
            self.transplant(slot, key, received);
        } else {
            if !taken_by_other && let Some(old) = self.exchange.connections.get_mut(slot) {
                if old.yields_to.replace(key).is_none() {
                    self.yielding.push(slot);
                }
                self.exchange.touch(slot);
            }
            self.waiting.push(key);
        }
    }

    /// At the begin of a turn: connections that wait for their session's old transport look
    /// again, and sessions that nobody waits for any more go on.
    pub(super) fn look_again(&mut self) {
        for key in mem::take(&mut self.waiting) {
            self.exchange.touch(key);
        }
        for slot in mem::take(&mut self.yielding) {
            let connections = &self.exchange.connections;
            let newcomer = connections.get(slot).and_then(|old| old.yields_to);
            let Some(newcomer) = newcomer else { continue };
            let comes = |one: &Connection| one.moving.is_some() && one.stage == Stage::Running;
            if connections.get(newcomer).is_some_and(comes) {
                self.yielding.push(slot);
            } else if let Some(old) = self.exchange.connections.get_mut(slot) {
                old.yields_to = None;
                self.exchange.touch(slot);
            }
        }
    }

    /// A connection that wanted to move stays, and its input is handled again.
    fn go_on(&mut self, key: Key, ended: Option<Reason>) {
        let exchange = &mut self.exchange;
        let Some(connection) = exchange.connections.get_mut(key) else {
            return;
        };
        connection.moving = None;
        if let Some(reason) = ended {
            connection.end(reason, &mut exchange.resources);
        } else if !mem::replace(&mut connection.ready, true) {
            exchange.ready.push_back(key);
        }
        exchange.touch(key);
    }

    /// Moves the transport of `from` into the slot of the session.
    fn transplant(&mut self, slot: Key, from: Key, received: u32) {
        let exchange = &mut self.exchange;
        let Some(mut other) = exchange.connections.remove(from) else {
            return;
        };
        self.timers.cancel(from.slot);
        let Some(connection) = exchange.connections.get_mut(slot) else {
            return;
        };
        other.moving = None;
        connection.swap_transport(&mut other);
        connection.yields_to = None;
        connection.line.attachment = connection.line.attachment.wrapping_add(1);
        if other.stage != Stage::Detached {
            self.evict(other);
        }
        self.exchange.resumed(slot, received);
    }

    /// A transport whose session has been taken over gets a slot of its own to end in.
    fn evict(&mut self, mut old: Connection) {
        let exchange = &mut self.exchange;
        old.become_stranger();
        if old.stage == Stage::Running {
            let text = "this session has been resumed by another connection";
            let refusal = Refusal::new(Code::SessionTaken, text);
            old.refuse_with(&refusal, &mut exchange.resources);
        }
        let mut old = Some(old);
        let inserted = exchange.connections.insert_with(|key| {
            // Called at most once, and only if there is room.
            let mut old = old.take().unwrap_or_else(|| unreachable!("made twice"));
            old.line.key = key;
            old
        });
        match inserted {
            Some(key) => exchange.touch(key),
            None => old.into_iter().for_each(|old| self.discard(old)),
        }
    }

    /// Passes a connection on to the shard of its session.
    fn hand_over(&mut self, key: Key, home: ShardId) {
        let Some(peer) = self.peers.get(home.index()) else {
            return;
        };
        let exchange = &mut self.exchange;
        let Some(mut connection) = exchange.connections.remove(key) else {
            return;
        };
        self.timers.cancel(key.slot);
        connection.discharge(&mut exchange.resources);
        exchange.resources.counters.add(Counter::MovedOut, 1);
        self.census.pass(self.id, home);
        let moved = Command::Move(Box::new(Moved(connection)));
        if let Err(Command::Move(moved)) = peer.post(moved) {
            // Its mailbox is full, or it is ending.
            self.census.pass(home, self.id);
            self.take_moved(*moved);
        }
    }

    /// Takes over a connection that another shard has handed over.
    pub(super) fn take_moved(&mut self, Moved(mut connection): Moved) {
        let exchange = &mut self.exchange;
        exchange.resources.counters.add(Counter::MovedIn, 1);
        connection.become_stranger();
        connection.charge(&mut exchange.resources);
        let mut connection = Some(connection);
        let inserted = exchange.connections.insert_with(|key| {
            let mut connection = connection
                .take()
                .unwrap_or_else(|| unreachable!("made twice"));
            connection.line.key = key;
            connection
        });
        match inserted {
            Some(key) => self.exchange.touch(key),
            None => connection.into_iter().for_each(|one| self.discard(one)),
        }
    }

    /// Ends a connection for which there is no slot.
    fn discard(&mut self, mut connection: Connection) {
        let resources = &mut self.exchange.resources;
        let reason = connection.reason.unwrap_or(Reason::TooManyConnections);
        connection.drop_input(resources);
        connection.line.outbox.clear(&mut resources.pool);
        self.driver.close(connection.socket);
        self.census.leave(self.id);
        resources.counters.add_closed(reason);
    }

    /// The connection of a session is over; the session waits in its slot.
    pub(super) fn detach(&mut self, key: Key) {
        let linger = self.exchange.resources.limits.session_linger;
        let deadline = self.exchange.resources.now + linger;
        let Some(connection) = self.exchange.connections.get_mut(key) else {
            return;
        };
        connection.stage = Stage::Detached;
        connection.stage_deadline = deadline;
        connection.timer = Instant::NEVER;
        connection.yields_to = None;
        self.exchange.detached.push_back(key);
        self.exchange.touch(key);
    }

    /// A session without connection ends: its time is over, its log has overflowed, or its
    /// slot is needed.
    pub(super) fn end_session(&mut self, key: Key, publish_will: bool) {
        self.exchange.dissolve(key, publish_will);
        self.exchange.connections.remove(key);
        self.timers.cancel(key.slot);
    }

    /// Ends the session that has waited longest. False if none waits.
    pub(super) fn end_oldest_session(&mut self) -> bool {
        while let Some(key) = self.exchange.detached.pop_front() {
            let waits = self.exchange.connections.get(key);
            if waits.is_some_and(|one| one.stage == Stage::Detached) {
                self.end_session(key, !self.exchange.draining);
                return true;
            }
        }
        false
    }
}

/// A connection on its way to another shard.
pub struct Moved(Connection);

impl Connection {
    /// Exchanges the transports of two connections; what is the slot's stays.
    fn swap_transport(&mut self, other: &mut Connection) {
        mem::swap(self, other);
        mem::swap(&mut self.timer, &mut other.timer);
        mem::swap(&mut self.touched, &mut other.touched);
        mem::swap(&mut self.ready, &mut other.ready);
        mem::swap(&mut self.starved, &mut other.starved);
        mem::swap(&mut self.fanning, &mut other.fanning);
        mem::swap(&mut self.line, &mut other.line);
        mem::swap(&mut self.line.session, &mut other.line.session);
        mem::swap(&mut self.line.outbox, &mut other.line.outbox);
        // Wherever the timer stands, the deadline is another now.
        self.timer = Instant::NEVER;
    }

    /// It is in no list and has no timer: it comes from another slot or shard.
    fn become_stranger(&mut self) {
        (self.touched, self.ready, self.starved, self.blocked) = (false, false, false, false);
        self.fanning = false;
        self.yields_to = None;
        self.timer = Instant::NEVER;
    }

    /// Whether its input wants to be handled.
    fn has_input(&self) -> bool {
        self.stage == Stage::Running && (!self.input.is_empty() || self.peer_ended)
    }

    /// What it holds of a shard's memory is no longer that shard's.
    fn discharge(&mut self, resources: &mut Resources) {
        resources.pool.discharge(self.held_bytes());
    }

    fn charge(&mut self, resources: &mut Resources) {
        resources.pool.charge(self.held_bytes());
    }

    fn held_bytes(&self) -> usize {
        self.input_charged + self.line.outbox.held_bytes()
    }
}
