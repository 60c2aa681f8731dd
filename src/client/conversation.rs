//! A client's talk with a server, over as many connections as it takes. No socket, no clock,
//! no waiting: any client is this and a way to move bytes.
//!
//! ```text
//!            connect(link)           SYN-ACK        AUTH_OK
//!   Down ──────────────► Greeting ─────► [Proving] ─► [Joining] ──► Restoring ──► Open ──DRAIN──► Leaving
//!    ▲                           │  with a session: SESSION_OK       │ OK to each │                 │
//!    └── lost, and a schedule ───┴───────────────────────────────────┴────────────┴─────────────────┘
//!        says when to try again                        without a schedule, or for good: Over
//! ```
//!
//! - A session is resumed with its key and the count of what was received; PUBLISHes that
//!   the server does not know are sent again under their ids. An unknown session is begun
//!   anew: subscriptions, services and the will are asked for again, and so are the PUBLISHes.
//! - Without a session all that stood at the server is asked for again, and PUBLISHes in
//!   flight become an error.
//! - A server that drains gets nothing new, is read until it says CLOSE, so that whatever it
//!   still had for this client has come, and left then. (CLOSE from this side would make the
//!   session drop what was on its way.)
//!
//! What it does not do: repeat requests and answers, of which nobody could tell whether they
//! were carried out.
//!
//! Invariants: operations are sent only while Open, answers also while Leaving; a broken
//! connection is either Down with a time to connect again, or Over.

mod stand;

use super::access::Access;
use super::credential::Source;
use super::error::{Error, passes};
use super::incoming::{Incoming, IncomingRequest};
use super::ledger::{Ledger, Stage};
use super::link::{Drain, Link};
use super::reconnect::Schedule;
use super::registry::Change;
use super::request::Response;
use crate::base::clock::Instant;
use crate::proto::envelope::{Codec, Envelope, FLAG_FAILED};
use crate::proto::error::{Code, clip};
use crate::proto::message::{Message, MessageType};
use std::time::Duration;

/// Whether there is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Down { retry_at: Instant },
    Over,
}

pub(super) struct Conversation {
    link: Link,
    state: State,
    pub(super) ledger: Ledger,
    schedule: Option<Schedule>,
    /// By when the connection must stand; or, of a server that drains, have ended.
    open_by: Instant,
    open_timeout: Duration,
    /// When the server said that it drains.
    drained_at: Option<Instant>,
    access: Access,
    /// Why it will not go on, for good: the server would not have a session, or there is no
    /// credential for it.
    refusal: Option<Error>,
    last_id: u32,
    /// Ids have been given out twice: those of a session must rise.
    ids_wrapped: bool,
}

impl Conversation {
    /// Over its first link, whose SYN is written. `open_timeout` bounds how long each later
    /// connection may take to stand.
    pub(super) fn new(
        link: Link,
        wants_session: bool,
        inbox_bytes_max: usize,
        open_timeout: Duration,
        source: Option<Source>,
    ) -> Conversation {
        Conversation {
            link,
            state: State::Up,
            ledger: Ledger::new(wants_session, inbox_bytes_max),
            schedule: None,
            open_by: Instant::NEVER,
            open_timeout,
            drained_at: None,
            access: Access::new(source),
            refusal: None,
            last_id: 0,
            ids_wrapped: false,
        }
    }

    /// From now on a broken connection is made again; with `None`, it is the end.
    pub(super) fn reconnect_by(&mut self, schedule: Option<Schedule>) {
        self.schedule = schedule;
    }

