//! Reconciling: after a turn's events, the driver's operations for each touched connection are
//! adjusted to what the connection wants. Of a connection in its slot only this file arms, cancels,
//! sends, shuts down and closes; sockets that get no slot are closed where that is found out.
//!
//! It compares wish and state and may be called any number of times, so no event has to know what
//! others have done: a multishot that ended for whatever reason is armed again simply because the
//! connection still wants to receive.

use crate::base::chunk::Chunk;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::reason::Reason;
use crate::broker::context::resource::Resources;
use crate::broker::context::scheduler::{CLOSE_UNITS, Lane};
use crate::broker::peers::connection::Connection;
use crate::broker::peers::outbox::give_back;
use crate::broker::peers::transport::{Stage, Transport};
use crate::broker::publish::fanout_queue::Fanning;
use crate::metrics::counter::Counter;
use crate::ring::driver::Driver;
use crate::shard::state::Shard;
use crate::shard::stream::{Receive, Stream};
use std::io;

impl<D: Driver> Shard<D> {
    pub(super) fn reconcile_touched(&mut self) {
        self.broker.resources.work.begin(Lane::Ending);
        // Each once: some may have to wait for other shards.
        for _ in 0..self.broker.lists.count_leaving() {
            if self.broker.resources.work.is_over() {
                break;
            }
            if let Some(key) = self.broker.lists.next_leaving() {
                self.broker.continue_close(key);
                self.reconcile(key);
            }
        }
        self.reconcile_all();
        // Reconciling releases wills and group messages, whose receivers are reconciled as well.
        if self.broker.reconcile_legacies() {
            self.reconcile_all();
        }
        self.close_some();
    }

    /// Shuts down and closes the sockets of connections that are ready for that, within the lane's
    /// share: the kernel takes its time for each, and after an outage of a network there are many.
    fn close_some(&mut self) {
        self.broker.resources.work.begin(Lane::Close);
        while !self.broker.resources.work.is_over()
            && let Some(key) = self.broker.lists.next_closing()
        {
            let broker = &mut self.broker;
            let Some(connection) = broker.connections.get_mut(key) else {
                continue;
            };
            let stream = self.streams.of(key.slot);
            // It may have gone on to its end meanwhile, as when the peer resets it.
            if !stream.may_go_on_to_end(connection) {
                broker.lists.touch(key);
                continue;
            }
            broker.resources.work.spend(CLOSE_UNITS);
            let transport = &mut connection.transport;
            if transport.stage == Stage::Flushing {
                self.driver.shutdown(stream.socket);
                transport.stage = Stage::Lingering;
                transport.stage_deadline = broker.resources.now + Transport::STAGE_TIME;
                broker.lists.touch(key);
            } else {
                connection.member.touched = false;
                self.free(key);
            }
        }
        self.reconcile_all();
    }

    fn reconcile_all(&mut self) {
        // Reconciling one connection may touch another.
        while self.broker.lists.has_touched() {
            let mut touched = self.broker.lists.take_touched();
            for key in touched.drain(..) {
                self.reconcile(key);
            }
            self.broker.lists.keep(touched);
        }
    }

    #[inline]
    fn reconcile(&mut self, key: Key) {
        let broker = &mut self.broker;
        let Some(connection) = broker.connections.get_mut(key) else {
            return;
        };
        connection.member.touched = false;
        let unusual = connection.is_unusual() || connection.member.fanning == Fanning::Waits;
        if unusual && !self.reconcile_broker(key) {
            return;
        }
        let broker = &mut self.broker;
        let floor = broker.holders.floor();
        let Some(connection) = broker.connections.get_mut(key) else {
            return;
        };
        let stream = self.streams.of_mut(key.slot);
        stream.reconcile_send(connection, &mut self.driver, &mut broker.resources);
        stream.reconcile_stage(connection, &mut self.driver);
        stream.reconcile_receive(connection, &mut self.driver, &mut broker.resources);
        if connection.transport.stage != Stage::Running && stream.may_go_on_to_end(connection) {
            // `close_some` goes on.
            connection.member.touched = true;
            broker.lists.put_off_closing(key);
            if connection.transport.stage == Stage::Closing {
                // Others need its memory at once.
                self.release(key);
            }
            return;
        }
        if connection.member.timer == Instant::NEVER || connection.transport.may_be_due_earlier() {
            let deadline = connection.transport.deadline();
            if deadline != connection.member.timer {
                connection.member.timer = deadline;
                self.timers.arm(key.slot, deadline);
            }
        }
        if connection.may_weigh(floor) {
            self.broker.note_weight(key);
        }
    }

