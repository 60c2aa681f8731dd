//! Establishing a connection: authentication, the session, and restoring what the server held
//! before.

use super::{Conversation, next_id};
use crate::base::clock::Instant;
use crate::client::access::Show;
use crate::client::credential::{Credential, Login};
use crate::client::error::Error;
use crate::client::ledger::Stage;
use crate::proto::envelope::Envelope;
use crate::proto::message::{Message, MessageType};
use crate::proto::option::AUTH_OPTIONAL;

impl Conversation {
    // ---- authentication ----

    /// After the handshake: AUTH, if the server asks for it. If it is optional, a client without a
    /// credential goes on without.
    pub(super) fn introduce(&mut self) {
        let methods = self.link.server().auth;
        let goes_without = methods & AUTH_OPTIONAL != 0 && !self.access.has_source();
        if methods & !AUTH_OPTIONAL == 0 || goes_without {
            self.ledger.stage = Stage::Admitted;
            return;
        }
        self.ledger.stage = Stage::Proving;
        match self.access.first(methods) {
            Ok(show) => self.show(show),
            Err(error) => self.give_up(error),
        }
    }

    /// Sends AUTH, or has a credential fetched.
    pub(super) fn show(&mut self, show: Show) {
        match show {
            Show::Now(credential) => self.authenticate(&credential),
            Show::Fetch(source) => self.fetch = Some(source),
            Show::Nothing => {}
        }
    }

    fn authenticate(&mut self, credential: &Credential) {
        self.link.send(&Message::Auth {
            method: credential.method(),
            credential: credential.secret().expose().as_bytes(),
        });
    }

    /// There is no credential this time: the connection cannot go on, but the next one may.
    pub(super) fn set_back(&mut self, error: Error) {
        self.setback = Some(error);
        self.link.close();
        self.link.lose();
    }

    /// There is no credential: no connection could go on.
    pub(super) fn give_up(&mut self, error: Error) {
        self.schedule = None;
        self.refusal = Some(error);
        self.link.close();
        self.link.lose();
    }

    /// The identity that the server reported; `None` if it does not authenticate.
    pub(in crate::client) fn login(&self) -> Option<&Login> {
        self.access.login()
    }

    // ---- joining and restoring ----

    pub(super) fn join(&mut self) {
        let key = self.ledger.key.unwrap_or_default();
        let received = match self.ledger.key {
            Some(_) => self.ledger.inbox.received(),
            None => 0,
        };
        self.link.send(&Message::Session { key, received });
        self.ledger.stage = Stage::Joining;
    }

    /// Everything that the server held has to be requested again.
    pub(super) fn restore(&mut self) {
        let operations = self.ledger.registry.operations();
        let unrestored = operations.map(|(kind, envelope)| (kind, envelope.to_body()));
        self.ledger.unrestored = unrestored.collect();
        self.ledger.stage = Stage::Restoring;
    }

    /// The PUBLISHes in flight have to be repeated, after everything is restored.
    pub(super) fn repeat(&mut self) {
        self.ledger.unrepeated = Some(0);
        self.ledger.stage = Stage::Restoring;
    }

    /// Repeats registrations and PUBLISHes, as far as the budget of ERRORs allows: rights may have
    /// changed, and refusals of old operations must not end the new connection.
    pub(super) fn go_on_restoring(&mut self, now: Instant) {
        if self.ledger.unrestored.is_empty() && self.ledger.unrepeated.is_none() {
            return;
        }
        let Conversation {
            link,
            ledger,
            last_id,
            ..
        } = self;
        while !ledger.unrestored.is_empty() && ledger.budget.admits_known(now) {
            let Some((kind, body)) = ledger.unrestored.pop_front() else {
                break;
            };
            // Parsed from its encoded form; it may not be wanted any more.
            let parsed = Envelope::parse(kind, &body).ok();
            let wanted = parsed.filter(|envelope| ledger.registry.wants(kind, envelope));
            if let Some(mut envelope) = wanted {
                envelope.id = next_id(last_id);
                ledger.restore(envelope.id, kind, &envelope);
                ledger.budget.note_sent(envelope.id, true);
                link.send(&Message::Envelope(kind, envelope));
                self.open_by = now + self.open_timeout;
            }
        }
        while ledger.unrestored.is_empty()
            && let Some(sent) = ledger.unrepeated
        {
            let Some(envelope) = ledger.flight.next_after(sent) else {
                ledger.unrepeated = None;
                break;
            };
            if !ledger.budget.admits_publish(envelope.name, || now) {
                break;
            }
            let id = envelope.id;
            ledger.budget.note_publish(id, envelope.name, id, false);
            link.send(&Message::Envelope(MessageType::Publish, envelope));
            ledger.unrepeated = Some(id);
            self.open_by = now + self.open_timeout;
        }
    }
}
