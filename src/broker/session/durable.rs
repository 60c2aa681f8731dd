//! The life of a session: its beginning, its acknowledgements, and its end, with what the end of a
//! connection means for its part in the broker. `shard::resume` gives a session another connection.

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::limits::SESSION_KEY_BYTES;
use crate::base::reason::Reason;
use crate::broker::Broker;
use crate::broker::peers::client_state::DurableSession;
use crate::broker::peers::connection::Connection;
use crate::broker::peers::transport::Stage;
use crate::broker::session::receipt::Receipts;
use crate::broker::session::replay_log::{Loss, ReplayLog};
use crate::broker::session::seek::{Found, Resumption};
use crate::metrics::counter::Counter;
use crate::proto::encoded::Encoded;
use crate::proto::error::{Code, Refusal};
use crate::proto::message::MessageType;
use crate::proto::outcome::Failure;
use crate::wire::{Notice, Session};
use std::mem;

/// A key of zeros asks for a new session.
const NEW: [u8; SESSION_KEY_BYTES] = [0; SESSION_KEY_BYTES];

fn home(key: &[u8; SESSION_KEY_BYTES]) -> ShardId {
    ShardId(u16::from_be_bytes([key[0], key[1]]))
}

impl Broker {
    /// Handles SESSION: begins a session, or starts to resume one.
    pub(in crate::broker) fn take_session(
        &mut self,
        key: Key,
        session: &[u8; SESSION_KEY_BYTES],
        received: u32,
    ) -> Option<Reason> {
        let Connection { member, transport } = self.connections.get_mut(key)?;
        let state = member.state.as_ref();
        let fresh = state.is_none_or(|state| state.is_idle()) && !member.is_owed_answers();
        if member.durable().is_some() || (*session != NEW && !fresh) {
            let text =
                "SESSION may be sent only once, and to resume only before any other operation";
            let refusal = Refusal::new(Code::Unexpected, text);
            transport.refuse_with(&refusal, &mut self.resources);
            return None;
        }
        if *session == NEW && transport.session.is_on_trial() {
            transport.refuse_with(&Session::full(), &mut self.resources);
            return None;
        }
        if *session == NEW {
            self.begin_session(key);
            return None;
        }
        let home = home(session);
        let is_here = home == self.id;
        if home.index() >= self.mesh.shard_count()
            || (is_here && !self.can_resume(key, session, received))
        {
            return self.refuse_session(key);
        }
        // Overdue calls that services here still work on; they do not move with the connection.
        self.end_calls(key);
        // `reconcile` continues once nothing of its transport is in flight.
        let connection = self.connections.get_mut(key)?;
        connection.transport.moving = Some(Box::new(Resumption {
            key: *session,
            received,
            home,
            found: Found::Unasked,
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
        let principal = connection.transport.principal_name().map(Box::from);
        connection.member.state_mut().durable = Some(Box::new(DurableSession {
            key: session,
            principal,
            log: ReplayLog::new(),
            lapsed: false,
            receipts: Receipts::default(),
        }));
        (connection.member.counted, connection.member.careful) = (true, true);
        let begun = Notice::Session {
            key: session,
            resumed: false,
            last_publish_id: 0,
        };
        connection.transport.notify(begun, &mut self.resources);
        self.sessions.begin(session, key);
        self.resources.counters.add(Counter::SessionsBegun, 1);
    }

    /// Whether a connection of another shard, with this principal, should be handed over: the
    /// session it wants to resume is here and belongs to the principal. `can_resume` checks the
    /// rest.
    pub(crate) fn is_known(
        &self,
        session: &[u8; SESSION_KEY_BYTES],
        received: u32,
        principal: Option<&str>,
    ) -> bool {
        let slot = self.sessions.find(session);
        let durable = slot.and_then(|slot| self.connections.get(slot)?.member.durable());
        durable.is_some_and(|durable| {
            durable.principal.as_deref() == principal
                && !durable.lapsed
                && durable.log.covers(received)
        })
    }

    /// Whether this connection may resume the session with this key: the session is here, its
    /// client may have `received` this many messages, it belongs to the connection's principal, and
    /// the connection's rights cover everything in it, including messages kept under earlier
    /// rights.
    pub(crate) fn can_resume(
        &self,
        key: Key,
        session: &[u8; SESSION_KEY_BYTES],
        received: u32,
    ) -> bool {
        let Some(newcomer) = self.connections.get(key) else {
            return false;
        };
        let slot = self.sessions.find(session);
        let state = slot.and_then(|slot| self.connections.get(slot)?.member.state.as_ref());
        let Some(state) = state else {
            return false;
        };
        let Some(durable) = &state.durable else {
            return false;
        };
        durable.principal.as_deref() == newcomer.transport.principal_name()
            && !durable.lapsed
            && durable.log.covers(received)
            && self.uncovered(state, &newcomer.transport).is_empty()
            && (newcomer.transport.principal_name().is_none()
                || (durable.log).all_behind(received, |message| {
                    newcomer.transport.bearer().may_have(Encoded::of(message))
                }))
    }

    /// The key cannot be resumed; the connection continues without a session.
    pub(crate) fn refuse_session(&mut self, key: Key) -> Option<Reason> {
        let connection = self.connections.get_mut(key)?;
        let text = "no session with that key can be resumed: start a new one";
        let now = self.resources.now;
        let transport = &mut connection.transport;
        let (session, mut out) = transport.session_and_out(&mut self.resources.pool);
        let refusal = &Refusal::new(Code::SessionUnknown, text);
        session.notify(Notice::Refused { id: 0, refusal }, now, &mut out)
    }

    /// Handles ACK: drops what the client has received.
    pub(in crate::broker) fn take_ack(&mut self, key: Key, received: u32) {
        let Some(Connection { member, transport }) = self.connections.get_mut(key) else {
            return;
        };
        let text = match member.durable_mut() {
            None => "ACK without a session",
            Some(durable) => {
                if durable.lapsed || durable.log.ack(received) {
                    return member.recharge(&mut self.resources);
                }
                "ACK count is larger than what was sent, or smaller than before"
            }
        };
        let refusal = Refusal::new(Code::Unexpected, text);
        transport.refuse_with(&refusal, &mut self.resources);
    }

    /// A connection has begun to end: its session waits for another, or all it had at the
    /// broker is dissolved. May be called any number of times. False: that is more than the lane's
    /// share, and is to be continued in a later turn.
    pub(crate) fn depart(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.get(key) else {
            return true;
        };
        let has_left = connection.transport.has_left;
        if self.leaves_session(connection) {
            self.leave_behind_session(key);
        } else if !self.leave_some(key) {
            return false;
        } else if !has_left {
            let will = self.leaves_will(key);
            self.end_calls(key);
            self.dissolve(key, will);
        }
        // A session that has lapsed since keeps its messages until its transport has ended.
        true
    }

    /// An ending connection's session waits for another connection.
    pub(in crate::broker) fn leave_behind_session(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !mem::replace(&mut connection.transport.has_left, true)
        {
            // What waits on its pending queue has never been sent, and now waits for the next
            // connection.
            self.note_stalled(key, true);
        }
    }

    /// Whether the session of an ending connection is to wait for another one.
    pub(in crate::broker) fn leaves_session(&self, connection: &Connection) -> bool {
        let revoked = connection.transport.reason == Some(Reason::Revoked);
        connection.member.counted && !revoked && !self.draining && !ends_in_order(connection)
    }

    fn leaves_will(&self, key: Key) -> bool {
        !self.draining && !self.connections.get(key).is_some_and(ends_in_order)
    }

    /// Handles CLOSE: its client receives only the answers it is waiting for, as soon as its
    /// subscriptions are removed. Returns the reason if it waits for none.
    pub(in crate::broker) fn close(&mut self, key: Key) -> Option<Reason> {
        if !self.leave_some(key) {
            // `continue_close` goes on; or `depart`, once the connection ends.
            self.lists.put_off_leaving(key);
        } else {
            self.dissolve(key, false);
        }
        let connection = self.connections.get_mut(key)?;
        if connection.member.is_owed_answers() {
            return None;
        }
        connection.transport.finish(&mut self.resources);
        Some(Reason::PeerClose)
    }

    /// Goes on with a CLOSE whose subscriptions are not all removed yet, if it is one.
    pub(crate) fn continue_close(&mut self, key: Key) {
        let closes = |one: &&Connection| {
            let transport = &one.transport;
            transport.stage == Stage::Running && transport.session.is_peer_closing()
        };
        if self.connections.get(key).filter(closes).is_some()
            && let Some(reason) = self.close(key)
        {
            self.end_connection(key, reason);
        }
    }

    /// Removes a connection from everything it is part of.
    pub(crate) fn dissolve(&mut self, key: Key, publish_will: bool) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(mut state) = connection.member.state.take() else {
            return;
        };
        (connection.member.counted, connection.member.has_pending) = (false, false);
        connection.note_care();
        // If the server is shutting down, all members are ending: what was sent to them still goes
        // out.
        let ends_all = matches!(
            connection.transport.reason,
            Some(Reason::Drained | Reason::Shutdown)
        );
        if !state.trail.is_empty() && !ends_all {
            // How much of it goes to others is known when its transport has ended.
            connection.member.state_mut().trail = mem::take(&mut state.trail);
            connection.member.recharge(&mut self.resources);
        }
        if !ends_all {
            self.bequeath(&mut state);
        }
        if let Some(durable) = &state.durable {
            self.sessions.end(&durable.key);
            self.resources.counters.add(Counter::SessionsEnded, 1);
        }
        self.forget_wanted(state.wants);
        self.leave_all(key, &mut state);
        if state.forwarded_open > 0 {
            self.fail_all_forwarded(key);
        }
        if publish_will && let Some(will) = state.will.take() {
            self.legacies.wills.push_back((key, will));
        }
    }

    /// The transport has moved in: the session continues from what the client has received.
    pub(crate) fn resumed(&mut self, key: Key, received: u32) {
        let now = self.resources.now;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Connection { member, transport } = connection;
        member.careful = true;
        let Some(state) = &mut member.state else {
            return;
        };
        let Some(durable) = &mut state.durable else {
            return;
        };
        let length_max = transport.session.whole_bytes_max();
        let counters = &self.resources.counters;
        let mut too_large = Vec::new();
        let covered = durable
            .log
            .resume(received, now, length_max, |message, loss| {
                let counter = match loss {
                    Loss::Expired => Counter::DeliveriesExpired,
                    Loss::TooLarge => Counter::DeliveriesTooLarge,
                };
                counters.add(counter, 1);
                too_large.extend(asked_in(Encoded::of(message)).filter(|_| loss == Loss::TooLarge));
            });
        debug_assert!(covered, "asked before it moved");
        let (session, mut out) = transport.session_and_out(&mut self.resources.pool);
        let resumed = Notice::Session {
            key: durable.key,
            resumed: true,
            last_publish_id: durable.receipts.last_confirmed(),
        };
        session.notify(resumed, now, &mut out);
        durable.log.replay(|first, second| {
            if second.is_empty() {
                session.deliver(Encoded::of(first), None, &mut out);
            } else {
                session.deliver(Encoded::of(&[first, second].concat()), None, &mut out);
            }
        });
        let (codec, subscribes) = (session.codec(), !state.subscriptions.is_empty());
        let waits = !state.pending.is_empty();
        (state.pending_before, member.has_pending) = (waits, waits);
        // It was the previous transport's kernel buffer that held much.
        state.trail.backed_up = false;
        member.recharge(&mut self.resources);
        self.resources.counters.add(Counter::SessionsResumed, 1);
        if subscribes {
            self.note_wanted(key, codec);
        }
        self.fail_too_large(key, &too_large);
        if !waits {
            self.note_stalled(key, false);
        }
        self.handle_what_waits(key);
    }

    /// Handles input that arrived before the session was here.
    fn handle_what_waits(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.transport.has_input()
            && !mem::replace(&mut connection.member.ready, true)
        {
            self.lists.make_ready(key);
        }
        self.touch(key);
    }

    /// Handles requests and responses larger than the resuming connection accepts: whoever waits
    /// for an answer gets a failure.
    fn fail_too_large(&mut self, key: Key, messages: &[(MessageType, u32)]) {
        for &(kind, id) in messages {
            if kind == MessageType::Request {
                let text = "the request is larger than the service accepts";
                self.fail_forwarded(key, id, &Failure::of(Code::TooLarge, text));
            } else if let Some(connection) = self.connections.get_mut(key) {
                connection.refuse_too_large(id, &mut self.resources);
            }
        }
    }
}

impl Broker {
    /// The time of a session without a connection is up: it is ended when its turn comes, and can no
    /// longer be resumed.
    pub(crate) fn expire_session(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let deadline = &mut connection.transport.stage_deadline;
        self.sessions.end_wait(*deadline, key);
        *deadline = self.resources.now;
        if let Some(durable) = connection.member.durable_mut() {
            durable.lapse();
        }
        self.touch(key);
    }

    /// A session waits for a connection until `deadline`.
    pub(crate) fn absent_until(&mut self, key: Key, deadline: Instant) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        self.sessions
            .end_wait(connection.transport.stage_deadline, key);
        connection.transport.stage_deadline = deadline;
        // The deadline has changed, wherever the timer is set.
        connection.member.timer = Instant::NEVER;
        self.sessions.wait_until(deadline, key);
    }
}

fn ends_in_order(connection: &Connection) -> bool {
    let transport = &connection.transport;
    // Whatever has ended it after that.
    transport.session.is_peer_closing()
        || matches!(
            transport.reason,
            Some(Reason::PeerClose | Reason::Drained | Reason::Shutdown)
        )
}

/// The type and id of a counted message, if it is one that someone waits for an answer to.
fn asked_in(message: Encoded<'_>) -> Option<(MessageType, u32)> {
    let (kind, id) = (message.kind()?, message.id()?);
    (kind != MessageType::Publish).then_some((kind, id))
}
