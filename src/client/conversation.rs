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

mod answer;
mod stand;

use super::access::{Access, Show};
use super::address::Address;
use super::builder::Options;
use super::credential::{Fetched, Source};
use super::error::{Error, passes};
use super::ledger::{Ledger, Stage};
use super::link::{Drain, Link};
use super::reconnect::Schedule;
use super::registry::Change;
use crate::base::clock::Instant;
use crate::proto::envelope::Envelope;
use crate::proto::error::Code;
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
    /// Where a credential is to be fetched from, which nobody does yet.
    fetch: Option<Source>,
    /// Why it will not go on, for good: the server would not have a session, or there is no
    /// credential for it.
    refusal: Option<Error>,
    /// CLOSE was said: what waits in the inbox holds nothing up any more.
    is_closing: bool,
    last_id: u32,
}

impl Conversation {
    /// Over its first link, whose SYN is written. Once that has stood, broken connections are
    /// made again by `schedule`; without one, a broken connection is the end.
    pub(super) fn new(link: Link, options: &Options, schedule: Option<Schedule>) -> Conversation {
        Conversation {
            link,
            state: State::Up,
            ledger: Ledger::new(options.session, options.inbox_bytes_max),
            schedule,
            open_by: Instant::NEVER,
            open_timeout: options.connect_timeout.saturating_mul(2),
            drained_at: None,
            access: Access::new(options.source.clone()),
            fetch: None,
            refusal: None,
            is_closing: false,
            last_id: 0,
        }
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

    /// Nothing is to be read: enough waits to be taken.
    pub(super) fn is_paused(&self) -> bool {
        self.can_answer() && self.ledger.inbox.is_full() && !self.is_closing
    }

    /// There is no connection, and when to make one.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.state {
            State::Down { retry_at } => Some(retry_at),
            _ => None,
        }
    }

    /// There is a connection, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// There is no connection, and there will be none.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
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
    pub(super) fn address(&self) -> Option<Address> {
        let schedule = self.schedule.as_ref();
        schedule.map(|schedule| schedule.address().clone())
    }

    /// When [`Conversation::handle_timeout`] wants to be called, while there is a connection.
    pub(super) fn timeout(&self) -> Instant {
        self.link.timeout().min(self.own_timeout())
    }

    /// As [`Conversation::timeout`], while nothing is read: the other side's silence aside.
    pub(super) fn own_timeout(&self) -> Instant {
        self.open_by.min(self.access.renew_at())
    }

    // ---- bytes and time in ----

    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) {
        let ledger = &mut self.ledger;
        self.link
            .receive(bytes, now, &mut |arrival| ledger.take(&arrival));
        self.settle(now);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if now >= self.link.timeout() && now < self.open_by {
            self.link.handle_timeout(now);
        }
        self.handle_own_timeout(now);
    }

    /// Acts on the deadlines of [`Conversation::own_timeout`].
    pub(super) fn handle_own_timeout(&mut self, now: Instant) {
        if now >= self.open_by {
            self.link.lose();
        } else {
            let show = self.access.renewal(now);
            self.show(show);
        }
        self.settle(now);
    }

    /// Where to fetch a credential from, now: its owner brings what came of it to
    /// [`Conversation::provide`]. Who is asked again forgets about the fetch before.
    pub(super) fn take_fetch(&mut self) -> Option<Source> {
        self.fetch.take()
    }

    /// A credential was fetched, or could not be.
    pub(super) fn provide(&mut self, fetched: Fetched, now: Instant) {
        match self.access.provide(fetched, now) {
            Ok(Some(credential)) => self.show(Show::Now(credential)),
            Ok(None) => {}
            Err(error) => self.give_up(error),
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
            self.fail_request(id, Code::NoService, "this client does not serve it");
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
            self.ledger.stood_count += 1;
            self.ledger.inbox.wake_all();
            self.open_by = Instant::NEVER;
            if let Some(schedule) = &mut self.schedule {
                schedule.open(now);
            }
            self.send_responses();
            self.send_withdrawals();
        }
        self.note_drain(now);
        if let Some(refusal) = self.ledger.session_refusal.take() {
            if !self.reconnects() || !passes(refusal.code) {
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
            && self.reconnects()
            && let Some(drain) = self.link.drain()
        {
            self.drained_at = Some(now);
            self.open_by = now + drain.deadline;
        }
    }

    /// Whether a broken connection is made again: the first one is not.
    fn reconnects(&self) -> bool {
        self.schedule.is_some() && self.ledger.has_stood
    }

    fn end(&mut self, now: Instant) {
        let passing = match self.link.is_denied() {
            true => self.access.refused(),
            false => self.link.ending().is_none_or(|error| error.is_retryable()),
        };
        self.access.disconnect();
        self.fetch = None;
        if !self.reconnects() || !passing {
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
        next_id(&mut self.last_id)
    }

    /// Sends an operation or a request whose answer `Ledger::take_answers` will have.
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

    /// Writes a PUBLISH; returns its id, 0 unless it is to be confirmed. `is_awaited`: that is
    /// an answer then, as to a request; else a failure is a complaint.
    ///
    /// # Errors
    /// `Invalid`: too large for the server, or the session has no ids left.
    pub(super) fn publish(
        &mut self,
        mut envelope: Envelope<'_>,
        confirm: bool,
        is_awaited: bool,
    ) -> Result<u32, Error> {
        self.fits(&envelope)?;
        if confirm {
            envelope.id = self.next_id();
            self.ledger
                .flight
                .push(&envelope, self.ledger.wants_session, is_awaited);
        }
        self.link
            .send(&Message::Envelope(MessageType::Publish, envelope));
        Ok(envelope.id)
    }

    /// Writes an ACK if one is due.
    pub(super) fn acknowledge(&mut self, idle: bool) {
        if self.can_answer()
            && let Some(received) = self.ledger.inbox.acknowledge(idle)
        {
            self.link.send(&Message::Ack { received });
        }
    }

    /// Sends a PING, whose PONG is an answer; returns its id.
    pub(super) fn ping(&mut self, payload: &[u8]) -> u32 {
        let id = self.next_id();
        self.ledger.ping(id, payload);
        self.link.send(&Message::Ping(payload));
        id
    }

    /// A sign of life while nothing is read, whose PONG nobody waits for.
    pub(super) fn nudge(&mut self) {
        if self.can_answer() {
            self.link.send(&Message::Ping(b"waiting"));
        }
    }

    /// Says CLOSE; whatever ends the connection now, or time `within` which the server did
    /// not answer, ends the conversation. Without a connection there is nobody to say it to,
    /// and none is made again.
    pub(super) fn close(&mut self, within: Duration, now: Instant) {
        self.schedule = None;
        self.is_closing = true;
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

/// Ids rise modulo 2^32; 0 is none.
fn next_id(last_id: &mut u32) -> u32 {
    *last_id = last_id.checked_add(1).unwrap_or(1);
    *last_id
}
