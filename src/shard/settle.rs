//! Settling: after a turn's events, each touched connection's operations are brought in
//! line with what it wants. The one place that arms, cancels, sends, shuts down, closes.
//!
//! It compares wish and state and may be called any number of times, so that no event has
//! to know what others have done: a multishot that ended for whatever cause is armed again
//! simply because the connection still wants to receive.

use super::connection::Connection;
use super::fanout_queue::Fanning;
use super::outbox::give_back;
use super::resource::Resources;
use super::scheduler::Lane;
use super::state::Shard;
use super::transport::{Receive, Stage, Transport};
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::reason::Reason;
use crate::metrics::counter::Counter;
use crate::ring::driver::{Chunk, Driver};
use std::io;

impl<D: Driver> Shard<D> {
    pub(super) fn settle_touched(&mut self) {
        self.exchange.resources.work.begin(Lane::Ending);
        while !self.exchange.resources.work.is_over()
            && let Some(key) = self.exchange.leaving.pop_front()
        {
            self.settle(key);
        }
        self.settle_all();
        // Settling leaves wills, and messages of groups: their receivers are settled as well.
        if self.exchange.settle_legacies() {
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        // Settling one may touch another.
        while !self.exchange.touched.is_empty() {
            let mut touched = std::mem::take(&mut self.exchange.touched);
            for key in touched.drain(..) {
                self.settle(key);
            }
            if self.exchange.touched.is_empty() {
                // Keep the allocation.
                self.exchange.touched = touched;
            }
        }
    }

    #[inline]
    fn settle(&mut self, key: Key) {
        let exchange = &mut self.exchange;
        let Some(connection) = exchange.connections.get_mut(key) else {
            return;
        };
        connection.member.touched = false;
        let unusual = connection.is_unusual() || connection.member.fanning == Fanning::Waits;
        if unusual && !self.settle_exchange(key) {
            return;
        }
        let exchange = &mut self.exchange;
        let floor = exchange.holders.floor();
        let Some(connection) = exchange.connections.get_mut(key) else {
            return;
        };
        connection.settle_send(&mut self.driver, &mut exchange.resources);
        connection.settle_stage(&mut self.driver, &exchange.resources);
        connection.settle_receive(&mut self.driver, &mut exchange.resources);
        if connection.transport.stage == Stage::Closing && connection.transport.is_quiet() {
            return self.free(key);
        }
        if connection.member.timer == Instant::NEVER || connection.transport.may_be_due_earlier() {
            let deadline = connection.transport.deadline();
            if deadline != connection.member.timer {
                connection.member.timer = deadline;
                self.timers.arm(key.slot, deadline);
            }
        }
        if connection.may_weigh(floor) {
            self.exchange.note_weight(key);
        }
    }

    /// What a connection has at the exchange follows its state. False when there is nothing
    /// left to settle.
    #[cold]
    fn settle_exchange(&mut self, key: Key) -> bool {
        if !self.exchange.replays.parked.is_empty() {
            self.exchange.wake_replay(key);
        }
        let Some(connection) = self.exchange.connections.get_mut(key) else {
            return false;
        };
        match connection.transport.stage {
            Stage::Running => {
                if connection.transport.moving.is_some() && connection.transport.is_quiet() {
                    self.move_on(key);
                } else if connection.member.shelved && !connection.is_moving() {
                    self.exchange.refill(key);
                    // What waited behind the shelf.
                    self.exchange.wake_replay(key);
                }
            }
            Stage::Detached if !connection.member.counted => {
                // More waited for it than may.
                self.end_session(key, true);
            }
            Stage::Detached => {}
            Stage::Flushing | Stage::Lingering | Stage::Closing => {
                let is_over = self.exchange.resources.work.is_over();
                if is_over && connection.member.station.is_some() {
                    // Listed already, as whoever touches it sees.
                    connection.member.touched = true;
                    self.exchange.leaving.push_back(key);
                    return false;
                }
                self.exchange.depart(key);
            }
        }
        self.exchange.connections.contains(key)
    }

    /// The connection's last completion has come: its descriptor and memory go back, and its
    /// slot, unless a session waits in it.
    fn free(&mut self, key: Key) {
        self.timers.cancel(key.slot);
        self.leave_trail(key);
        let exchange = &mut self.exchange;
        let Some(Connection { member, transport }) = exchange.connections.get_mut(key) else {
            return;
        };
        transport.outbox.clear(&mut exchange.resources.pool);
        transport.release_tls(&mut exchange.resources);
        debug_assert!(transport.outbox.is_empty());
        self.driver.close(transport.socket);
        let guest = transport.guest.as_mut();
        let address = guest.and_then(|guest| guest.address.take());
        if let (Some(door), Some(address)) = (&exchange.door, address) {
            door.leave(address);
        }
        self.census.leave(self.id);
        let reason = transport.reason.unwrap_or(Reason::Internal);
        exchange.resources.counters.add_closed(reason);
        exchange.resources.forget_arrival(key, Some(reason));
        tracing::debug!(shard = self.id.0, connection = %key, reason = reason.label(), "closed");
        if transport.has_left && member.counted && !exchange.draining {
            return self.detach(key);
        }
        // Whatever else stands in the slot has been dissolved when it began to end.
        debug_assert!(member.station.is_none() || transport.has_left);
        let publish_will = !exchange.draining;
        self.exchange.end_calls(key);
        self.exchange.dissolve(key, publish_will);
        self.exchange.remove(key);
    }

    /// What its transport has not brought to a member of a group goes to another. What the
    /// kernel holds still arrives where the end was said in order.
    fn leave_trail(&mut self, key: Key) {
        let exchange = &mut self.exchange;
        let Some(connection) = exchange.connections.get_mut(key) else {
            return;
        };
        let Some(station) = &mut connection.member.station else {
            return;
        };
        let trail = std::mem::take(&mut station.trail);
        let is_idle = station.is_idle();
        connection.member.trails = false;
        connection.member.recharge(&mut exchange.resources);
        if is_idle {
            connection.member.station = None;
        }
        if trail.is_empty() {
            return;
        }
        let held = match connection.transport.reason {
            Some(Reason::PeerClose) => 0,
            _ => {
                // Our FIN, which goes when all else has gone, counts as a byte.
                let fin = usize::from(connection.transport.outbox.is_empty());
                let held = self.driver.unacknowledged(connection.transport.socket);
                held.saturating_sub(fin)
            }
        };
        exchange.bequeath_trail(trail, held);
    }
}

impl Connection {
    #[inline]
    fn settle_send(&mut self, driver: &mut impl Driver, resources: &mut Resources) {
        if self.transport.sending || self.transport.stage > Stage::Flushing || self.is_moving() {
            return;
        }
        let outbox = &mut self.transport.outbox;
        let next = match &mut self.transport.tls {
            None => outbox.next_chunk(),
            Some(tls) => {
                let ends = self.transport.stage == Stage::Flushing;
                tls.next_chunk(outbox, ends, &mut resources.pool)
            }
        };
        if self
            .transport
            .tls
            .as_ref()
            .is_some_and(|tls| tls.has_failed())
        {
            self.transport.end(Reason::TlsFailed, resources);
        }
        if let Some((chunk, from)) = next {
            self.transport.sending = true;
            self.transport.sent_of_chunk = from as u32;
            self.transport.outbox.begin_send(resources.now);
            resources
                .sampler
                .send_begins(self.member.key, &mut resources.histograms);
            driver.send(self.member.key, self.transport.socket, chunk, from);
        }
    }

