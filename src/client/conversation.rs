//! A client's conversation with a server, over as many connections as it takes. No socket, no
//! clock, no waiting: every client is this plus a way to move bytes.
//!
//! ```text
//!            connect(link)           SYN-ACK        AUTH_OK
//!   Down ──────────────► Greeting ─────► [Proving] ─► [Joining] ──► Restoring ──► Open ──DRAIN──► Leaving
//!    ▲                           │  with a session: SESSION_OK       │ OK to each │                 │
//!    └── lost, and a schedule ───┴───────────────────────────────────┴────────────┴─────────────────┘
//!        says when to try again                        without a schedule, or for good: Over
//! ```
//!
//! - A session is resumed with its key and the count of received messages; PUBLISHes without an
//!   answer are sent again under their ids. If the session is unknown, a new one
//!   is started: subscriptions, services and the will are restored, and the PUBLISHes are
//!   repeated.
//! - Without a session, subscriptions, services and the will are restored, and PUBLISHes in
//!   flight fail.
//! - A draining server gets nothing new; the client reads until the server sends CLOSE, so that
//!   everything it still had for this client arrives, and then leaves. (CLOSE from this side
//!   would make the session drop what is in transit.)
//!
//! What it does not do: repeat requests and answers, since it cannot know whether they were
//! carried out.
//!
//! Invariants: operations are sent only while Open, answers also while Leaving; a broken
//! connection is either Down with a time to connect again, or Over.

mod answer;
mod say;
mod stand;

use super::access::{Access, Show};
use super::address::Address;
use super::builder::Options;
use super::credential::{Fetched, Source};
use super::error::{Error, passes};
use super::ledger::{Ledger, Stage};
use super::link::{Drain, Link};
use super::reconnect::Schedule;
use crate::base::clock::Instant;
use std::time::Duration;

/// The most requests that may wait to be declined.
const DECLINED_MAX: usize = 4096;

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
    /// By when the connection must be established or, if the server drains, have ended.
    open_by: Instant,
    open_timeout: Duration,
    /// When the server's DRAIN arrived.
    drained_at: Option<Instant>,
    access: Access,
    /// The source of a credential to be fetched, until the owner starts the fetch.
    fetch: Option<Source>,
    /// Why it has ended for good: the server refused the session, or there is no credential for it.
    refusal: Option<Error>,
    /// Why the connection is not re-established yet: the error of the last attempt.
    setback: Option<Error>,
    last_id: u32,
}

