//! What is said without anybody waiting for it: answers to requests, and that a subscription
//! or service is not wanted any more. What cannot be said now is said when the connection
//! stands.

use super::{Conversation, next_id};
use crate::client::error::Error;
use crate::client::flight::to_body;
use crate::client::incoming::IncomingRequest;
use crate::client::subscribe::Interest;
use crate::proto::envelope::{Codec, Envelope, FLAG_FAILED};
use crate::proto::error::{Code, clip};
use crate::proto::message::{Message, MessageType};

impl Conversation {
    // ---- answers ----

    /// Answers a request, unless its requester has been told that nobody will.
    ///
    /// # Errors
    /// `Invalid` if it is too large for the server.
    pub(in crate::client) fn respond(
        &mut self,
        request: &IncomingRequest,
        codec: Codec,
        payload: &[u8],
    ) -> Result<(), Error> {
        let envelope = Envelope {
            id: request.id,
            codec,
            payload,
            ..Envelope::default()
        };
        self.fits(&envelope)?;
        if request.epoch == self.ledger.epoch {
            self.send_response(envelope);
        }
        Ok(())
    }

    pub(in crate::client) fn respond_failed(
        &mut self,
        request: &IncomingRequest,
        code: Code,
        text: &str,
    ) {
        if request.epoch == self.ledger.epoch {
            self.fail_request(request.id, code, text);
        }
    }

    pub(super) fn fail_request(&mut self, id: u32, code: Code, text: &str) {
        let mut payload = code.to_wire().to_be_bytes().to_vec();
        payload.extend_from_slice(clip(text).as_bytes());
        self.send_response(Envelope {
            id,
            flags: FLAG_FAILED,
            payload: &payload,
            ..Envelope::default()
        });
    }

    /// While the connection does not stand it is kept for the next one, if that goes on with
    /// the session: else its requester has been told that nobody will answer.
    fn send_response(&mut self, envelope: Envelope<'_>) {
        if self.can_answer() {
            self.link
                .send(&Message::Envelope(MessageType::Response, envelope));
        } else {
            self.ledger.responses.push(to_body(&envelope));
        }
    }

    pub(super) fn send_responses(&mut self) {
        for body in std::mem::take(&mut self.ledger.responses) {
            // What was encoded here is parsed again: the one form that owns its bytes.
            if let Ok(envelope) = Envelope::parse(MessageType::Response, &body) {
                self.link
                    .send(&Message::Envelope(MessageType::Response, envelope));
            }
        }
    }

    // ---- withdrawals ----

    /// Ends a subscription or service that nobody holds any more, now or when the connection
    /// stands; `kind` is UNSUBSCRIBE or UNSERVE.
    pub(in crate::client) fn withdraw(&mut self, kind: MessageType, interest: &Interest) {
        self.ledger.withdraw(kind, interest);
        if self.is_open() {
            self.send_withdrawals();
        }
    }

    pub(super) fn send_withdrawals(&mut self) {
        let last_id = &mut self.last_id;
        let number = || next_id(last_id);
        for (id, kind, interest) in self.ledger.withdrawals.unsent(number) {
            let envelope = interest.envelope(id);
            self.link.send(&Message::Envelope(kind, envelope));
        }
    }
}
