//! Messages that no call waits for: answers to requests, and the end of subscriptions and
//! services. What cannot be sent now is sent once the connection is established.

use super::{Conversation, next_id};
use crate::base::clock::Instant;
use crate::client::clock;
use crate::client::error::Error;
use crate::client::inbox::BoxId;
use crate::client::incoming::IncomingRequest;
use crate::client::ledger::Stage;
use crate::client::subscribe::Interest;
use crate::proto::envelope::{Codec, Envelope, FLAG_FAILED};
use crate::proto::error::{Code, clip};
use crate::proto::message::{Message, MessageType};

/// The number of unsent bytes above which no request is declined.
const DECLINES_UNSENT_MAX: usize = 64 << 10;

impl Conversation {
    // ---- answers ----

    /// Answers a request, unless its requester has already got SERVICE_GONE.
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

    /// Declines requests that no one here serves, while earlier output is being sent: the rest wait
    /// as ids, and reading is paused while they are many.
    pub(super) fn decline(&mut self) {
        let is_joined = matches!(self.ledger.stage, Stage::Restoring | Stage::Open);
        while self.is_up()
            && is_joined
            && self.link.unsent().len() < DECLINES_UNSENT_MAX
            && let Some(id) = self.ledger.declined.pop_front()
        {
            let payload = failure(Code::NoService, "this client does not serve that name");
            let declined = Envelope {
                id,
                flags: FLAG_FAILED,
                payload: &payload,
                ..Envelope::default()
            };
            self.link
                .send(&Message::Envelope(MessageType::Response, declined));
        }
    }

    fn fail_request(&mut self, id: u32, code: Code, text: &str) {
        let payload = failure(code, text);
        self.send_response(Envelope {
            id,
            flags: FLAG_FAILED,
            payload: &payload,
            ..Envelope::default()
        });
    }

    /// Without an established connection the answer is kept for the next one, if that resumes the
    /// session; otherwise its requester has already got SERVICE_GONE.
    fn send_response(&mut self, envelope: Envelope<'_>) {
        if self.can_answer() {
            self.link
                .send(&Message::Envelope(MessageType::Response, envelope));
        } else {
            self.ledger.responses.push(envelope.to_body());
        }
    }

    pub(super) fn send_responses(&mut self) {
        for body in std::mem::take(&mut self.ledger.responses) {
            // Parsed from its encoded form, which is the one that owns its bytes.
            if let Ok(envelope) = Envelope::parse(MessageType::Response, &body) {
                self.link
                    .send(&Message::Envelope(MessageType::Response, envelope));
            }
        }
    }

    // ---- withdrawals ----

    /// A mailbox's owner wants no more of what the server sends for it. With the last such owner,
    /// the subscription or service ends, now or once the connection is established. `kind` is
    /// UNSUBSCRIBE or UNSERVE. True: it ends.
    pub(in crate::client) fn resign(
        &mut self,
        id: BoxId,
        kind: MessageType,
        interest: &Interest,
    ) -> bool {
        if !self.ledger.inbox.resign(id) || !self.ledger.may_stand(kind, interest) {
            return false;
        }
        self.ledger.withdraw(kind, interest);
        if self.is_open() {
            self.send_withdrawals(clock::now());
        }
        true
    }

    /// A mailbox's owner is dropped: what it did not take will not be taken. True: as
    /// [`Conversation::resign`].
    pub(in crate::client) fn leave(
        &mut self,
        id: BoxId,
        kind: MessageType,
        interest: &Interest,
    ) -> bool {
        let is_last = self.resign(id, kind, interest);
        for left in self.ledger.inbox.close(id) {
            if let Some(request) = left.into_request() {
                let text = "this client no longer serves that name";
                self.respond_failed(&request, Code::ServiceGone, text);
            }
        }
        is_last
    }

    /// As far as the budget of ERRORs allows: ending something that does not exist causes an ERROR.
    pub(super) fn send_withdrawals(&mut self, now: Instant) {
        let last_id = &mut self.last_id;
        let ledger = &mut self.ledger;
        let budget = &mut ledger.budget;
        let number = || {
            budget.admits_known(now).then(|| {
                let id = next_id(last_id);
                budget.note_sent(id, true);
                id
            })
        };
        for (id, kind, interest) in ledger.withdrawals.unsent(number) {
            let envelope = interest.envelope(id);
            self.link.send(&Message::Envelope(kind, envelope));
        }
    }
}

/// The payload of a failed RESPONSE.
fn failure(code: Code, text: &str) -> Vec<u8> {
    let mut payload = code.to_wire().to_be_bytes().to_vec();
    payload.extend_from_slice(clip(text).as_bytes());
    payload
}
