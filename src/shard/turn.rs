//! One turn of a shard, in the order that ARCHITECTURE gives: collect completions, handle input,
//! then commands, finished calls and timers; reconcile the touched connections; sleep in the next
//! poll if nothing is left to do.
//!
//! Everything is bounded: completions by configuration or, where most are sends, by input's share;
//! messages of one connection by `Pace::messages`; other work by the share of its lane (see
//! `scheduler`; ARCHITECTURE lists what is not yet). The rest waits for the next turn.

use crate::base::chunk::Chunk;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::reason::Reason;
use crate::broker::context::scheduler::{COMMAND_UNITS, COMPLETIONS_PER_UNIT, Lane, TIMER_UNITS};
use crate::broker::mesh::Mesh;
use crate::broker::peers::outbox::give_back;
use crate::metrics::counter::Counter;
use crate::metrics::histogram::Timing;
use crate::metrics::span::Fault;
use crate::proto::error::Code;
use crate::proto::outcome::Outcome;
use crate::ring::driver::{Completion, Driver, Received};
use crate::shard::command::{Command, Mailbox};
use crate::shard::resume::STANDSTILL;
use crate::shard::state::Shard;
use crate::shard::stream::Receive;
use std::io;
use std::time::Duration;

/// What to do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Make another turn.
    Next,
    /// Stop: the shard has drained.
    Ended,
}

/// Receives re-armed per turn, at most, if no buffer came back in it: this gets the shard out of
/// the corner case in which all buffers were out at once.
const STARVED_PER_TURN: usize = 16;

impl<D: Driver> Shard<D> {
    /// Makes one turn. It begins by waiting at most `sleep_max` for something to do; zero: it does
    /// not wait.
    ///
    /// # Errors
    /// The driver's ring is broken; the shard cannot continue.
    pub fn turn(&mut self, sleep_max: Duration) -> io::Result<Turn> {
        let until = self.sleep_until(sleep_max);
        let (inbox, mesh) = (&self.inbox, &self.broker.mesh);
        let mut idle = || inbox.is_empty() && mesh.is_quiet();
        self.driver
            .poll(self.completions_per_turn, until, &mut idle)?;
        let connections = self.broker.connection_count();
        let before = self.broker.resources.now;
        let now = self.driver.now();
        self.broker.resources.begin_turn(now, connections);
        self.make_up_for(now.since(until.unwrap_or(before).max(before)));
        self.broker.resources.counters.add(Counter::Turns, 1);
        self.broker
            .resources
            .histograms
            .record(Timing::Turn, self.driver.turn_time());

        self.broker.collect_mesh();
        self.broker.resume_unheard();
        self.streams.open_unheard(&mut self.broker);
        self.take_completions()?;
        self.broker.resume_ready();
        self.streams.open_waiting(&mut self.broker);
        self.broker.step_seeking();
        self.streams.advance_handshakes(&mut self.broker);
        self.broker.take_mesh();
        self.take_commands();
        self.take_finished_calls();
        self.fire_timers();
        self.rearm_starved();
        self.look_at_backed_up();
        self.step_listing();
        self.step_drain();
        self.look_again();
        self.press();
        self.reconcile_touched();
        self.broker.flush_mesh();
        let sessions = self.broker.sessions.len();
        self.connection_counts.note_sessions(self.id, sessions);
        self.log_slow();
        // Last: what has come since the turn began waits for no more than this.
        self.broker.step_fanouts();
        self.broker.step_replays();
        self.broker.charge_tables();

        // The accept may still deliver a connection, which then has to be closed.
        let empty = self.broker.connections.is_empty() && !self.accepting;
        let now = self.broker.resources.now;
        if empty && self.drain.as_ref().is_some_and(|drain| drain.may_end(now)) {
            self.broker.mesh.accord.leave(self.id);
            self.broker.mesh.close();
            self.connection_counts.note_short(self.id, false);
            return Ok(Turn::Ended);
        }
        Ok(Turn::Next)
    }

    /// How long the next poll may sleep: `None` when there is work left.
    fn sleep_until(&self, sleep_max: Duration) -> Option<Instant> {
        let idle = self.broker.lists.are_quiet()
            && self.starved.is_empty()
            && self.unposted.is_empty()
            && self.unanswered.is_empty()
            && self.listings.is_empty()
            && self.streams.handshakes.is_empty()
            && self.streams.unopened.is_empty()
            && self.broker.fanouts.is_empty()
            && self.broker.replays.ready.is_empty()
            && self.broker.seeking.is_empty()
            && self.broker.slow_reports.is_empty()
            && !self.broker.mesh.has_open()
            && self.broker.resources.calls.is_idle();
        if !idle || sleep_max.is_zero() {
            return None;
        }
        let now = self.broker.resources.now;
        let next = [
            self.timers.next_due(),
            self.broker.resources.calls.next_deadline(),
            self.broker.forwarded.next_deadline(),
            Some(self.accept_again),
            Some(self.broker.holders.next_look()),
            Some(self.broker.backed_up.next_look()),
            Some(self.broker.legacies.next_due()),
            self.drain.as_ref().map(|drain| drain.next_step(now)),
        ];
        let watched = match self.broker.sessions.count_absent() == 0 {
            true => sleep_max,
            // So that the shard notices if the process was stopped.
            false => sleep_max.min(STANDSTILL),
        };
        let capped = now + watched;
        Some(next.into_iter().flatten().fold(capped, Instant::min))
    }

