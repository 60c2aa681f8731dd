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
//! that shard, connection and all, once that shard has said that it has the session: whoever
//! makes a key up stays where it is. Nothing of a transport that moves may be in flight: its
//! receive is cancelled and its send awaited.
//!
//! ```text
//!   shard of the connection ── Seek ──► shard of the session
//!                           ◄── Sought ──                    no: SESSION_UNKNOWN
//!                           ── Move ──►                      resumed
//! ```
//!
//! A session whose old connection still stands is taken over: the old transport moves out
//! into a slot of its own and is told SESSION_TAKEN.
//!
//! Invariants: one transport for each session at any time; a key that cannot be resumed for
//! whatever reason is SESSION_UNKNOWN, and the reasons cannot be told apart.

use super::command::{Command, Moved};
use super::connection::{Connection, Stage};
use super::exchange::Exchange;
use super::fanout_queue::Fanning;
use super::mailbox::Unposted;
use super::resource::Resources;
use super::seek::{Found, Resumption, Seek};
use super::state::Shard;
use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::reason::Reason;
use crate::metrics::counter::Counter;
use crate::proto::error::{Code, Refusal};
use crate::ring::driver::Driver;
use std::mem;
use std::time::Duration;

/// A shard whose turn is so late was not running: its process was stopped, or its host was.
pub(super) const STANDSTILL: Duration = Duration::from_secs(1);

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
            found,
        } = **resumption;
        if home != self.id {
            return match found {
                Found::Unasked => self.seek(key, home),
                Found::Asked => {}
                Found::Yes => self.hand_over(key, home),
            };
        }
        if !self.exchange.can_resume(key, &session, received) {
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
        let taken_by_other = old.yields_to.as_deref().is_some_and(|&other| {
            other != key
                && newcomers
                    .get(other)
                    .is_some_and(|other| other.moving.is_some())
        });
        // Answers still on their way would tell of more than SESSION_OK then says.
        let answered = old.line.answers_open == 0;
        if old.is_quiet() && answered && !taken_by_other {
            self.transplant(slot, key, received);
        } else {
            if !taken_by_other && let Some(old) = self.exchange.connections.get_mut(slot) {
                if old.yields_to.replace(Box::new(key)).is_none() {
                    self.yielding.push(slot);
                }
                self.exchange.touch(slot);
            }
            self.waiting.push(key);
        }
    }

    /// Behind a turn's events, one of which may be what they wait for: connections that wait
    /// for their session's old transport look again, and sessions that nobody waits for any
    /// more go on.
    pub(super) fn look_again(&mut self) {
        self.touch_waiting();
        for key in mem::take(&mut self.unposted) {
            self.exchange.touch(key);
        }
        for seek in mem::take(&mut self.unanswered) {
            self.take_seek(seek);
        }
        for slot in mem::take(&mut self.yielding) {
            let connections = &self.exchange.connections;
            let newcomer = connections
                .get(slot)
                .and_then(|old| old.yields_to.as_deref().copied());
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

    fn touch_waiting(&mut self) {
        for key in mem::take(&mut self.waiting) {
            self.exchange.touch(key);
        }
    }

    /// Asks a session's shard whether it has it.
    fn seek(&mut self, key: Key, home: ShardId) {
        let Some(connection) = self.exchange.connections.get_mut(key) else {
            return;
        };
        let principal = connection.line.principal().map(Box::from);
        let (Some(resumption), Some(peer)) = (&mut connection.moving, self.peers.get(home.index()))
        else {
            return;
        };
        let seek = Seek {
            session: resumption.key,
            received: resumption.received,
            principal,
            shard: self.id,
            connection: key,
        };
        match peer.try_post(Command::Seek(Box::new(seek))) {
            Ok(()) => resumption.found = Found::Asked,
            Err(Unposted::Full(_)) => self.unposted.push(key),
            Err(Unposted::Ended(_)) => {
                let ended = self.exchange.refuse_session(key);
                self.go_on(key, ended);
            }
        }
    }

    /// Tells another shard whether a session is here, and room for who resumes it.
    pub(super) fn take_seek(&mut self, seek: Seek) {
        let exchange = &self.exchange;
        let known = !exchange.connections.is_full()
            && exchange.is_known(&seek.session, seek.received, seek.principal.as_deref());
        if let Some(peer) = self.peers.get(seek.shard.index())
            && let Err(Unposted::Full(_)) = peer.try_post(Command::Sought(seek.connection, known))
        {
            // It is asked again; meanwhile this shard goes on.
            self.unanswered.push(seek);
        }
    }

    /// The shard of the session that this connection wants to resume has answered.
    pub(super) fn take_sought(&mut self, key: Key, known: bool) {
        let Some(connection) = self.exchange.connections.get_mut(key) else {
            return;
        };
        let Some(resumption) = &mut connection.moving else {
            return;
        };
        if known {
            resumption.found = Found::Yes;
            self.exchange.touch(key);
        } else {
            let ended = self.exchange.refuse_session(key);
            self.go_on(key, ended);
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
        self.is_back(slot);
        let exchange = &mut self.exchange;
        let Some(mut other) = exchange.connections.remove(from) else {
            return;
        };
        other.line.session.end_trial();
        self.timers.cancel(from.slot);
        exchange.resources.forget_arrival(from, None);
        let Some(connection) = exchange.connections.get_mut(slot) else {
            return;
        };
        other.moving = None;
        connection.swap_transport(&mut other);
        connection.yields_to = None;
        if other.stage != Stage::Detached {
            self.evict(other);
        }
        self.exchange.resumed(slot, received);
        // Perhaps for the same session.
        self.touch_waiting();
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
        exchange.resources.forget_arrival(key, None);
        exchange.resources.counters.add(Counter::MovedOut, 1);
        self.census.pass(self.id, home);
        let moved = Command::Move(Box::new(Moved(connection)));
        let (unposted, is_over) = match peer.try_post(moved) {
            Ok(()) => return,
            Err(Unposted::Full(unposted)) => (unposted, false),
            Err(Unposted::Ended(unposted)) => (unposted, true),
        };
        let Command::Move(moved) = unposted else {
            return;
        };
        // It stays, to try again in the next turn or to learn that the session is gone.
        self.census.pass(home, self.id);
        let Some(key) = self.take_moved(*moved) else {
            return;
        };
        if is_over {
            let ended = self.exchange.refuse_session(key);
            self.go_on(key, ended);
        } else {
            self.unposted.push(key);
        }
    }

    /// Takes over a connection that another shard has handed over.
    pub(super) fn receive_moved(&mut self, moved: Moved) {
        if let Some(key) = self.take_moved(moved) {
            // It may have passed the command that ends such.
            self.exchange.end_if_revoked(key);
            self.exchange.touch(key);
        }
    }

    /// Gives a connection a slot here. `None`: there is none, and it is over.
    fn take_moved(&mut self, Moved(mut connection): Moved) -> Option<Key> {
        let exchange = &mut self.exchange;
        exchange.resources.counters.add(Counter::MovedIn, 1);
        connection.become_stranger();
        connection.charge(&mut exchange.resources);
        let limits = &exchange.resources.limits;
        if exchange.connection_count() >= limits.connections_max {
            // Here there is room for it only in its session's place.
            let now = exchange.resources.now;
            connection.line.session.put_on_trial(now);
        }
        let mut connection = Some(connection);
        let inserted = exchange.connections.insert_with(|key| {
            let mut connection = connection
                .take()
                .unwrap_or_else(|| unreachable!("made twice"));
            connection.line.key = key;
            connection
        });
        connection.into_iter().for_each(|one| self.discard(one));
        inserted
    }

    /// Ends a connection for which there is no slot.
    fn discard(&mut self, mut connection: Connection) {
        let resources = &mut self.exchange.resources;
        let reason = connection.reason.unwrap_or(Reason::TooManyConnections);
        connection.drop_input(resources);
        connection.line.outbox.clear(&mut resources.pool);
        connection.release_tls(resources);
        self.driver.close(connection.socket);
        self.census.leave(self.id);
        resources.counters.add_closed(reason);
        self.leave_door(connection.line.guest.and_then(|guest| guest.address));
    }

    /// The connection of a session is over; the session waits in its slot.
    pub(super) fn detach(&mut self, key: Key) {
        let limits = &self.exchange.resources.limits;
        let (linger, most) = (limits.session_linger, limits.sessions_waiting_max);
        let Some(connection) = self.exchange.connections.get_mut(key) else {
            return;
        };
        connection.stage = Stage::Detached;
        connection.yields_to = None;
        let deadline = self.exchange.resources.now + linger;
        self.exchange.absent_until(key, deadline);
        self.exchange.touch(key);
        if self.exchange.absent.len() > most as usize {
            self.end_oldest_session();
        }
    }

    /// A session has a connection again, or ends: it waits no longer.
    fn is_back(&mut self, key: Key) {
        if let Some(connection) = self.exchange.connections.get(key) {
            let entry = (connection.stage_deadline, key);
            self.exchange.absent.remove(&entry);
        }
    }

    /// For so long this shard was not running: no client could come back meanwhile, and that
    /// does not count.
    pub(super) fn make_up_for(&mut self, late: Duration) {
        if late < STANDSTILL || self.exchange.absent.is_empty() {
            return;
        }
        for (deadline, key) in mem::take(&mut self.exchange.absent) {
            self.exchange.absent_until(key, deadline + late);
            self.exchange.touch(key);
        }
    }

    /// A session without connection ends: its time is over, more waits for it than may, or
    /// more sessions wait.
    pub(super) fn end_session(&mut self, key: Key, publish_will: bool) {
        self.exchange.end_calls(key);
        self.is_back(key);
        self.exchange.dissolve(key, publish_will);
        self.exchange.connections.remove(key);
        self.timers.cancel(key.slot);
    }

    /// Ends the session that has waited longest. False if none waits.
    pub(super) fn end_oldest_session(&mut self) -> bool {
        let Some(&(_, key)) = self.exchange.absent.first() else {
            return false;
        };
        self.end_session(key, !self.exchange.draining);
        true
    }
}

impl Exchange {
    /// A session waits for a connection until then.
    pub(super) fn absent_until(&mut self, key: Key, deadline: Instant) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        self.absent.remove(&(connection.stage_deadline, key));
        connection.stage_deadline = deadline;
        // Wherever the timer stands, the deadline is another now.
        connection.timer = Instant::NEVER;
        self.absent.insert((deadline, key));
    }
}

impl Connection {
    /// Exchanges the transports of two connections; what is the slot's stays.
    fn swap_transport(&mut self, other: &mut Connection) {
        mem::swap(self, other);
        mem::swap(&mut self.timer, &mut other.timer);
        mem::swap(&mut self.touched, &mut other.touched);
        mem::swap(&mut self.ready, &mut other.ready);
        mem::swap(&mut self.starved, &mut other.starved);
        mem::swap(&mut self.blocked, &mut other.blocked);
        mem::swap(&mut self.fanning, &mut other.fanning);
        mem::swap(&mut self.unanswered, &mut other.unanswered);
        mem::swap(&mut self.line, &mut other.line);
        mem::swap(&mut self.line.session, &mut other.line.session);
        mem::swap(&mut self.line.outbox, &mut other.line.outbox);
        mem::swap(&mut self.line.guest, &mut other.line.guest);
        // Wherever the timer stands, the deadline is another now.
        self.timer = Instant::NEVER;
    }

    /// It is in no list and has no timer: it comes from another slot or shard.
    fn become_stranger(&mut self) {
        (self.touched, self.ready, self.starved, self.blocked) = (false, false, false, false);
        (self.fanning, self.unanswered) = (Fanning::No, false);
        self.yields_to = None;
        self.timer = Instant::NEVER;
    }

    /// Whether its input wants to be handled.
    pub(super) fn has_input(&self) -> bool {
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
        let tls = self.tls.as_ref().map_or(0, |tls| tls.held_bytes());
        self.input.charged() + self.line.outbox.held_bytes() + tls
    }
}
