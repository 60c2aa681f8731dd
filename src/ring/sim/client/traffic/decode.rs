//! Records what a client receives, and checks what holds whatever other clients do: answers come in
//! the order of the operations, no RESPONSE without a REQUEST, every message decodes.

use super::endpoint::Endpoint;
use super::model::{Due, Model, Operation, Progress};
use super::payload::{Label, digest};
use super::plan::Answering;
use super::record::{Answer, Delivered, Served, Subject};
use crate::base::clock::Instant;
use crate::base::reason::Reason;
use crate::proto::envelope::{Envelope, FLAG_FAILED};
use crate::proto::error::Code;
use crate::proto::kind::{Class, MessageType};
use crate::proto::message::Message;
use crate::proto::outcome::Failure;
use crate::proto::session::Event;

/// Handles an event of the session. `closing`: the client has sent CLOSE.
pub(super) fn take(
    model: &mut Model,
    event: &Event<'_>,
    closing: bool,
    endpoint: &mut Endpoint,
    now: Instant,
) {
    match event {
        Event::Handled => {}
        Event::Established(granted) => model.establish(granted.shard, endpoint, now),
        Event::Message(message) => model.take_message(message, endpoint, now),
        Event::PeerClosed { code, .. } => {
            note(model, |connection| connection.close_received = Some(*code));
        }
        Event::Refused { code, .. } => note(model, |connection| connection.refused = Some(*code)),
        Event::Ended(Reason::Shutdown) if closing => {
            note(model, |connection| connection.close_answered = true);
        }
        Event::Ended(reason) => note(model, |connection| {
            connection.protocol_error = Some(*reason)
        }),
    }
}

fn note(model: &mut Model, change: impl FnOnce(&mut super::record::ConnectionRecord)) {
    if let Some(connection) = model.record.connection_mut() {
        change(connection);
    }
}

impl Model {
    fn take_message(&mut self, message: &Message<'_>, endpoint: &mut Endpoint, now: Instant) {
        match *message {
            Message::Ok { id } => self.take_answer(id, None, now),
            Message::Error {
                code, fatal: true, ..
            } => note(self, |connection| connection.refused = Some(code)),
            Message::Error { code, id, .. } => self.take_error(code, id, endpoint, now),
            Message::SessionOk {
                key,
                resumed,
                last_publish_id,
            } => self.take_session(key, resumed, last_publish_id, endpoint, now),
            Message::AuthOk { principal, .. } => self.take_grant(principal, endpoint, now),
            Message::Drain { .. } => note(self, |connection| connection.drains += 1),
            Message::Envelope(kind, ref envelope) => {
                self.take_envelope(kind, envelope, now);
                self.count(endpoint);
            }
            Message::Pong(_) => {}
            ref other => self
                .record
                .note_violation(format!("unasked for: {other:?}")),
        }
    }

    // ---- answers ----

    fn take_error(&mut self, code: Code, id: u32, endpoint: &mut Endpoint, now: Instant) {
        self.record.errors.push((id, code, now));
        if code == Code::SessionUnknown && self.progress == Progress::OpeningSession {
            self.lose_session(endpoint, now);
        } else if id != 0 {
            self.take_answer(id, Some(code), now);
        }
    }

    /// OK, or ERROR with an operation's id: it has to be the oldest unanswered operation's.
    fn take_answer(&mut self, id: u32, refused: Option<Code>, now: Instant) {
        let Some(&Operation { id: due, subject }) = self.unanswered.front() else {
            let wrong = format!("an answer to {id} ({refused:?}), nothing is due");
            return self.record.note_violation(wrong);
        };
        if due != id {
            let wrong = format!("an answer to {id} ({refused:?}), due is {due}");
            return self.record.note_violation(wrong);
        }
        self.unanswered.pop_front();
        let record = &mut self.record;
        let received = record.delivered.len();
        match subject {
            Subject::Publish(number) => {
                let published = &mut record.published[number as usize];
                match refused {
                    Some(_) => published.refused = refused,
                    None => published.confirmed_at = Some(now),
                }
            }
            Subject::Subscribe(place) | Subject::Serve(place) => {
                let registration = match subject {
                    Subject::Subscribe(_) => &mut record.subscriptions[place],
                    _ => &mut record.services[place],
                };
                match refused {
                    Some(_) => registration.refused = refused,
                    None => {
                        registration.confirmed_at = Some(now);
                        registration.received_before = received;
                    }
                }
            }
            Subject::Unsubscribe(place) | Subject::Unserve(place) => {
                let registration = match subject {
                    Subject::Unsubscribe(_) => record.subscriptions.get_mut(place),
                    _ => record.services.get_mut(place),
                };
                let stands = refused.is_some_and(|code| code != Code::NotSubscribed);
                if let Some(registration) = registration {
                    if stands {
                        return record.note_stays(subject);
                    }
                    registration.left_confirmed_at = Some(now);
                }
            }
            Subject::Will(place) => {
                let wills = record.membership_mut().map(|last| &mut last.wills);
                if let Some(will) = wills.and_then(|wills| wills.get_mut(place)) {
                    will.confirmed = refused.is_none();
                }
            }
        }
    }