    /// Adapts what a connection has at the broker to its state. False when nothing is left to
    /// reconcile.
    #[cold]
    fn reconcile_broker(&mut self, key: Key) -> bool {
        let broker_now = self.broker.resources.now;
        if !self.broker.replays.parked.is_empty() {
            self.broker.wake_replay(key);
        }
        let Some(connection) = self.broker.connections.get_mut(key) else {
            return false;
        };
        match connection.transport.stage {
            Stage::Running => {
                let stream = self.streams.of(key.slot);
                if connection.transport.moving.is_some() && stream.is_quiet(&connection.transport) {
                    self.move_on(key);
                } else if connection.member.has_pending && !connection.is_moving() {
                    self.broker.refill(key);
                    // Continues the replay that waited behind the pending queue.
                    self.broker.wake_replay(key);
                }
            }
            Stage::Detached => {
                let is_forgotten = connection.transport.is_forgotten(broker_now);
                // Or more waited for it than the limit allows.
                if is_forgotten || !connection.member.counted {
                    if !self.may_leave(key) || !self.broker.leave_some(key) {
                        self.put_off_leaving(key);
                        return false;
                    }
                    self.end_session(key);
                }
            }
            Stage::Flushing | Stage::Lingering | Stage::Closing => {
                if !self.may_leave(key) || !self.broker.depart(key) {
                    self.put_off_leaving(key);
                    return false;
                }
            }
        }
        self.broker.connections.contains(key)
    }

    /// Whether there is time in this turn for the end of a connection: always, if that is no work.
    fn may_leave(&self, key: Key) -> bool {
        let connection = self.broker.connections.get(key);
        let is_work = connection.is_some_and(|one| one.member.state.is_some());
        !is_work || !self.broker.resources.work.is_over()
    }

    /// The rest of its end is for a later turn.
    fn put_off_leaving(&mut self, key: Key) {
        let broker = &mut self.broker;
        if let Some(connection) = broker.connections.get_mut(key) {
            // `leaving` lists it; the flag keeps it from being listed twice.
            connection.member.touched = true;
            broker.lists.put_off_leaving(key);
            // What it is still sent does not wait for that, nor does its time run.
            connection.transport.extend_flush(&broker.resources);
            let stream = self.streams.of_mut(key.slot);
            stream.reconcile_send(connection, &mut self.driver, &mut broker.resources);
        }
    }

    /// The connection's last completion has arrived: gives back the memory of its transport.
    fn release(&mut self, key: Key) {
        self.leave_trail(key);
        let resources = &mut self.broker.resources;
        if let Some(connection) = self.broker.connections.get_mut(key) {
            connection.transport.outbox.clear(&mut resources.pool);
            self.streams.of_mut(key.slot).release_tls(resources);
        }
    }

