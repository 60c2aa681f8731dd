//! Sending: operations and requests, PUBLISHes, acknowledgements, PING and CLOSE.

use super::{Conversation, State, next_id};
use crate::base::clock::Instant;
use crate::client::budget::MARK;
use crate::client::clock;
use crate::client::error::Error;
use crate::client::ledger::Stage;
use crate::client::registry::Change;
use crate::proto::envelope::Envelope;
use crate::proto::message::{Message, MessageType};
use std::time::Duration;

impl Conversation {
    /// An id that is not in use, so that late answers match nothing.
    fn next_id(&mut self) -> u32 {
        next_id(&mut self.last_id)
    }

    /// Sends an operation or a request; `Ledger::take_answers` will return its answer.
    ///
    /// # Errors
    /// `Invalid` if it is too large for the server.
    pub(in crate::client) fn ask(
        &mut self,
        kind: MessageType,
        mut envelope: Envelope<'_>,
        change: Change,
    ) -> Result<u32, Error> {
        self.fits(&envelope)?;
        envelope.id = self.next_id();
        self.ledger.ask(envelope.id, kind, change);
        if kind != MessageType::Request {
            self.ledger.budget.note_sent(envelope.id, false);
        }
        self.link.send(&Message::Envelope(kind, envelope));
        Ok(envelope.id)
    }

    /// Writes a PUBLISH; returns its id, 0 unless it is to be confirmed. `is_awaited`: a caller
    /// waits for the confirmation as for an answer; otherwise a failure becomes a complaint.
    ///
    /// # Errors
    /// `Invalid`: too large for the server, or the session has no ids left.
    pub(in crate::client) fn publish(
        &mut self,
        mut envelope: Envelope<'_>,
        confirm: bool,
        is_awaited: bool,
    ) -> Result<u32, Error> {
        self.fits(&envelope)?;
        let is_behind = self.ledger.flight.len() > 0;
        if confirm {
            envelope.id = self.next_id();
            self.ledger
                .flight
                .push(&envelope, self.ledger.wants_session, is_awaited);
        }
        self.link
            .send(&Message::Envelope(MessageType::Publish, envelope));
        let (id, topic, budget) = (envelope.id, envelope.name, &mut self.ledger.budget);
        if budget.note_publish(id, topic, self.last_id, is_behind) {
            self.link.send(&Message::Ping(MARK));
        }
        Ok(envelope.id)
    }

    /// Whether a PUBLISH on this topic may be sent without the risk that refusals, of this or
    /// others, end the connection; see [`budget`](crate::client::budget).
    pub(in crate::client) fn admits_publish(&mut self, topic: &str) -> bool {
        self.ledger.budget.admits_publish(topic, clock::now)
    }

    /// Whether another operation may be sent.
    pub(in crate::client) fn admits_operation(&mut self) -> bool {
        self.ledger.budget.admits(clock::now())
    }

    /// Sends a PING to learn how far the server is, if what was sent requires it.
    pub(super) fn mark(&mut self) {
        if self.ledger.budget.mark() {
            self.link.send(&Message::Ping(MARK));
        }
    }

    /// Writes an ACK if one is due, and declines waiting requests.
    pub(in crate::client) fn acknowledge(&mut self, idle: bool) {
        self.decline();
        if self.can_answer()
            && let Some(received) = self.ledger.inbox.acknowledge(idle)
        {
            self.link.send(&Message::Ack { received });
        }
    }

    /// Sends a PING, whose PONG counts as an answer; returns its id.
    pub(in crate::client) fn ping(&mut self, payload: &[u8]) -> u32 {
        let id = self.next_id();
        self.ledger.ping(id, payload);
        self.link.send(&Message::Ping(payload));
        id
    }

    /// Sends a PING as a sign of life while reading is paused; its PONG is ignored.
    pub(in crate::client) fn nudge(&mut self) {
        if self.is_up() && self.ledger.stage != Stage::Greeting {
            self.link.send(&Message::Ping(b"waiting"));
        }
    }

    /// Sends CLOSE. Whatever ends the connection now, or no answer `within` this time, ends the
    /// conversation. Without a connection, it only stops reconnecting.
    pub(in crate::client) fn close(&mut self, within: Duration, now: Instant) {
        self.schedule = None;
        self.ledger.is_closing = true;
        match self.state {
            State::Down { .. } => self.state = State::Over,
            State::Over => {}
            State::Up => {
                self.open_by = self.open_by.min(now + within);
                self.link.close();
                if self.ledger.stage == Stage::Greeting {
                    self.link.lose(); // it was RST: nobody answers that
                    self.settle(now);
                }
            }
        }
    }

    pub(in crate::client) fn unsent(&self) -> &[u8] {
        self.link.unsent()
    }

    pub(in crate::client) fn advance(&mut self, count: usize) {
        self.link.advance(count);
    }

    pub(super) fn fits(&self, envelope: &Envelope<'_>) -> Result<(), Error> {
        let (bytes, bytes_max) = (envelope.encoded_len(), self.link.body_bytes_max());
        if bytes > bytes_max {
            return Err(Error::invalid(format!(
                "a message of {bytes} bytes; the server accepts at most {bytes_max} (its \
                 limits.message_bytes_max)"
            )));
        }
        Ok(())
    }
}