    /// Takes what the poll has collected. One turn of much fan-out makes more sends than one
    /// poll collects, and who has sent something would be behind all of these: if most were
    /// sends, it takes what that poll had no room for, as far as input's share goes.
    fn take_completions(&mut self) -> io::Result<()> {
        let mut heard = 0;
        loop {
            let mut count = 0;
            while let Some(completion) = self.driver.next() {
                heard += usize::from(!matches!(completion, Completion::Sent { .. }));
                self.take_completion(completion);
                count += 1;
            }
            let work = &mut self.broker.resources.work;
            work.spend(count / COMPLETIONS_PER_UNIT);
            let is_full = count >= self.completions_per_turn;
            if !is_full || heard >= self.completions_per_turn / 2 || work.is_over() {
                return Ok(());
            }
            self.driver
                .poll(self.completions_per_turn, None, &mut || false)?;
        }
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
        let Some(connection) = self.broker.connections.get_mut(key) else {
            // A completion of an earlier generation: its buffer must still be returned.
            debug_assert!(false, "a slot was freed with its receive in flight");
            if let Received::Data(buffer) = result {
                self.driver.release(buffer);
            }
            return;
        };
        if !more {
            self.streams.of_mut(key.slot).receive = Receive::Off;
        }
        match result {
            Received::Data(buffer) => {
                let bytes = self.driver.bytes(&buffer);
                self.streams.take_bytes(key, bytes, &mut self.broker);
                self.driver.release(buffer);
                self.buffers_released += 1;
            }
            Received::End => {
                let tls = &mut self.streams.of_mut(key.slot).tls;
                if tls.as_mut().is_none_or(|tls| tls.take_end()) {
                    self.broker.take_end(key);
                }
            }
            Received::NoBuffers => {
                self.broker
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
                transport.abort(Reason::PeerReset, &mut self.broker.resources);
            }
        }
        self.broker.touch(key);
    }

    #[inline]
    fn take_sent(&mut self, key: Key, result: io::Result<usize>, chunk: Chunk) {
        let Some(connection) = self.broker.connections.get_mut(key) else {
            debug_assert!(false, "a slot was freed with its send in flight");
            give_back(chunk, &mut self.broker.resources.pool);
            return;
        };
        let stream = self.streams.of_mut(key.slot);
        (connection.transport.sending, stream.send_cancelled) = (false, false);
        let resources = &mut self.broker.resources;
        let went = stream.take_sent(connection, &mut self.driver, result, chunk, resources);
        let trails = connection.member.trails;
        if connection.unstall(&self.broker.resources) {
            self.broker.lists.make_ready(key);
        }
        if trails {
            self.follow_trail(key, went);
        }
        self.broker.touch(key);
    }

    fn take_commands(&mut self) {
        self.broker.resources.work.begin(Lane::Command);
        while !self.broker.resources.work.is_over()
            && let Some(command) = self.inbox.pop()
        {
            self.broker.resources.work.spend(COMMAND_UNITS);
            match command {
                Command::Adopt(socket) => self.adopt(socket),
                Command::Finish(call, outcome) => self.finish_call(call, outcome),
                Command::Drain(deadline) => self.start_drain(deadline),
                Command::Collect(empty) => {
                    self.broker.sweep_retained();
                    self.collect(empty);
                }
                Command::Join(peers, mesh) => self.join(peers, mesh),
                Command::Seek(seek) => self.take_seek(*seek),
                Command::Sought(key, known) => self.take_sought(key, known),
                Command::Move(moved) => self.receive_moved(*moved),
                Command::Checked(finding) => self.broker.take_finding(*finding),
                Command::Listing(listing) => self.begin_listing(listing),
                Command::Kick(key, tell) => tell.tell(self.kick(key)),
                Command::Authority(authority, told) => {
                    self.broker.put_authority(authority);
                    told.tell();
                }
                Command::Authenticated(key, number, answer) => {
                    self.broker.take_answer(key, number, *answer);
                }
            }
        }
    }