impl Conversation {
    /// Starts with its first link, whose SYN is written. Once that has been established, `schedule`
    /// re-establishes broken connections; without a schedule, a broken connection is the end.
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
            setback: None,
            last_id: 0,
        }
    }

    // ---- state ----

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Whether operations may be sent.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Up && self.ledger.stage == Stage::Open && self.drained_at.is_none()
    }

    /// Whether answers may be sent.
    pub(super) fn can_answer(&self) -> bool {
        self.state == State::Up && self.ledger.stage == Stage::Open
    }

    /// Whether reading is paused: enough messages wait to be taken, or requests to be declined. A
    /// connection that is being established goes on, whatever waits from before, until it brings
    /// more itself.
    pub(super) fn is_paused(&self) -> bool {
        let ledger = &self.ledger;
        let brings = ledger.stage == Stage::Open || ledger.has_brought;
        let is_enough = ledger.inbox.is_full() || ledger.declined.len() >= DECLINED_MAX;
        self.is_up() && brings && is_enough && !ledger.is_closing
    }

    /// Whether so much waits to be taken that no new connection may bring more.
    pub(super) fn is_overfull(&self) -> bool {
        self.ledger.inbox.is_overfull() && !self.ledger.is_closing
    }

    /// When to connect, if there is no connection.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.state {
            State::Down { retry_at } => Some(retry_at),
            _ => None,
        }
    }

    /// Whether there is a connection, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether it has ended: there is no connection, and there will be none.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// How it ended, if it has ended for good.
    pub(super) fn ending(&self) -> Option<Error> {
        if self.state != State::Over {
            return None;
        }
        match self.refusal.as_ref().or(self.setback.as_ref()) {
            Some(error) => Some(error.copy()),
            None => self.link.ending(),
        }
    }

    /// Why the connection is not re-established, while it is not.
    pub(super) fn setback(&self) -> Option<Error> {
        self.setback.as_ref().map(Error::copy)
    }

    /// The address of the next connection.
    pub(super) fn address(&self) -> Option<Address> {
        let schedule = self.schedule.as_ref();
        schedule.map(|schedule| schedule.address().clone())
    }

    /// When to call [`Conversation::handle_timeout`], while there is a connection.
    pub(super) fn timeout(&self) -> Instant {
        self.link.timeout().min(self.own_timeout())
    }

    /// As [`Conversation::timeout`], while reading is paused: without the deadline for the other
    /// side's silence.
    pub(super) fn own_timeout(&self) -> Instant {
        let open_by = match self.is_held_up() {
            true => Instant::NEVER,
            false => self.open_by,
        };
        let renewal = self.access.renew_at();
        open_by.min(renewal).min(self.ledger.budget.timeout())
    }

    /// Reading is paused before the connection is established: that takes until the application
    /// takes its messages.
    fn is_held_up(&self) -> bool {
        self.is_paused() && self.ledger.stage != Stage::Open
    }

    // ---- bytes and time in ----

    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) {
        let ledger = &mut self.ledger;
        self.link
            .receive(bytes, now, &mut |arrival| ledger.take(&arrival, now));
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
        self.ledger.budget.expire(now);
        if now >= self.open_by && !self.is_held_up() {
            self.link.lose();
        } else {
            let show = self.access.renewal(now);
            self.show(show);
        }
        self.settle(now);
    }

    /// The source to fetch a credential from now: the owner passes the result to
    /// [`Conversation::provide`]. Each new fetch replaces the previous one.
    pub(super) fn take_fetch(&mut self) -> Option<Source> {
        self.fetch.take()
    }

    /// A credential was fetched, or could not be.
    pub(super) fn provide(&mut self, fetched: Fetched, now: Instant) {
        match self.access.provide(fetched, now) {
            Ok(Some(credential)) => self.show(Show::Now(credential)),
            Ok(None) => {}
            Err(error) if self.reconnects() => self.set_back(error),
            Err(error) => self.give_up(error),
        }
        self.settle(now);
    }

    /// Reading goes on: see [`Link::resume`].
    pub(super) fn resume(&mut self, now: Instant) {
        self.link.resume(now);
        if self.ledger.stage != Stage::Open && !self.ledger.is_closing {
            self.open_by = now + self.open_timeout;
        }
    }

    /// The stream has ended or broken.
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

    /// The attempt to connect failed.
    pub(super) fn connect_failed(&mut self, error: Error, now: Instant) {
        self.setback = Some(error);
        self.retry(None, now);
    }

    /// Acts on the changes by the last arrivals.
    fn settle(&mut self, now: Instant) {
        if self.state != State::Up {
            return;
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
            Stage::Joined { resumed: true } => self.repeat(),
            Stage::Joined { resumed: false } => {
                self.restore();
                self.repeat();
            }
            _ => {}
        }
        self.go_on_restoring(now);
        self.decline();
        if self.ledger.stage == Stage::Restoring && self.ledger.is_restored() {
            self.ledger.stage = Stage::Open;
            self.ledger.has_stood = true;
            self.ledger.stood_count += 1;
            self.setback = None;
            self.ledger.inbox.wake_all();
            self.open_by = Instant::NEVER;
            if let Some(schedule) = &mut self.schedule {
                schedule.open(now);
            }
            self.send_responses();
        }
        self.note_drain(now);
        if self.is_open() {
            self.send_withdrawals(now);
            self.mark();
        }
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

    /// From the DRAIN on nothing new is sent, and the server has a limited time to send CLOSE.
    fn note_drain(&mut self, now: Instant) {
        if self.drained_at.is_none()
            && self.reconnects()
            && let Some(drain) = self.link.drain()
        {
            self.drained_at = Some(now);
            self.open_by = now + drain.deadline;
        }
    }

    /// Whether a broken connection is re-established: not the first one, before it was established.
    fn reconnects(&self) -> bool {
        self.schedule.is_some() && self.ledger.has_stood
    }

    fn end(&mut self, now: Instant) {
        let passing = match self.link.is_denied() {
            true => self.access.refused(),
            false => {
                // A connection ended for too many ERRORs says nothing about the next one.
                let ending = self.link.ending();
                self.link.is_shut_out() || ending.is_none_or(|error| error.is_retryable())
            }
        };
        self.access.disconnect();
        self.fetch = None;
        if !self.reconnects() || !passing {
            self.setback = None; // what ended it has been said by the server, or by the stream
            self.state = State::Over;
            return;
        }
        if self.ledger.stage != Stage::Open
            && let Some(error) = self.link.ending().filter(|error| error.code().is_some())
        {
            self.setback = Some(error);
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
}

/// Ids increase modulo 2^32; 0 is not an id.
fn next_id(last_id: &mut u32) -> u32 {
    *last_id = last_id.checked_add(1).unwrap_or(1);
    *last_id
}
