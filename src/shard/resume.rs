//! Sessions: how one begins, outlives its connection, and is resumed.
//!
//! A session stays in the slot of the connection that began it: subscriptions, services, calls and
//! forwarded requests refer to that slot and never have to be changed. Only the transport in it
//! (protocol session, outbox, input) comes and goes, and the stream under it (socket, TLS):
//!
//! ```text
//!   slot 7  [ member │ transport ]      the connection breaks
//!   slot 7  [ member │ ─         ]      detached: messages go to the replay log, for linger_ms
//!   slot 9  [ ─      │ transport ]      the client is back with SESSION(key)
//!   slot 7  [ member │ transport ]      its transport has moved; slot 9 is free
//! ```
//!
//! A key names the shard of its session. If a client comes back on another shard, its transport is
//! handed to that shard, but only after that shard has confirmed that it has the session: a client
//! that invents a key stays where it is. A transport moves only when nothing of it is in flight:
//! its receive is cancelled and its send awaited.
//!
//! ```text
//!   shard of the connection ── Seek ──► shard of the session
//!                           ◄── Sought ──                    no: SESSION_UNKNOWN
//!                           ── Move ──►                      resumed
//! ```
//!
//! If the session's old connection still exists, it is taken over: the old transport moves to a
//! slot of its own and is told SESSION_TAKEN.
//!
//! Invariants: a session has at most one transport at any time; a key that cannot be resumed, for
//! whatever reason, is answered SESSION_UNKNOWN, so that the reasons cannot be told apart.

use crate::base::id::{Key, ShardId};
use crate::base::reason::Reason;
use crate::broker::context::mailbox::Unposted;
use crate::broker::peers::connection::Connection;
use crate::broker::peers::transport::Stage;
use crate::broker::session::seek::{Found, Resumption, Seek};
use crate::metrics::counter::Counter;
use crate::proto::error::{Code, Refusal};
use crate::ring::driver::Driver;
use crate::shard::command::{Command, Moved};
use crate::shard::state::Shard;
use std::mem;
use std::time::Duration;

/// A turn this late means that the shard was not running: its process or its host was stopped.
pub(super) const STANDSTILL: Duration = Duration::from_secs(1);

impl<D: Driver> Shard<D> {
    /// Nothing of this connection's transport is in flight any more: moves it to its session, on
    /// this shard or another.
    pub(super) fn move_on(&mut self, key: Key) {
        let Some(connection) = self.broker.connections.get_mut(key) else {
            return;
        };
        let Some(resumption) = &connection.transport.moving else {
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
        if !self.broker.can_resume(key, &session, received) {
            let ended = self.broker.refuse_session(key);
            return self.go_on(key, ended);
        }
        let Some(slot) = self.broker.sessions.find(&session) else {
            return;
        };
        let connections = &self.broker.connections;
        let Some(old) = connections.get(slot) else {
            return;
        };
        // One takeover at a time; the others look again in the next turn.
        let taken_by_other = self.yielding.get(&slot).is_some_and(|&other| {
            let comes = |other: &Connection| other.transport.moving.is_some();
            other != key && connections.get(other).is_some_and(comes)
        });
        // Answers still on their way would report more than SESSION_OK then does.
        let answered = old.member.answers_open == 0;
        let old_stream = self.streams.of(slot.slot);
        if old_stream.is_quiet(&old.transport) && answered && !taken_by_other {
            self.transplant(slot, key, received);
        } else {
            if !taken_by_other && let Some(old) = self.broker.connections.get_mut(slot) {
                old.member.yields = true;
                self.yielding.insert(slot, key);
                self.broker.touch(slot);
            }
            self.waiting.push(key);
        }
    }

    /// Runs after a turn's events, one of which may be what they wait for: connections waiting for
    /// their session's old transport look again, and sessions that no one waits for any more
    /// continue.
    pub(super) fn look_again(&mut self) {
        self.touch_waiting();
        for key in mem::take(&mut self.unposted) {
            self.broker.touch(key);
        }
        for seek in mem::take(&mut self.unanswered) {
            self.take_seek(seek);
        }
        for (slot, newcomer) in mem::take(&mut self.yielding) {
            let connections = &mut self.broker.connections;
            let comes = |one: &Connection| {
                one.transport.moving.is_some() && one.transport.stage == Stage::Running
            };
            if connections.get(newcomer).is_some_and(comes) {
                self.yielding.insert(slot, newcomer);
            } else if let Some(old) = connections.get_mut(slot) {
                old.member.yields = false;
                self.broker.touch(slot);
            }
        }
    }

    fn touch_waiting(&mut self) {
        for key in mem::take(&mut self.waiting) {
            self.broker.touch(key);
        }
    }

    /// Asks a session's shard whether it has the session.
    fn seek(&mut self, key: Key, home: ShardId) {
        let Some(connection) = self.broker.connections.get_mut(key) else {
            return;
        };
        let principal = connection.transport.principal_name().map(Box::from);
        let (Some(resumption), Some(peer)) = (
            &mut connection.transport.moving,
            self.peers.get(home.index()),
        ) else {
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
                let ended = self.broker.refuse_session(key);
                self.go_on(key, ended);
            }
        }
    }