    // ---- what it knows ----

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Operations may be sent.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Up && self.ledger.stage == Stage::Open && self.drained_at.is_none()
    }

    /// Answers may be sent.
    pub(super) fn can_answer(&self) -> bool {
        self.state == State::Up && self.ledger.stage == Stage::Open
    }

    /// There is no connection, and when to make one.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.state {
            State::Down { retry_at } => Some(retry_at),
            _ => None,
        }
    }

    /// How it ended, if it did so for good.
    pub(super) fn ending(&self) -> Option<Error> {
        if self.state != State::Over {
            return None;
        }
        match &self.refusal {
            Some(Error::Failed { code, text }) => Some(Error::Failed {
                code: *code,
                text: text.clone(),
            }),
            Some(Error::Credential { text }) => Some(Error::Credential { text: text.clone() }),
            _ => self.link.ending(),
        }
    }

    /// Where the next connection goes.
    pub(super) fn schedule(&self) -> Option<&Schedule> {
        self.schedule.as_ref()
    }

    /// When [`Conversation::handle_timeout`] wants to be called, while there is a connection.
    pub(super) fn timeout(&self) -> Instant {
        let link = self.link.timeout().min(self.open_by);
        link.min(self.access.renew_at())
    }

    // ---- bytes and time in ----

    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) {
        let ledger = &mut self.ledger;
        self.link
            .receive(bytes, now, &mut |arrival| ledger.take(&arrival));
        self.settle(now);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if now >= self.open_by {
            self.link.lose();
        } else if now >= self.link.timeout() {
            self.link.handle_timeout(now);
        } else if let Some(credential) = self.access.renewal(now) {
            self.authenticate(&credential);
        }
        self.settle(now);
    }

    /// A call begins: see [`Link::resume`].
    pub(super) fn resume(&mut self, now: Instant) {
        self.link.resume(now);
    }

    /// The stream ended or broke.
    pub(super) fn lose(&mut self, now: Instant) {
        self.link.lose();
        self.settle(now);
    }

    /// A new connection, whose SYN is written.
    pub(super) fn connect(&mut self, link: Link, now: Instant) {
        self.link = link;
        self.state = State::Up;
        self.drained_at = None;
        self.open_by = now + self.open_timeout;
        self.ledger.stage = Stage::Greeting;
    }

    /// Nobody could be connected to.
    pub(super) fn connect_failed(&mut self, now: Instant) {
        self.retry(None, now);
    }

    /// Acts on what the last arrivals have changed.
    fn settle(&mut self, now: Instant) {
        if self.state != State::Up {
            return;
        }
        for id in std::mem::take(&mut self.ledger.declined) {
            self.fail_request(id, Code::NoService, "this client serves nothing");
        }
        if self.ledger.stage == Stage::Greeted {
            self.introduce();
        }
        if let Some(login) = self.ledger.login.take() {
            self.access.accept(login, now);
        }
        match self.ledger.stage {
            Stage::Admitted if self.ledger.wants_session => self.join(),
            Stage::Admitted => {
                self.ledger.renew();
                self.restore();
            }
            Stage::Unknown => {
                self.ledger.key = None;
                self.join();
            }
            Stage::Joined { resumed: true } => {
                self.ledger.stage = Stage::Restoring;
                self.repeat();
            }
            Stage::Joined { resumed: false } => {
                self.restore();
                self.repeat();
            }
            _ => {}
        }
        if self.ledger.stage == Stage::Restoring && self.ledger.is_restored() {
            self.ledger.stage = Stage::Open;
            self.ledger.has_stood = true;
            self.open_by = Instant::NEVER;
            if let Some(schedule) = &mut self.schedule {
                schedule.open(now);
            }
        }
        self.note_drain(now);
        if let Some(refusal) = self.ledger.session_refusal.take() {
            if self.schedule.is_none() || !passes(refusal.code) {
                self.schedule = None;
                let (code, text) = (refusal.code, refusal.text.into_owned());
                self.refusal = Some(Error::Failed { code, text });
            }
            self.link.lose();
        }
        if self.link.is_ended() {
            self.end(now);
        }
    }

    /// From the DRAIN on nothing new is sent, and the server has its time to say CLOSE.
    fn note_drain(&mut self, now: Instant) {
        if self.drained_at.is_none()
            && self.schedule.is_some()
            && let Some(drain) = self.link.drain()
        {
            self.drained_at = Some(now);
            self.open_by = now + drain.deadline;
        }
    }

    fn end(&mut self, now: Instant) {
        let passing = match self.link.is_denied() {
            true => self.access.refused(),
            false => self.link.ending().is_none_or(|error| error.is_retryable()),
        };
        self.access.disconnect();
        if self.schedule.is_none() || !passing {
            self.state = State::Over;
            return;
        }
        let drain = self.link.drain().cloned().zip(self.drained_at.take());
        self.retry(drain, now);
    }

    fn retry(&mut self, drain: Option<(Drain, Instant)>, now: Instant) {
        let drain = drain.as_ref().map(|(drain, told)| (drain, *told));
        let schedule = self.schedule.as_mut();
        self.open_by = Instant::NEVER;
        match schedule.and_then(|schedule| schedule.fail(drain, now)) {
            Some(retry_at) => {
                self.ledger.disconnect();
                self.state = State::Down { retry_at };
            }
            None => self.state = State::Over,
        }
    }

    // ---- messages out ----

    /// A number that is nobody's in the present, so that late answers find nobody.
    fn next_id(&mut self) -> u32 {
        next_id(&mut self.last_id, &mut self.ids_wrapped)
    }

    /// Sends an operation or a request whose answer [`Conversation::take_answer`] will have.
    ///
    /// # Errors
    /// `Invalid` if it is too large for the server.
    pub(super) fn ask(
        &mut self,
        kind: MessageType,
        mut envelope: Envelope<'_>,
        change: Change,
    ) -> Result<u32, Error> {
        self.fits(&envelope)?;
        envelope.id = self.next_id();
        self.ledger.ask(envelope.id, kind, change);
        self.link.send(&Message::Envelope(kind, envelope));
        Ok(envelope.id)
    }

    pub(super) fn take_answer(&mut self, id: u32) -> Option<Result<Response, Error>> {
        self.ledger.take_answer(id)
    }

    /// Writes a PUBLISH; returns its id, 0 unless it is to be confirmed.
    ///
    /// # Errors
    /// `Invalid`: too large for the server, or the session has no ids left.
    pub(super) fn publish(
        &mut self,
        mut envelope: Envelope<'_>,
        confirm: bool,
    ) -> Result<u32, Error> {
        self.fits(&envelope)?;
        if confirm {
            envelope.id = self.next_id();
            if self.ids_wrapped && self.ledger.wants_session {
                return Err(Error::invalid(
                    "this session has used all its ids (4,294,967,295 operations); connect again",
                ));
            }
            self.ledger
                .flight
                .push(&envelope, self.ledger.wants_session);
        }
        self.link
            .send(&Message::Envelope(MessageType::Publish, envelope));
        Ok(envelope.id)
    }

    /// Answers a request, unless its requester has been told that nobody will.
    ///
    /// # Errors
    /// `Invalid` if it is too large for the server.
    pub(super) fn respond(
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
            self.link
                .send(&Message::Envelope(MessageType::Response, envelope));
        }
        Ok(())
    }

    pub(super) fn respond_failed(&mut self, request: &IncomingRequest, code: Code, text: &str) {
        if request.epoch == self.ledger.epoch {
            self.fail_request(request.id, code, text);
        }
    }

    fn fail_request(&mut self, id: u32, code: Code, text: &str) {
        let mut payload = code.to_wire().to_be_bytes().to_vec();
        payload.extend_from_slice(clip(text).as_bytes());
        let envelope = Envelope {
            id,
            flags: FLAG_FAILED,
            codec: Codec::Bytes,
            payload: &payload,
            ..Envelope::default()
        };
        self.link
            .send(&Message::Envelope(MessageType::Response, envelope));
    }

    /// The next for the application, which has dealt with the one before.
    pub(super) fn take_incoming(&mut self) -> Option<Incoming> {
        let open = self.ledger.stage == Stage::Open;
        self.ledger.inbox.take(open)
    }

    /// Writes an ACK if one is due.
    pub(super) fn acknowledge(&mut self, idle: bool) {
        if self.can_answer()
            && let Some(received) = self.ledger.inbox.acknowledge(idle)
        {
            self.link.send(&Message::Ack { received });
        }
    }

    pub(super) fn ping(&mut self, payload: &[u8]) {
        self.ledger.take_pong(); // a late one
        self.link.send(&Message::Ping(payload));
    }

    /// Says CLOSE; whatever ends the connection now ends the conversation. Without a
    /// connection there is nobody to say it to, and none is made again.
    pub(super) fn close(&mut self) {
        self.schedule = None;
        match self.state {
            State::Down { .. } => self.state = State::Over,
            State::Up | State::Over => self.link.close(),
        }
    }

    pub(super) fn unsent(&self) -> &[u8] {
        self.link.unsent()
    }

    pub(super) fn advance(&mut self, count: usize) {
        self.link.advance(count);
    }

    fn fits(&self, envelope: &Envelope<'_>) -> Result<(), Error> {
        let (bytes, bytes_max) = (envelope.encoded_len(), self.link.body_bytes_max());
        if bytes > bytes_max {
            return Err(Error::invalid(format!(
                "a message of {bytes} bytes; the server takes at most {bytes_max} \
                 (its limits.message_bytes_max)"
            )));
        }
        Ok(())
    }
}

fn next_id(last_id: &mut u32, wrapped: &mut bool) -> u32 {
    *last_id = last_id.checked_add(1).unwrap_or_else(|| {
        *wrapped = true;
        1
    });
    *last_id
}
