//! Ending in order: every client is told, what was taken is answered, then CLOSE.
//!
//! ```text
//!   Drain(deadline) ── DRAIN to each client, no more accepting
//!        │  each connection: nothing unanswered and quiet for 100 ms ──► CLOSE
//!        ├── ¾ of the time gone: CLOSE to all that are left
//!        └── just before the deadline: whatever is left is cut
//! ```
//!
//! Requests that arrive after DRAIN are still answered: they may have been sent before it
//! was read. A client that wants to lose nothing stops asking when it reads DRAIN.

use super::Shard;
use super::connection::{Connection, Stage};
use super::resource::Resources;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::reason::Reason;
use crate::proto::error::Code;
use crate::proto::message::Message;
use crate::ring::driver::Driver;
use std::time::Duration;

/// How long a connection must have been silent to count as done.
const QUIET: Duration = Duration::from_millis(100);
/// How often a draining shard looks for connections that are done.
const STEP: Duration = Duration::from_millis(25);

pub(super) struct Drain {
    /// From here on every connection is told to end.
    close_all: Instant,
    deadline: Instant,
    next_look: Instant,
}

impl Drain {
    pub(super) fn next_step(&self, now: Instant) -> Instant {
        self.next_look.max(now)
    }
}

impl<D: Driver> Shard<D> {
    pub(super) fn start_drain(&mut self, deadline: Instant) {
        if self.drain.is_some() {
            return;
        }
        self.driver.stop_accepting();
        self.exchange.draining = true;
        self.accept_again = Instant::NEVER;
        let now = self.exchange.resources.now;
        let left = deadline.since(now);
        let close_all = now + left * 3 / 4;
        // A little early, so that by the deadline the process has ended too.
        let deadline = now + left * 19 / 20;
        self.drain = Some(Drain {
            close_all,
            deadline,
            next_look: now + STEP,
        });
        tracing::info!(
            shard = self.id.0,
            connections = self.exchange.connections.len(),
            "draining"
        );

        // A session cannot be resumed here any more: nobody is let in.
        while self.end_oldest_session() {}
        for key in self.keys() {
            let spread_ms = self.spread(left);
            let Some(connection) = self.exchange.connections.get_mut(key) else {
                continue;
            };
            connection.tell_drain(left, spread_ms, &mut self.exchange.resources);
            self.exchange.touch(key);
        }
    }

    /// A moment within which clients spread their reconnects, so that they do not all come
    /// at once.
    fn spread(&mut self, left: Duration) -> u32 {
        let most = u32::try_from(left.as_millis() / 2)
            .unwrap_or(u32::MAX)
            .max(1);
        self.exchange.entropy.u32() % most
    }

    pub(super) fn step_drain(&mut self) {
        let now = self.exchange.resources.now;
        let Some(drain) = &mut self.drain else { return };
        if now < drain.next_look {
            return;
        }
        drain.next_look = now + STEP;
        let (close_all, cut) = (now >= drain.close_all, now >= drain.deadline);
        for key in self.keys() {
            let Some(connection) = self.exchange.connections.get_mut(key) else {
                continue;
            };
            connection.step_drain(close_all, cut, &mut self.exchange.resources);
            self.exchange.touch(key);
        }
    }

    fn keys(&self) -> Vec<Key> {
        self.exchange.connections.keys().collect()
    }
}

impl Connection {
    fn tell_drain(&mut self, left: Duration, reconnect_after_ms: u32, resources: &mut Resources) {
        if self.stage != Stage::Running {
            return;
        }
        if self.line.session.is_open() {
            let deadline_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
            let drain = Message::Drain {
                deadline_ms,
                reconnect_after_ms,
                alternative: "",
            };
            self.line.send(&drain, resources);
        } else if !self.line.session.is_established() {
            self.close(
                Code::Draining,
                "this server is ending",
                Reason::Drained,
                resources,
            );
        }
    }

    fn step_drain(&mut self, close_all: bool, cut: bool, resources: &mut Resources) {
        if cut {
            return self.abort(Reason::Shutdown, resources);
        }
        if self.stage != Stage::Running {
            return;
        }
        let quiet = resources.now.since(self.line.session.heard()) >= QUIET;
        let line = &self.line;
        let unsent = line.shelved || !line.outbox.is_empty();
        let done = !line.is_owed_answers() && !unsent && quiet;
        if done && !self.ready {
            self.close(
                Code::Shutdown,
                "this server is ending",
                Reason::Drained,
                resources,
            );
        } else if close_all {
            self.close(
                Code::Shutdown,
                "this server is ending",
                Reason::Shutdown,
                resources,
            );
        }
    }
}