    fn join(&mut self, peers: Vec<Mailbox>, mesh: Mesh) {
        (self.peers, self.broker.mesh) = (peers, mesh);
        self.broker.mesh.ledger = self.broker.resources.pool.ledger.clone();
        let (index, links) = (0, self.broker.mesh.link_count());
        let share = self
            .broker
            .resources
            .work
            .share(Lane::Link { index, links });
        self.broker.mesh.set_share(share);
        if self.drain.is_none() {
            self.arm_accept();
        }
    }

    fn take_finished_calls(&mut self) {
        while let Some((call, outcome)) = self.broker.resources.calls.pop_finished() {
            self.finish_call(call, outcome);
        }
        while let Some((asked, span)) = self
            .broker
            .resources
            .calls
            .pop_overdue(self.broker.resources.now)
        {
            let fault = Fault::Code(Code::RequestTimeout.to_wire());
            self.broker.resources.end_call(span, Some(fault));
            if let Some(connection) = self.broker.connections.get_mut(asked.connection) {
                connection.time_out_call(asked.id, &mut self.broker.resources);
                self.broker.touch(asked.connection);
            }
        }
    }

    fn finish_call(&mut self, call: Key, outcome: Outcome) {
        let Some(call) = self.broker.resources.calls.take(call) else {
            return;
        };
        let asked = call.asked;
        let fault = outcome
            .as_ref()
            .err()
            .map(|failure| Fault::Code(failure.code));
        self.broker.resources.end_call(call.span, fault);
        self.broker
            .resources
            .histograms
            .record(Timing::Call, self.broker.resources.now.since(call.began));
        let Some(connection) = self.broker.connections.get_mut(asked.connection) else {
            return self.broker.resources.counters.add(Counter::AnswersLate, 1);
        };
        if !call.awaited {
            return self.broker.resources.counters.add(Counter::AnswersLate, 1);
        }
        connection.answer(asked.id, asked.codec, outcome, &mut self.broker.resources);
        self.broker.touch(asked.connection);
    }

    fn fire_timers(&mut self) {
        self.timers.advance(self.broker.resources.now);
        self.broker.resources.work.begin(Lane::Timer);
        while !self.broker.resources.work.is_over()
            && let Some(slot) = self.timers.pop_due()
        {
            self.broker.resources.work.spend(TIMER_UNITS);
            let Some(key) = self.broker.connections.key_of(slot) else {
                continue;
            };
            if let Some(connection) = self.broker.connections.get_mut(key) {
                let resources = &mut self.broker.resources;
                let late = resources.now.since(connection.member.timer);
                resources.histograms.record(Timing::TimerLate, late);
                connection.member.timer = Instant::NEVER;
                if connection.transport.is_forgotten(resources.now) {
                    self.broker.expire_session(key);
                    continue;
                }
                let is_read = self.streams.of(key.slot).receive == Receive::Armed;
                connection.transport.take_timeout(is_read, resources);
                if connection.unhold(resources) {
                    self.broker.lists.make_ready(key);
                }
                self.broker.touch(key);
            }
        }
        self.broker.drop_overdue_forwarded();
        if self.accept_again <= self.broker.resources.now {
            self.accept_again = Instant::NEVER;
            self.arm_accept();
        }
    }

    /// Sees to it that no more is charged than may be, here and where clients of this shard
    /// hold others' messages.
    fn press(&mut self) {
        let is_asked = self.connection_counts.is_short_beside(self.id);
        let is_short = self.broker.press(is_asked);
        if self.connection_counts.note_short(self.id, is_short) && is_short {
            for peer in &self.peers {
                peer.waker().wake();
            }
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
            if let Some(connection) = self.broker.connections.get_mut(key) {
                connection.member.starved = false;
                self.broker.touch(key);
            }
        }
    }
}

/// A line costs a few microseconds, and one publication may find ten thousand to tell of.
const SLOW_LOGS_PER_TURN: usize = 4;

impl<D: Driver> Shard<D> {
    pub(super) fn log_slow(&mut self) {
        for _ in 0..SLOW_LOGS_PER_TURN {
            let Some(report) = self.broker.slow_reports.pop_front() else {
                return;
            };
            let Some(connection) = self.broker.connections.get(report.connection) else {
                continue;
            };
            let stream = self.streams.of(report.connection.slot);
            let address = self.driver.peer(stream.socket);
            tracing::warn!(
                shard = self.id.0,
                connection = %report.connection,
                client_id = connection.transport.session.client_id(),
                principal = connection
                    .transport
                    .principal_name()
                    .or(stream.certificate_principal()),
                address = address.map(tracing::field::display),
                policy = report.policy.label(),
                bytes_queued = report.bytes_queued,
                oldest_ms = report.oldest_age.as_millis() as u64,
                "slow consumer: reads more slowly than others publish to it"
            );
        }
    }
}
