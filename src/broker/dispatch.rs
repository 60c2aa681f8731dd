//! Routes each operation of a client to the part of the broker that carries it out.

use crate::base::id::Key;
use crate::base::reason::Reason;
use crate::broker::Broker;
use crate::broker::context::trace::About;
use crate::proto::error::Code;
use crate::wire::{Change, Operation, Received};

impl Broker {
    /// Carries out any operation except a request to a service of this server, which arrived as
    /// `message`. Returns the reason if that ends the connection.
    #[inline]
    pub(in crate::broker) fn dispatch(
        &mut self,
        key: Key,
        operation: &Operation<'_>,
        message: Received<'_>,
    ) -> Option<Reason> {
        match *operation {
            Operation::Publish(envelope) => self.publish(key, envelope, message),
            Operation::Request(envelope) => self.request(key, envelope, message),
            Operation::Respond(envelope) => self.respond(key, envelope, message),
            Operation::Change(change, envelope) => self.change(key, envelope, |all| match change {
                Change::Subscribe => all.subscribe(key, envelope),
                Change::Unsubscribe => all.unsubscribe(key, envelope),
                Change::Serve => all.serve(key, envelope),
                Change::Unserve => all.unserve(key, envelope),
                Change::Will => all.keep_will(key, envelope, message),
            }),
            Operation::None => {}
            Operation::Authenticate { .. }
            | Operation::Acknowledge { .. }
            | Operation::Resume { .. }
            | Operation::Leave
            | Operation::Ended { .. }
            | Operation::Unexpected => return self.dispatch_rare(key, operation),
        }
        None
    }

    #[cold]
    fn dispatch_rare(&mut self, key: Key, operation: &Operation<'_>) -> Option<Reason> {
        match *operation {
            Operation::Authenticate { method, credential } => {
                self.authenticate(key, method, credential);
            }
            Operation::Acknowledge { received } => self.take_ack(key, received),
            Operation::Resume {
                key: session,
                received,
            } => return self.take_session(key, session, received),
            Operation::Leave => return self.close(key),
            Operation::Ended { reason, unanswered } => {
                if let Some(id) = unanswered {
                    self.refuse_answer(key, id);
                }
                return Some(reason);
            }
            Operation::Unexpected => {
                let text = "this server does not accept such a message";
                self.refuse_connection(key, Code::Unexpected, text);
            }
            Operation::None
            | Operation::Publish(_)
            | Operation::Request(_)
            | Operation::Respond(_)
            | Operation::Change(..) => {}
        }
        None
    }
}

impl Broker {
    /// Begins the span of a received message, if the message is sampled.
    #[inline]
    pub(in crate::broker) fn begin_receive(&mut self, operation: &Operation<'_>) -> bool {
        let now = self.resources.now;
        let Some(tracer) = &mut self.resources.tracer else {
            return false;
        };
        let begins = matches!(operation, Operation::Publish(_) | Operation::Request(_));
        let message = operation.message();
        message.is_some_and(|(_, envelope)| tracer.receive(begins, envelope, now))
    }

    /// Ends that span, if there is one.
    #[inline]
    pub(in crate::broker) fn end_receive(
        &mut self,
        traced: bool,
        key: Key,
        operation: &Operation<'_>,
        bytes: usize,
    ) {
        if traced {
            self.record_receive(key, operation, bytes);
        }
    }

    #[cold]
    fn record_receive(&mut self, key: Key, operation: &Operation<'_>, bytes: usize) {
        let now = self.resources.now;
        let (Some(tracer), Some((kind, envelope))) =
            (&mut self.resources.tracer, operation.message())
        else {
            return;
        };
        let about = About {
            connection: Some(key),
            kind: Some(kind),
            bytes,
            subject: envelope.name,
            ..About::default()
        };
        tracer.end_receive(about, now);
    }
}
