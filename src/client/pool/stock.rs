//! The pool's books: its connections, waiting callers, and counters.
//!
//! ```text
//!          dial                  put                     put
//!   (room) ───► dialing ─────────────► lent ◄──────────► idle
//!                  │ fails               │ faulty          │ too old, faulty
//!                  ▼                     ▼                 ▼
//!               (room)  ◄──────────── closing ◄────────────┘
//! ```
//!
//! Invariants, checked after every change in debug builds:
//! - `idle + dialing + closing ≤ open ≤ connections_max`; the rest of `open` is lent
//! - a caller waits only while nothing is idle
//! - `made` = connections ended + idle + lent
//!
//! Nothing here waits, spawns or locks: changes put connections to be closed into `leaving`, and
//! the caller that made the change closes them and starts the dials that are needed then
//! (`Shared::change`).

use super::maker::Maker;
use super::settings::Settings;
use super::status::{PoolStatus, Reason};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A connection and what the pool knows of it.
pub(super) struct Kept<C> {
    pub connection: C,
    /// When its lifetime ends.
    pub expires_at: Option<Instant>,
    /// Since when it has not been used.
    pub idle_since: Instant,
}

impl<C> Kept<C> {
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// A place in the queue of waiting callers: the smaller, the earlier.
pub(super) type Ticket = u64;

/// What a waiting caller gets.
pub(super) enum Grant<M: Maker> {
    Connection(Kept<M::Connection>),
    Failed(M::Error),
}

pub(super) struct Stock<M: Maker> {
    pub settings: Settings,
    /// The one used last is at the back, and lent next, so that the others reach their idle
    /// timeout.
    idle: VecDeque<Kept<M::Connection>>,
    /// The waiting callers, each woken when something is granted to it.
    waiting: BTreeMap<Ticket, oneshot::Sender<()>>,
    /// What has been granted and not yet collected. A connection here counts as lent.
    granted: HashMap<Ticket, Grant<M>>,
    next_ticket: Ticket,
    open: usize,
    dialing: usize,
    closing: usize,
    /// To be closed by the caller that made the change.
    pub leaving: Vec<M::Connection>,
    pub is_closed: bool,
    /// No dialing in advance before this time: a server that refused is left alone for a while.
    fill_at: Instant,
    /// Why the last attempt failed, if none has succeeded since.
    pub last_failure: Option<Arc<M::Error>>,
    /// The counters, in their fields of the status.
    counted: PoolStatus,
}

impl<M: Maker> Stock<M> {
    pub fn new(settings: Settings, now: Instant) -> Stock<M> {
        Stock {
            settings,
            idle: VecDeque::new(),
            waiting: BTreeMap::new(),
            granted: HashMap::new(),
            next_ticket: 0,
            open: 0,
            dialing: 0,
            closing: 0,
            leaving: Vec::new(),
            is_closed: false,
            fill_at: now,
            last_failure: None,
            counted: PoolStatus::default(),
        }
    }

    pub fn status(&self) -> PoolStatus {
        PoolStatus {
            connections_max: self.settings.connections_max,
            open: self.open,
            idle: self.idle.len(),
            lent: self.open - self.idle.len() - self.dialing - self.closing,
            dialing: self.dialing,
            closing: self.closing,
            waiting: self.waiting.len(),
            ..self.counted
        }
    }

    pub fn check_invariants(&self) {
        let max = self.settings.connections_max;
        debug_assert!(self.idle.len() + self.dialing + self.closing <= self.open);
        debug_assert!(self.open <= max, "{} of {max}", self.open);
        debug_assert!(self.waiting.is_empty() || self.idle.is_empty());
        let PoolStatus { lent, idle, .. } = self.status();
        let gone = self.counted.closed.sum();
        debug_assert_eq!(self.counted.made, gone + (idle + lent) as u64);
    }

    // ---- who wants one ----

    pub fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// The idle one that was used last, or a place in the queue, which keeps its order however
    /// often it is taken.
    pub fn take(&mut self, ticket: Ticket) -> Result<Kept<M::Connection>, oneshot::Receiver<()>> {
        self.idle.pop_back().ok_or_else(|| {
            let (sender, receiver) = oneshot::channel();
            self.waiting.insert(ticket, sender);
            receiver
        })
    }

    /// The caller with this place no longer waits; returns what has been granted to it.
    pub fn leave_line(&mut self, ticket: Ticket) -> Option<Grant<M>> {
        self.waiting.remove(&ticket);
        self.granted.remove(&ticket)
    }