    /// A send is over: the rest of a short one goes on, a broken connection ends. How many of
    /// the outbox's bytes have gone by it.
    pub(super) fn take_sent(
        &mut self,
        driver: &mut impl Driver,
        result: io::Result<usize>,
        chunk: Chunk,
        resources: &mut Resources,
    ) -> usize {
        let queued = self.transport.outbox.queued_bytes();
        let (key, now) = (self.member.key, resources.now);
        resources
            .sampler
            .send_ended(key, now, &mut resources.histograms);
        let (from, length) = (self.transport.sent_of_chunk as usize, chunk.len());
        let went = match result {
            Ok(bytes) => Some(bytes),
            // For a takeover, or at the end: nothing of it went.
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Some(0),
            Err(_) => None,
        };
        resources
            .counters
            .add(Counter::BytesSent, went.unwrap_or(0) as u64);
        self.transport.wire.bytes_out += went.unwrap_or(0) as u64;
        match went {
            Some(bytes) if from + bytes < length && self.transport.stage <= Stage::Flushing => {
                if self.transport.tls.is_none() {
                    self.transport.outbox.sent(bytes);
                }
                self.transport.extend_flush(resources);
                if self.member.yields {
                    // The rest goes from the slot this transport moves to.
                    match &mut self.transport.tls {
                        None => self.transport.outbox.put_back(chunk, from + bytes),
                        Some(tls) => tls.put_back(chunk, from + bytes, &mut resources.pool),
                    }
                    self.transport.sent_of_chunk = 0;
                } else {
                    self.transport.sent_of_chunk = (from + bytes) as u32;
                    self.transport.sending = true;
                    driver.send(self.member.key, self.transport.socket, chunk, from + bytes);
                }
                return queued - self.transport.outbox.queued_bytes();
            }
            Some(_) => self.transport.extend_flush(resources),
            None if self.transport.stage == Stage::Closing => {}
            None => self.transport.abort(Reason::PeerReset, resources),
        }
        match &mut self.transport.tls {
            None => self.transport.outbox.sent(length - from),
            Some(tls) => tls.sent(&mut self.transport.outbox),
        }
        self.transport.sent_of_chunk = 0;
        give_back(chunk, &mut resources.pool);
        let gone = queued - self.transport.outbox.queued_bytes();
        match went {
            // What is sealed counts whole: a part of it is of no use.
            Some(bytes) if self.transport.tls.is_none() => bytes.min(gone),
            Some(bytes) if from + bytes == length => gone,
            _ => 0,
        }
    }

