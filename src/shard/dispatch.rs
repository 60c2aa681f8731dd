//! What a session hands out goes to whom it is for.

use super::broker::Broker;
use super::trace::About;
use crate::base::id::Key;
use crate::base::reason::Reason;
use crate::proto::envelope::Envelope;
use crate::proto::error::Code;
use crate::proto::kind::{Class, MessageType, Operation};
use crate::proto::message::Message;
use crate::proto::session::Event;

impl Broker {
    /// Acts on an event of `key`'s session that is not a request of a service here;
    /// `message` is the whole message, as received. The reason, when that ends the
    /// connection.
    #[inline]
    pub(super) fn dispatch(
        &mut self,
        key: Key,
        event: &Event<'_>,
        message: &[u8],
    ) -> Option<Reason> {
        match event {
            Event::Message(Message::Envelope(MessageType::Publish, envelope)) => {
                self.publish(key, envelope, message);
                None
            }
            Event::Handled | Event::Established(_) => None,
            Event::Message(Message::Envelope(kind, envelope)) => {
                self.dispatch_envelope(key, *kind, envelope, message);
                None
            }
            event => self.dispatch_rare(key, event, message),
        }
    }

    fn dispatch_envelope(
        &mut self,
        key: Key,
        kind: MessageType,
        envelope: &Envelope<'_>,
        message: &[u8],
    ) {
        match kind.class() {
            Class::Publication => self.publish(key, envelope, message),
            Class::Request => self.request(key, envelope, message),
            Class::Response => self.respond(key, envelope, message),
            Class::Operation(operation) => self.operate(key, envelope, |all| match operation {
                Operation::Subscribe => all.subscribe(key, envelope),
                Operation::Unsubscribe => all.unsubscribe(key, envelope),
                Operation::Serve => all.serve(key, envelope),
                Operation::Unserve => all.unserve(key, envelope),
                Operation::Will => all.keep_will(key, envelope, message),
            }),
            Class::Control(_) => debug_assert!(false, "{kind:?} has no envelope"),
        }
    }

    #[cold]
    fn dispatch_rare(&mut self, key: Key, event: &Event<'_>, message: &[u8]) -> Option<Reason> {
        match event {
            Event::Message(Message::Auth { method, credential }) => {
                self.authenticate(key, *method, credential);
            }
            Event::Message(Message::Ack { received }) => self.take_ack(key, *received),
            Event::Message(Message::Session {
                key: session,
                received,
            }) => {
                return self.take_session(key, session, *received);
            }
            Event::PeerClosed { .. } => {
                // It receives nothing more but the answers it waits for.
                self.dissolve(key, false);
                let connection = self.connections.get_mut(key)?;
                if !connection.member.is_owed_answers() {
                    connection.transport.finish(&mut self.resources);
                    return Some(Reason::PeerClose);
                }
            }
            Event::Refused { .. } => return Some(Reason::PeerRefused),
            Event::Ended(Reason::TooLarge) => {
                self.refuse_answer(key, message);
                return Some(Reason::TooLarge);
            }
            Event::Ended(reason) => return Some(*reason),
            Event::Message(_) => {
                let transport = &mut self.connections.get_mut(key)?.transport;
                let text = "this server does not accept such a message";
                transport.refuse(Code::Unexpected, text, &mut self.resources);
            }
            Event::Handled | Event::Established(_) => {}
        }
        None
    }
}

impl Broker {
    /// Begins the span of a message that has come, if it is sampled.
    #[inline]
    pub(super) fn begin_receive(&mut self, event: &Event<'_>) -> bool {
        let now = self.resources.now;
        match (&mut self.resources.tracer, event) {
            (Some(tracer), Event::Message(Message::Envelope(kind, envelope))) => {
                tracer.receive(*kind, envelope, now)
            }
            _ => false,
        }
    }

    /// Ends it, if one has begun.
    #[inline]
    pub(super) fn end_receive(&mut self, traced: bool, key: Key, event: &Event<'_>, bytes: usize) {
        if traced {
            self.record_receive(key, event, bytes);
        }
    }

    #[cold]
    fn record_receive(&mut self, key: Key, event: &Event<'_>, bytes: usize) {
        let now = self.resources.now;
        let (Some(tracer), Event::Message(Message::Envelope(kind, envelope))) =
            (&mut self.resources.tracer, event)
        else {
            return;
        };
        let about = About {
            connection: Some(key),
            kind: Some(*kind),
            bytes,
            subject: envelope.name,
            ..About::default()
        };
        tracer.end_receive(about, now);
    }
}