    /// The connection's last completion has arrived: frees its descriptor and memory, and its slot
    /// unless a session waits in it.
    fn free(&mut self, key: Key) {
        self.timers.cancel(key.slot);
        self.release(key);
        let broker = &mut self.broker;
        let Some(Connection { member, transport }) = broker.connections.get_mut(key) else {
            return;
        };
        debug_assert!(transport.outbox.is_empty());
        self.driver.close(self.streams.of(key.slot).socket);
        let principal = transport.principal.as_mut();
        let address = principal.and_then(|principal| principal.address.take());
        if let (Some(admission), Some(address)) = (&broker.admission, address) {
            admission.leave(address);
        }
        self.connection_counts.leave(self.id);
        let reason = transport.reason.unwrap_or(Reason::Internal);
        broker.resources.counters.add_closed(reason);
        broker.resources.forget_arrival(key, Some(reason));
        tracing::debug!(shard = self.id.0, connection = %key, reason = reason.label(), "closed");
        if transport.has_left && member.counted && !broker.draining {
            return self.detach(key);
        }
        // Everything else in the slot was dissolved when the connection began to end.
        debug_assert!(member.state.is_none() || transport.has_left);
        let publish_will = !broker.draining;
        self.broker.end_calls(key);
        self.broker.dissolve(key, publish_will);
        self.broker.remove(key);
    }

    /// Hands group messages that this transport has not delivered to other members. What the kernel
    /// holds still arrives if the connection was ended in order.
    fn leave_trail(&mut self, key: Key) {
        let broker = &mut self.broker;
        let Some(connection) = broker.connections.get_mut(key) else {
            return;
        };
        let Some(state) = &mut connection.member.state else {
            return;
        };
        let trail = std::mem::take(&mut state.trail);
        let is_idle = state.is_idle();
        connection.member.trails = false;
        connection.member.recharge(&mut broker.resources);
        if is_idle {
            connection.member.state = None;
        }
        if trail.is_empty() {
            return;
        }
        let held = match connection.transport.reason {
            Some(Reason::PeerClose) => 0,
            _ => {
                // Our FIN, which is sent after everything else, counts as one byte.
                let fin = usize::from(connection.transport.outbox.is_empty());
                let socket = self.streams.of(key.slot).socket;
                let held = self.driver.unacknowledged(socket);
                held.saturating_sub(fin)
            }
        };
        broker.bequeath_trail(trail, held);
    }
}

impl Stream {
    #[inline]
    fn reconcile_send(
        &mut self,
        connection: &mut Connection,
        driver: &mut impl Driver,
        resources: &mut Resources,
    ) {
        if connection.transport.sending
            || connection.transport.stage > Stage::Flushing
            || connection.is_moving()
        {
            return;
        }
        let outbox = &mut connection.transport.outbox;
        let next = match &mut self.tls {
            None => outbox.next_chunk(),
            Some(tls) => {
                let ends = connection.transport.stage == Stage::Flushing;
                tls.next_chunk(outbox, ends, &mut resources.pool)
            }
        };
        if self.tls.as_ref().is_some_and(|tls| tls.has_failed()) {
            connection.transport.end(Reason::TlsFailed, resources);
        }
        if let Some((chunk, from)) = next {
            connection.transport.sending = true;
            self.sent_of_chunk = from as u32;
            connection.transport.outbox.begin_send(resources.now);
            resources
                .sampler
                .send_begins(connection.member.key, &mut resources.histograms);
            driver.send(connection.member.key, self.socket, chunk, from);
        }
    }

