//! How a connection comes to stand: who this client is, the session, and what stood at the
//! server before.

use super::{Conversation, next_id};
use crate::client::access::Show;
use crate::client::credential::{Credential, Login};
use crate::client::error::Error;
use crate::client::ledger::Stage;
use crate::proto::message::{Message, MessageType};
use crate::proto::option::AUTH_OPTIONAL;

impl Conversation {
    // ---- who this is ----

    /// After the handshake: AUTH, if the server asks for it. Where it may be left out, a
    /// client that has nothing to show goes on without.
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

    /// Says who this is, or has it fetched.
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

    /// There is nothing to show: no connection could go on.
    pub(super) fn give_up(&mut self, error: Error) {
        self.schedule = None;
        self.refusal = Some(error);
        self.link.close();
        self.link.lose();
    }

    /// Who the server says this is; `None` where it does not ask.
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

    /// Asks again for all that stood at the server.
    pub(super) fn restore(&mut self) {
        let Conversation {
            link,
            ledger,
            last_id,
            ids_wrapped,
            ..
        } = self;
        let registry = std::mem::take(&mut ledger.registry);
        for (kind, mut envelope) in registry.operations() {
            envelope.id = next_id(last_id, ids_wrapped);
            ledger.restore(envelope.id, kind, &envelope);
            link.send(&Message::Envelope(kind, envelope));
        }
        ledger.registry = registry;
        ledger.stage = Stage::Restoring;
    }

    /// Sends the PUBLISHes in flight once more.
    pub(super) fn repeat(&mut self) {
        for envelope in self.ledger.flight.envelopes() {
            self.link
                .send(&Message::Envelope(MessageType::Publish, envelope));
        }
    }
}