    // ---- messages ----

    /// Counts a message for ACK.
    fn count(&mut self, endpoint: &mut Endpoint) {
        let every = self.plan.session.map_or(0, |session| session.ack_every);
        let Some(membership) = self.record.membership_mut() else {
            return;
        };
        if membership.key.is_none() {
            return;
        }
        membership.received = membership.received.wrapping_add(1);
        let news = membership.received.wrapping_sub(membership.acknowledged);
        if every > 0 && news >= every {
            self.acknowledge(endpoint);
        }
    }

    /// Sends ACK with the number of messages counted.
    pub(super) fn acknowledge(&mut self, endpoint: &mut Endpoint) {
        if let Some(membership) = self.record.membership_mut()
            && membership.key.is_some()
        {
            let received = membership.received;
            membership.acknowledged = received;
            endpoint.send(&Message::Ack { received });
        }
    }

    fn take_envelope(&mut self, kind: MessageType, envelope: &Envelope<'_>, now: Instant) {
        if self.progress != Progress::Member {
            let wrong = format!("{kind:?} before there is a session: {envelope:?}");
            self.record.note_violation(wrong);
            return;
        }
        match kind.class() {
            Class::Publication => self.take_publish(envelope, now),
            Class::Request => self.take_request(envelope, now),
            Class::Response => self.take_response(envelope, now),
            Class::Change(_) | Class::Control(_) => {
                self.record
                    .note_violation(format!("{kind:?} is not the server's"));
            }
        }
    }

    fn take_publish(&mut self, envelope: &Envelope<'_>, now: Instant) {
        let Some(label) = Label::read(envelope) else {
            let wrong = format!("a message of nobody's: {envelope:?}");
            return self.record.note_violation(wrong);
        };
        self.record.delivered.push(Delivered {
            label,
            id: envelope.id,
            digest: digest(envelope),
            codec: envelope.codec,
            topic: envelope.name.to_owned(),
            retain: envelope.flags & crate::proto::envelope::FLAG_RETAIN != 0,
            connection: self.record.connections.len() - 1,
            membership: self.record.memberships.len() - 1,
            grant: self.record.grants.len().checked_sub(1),
            at: now,
        });
    }

    fn take_request(&mut self, envelope: &Envelope<'_>, now: Instant) {
        let Some(label) = Label::read(envelope) else {
            let wrong = format!("a REQUEST of nobody's: {envelope:?}");
            return self.record.note_violation(wrong);
        };
        let turn = self.record.served.len() % self.plan.answering.len().max(1);
        self.record.served.push(Served {
            label,
            service: envelope.name.to_owned(),
            membership: self.record.memberships.len() - 1,
            at: now,
        });
        let mut due = Due {
            at: now,
            id: envelope.id,
            flags: 0,
            payload: self.id.0.to_be_bytes().to_vec(),
        };
        due.payload.extend_from_slice(envelope.payload);
        match self.plan.answering.get(turn) {
            Some(Answering::AtOnce) => {}
            Some(Answering::After(time)) => due.at = now + *time,
            Some(Answering::Never) | None => return,
            Some(Answering::Fails(code)) => {
                due.flags = FLAG_FAILED;
                due.payload = code.to_be_bytes().to_vec();
            }
            Some(Answering::Twice) => self.due.push(due.clone()),
        }
        self.due.push(due);
    }

    fn take_response(&mut self, envelope: &Envelope<'_>, now: Instant) {
        let number = envelope.id;
        let Some(asked) = self.record.requested.get_mut(number as usize) else {
            let wrong = format!("a RESPONSE to {number}, never asked");
            return self.record.note_violation(wrong);
        };
        if asked.answer.is_some() {
            return self
                .record
                .note_violation(format!("a second RESPONSE to {number}"));
        }
        let label = Label {
            sender: self.id,
            number,
        };
        let mut answer = Answer {
            at: now,
            by: None,
            failed: None,
        };
        let mut right = !envelope.failed();
        if envelope.failed() {
            let failure = Failure::of_response(envelope);
            answer.failed = failure.map(|failure| Code::from_wire(failure.code));
            right = answer.failed.is_some();
        } else if asked.service.starts_with('$') {
            right = asked.service != "$sys/echo" || envelope.payload == label.payload(asked.bytes);
        } else if let Some((by, echoed)) = envelope.payload.split_first_chunk() {
            answer.by = Some(u32::from_be_bytes(*by));
            right = echoed == label.payload(asked.bytes);
        }
        asked.answer = Some(answer);
        if !right {
            let wrong = format!("the RESPONSE to {number} is wrong: {envelope:?}");
            self.record.note_violation(wrong);
        }
    }
}