    /// A send has completed: a short one is continued, a broken connection ends. Returns how many
    /// of the outbox's bytes it sent.
    pub(super) fn take_sent(
        &mut self,
        connection: &mut Connection,
        driver: &mut impl Driver,
        result: io::Result<usize>,
        chunk: Chunk,
        resources: &mut Resources,
    ) -> usize {
        let queued = connection.transport.outbox.queued_bytes();
        let (key, now) = (connection.member.key, resources.now);
        resources
            .sampler
            .send_ended(key, now, &mut resources.histograms);
        let (from, length) = (self.sent_of_chunk as usize, chunk.len());
        let went = match result {
            Ok(bytes) => Some(bytes),
            // Cancelled for a takeover, or at the end: it sent nothing.
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Some(0),
            Err(_) => None,
        };
        resources
            .counters
            .add(Counter::BytesSent, went.unwrap_or(0) as u64);
        self.bytes_out += went.unwrap_or(0) as u64;
        match went {
            Some(bytes)
                if from + bytes < length && connection.transport.stage <= Stage::Flushing =>
            {
                if self.tls.is_none() {
                    connection.transport.outbox.sent(bytes);
                }
                connection.transport.extend_flush(resources);
                if connection.member.yields {
                    // The rest is sent from the slot this transport moves to.
                    match &mut self.tls {
                        None => connection.transport.outbox.put_back(chunk, from + bytes),
                        Some(tls) => tls.put_back(chunk, from + bytes, &mut resources.pool),
                    }
                    self.sent_of_chunk = 0;
                } else {
                    self.sent_of_chunk = (from + bytes) as u32;
                    connection.transport.sending = true;
                    driver.send(connection.member.key, self.socket, chunk, from + bytes);
                }
                return queued - connection.transport.outbox.queued_bytes();
            }
            Some(_) => connection.transport.extend_flush(resources),
            None if connection.transport.stage == Stage::Closing => {}
            None => connection.transport.abort(Reason::PeerReset, resources),
        }
        match &mut self.tls {
            None => connection.transport.outbox.sent(length - from),
            Some(tls) => tls.sent(&mut connection.transport.outbox),
        }
        self.sent_of_chunk = 0;
        give_back(chunk, &mut resources.pool);
        let gone = queued - connection.transport.outbox.queued_bytes();
        match went {
            // A sealed chunk counts only as a whole: a part of it is of no use.
            Some(bytes) if self.tls.is_none() => bytes.min(gone),
            Some(bytes) if from + bytes == length => gone,
            _ => 0,
        }
    }

    /// All has been sent, and the socket is to be shut down; or all is done, and it is to be closed.
    fn may_go_on_to_end(&self, connection: &Connection) -> bool {
        let transport = &connection.transport;
        match transport.stage {
            Stage::Flushing => {
                let sealed = self.tls.as_ref().is_none_or(|tls| tls.is_flushed());
                let flushed = transport.outbox.is_empty() && sealed && !transport.sending;
                flushed && !connection.member.yields
            }
            Stage::Closing => self.is_quiet(transport),
            Stage::Running | Stage::Lingering | Stage::Detached => false,
        }
    }

    fn reconcile_stage(&mut self, connection: &mut Connection, driver: &mut impl Driver) {
        if connection.transport.stage == Stage::Lingering && connection.transport.peer_ended {
            connection.transport.stage = Stage::Closing;
        }
        let gives_up = connection.transport.stage == Stage::Closing || connection.member.yields;
        if gives_up && connection.transport.sending && !self.send_cancelled {
            self.send_cancelled = true;
            driver.cancel_send(connection.member.key);
        }
    }

    #[inline]
    fn reconcile_receive(
        &mut self,
        connection: &Connection,
        driver: &mut impl Driver,
        resources: &mut Resources,
    ) {
        let wants = connection.wants_receive() && !self.waits_to_open();
        match (self.receive, wants) {
            (Receive::Off, true) if !connection.member.starved => {
                driver.receive(connection.member.key, self.socket);
                self.receive = Receive::Armed;
            }
            (Receive::Armed, false) => {
                driver.cancel_receive(connection.member.key);
                self.receive = Receive::Cancelling;
                if connection.transport.stage == Stage::Running {
                    resources.counters.add(Counter::ReceivePaused, 1);
                }
            }
            _ => {}
        }
    }
}

impl Connection {
    /// It is more than a socket and a session.
    #[inline]
    fn is_unusual(&self) -> bool {
        self.member.has_pending
            || self.transport.moving.is_some()
            || self.transport.stage != Stage::Running
    }
}

impl Transport {
    /// Gives a peer that still takes bytes time for the next ones. Not one whose credential is no
    /// longer valid, or that an operator ends: it could keep the send in flight going for ever.
    pub(super) fn extend_flush(&mut self, resources: &Resources) {
        let cuts_off = [Reason::Revoked, Reason::AuthExpired, Reason::Kicked];
        let is_cut_off = self.reason.is_some_and(|reason| cuts_off.contains(&reason));
        if self.stage == Stage::Flushing && !is_cut_off {
            self.stage_deadline = resources.now + Transport::STAGE_TIME;
        }
    }
}
