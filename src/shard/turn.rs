//! One turn of a shard, in the order ARCHITECTURE gives: collect completions, handle what
//! came, then commands, finished calls, timers; settle the connections touched; sleep in
//! the next poll if nothing is left to do.
//!
//! Everything is bounded: completions by configuration, messages of one connection by
//! `MESSAGES_PER_TURN`, commands and timers by constants. What is over waits a turn.

use super::command::{Command, Mailbox};
use super::mesh::Mesh;
use super::outbox::give_back;
use super::resume::STANDSTILL;
use super::scheduler::{COMMAND_UNITS, Lane};
use super::state::Shard;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::TIMERS_PER_TURN;
use crate::base::reason::Reason;
use crate::metrics::counter::Counter;
use crate::metrics::histogram::Timing;
use crate::metrics::span::Fault;
use crate::proto::error::Code;
use crate::proto::outcome::Outcome;
use crate::ring::driver::{Chunk, Completion, Driver, Received};
use crate::shard::transport::Receive;
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
        let (inbox, mesh) = (&self.inbox, &self.exchange.mesh);
        let mut idle = || inbox.is_empty() && mesh.is_quiet();
        self.driver
            .poll(self.completions_per_turn, until, &mut idle)?;
        let connections = self.exchange.connection_count();
        let before = self.exchange.resources.now;
        let now = self.driver.now();
        self.exchange.resources.begin_turn(now, connections);
        self.make_up_for(now.since(until.unwrap_or(before).max(before)));
        self.exchange.resources.counters.add(Counter::Turns, 1);
        self.exchange
            .resources
            .histograms
            .record(Timing::Turn, self.driver.turn_time());

        self.exchange.collect_mesh();
        self.exchange.resume_unheard();
        while let Some(completion) = self.driver.next() {
            self.take_completion(completion);
        }
        self.exchange.resume_ready();
        self.exchange.advance_handshakes();
        self.exchange.take_mesh();
        self.take_commands();
        self.take_finished_calls();
        self.fire_timers();
        self.rearm_starved();
        self.look_at_backed_up();
        self.step_survey();
        self.step_drain();
        self.look_again();
        self.press();
        self.settle_touched();
        self.exchange.flush_mesh();
        let sessions = self.exchange.sessions.len();
        self.census.note_sessions(self.id, sessions);
        self.log_slow();
        // Last: what has come since the turn began waits for no more than this.
        self.exchange.step_fanouts();
        self.exchange.step_replays();
        self.exchange.charge_tables();

        // The accept may still bring a connection, which has to be closed.
        let empty = self.exchange.connections.is_empty() && !self.accepting;
        let now = self.exchange.resources.now;
        if empty && self.drain.as_ref().is_some_and(|drain| drain.may_end(now)) {
            self.exchange.mesh.accord.leave(self.id);
            self.exchange.mesh.close();
            self.census.note_short(self.id, false);
            return Ok(Turn::Ended);
        }
        Ok(Turn::Next)
    }

    /// How long the next poll may sleep: `None` when there is work left.
    fn sleep_until(&self, sleep_max: Duration) -> Option<Instant> {
        let idle = self.exchange.ready.is_empty()
            && self.starved.is_empty()
            && self.exchange.touched.is_empty()
            && self.exchange.leaving.is_empty()
            && self.unposted.is_empty()
            && self.unanswered.is_empty()
            && self.surveys.is_empty()
            && self.exchange.handshakes.is_empty()
            && self.exchange.fanouts.is_empty()
            && self.exchange.replays.ready.is_empty()
            && self.exchange.slow_reports.is_empty()
            && !self.exchange.mesh.has_open()
            && self.exchange.resources.calls.is_idle();
        if !idle || sleep_max.is_zero() {
            return None;
        }
        let now = self.exchange.resources.now;
        let next = [
            self.timers.next_due(),
            self.exchange.resources.calls.next_deadline(),
            self.exchange.errands.next_deadline(),
            Some(self.accept_again),
            Some(self.exchange.holders.next_look()),
            Some(self.exchange.backed_up.next_look()),
            Some(self.exchange.legacies.next_due()),
            self.drain.as_ref().map(|drain| drain.next_step(now)),
        ];
        let watched = match self.exchange.absent.is_empty() {
            true => sleep_max,
            // So that it is noticed when the process does not run.
            false => sleep_max.min(STANDSTILL),
        };
        let capped = now + watched;
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
        let Some(connection) = self.exchange.connections.get_mut(key) else {
            // A completion of a dead generation: its buffer still goes back.
            debug_assert!(false, "a slot was freed with its receive in flight");
            if let Received::Data(buffer) = result {
                self.driver.release(buffer);
            }
            return;
        };
        if !more {
            connection.transport.receive = Receive::Off;
        }
        match result {
            Received::Data(buffer) => {
                let bytes = self.driver.bytes(&buffer);
                self.exchange.take_bytes(key, bytes);
                self.driver.release(buffer);
                self.buffers_released += 1;
            }
            Received::End => connection.take_end(&mut self.exchange.resources),
            Received::NoBuffers => {
                self.exchange
                    .resources
                    .counters
                    .add(Counter::BuffersExhausted, 1);
                if !connection.member.starved {
                    connection.member.starved = true;
                    self.starved.push_back(key);
                }
            }
            Received::Stopped => {}
            Received::Failed(_) => {
                let transport = &mut connection.transport;
                transport.peer_ended = true;
                transport.abort(Reason::PeerReset, &mut self.exchange.resources);
            }
        }
        self.exchange.touch(key);
    }

    #[inline]
    fn take_sent(&mut self, key: Key, result: io::Result<usize>, chunk: Chunk) {
        let Some(connection) = self.exchange.connections.get_mut(key) else {
            debug_assert!(false, "a slot was freed with its send in flight");
            give_back(chunk, &mut self.exchange.resources.pool);
            return;
        };
        (
            connection.transport.sending,
            connection.transport.send_cancelled,
        ) = (false, false);
        let went = connection.take_sent(
            &mut self.driver,
            result,
            chunk,
            &mut self.exchange.resources,
        );
        let trails = connection.member.trails;
        if connection.unstall(&self.exchange.resources) {
            self.exchange.ready.push_back(key);
        }
        if trails {
            self.follow_trail(key, went);
        }
        self.exchange.touch(key);
    }

    fn take_commands(&mut self) {
        self.exchange.resources.work.begin(Lane::Command);
        while !self.exchange.resources.work.is_over()
            && let Some(command) = self.inbox.pop()
        {
            self.exchange.resources.work.spend(COMMAND_UNITS);
            match command {
                Command::Adopt(socket) => self.adopt(socket),
                Command::Finish(call, outcome) => self.finish_call(call, outcome),
                Command::Drain(deadline) => self.start_drain(deadline),
                Command::Collect(empty) => {
                    self.exchange.sweep_retained();
                    self.collect(empty);
                }
                Command::Join(peers, mesh) => self.join(peers, mesh),
                Command::Seek(seek) => self.take_seek(*seek),
                Command::Sought(key, known) => self.take_sought(key, known),
                Command::Move(moved) => self.receive_moved(*moved),
                Command::Checked(finding) => self.exchange.take_finding(*finding),
                Command::Survey(survey) => self.begin_survey(survey),
                Command::Kick(key, tell) => tell.tell(self.kick(key)),
                Command::Authority(authority, told) => {
                    self.exchange.put_authority(authority);
                    told.tell();
                }
                Command::Authenticated(key, number, answer) => {
                    self.exchange.take_answer(key, number, *answer);
                }
            }
        }
    }

    fn join(&mut self, peers: Vec<Mailbox>, mesh: Mesh) {
        (self.peers, self.exchange.mesh) = (peers, mesh);
        self.exchange.mesh.ledger = self.exchange.resources.pool.ledger.clone();
        if self.drain.is_none() {
            self.arm_accept();
        }
    }

    fn take_finished_calls(&mut self) {
        while let Some((call, outcome)) = self.exchange.resources.calls.pop_finished() {
            self.finish_call(call, outcome);
        }
        while let Some((asked, span)) = self
            .exchange
            .resources
            .calls
            .pop_overdue(self.exchange.resources.now)
        {
            let fault = Fault::Code(Code::RequestTimeout.to_wire());
            self.exchange.resources.end_call(span, Some(fault));
            if let Some(connection) = self.exchange.connections.get_mut(asked.connection) {
                connection.time_out_call(asked.id, &mut self.exchange.resources);
                self.exchange.touch(asked.connection);
            }
        }
    }

    fn finish_call(&mut self, call: Key, outcome: Outcome) {
        let Some(call) = self.exchange.resources.calls.take(call) else {
            return;
        };
        let asked = call.asked;
        let fault = outcome
            .as_ref()
            .err()
            .map(|failure| Fault::Code(failure.code));
        self.exchange.resources.end_call(call.span, fault);
        self.exchange
            .resources
            .histograms
            .record(Timing::Call, self.exchange.resources.now.since(call.began));
        let Some(connection) = self.exchange.connections.get_mut(asked.connection) else {
            return self
                .exchange
                .resources
                .counters
                .add(Counter::AnswersLate, 1);
        };
        if !call.awaited {
            return self
                .exchange
                .resources
                .counters
                .add(Counter::AnswersLate, 1);
        }
        connection.answer(asked.id, asked.codec, outcome, &mut self.exchange.resources);
        self.exchange.touch(asked.connection);
    }

    fn fire_timers(&mut self) {
        self.timers.advance(self.exchange.resources.now);
        for _ in 0..TIMERS_PER_TURN {
            let Some(slot) = self.timers.pop_due() else {
                break;
            };
            let Some(key) = self.exchange.connections.key_of(slot) else {
                continue;
            };
            if let Some(connection) = self.exchange.connections.get_mut(key) {
                let resources = &mut self.exchange.resources;
                let late = resources.now.since(connection.member.timer);
                resources.histograms.record(Timing::TimerLate, late);
                connection.member.timer = Instant::NEVER;
                if connection.transport.is_forgotten(resources.now) {
                    self.end_session(key, true);
                    continue;
                }
                connection.transport.take_timeout(resources);
                if connection.unhold(resources) {
                    self.exchange.ready.push_back(key);
                }
                self.exchange.touch(key);
            }
        }
        self.exchange.drop_overdue_errands();
        if self.accept_again <= self.exchange.resources.now {
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
            if let Some(connection) = self.exchange.connections.get_mut(key) {
                connection.member.starved = false;
                self.exchange.touch(key);
            }
        }
    }
}

/// A line costs a few microseconds, and one publication may find ten thousand to tell of.
const SLOW_LOGS_PER_TURN: usize = 4;

impl<D: Driver> Shard<D> {
    pub(super) fn log_slow(&mut self) {
        for _ in 0..SLOW_LOGS_PER_TURN {
            let Some(report) = self.exchange.slow_reports.pop_front() else {
                return;
            };
            let Some(connection) = self.exchange.connections.get(report.connection) else {
                continue;
            };
            let address = self.driver.peer(connection.transport.socket);
            tracing::warn!(
                shard = self.id.0,
                connection = %report.connection,
                client_id = connection.transport.session.client_id(),
                principal = connection
                    .transport
                    .principal()
                    .or(connection.transport.certificate_principal()),
                address = address.map(tracing::field::display),
                policy = report.policy.label(),
                bytes_queued = report.bytes_queued,
                oldest_ms = report.oldest_age.as_millis() as u64,
                "slow consumer: reads more slowly than others publish to it"
            );
        }
    }
}
