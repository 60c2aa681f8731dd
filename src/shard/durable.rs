//! What a session is while it lasts: its begin, its acknowledgements, and what becomes of a
//! connection's part in the exchange when that ends. How a session gets another connection
//! stands in `resume`.

use super::connection::Resumption;
use super::deliver::topic_of;
use super::exchange::Exchange;
use super::line::Line;
use super::log::Log;
use super::outbox::Writer;
use super::station::Durable;
use crate::base::id::{Key, ShardId};
use crate::base::limits::SESSION_KEY_BYTES;
use crate::base::reason::Reason;
use crate::metrics::counter::Counter;
use crate::proto::error::{Code, Refusal};
use crate::proto::message::Message;
use crate::proto::session::Event;
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
        if home.index() > self.mesh.len() || (is_here && !self.can_resume(key, session, received)) {
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
        let principal = line.principal().map(Box::from);
        line.station_mut().durable = Some(Box::new(Durable {
            key: session,
            principal,
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

    /// Whether a key is one of a session here whose client may have `received` so much, and
    /// that is this connection's to resume: its principal's, and within its rights, what is
    /// kept of what earlier rights covered included.
    pub(super) fn can_resume(
        &self,
        key: Key,
        session: &[u8; SESSION_KEY_BYTES],
        received: u32,
    ) -> bool {
        let Some(newcomer) = self.connections.get(key) else {
            return false;
        };
        let slot = self.sessions.get(session).copied();
        let station = slot.and_then(|slot| self.connections.get(slot)?.line.station.as_ref());
        let Some(station) = station else {
            return false;
        };
        let Some(durable) = &station.durable else {
            return false;
        };
        durable.principal.as_deref() == newcomer.line.principal()
            && !durable.lapsed
            && durable.log.covers(received)
            && self.uncovered(station, &newcomer.line).is_empty()
            && (newcomer.line.principal().is_none()
                || (durable.log).all_behind(received, |message| newcomer.line.may_have(message)))
    }

    /// The key cannot be resumed; the connection goes on without a session.
    pub(super) fn refuse_session(&mut self, key: Key) -> Option<Reason> {
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
        let revoked = connection.reason == Some(Reason::Revoked);
        let line = &mut connection.line;
        if line.station.is_none() || line.away {
            return;
        }
        let will = !in_order && !self.draining;
        if !line.counted || !will || revoked {
            return self.dissolve(key, will);
        }
        line.away = true;
        // What waited for the outbox has never been sent, and now waits for the next one.
        let now = self.resources.now;
        while let Some(held) = line.station_mut().shelf.next(now) {
            if line.is_narrowed() && !line.may_receive(topic_of(&held.message)) {
                self.resources.counters.add(Counter::DeliveriesForbidden, 1);
                continue;
            }
            line.log(&held.message, held.expires, false, &mut self.resources);
        }
        line.shelved = false;
        line.note_care();
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
        (line.counted, line.shelved) = (false, false);
        line.note_care();
        self.resources.pool.discharge(station.charged);
        if let Some(durable) = &station.durable {
            self.sessions.remove(&durable.key);
            self.resources.counters.add(Counter::SessionsEnded, 1);
        }
        self.forget_wanted(station.wants);
        self.leave_all(key, &mut station);
        if station.errands_open > 0 {
            self.fail_errands(key);
        }
        if publish_will && let Some(will) = station.will.take() {
            self.publish_will(key, will);
        }
    }

    /// The transport has moved in: the session goes on where the client has got to.
    pub(super) fn resumed(&mut self, key: Key, received: u32) {
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
        let (codec, subscribes) = (session.codec(), !station.subscriptions.is_empty());
        line.recharge(&mut self.resources);
        self.resources.counters.add(Counter::SessionsResumed, 1);
        if subscribes {
            self.note_wanted(key, codec);
        }
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