    /// Tells another shard whether the session is here, and there is room for the resuming
    /// connection.
    pub(super) fn take_seek(&mut self, seek: Seek) {
        let broker = &self.broker;
        let known = !broker.connections.is_full()
            && broker.is_known(&seek.session, seek.received, seek.principal.as_deref());
        if let Some(peer) = self.peers.get(seek.shard.index())
            && let Err(Unposted::Full(_)) = peer.try_post(Command::Sought(seek.connection, known))
        {
            // The question is kept and retried; meanwhile this shard continues.
            self.unanswered.push(seek);
        }
    }

    /// Handles the answer from the shard of the session that this connection wants to resume.
    pub(super) fn take_sought(&mut self, key: Key, known: bool) {
        let Some(connection) = self.broker.connections.get_mut(key) else {
            return;
        };
        let Some(resumption) = &mut connection.transport.moving else {
            return;
        };
        if known {
            resumption.found = Found::Yes;
            self.broker.touch(key);
        } else {
            let ended = self.broker.refuse_session(key);
            self.go_on(key, ended);
        }
    }

    /// A connection that was to move stays, and its input is handled again.
    fn go_on(&mut self, key: Key, ended: Option<Reason>) {
        let broker = &mut self.broker;
        let Some(connection) = broker.connections.get_mut(key) else {
            return;
        };
        connection.transport.moving = None;
        if let Some(reason) = ended {
            connection.transport.end(reason, &mut broker.resources);
        } else if !mem::replace(&mut connection.member.ready, true) {
            broker.lists.make_ready(key);
        }
        broker.touch(key);
    }

    /// Moves the transport of `from` into the slot of the session.
    fn transplant(&mut self, slot: Key, from: Key, received: u32) {
        self.is_back(slot);
        let broker = &mut self.broker;
        let Some(Connection {
            member,
            mut transport,
        }) = broker.remove(from)
        else {
            return;
        };
        self.timers.cancel(from.slot);
        debug_assert!(
            member.state.is_none_or(|one| one.is_idle()),
            "it resumes first"
        );
        broker.resources.forget_arrival(from, None);
        let Some(connection) = broker.connections.get_mut(slot) else {
            return;
        };
        transport.session.end_trial();
        transport.moving = None;
        let transport = connection.take_over(transport);
        connection.member.yields = false;
        self.yielding.remove(&slot);
        let newcomer = self.streams.take(from.slot);
        let stream = std::mem::replace(self.streams.of_mut(slot.slot), newcomer);
        if transport.stage != Stage::Detached {
            self.evict(Moved { transport, stream });
        }
        self.broker.resumed(slot, received);
        // They may be waiting for the same session.
        self.touch_waiting();
    }

    /// Moves a transport whose session has been taken over to a slot of its own, to end in.
    fn evict(&mut self, mut old: Moved) {
        let broker = &mut self.broker;
        if old.transport.stage == Stage::Running {
            let text = "this session has been resumed by another connection";
            let refusal = Refusal::new(Code::SessionTaken, text);
            old.transport.refuse_with(&refusal, &mut broker.resources);
        }
        if let Some(key) = self.give_slot(old) {
            self.broker.touch(key);
        }
    }

    /// Gives a transport from another slot or shard a slot of its own. `None`: there is none, and
    /// the transport has been ended.
    fn give_slot(&mut self, moved: Moved) -> Option<Key> {
        if self.broker.connections.is_full() {
            self.discard(moved);
            return None;
        }
        let Moved { transport, stream } = moved;
        let made = |key: Key| Connection::new(key, transport);
        let key = self.broker.connections.insert_with(made)?;
        self.streams.put(key.slot, stream);
        Some(key)
    }