    /// Grants it to the caller that has waited longest; returns it if no caller waits.
    fn grant(&mut self, grant: Grant<M>) -> Option<Grant<M>> {
        let Some((ticket, waiter)) = self.waiting.pop_first() else {
            return Some(grant);
        };
        self.granted.insert(ticket, grant);
        // A caller that has stopped listening is about to leave the queue, and finds it then.
        let _ = waiter.send(());
        None
    }

    pub fn count_acquired(&mut self) {
        self.counted.acquired += 1;
    }

    pub fn count_timed_out(&mut self) {
        self.counted.timed_out += 1;
    }

    // ---- what becomes of one ----

    /// Hands one to the caller that has waited longest, else returns it to the idle ones.
    pub fn put(&mut self, kept: Kept<M::Connection>) {
        if let Some(Grant::Connection(kept)) = self.grant(Grant::Connection(kept)) {
            self.idle.push_back(kept);
        }
    }

    /// A lent connection ends.
    pub fn retire(&mut self, connection: M::Connection, reason: Reason) {
        self.counted.closed.count(reason);
        if reason == Reason::Dead {
            // It is dropped: there is no peer to send CLOSE to.
            self.open -= 1;
        } else {
            self.closing += 1;
            self.leaving.push(connection);
        }
    }

    pub fn finish_closing(&mut self) {
        self.closing -= 1;
        self.open -= 1;
    }

    /// Ends idle ones that are too old, too many, or faulty.
    pub fn reap(&mut self, maker: &M, now: Instant) {
        let mut spare = self.idle.len().saturating_sub(self.settings.idle_min);
        // The oldest are at the front.
        for kept in std::mem::take(&mut self.idle) {
            let rested = now.saturating_duration_since(kept.idle_since);
            let is_spare = spare > 0 && rested >= self.settings.idle_timeout;
            let fault = maker.fault(&kept.connection);
            let expired = kept.is_expired(now).then_some(Reason::Lifetime);
            match fault.or(expired).or(is_spare.then_some(Reason::Idle)) {
                Some(reason) => {
                    spare = spare.saturating_sub(1);
                    self.retire(kept.connection, reason);
                }
                None => self.idle.push_back(kept),
            }
        }
    }

    /// One did not answer: the others that were silent as long lead to the same server, and each
    /// would time out in turn. If the server does answer, new ones are made soon.
    pub fn retire_doubtful(&mut self, maker: &M) {
        for kept in std::mem::take(&mut self.idle) {
            match maker.is_in_doubt(&kept.connection, self.settings.check_after) {
                true => self.retire(kept.connection, Reason::Dead),
                false => self.idle.push_back(kept),
            }
        }
    }

    /// Closes all idle connections, now and later, and wakes all waiting callers.
    pub fn close(&mut self) {
        self.is_closed = true;
        for kept in std::mem::take(&mut self.idle) {
            self.retire(kept.connection, Reason::Pool);
        }
        self.waiting.clear();
    }

    // ---- making new ones ----

    /// How many are wanted: one for each waiting caller, and the missing idle ones.
    fn wanted(&self, now: Instant) -> usize {
        if self.is_closed {
            return 0;
        }
        let missing = match self.fill_at <= now {
            true => self.settings.idle_min.saturating_sub(self.idle.len()),
            false => 0,
        };
        self.waiting.len() + missing
    }

    /// Reserves room for those that are wanted and not yet being made; returns how many to dial.
    pub fn begin_dials(&mut self, now: Instant) -> usize {
        let wanted = self.wanted(now).saturating_sub(self.dialing);
        let count = wanted.min(self.settings.connections_max - self.open);
        self.open += count;
        self.dialing += count;
        count
    }

    /// Whether one of those being made is still wanted.
    pub fn wants_dial(&self, now: Instant) -> bool {
        self.dialing <= self.wanted(now)
    }

    /// A dial has made one, which counts as lent until `put` or `retire`.
    pub fn finish_dial(&mut self) {
        self.dialing -= 1;
        self.counted.made += 1;
        self.last_failure = None;
    }

    /// A dial ends without a connection.
    pub fn abandon_dial(&mut self) {
        self.dialing -= 1;
        self.open -= 1;
    }

    /// An attempt has failed, and may succeed later.
    pub fn note_failure(&mut self, error: M::Error) {
        self.counted.failed += 1;
        self.last_failure = Some(Arc::new(error));
    }

    /// An attempt has failed in a way that retrying cannot fix: the caller that has waited
    /// longest gets the error.
    pub fn note_refusal(&mut self, error: M::Error, fill_at: Instant) {
        self.counted.failed += 1;
        self.fill_at = fill_at;
        self.grant(Grant::Failed(error));
    }
}
