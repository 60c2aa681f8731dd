//! One turn of a shard, in the order ARCHITECTURE gives: collect completions, handle what
//! came, then commands, finished calls, timers; settle the connections touched; sleep in
//! the next poll if nothing is left to do.
//!
//! Everything is bounded: completions by configuration, messages of one connection by
//! `MESSAGES_PER_TURN`, commands and timers by constants. What is over waits a turn.

use super::Shard;
use super::command::Command;
use super::outbox::give_back;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::{COMMANDS_PER_TURN, TIMERS_PER_TURN};
use crate::base::reason::Reason;
use crate::metrics::counter::Counter;
use crate::metrics::histogram::{Histograms, Timing};
use crate::ring::driver::{Chunk, Completion, Driver, Received};
use crate::shard::connection::Receive;
use std::io;
use std::time::Duration;

/// What comes after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Another turn.
    Next,
    /// Nothing: the shard has drained.
    Ended,
}

/// Receives re-armed in a turn at most when no buffer came back in it: a way out of the
/// corner where all of them had been out at once.
const STARVED_PER_TURN: usize = 16;

impl<D: Driver> Shard<D> {
    /// Makes one turn. It begins by waiting for something to do, for `sleep_max` at most;
    /// zero: not at all.
    ///
    /// # Errors
    /// The driver's ring is broken; the shard cannot go on.
    pub fn turn(&mut self, sleep_max: Duration) -> io::Result<Turn> {
        let until = self.sleep_until(sleep_max);
        let inbox = &self.inbox;
        self.driver
            .poll(self.completions_per_turn, until, &mut || inbox.is_empty())?;
        self.resources.now = self.driver.now();
        self.resources.counters.add(Counter::Turns, 1);
        self.resources
            .histograms
            .record(Timing::Turn, self.driver.turn_time());

        while let Some(completion) = self.driver.next() {
            self.take_completion(completion);
        }
        self.resume_ready();
        self.take_commands();
        self.take_finished_calls();
        self.fire_timers();
        self.rearm_starved();
        self.step_drain();
        self.settle_touched();

        // The accept may still bring a connection, which has to be closed.
        let ended = self.drain.is_some() && self.connections.is_empty() && !self.accepting;
        Ok(if ended { Turn::Ended } else { Turn::Next })
    }

    /// How long the next poll may sleep: `None` when there is work left.
    fn sleep_until(&self, sleep_max: Duration) -> Option<Instant> {
        let idle = self.ready.is_empty()
            && self.starved.is_empty()
            && self.touched.is_empty()
            && self.resources.calls.is_idle();
        if !idle || sleep_max.is_zero() {
            return None;
        }
        let now = self.resources.now;
        let next = [
            self.timers.next_due(),
            self.resources.calls.next_deadline(),
            Some(self.accept_again),
            self.drain.as_ref().map(|drain| drain.next_step(now)),
        ];
        let capped = now + sleep_max;
        Some(next.into_iter().flatten().fold(capped, Instant::min))
    }