    /// It has more to it than a socket and a session.
    #[inline]
    fn is_unusual(&self) -> bool {
        self.member.shelved
            || self.transport.moving.is_some()
            || self.transport.stage != Stage::Running
    }

    fn settle_stage(&mut self, driver: &mut impl Driver, resources: &Resources) {
        let sealed = self
            .transport
            .tls
            .as_ref()
            .is_none_or(|tls| tls.is_flushed());
        let flushed = self.transport.outbox.is_empty() && sealed && !self.transport.sending;
        if self.transport.stage == Stage::Flushing && flushed && !self.member.yields {
            driver.shutdown(self.transport.socket);
            self.transport.stage = Stage::Lingering;
            self.transport.stage_deadline = resources.now + Transport::STAGE_TIME;
        }
        if self.transport.stage == Stage::Lingering && self.transport.peer_ended {
            self.transport.stage = Stage::Closing;
        }
        let gives_up = self.transport.stage == Stage::Closing || self.member.yields;
        if gives_up && self.transport.sending && !self.transport.send_cancelled {
            self.transport.send_cancelled = true;
            driver.cancel_send(self.member.key);
        }
    }

    #[inline]
    fn settle_receive(&mut self, driver: &mut impl Driver, resources: &mut Resources) {
        match (self.transport.receive, self.wants_receive()) {
            (Receive::Off, true) if !self.member.starved => {
                driver.receive(self.member.key, self.transport.socket);
                self.transport.receive = Receive::Armed;
            }
            (Receive::Armed, false) => {
                driver.cancel_receive(self.member.key);
                self.transport.receive = Receive::Cancelling;
                if self.transport.stage == Stage::Running {
                    resources.counters.add(Counter::ReceivePaused, 1);
                }
            }
            _ => {}
        }
    }
}

impl Transport {
    /// A peer that still takes bytes is given time for the next.
    /// Not one whose credential is good no longer, or whom an operator ends: it might make
    /// the send in flight last.
    fn extend_flush(&mut self, resources: &Resources) {
        let cuts_off = [Reason::Revoked, Reason::AuthExpired, Reason::Kicked];
        let is_cut_off = self.reason.is_some_and(|reason| cuts_off.contains(&reason));
        if self.stage == Stage::Flushing && !is_cut_off {
            self.stage_deadline = resources.now + Transport::STAGE_TIME;
        }
    }
}