    /// Hands a transport over to the shard of its session.
    fn hand_over(&mut self, key: Key, home: ShardId) {
        let Some(peer) = self.peers.get(home.index()) else {
            return;
        };
        let broker = &mut self.broker;
        let Some(Connection { member, transport }) = broker.remove(key) else {
            return;
        };
        self.timers.cancel(key.slot);
        debug_assert!(
            member.state.is_none_or(|one| one.is_idle()),
            "it resumes first"
        );
        let stream = self.streams.take(key.slot);
        let moved = Moved { transport, stream };
        // The memory it holds is charged to the other shard from now on.
        broker.resources.pool.count(moved.held_bytes(), 0);
        broker.resources.forget_arrival(key, None);
        broker.resources.counters.add(Counter::MovedOut, 1);
        self.connection_counts.pass(self.id, home);
        let moved = Command::Move(Box::new(moved));
        let (unposted, is_over) = match peer.try_post(moved) {
            Ok(()) => return,
            Err(Unposted::Full(unposted)) => (unposted, false),
            Err(Unposted::Ended(unposted)) => (unposted, true),
        };
        let Command::Move(moved) = unposted else {
            return;
        };
        // It stays, and tries again in the next turn or learns that the session is gone.
        self.connection_counts.pass(home, self.id);
        let Some(key) = self.take_moved(*moved) else {
            return;
        };
        if is_over {
            let ended = self.broker.refuse_session(key);
            self.go_on(key, ended);
        } else {
            self.unposted.push(key);
        }
    }

    /// Takes over a transport that another shard has handed over.
    pub(super) fn receive_moved(&mut self, moved: Moved) {
        if let Some(key) = self.take_moved(moved) {
            // It may have overtaken the command that would have ended it.
            self.broker.end_if_revoked(key);
            self.broker.touch(key);
        }
    }

    /// Gives a transport a slot here. `None`: there is none, and the transport has been ended.
    fn take_moved(&mut self, mut moved: Moved) -> Option<Key> {
        let broker = &mut self.broker;
        broker.resources.counters.add(Counter::MovedIn, 1);
        broker.resources.pool.count(0, moved.held_bytes());
        let limits = &broker.resources.limits;
        if broker.connection_count() >= limits.connections_max {
            // On this shard its only place is that of its session.
            let now = broker.resources.now;
            moved.transport.session.put_on_trial(now);
        }
        self.give_slot(moved)
    }

    /// Ends a transport for which there is no slot.
    fn discard(&mut self, moved: Moved) {
        let Moved {
            mut transport,
            mut stream,
        } = moved;
        let resources = &mut self.broker.resources;
        let reason = transport.reason.unwrap_or(Reason::TooManyConnections);
        transport.drop_input(resources);
        transport.outbox.clear(&mut resources.pool);
        stream.release_tls(resources);
        self.driver.close(stream.socket);
        self.connection_counts.leave(self.id);
        resources.counters.add_closed(reason);
        self.leave_admission(transport.principal.and_then(|principal| principal.address));
    }

    /// The connection of a session has ended; the session waits in its slot.
    pub(super) fn detach(&mut self, key: Key) {
        let limits = &self.broker.resources.limits;
        let (linger, most) = (limits.session_linger, limits.sessions_waiting_max);
        let Some(connection) = self.broker.connections.get_mut(key) else {
            return;
        };
        connection.transport.stage = Stage::Detached;
        connection.member.yields = false;
        self.yielding.remove(&key);
        let deadline = self.broker.resources.now + linger;
        self.broker.absent_until(key, deadline);
        self.broker.touch(key);
        if self.broker.sessions.count_absent() > most as usize {
            self.expire_oldest_session();
        }
    }

    /// A session has a connection again, or ends: it no longer waits.
    fn is_back(&mut self, key: Key) {
        if let Some(connection) = self.broker.connections.get(key) {
            let deadline = connection.transport.stage_deadline;
            self.broker.sessions.end_wait(deadline, key);
        }
    }

    /// This shard was not running for this long: no client could come back meanwhile, so that time
    /// does not count.
    pub(super) fn make_up_for(&mut self, late: Duration) {
        if late < STANDSTILL || self.broker.sessions.count_absent() == 0 {
            return;
        }
        for (deadline, key) in self.broker.sessions.take_absent() {
            self.broker.absent_until(key, deadline + late);
            self.broker.touch(key);
        }
    }

    /// A session without a connection ends: its time is up, more waits for it than the limit
    /// allows, or too many sessions wait.
    pub(super) fn end_session(&mut self, key: Key) {
        self.broker.end_calls(key);
        self.is_back(key);
        self.broker.dissolve(key, !self.broker.draining);
        self.broker.remove(key);
        self.timers.cancel(key.slot);
    }

    /// Lets the session that has waited longest expire. False if none waits.
    pub(super) fn expire_oldest_session(&mut self) -> bool {
        let oldest = self.broker.sessions.first_absent();
        oldest.map(|key| self.broker.expire_session(key)).is_some()
    }
}

impl Moved {
    /// Bytes the pool counts for it.
    fn held_bytes(&self) -> usize {
        self.transport.held_bytes() + self.stream.held_bytes()
    }
}