    #[inline]
    fn take_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Received { key, result, more } => self.take_received(key, result, more),
            Completion::Sent { key, result, chunk } => self.take_sent(key, result, chunk),
            Completion::Accepted(socket) => self.take_accepted(socket),
            Completion::AcceptEnded(error) => self.take_accept_ended(error),
        }
    }

    #[inline]
    fn take_received(&mut self, key: Key, result: Received, more: bool) {
        let Some(connection) = self.connections.get_mut(key) else {
            // A completion of a dead generation: its buffer still goes back.
            debug_assert!(false, "a slot was freed with its receive in flight");
            if let Received::Data(buffer) = result {
                self.driver.release(buffer);
            }
            return;
        };
        if !more {
            connection.receive = Receive::Off;
        }
        match result {
            Received::Data(buffer) => {
                let listed = connection.ready;
                let bytes = self.driver.bytes(&buffer);
                connection.take_bytes(bytes, &mut self.services, &mut self.resources);
                self.driver.release(buffer);
                self.buffers_released += 1;
                if connection.ready && !listed {
                    self.ready.push_back(key);
                }
            }
            Received::End => connection.take_end(&mut self.resources),
            Received::NoBuffers => {
                self.resources.counters.add(Counter::BuffersExhausted, 1);
                if !connection.starved {
                    connection.starved = true;
                    self.starved.push_back(key);
                }
            }
            Received::Stopped => {}
            Received::Failed(_) => {
                connection.peer_ended = true;
                connection.abort(Reason::PeerReset, &mut self.resources);
            }
        }
        self.touch(key);
    }

    #[inline]
    fn take_sent(&mut self, key: Key, result: io::Result<usize>, chunk: Chunk) {
        let Some(connection) = self.connections.get_mut(key) else {
            debug_assert!(false, "a slot was freed with its send in flight");
            give_back(chunk, &mut self.resources.pool);
            return;
        };
        connection.sending = false;
        connection.take_sent(&mut self.driver, result, chunk, &mut self.resources);
        if connection.unstall(&self.resources) {
            self.ready.push_back(key);
        }
        self.touch(key);
    }

    /// Puts a connection on the list to settle this turn.
    #[inline]
    pub(super) fn touch(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.touched
        {
            connection.touched = true;
            self.touched.push(key);
        }
    }

    fn resume_ready(&mut self) {
        // As many as wait now: who is still not done waits for the next turn.
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            if let Some(connection) = self.connections.get_mut(key) {
                connection.resume(&mut self.services, &mut self.resources);
                if connection.ready {
                    self.ready.push_back(key);
                }
                self.touch(key);
            }
        }
    }

    fn take_commands(&mut self) {
        for _ in 0..COMMANDS_PER_TURN {
            let Some(command) = self.inbox.pop() else {
                break;
            };
            match command {
                Command::Adopt(socket) => self.adopt(socket),
                Command::Finish(call, outcome) => self.finish_call(call, outcome),
                Command::Drain(deadline) => self.start_drain(deadline),
                Command::Collect(empty) => self.collect_histograms(empty),
                Command::Peers(mailboxes) => self.peers = mailboxes,
            }
        }
    }

    fn collect_histograms(&mut self, empty: Box<Histograms>) {
        let full = std::mem::replace(&mut self.resources.histograms, empty);
        // Nobody listens any more when the server is ending.
        let _ = self.histograms_out.try_send((self.id, full));
    }

    fn take_finished_calls(&mut self) {
        while let Some((call, outcome)) = self.resources.calls.pop_finished() {
            self.finish_call(call, outcome);
        }
        while let Some(asked) = self.resources.calls.pop_overdue(self.resources.now) {
            if let Some(connection) = self.connections.get_mut(asked.connection) {
                connection.time_out_call(asked.id, &mut self.resources);
                self.touch(asked.connection);
            }
        }
    }

    fn finish_call(&mut self, call: Key, outcome: super::Outcome) {
        let Some(call) = self.resources.calls.take(call) else {
            return;
        };
        let asked = call.asked;
        self.resources
            .histograms
            .record(Timing::Call, self.resources.now.since(call.began));
        let Some(connection) = self.connections.get_mut(asked.connection) else {
            return self.resources.counters.add(Counter::AnswersLate, 1);
        };
        if call.timed_out {
            return self.resources.counters.add(Counter::AnswersLate, 1);
        }
        connection.answer(asked.id, asked.codec, outcome, &mut self.resources);
        self.touch(asked.connection);
    }

    fn fire_timers(&mut self) {
        self.timers.advance(self.resources.now);
        for _ in 0..TIMERS_PER_TURN {
            let Some(slot) = self.timers.pop_due() else {
                break;
            };
            let Some(key) = self.connections.key_of(slot) else {
                continue;
            };
            if let Some(connection) = self.connections.get_mut(key) {
                connection.timer = Instant::NEVER;
                connection.take_timeout(&mut self.resources);
                self.touch(key);
            }
        }
        if self.accept_again <= self.resources.now {
            self.accept_again = Instant::NEVER;
            self.arm_accept();
        }
    }

    /// Receives that found no buffer are armed again as buffers come back, not before:
    /// that would be a loop of failures.
    fn rearm_starved(&mut self) {
        let released = std::mem::take(&mut self.buffers_released);
        for _ in 0..released.max(STARVED_PER_TURN) {
            let Some(key) = self.starved.pop_front() else {
                break;
            };
            if let Some(connection) = self.connections.get_mut(key) {
                connection.starved = false;
                self.touch(key);
            }
        }
    }
}
