//! Settling: after a turn's events, each touched connection's operations are brought in
//! line with what it wants. The one place that arms, cancels, sends, shuts down, closes.
//!
//! It compares wish and state and may be called any number of times, so that no event has
//! to know what others have done: a multishot that ended for whatever cause is armed again
//! simply because the connection still wants to receive.

use super::Shard;
use super::connection::{Connection, Receive, Stage};
use super::outbox::give_back;
use super::resource::Resources;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::reason::Reason;
use crate::metrics::counter::Counter;
use crate::ring::driver::{Chunk, Driver};
use std::io;

impl<D: Driver> Shard<D> {
    pub(super) fn settle_touched(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            self.settle(key);
        }
        // Keep the allocation.
        self.touched = touched;
    }

    #[inline]
    fn settle(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.touched = false;
        connection.settle_send(&mut self.driver);
        connection.settle_stage(&mut self.driver, &self.resources);
        connection.settle_receive(&mut self.driver, &mut self.resources);
        if connection.stage == Stage::Closing
            && connection.receive == Receive::Off
            && !connection.sending
        {
            return self.free(key);
        }
        if connection.timer == Instant::NEVER || connection.may_be_due_earlier() {
            let deadline = connection.deadline();
            if deadline != connection.timer {
                connection.timer = deadline;
                self.timers.arm(key.slot, deadline);
            }
        }
    }

    /// The connection's last completion has come: its slot, memory and descriptor go back.
    fn free(&mut self, key: Key) {
        let Some(mut connection) = self.connections.remove(key) else {
            return;
        };
        self.timers.cancel(key.slot);
        connection.line.outbox.clear(&mut self.resources.pool);
        debug_assert!(connection.line.outbox.is_empty());
        self.driver.close(connection.socket);
        self.census.leave(self.id);
        let reason = connection.reason.unwrap_or(Reason::Internal);
        self.resources.counters.add_closed(reason);
        tracing::debug!(shard = self.id.0, connection = %key, reason = reason.label(), "closed");
    }
}

impl Connection {
    #[inline]
    fn settle_send(&mut self, driver: &mut impl Driver) {
        if self.sending || self.stage > Stage::Flushing {
            return;
        }
        if let Some(chunk) = self.line.outbox.next_chunk() {
            self.sending = true;
            driver.send(self.line.key, self.socket, chunk, 0);
        }
    }

    /// A send is over: the rest of a short one goes on, a broken connection ends.
    pub(super) fn take_sent(
        &mut self,
        driver: &mut impl Driver,
        result: io::Result<usize>,
        chunk: Chunk,
        resources: &mut Resources,
    ) {
        let length = chunk.len();
        let from = self.sent_of_chunk;
        match result {
            Ok(bytes) if from + bytes < length && self.stage <= Stage::Flushing => {
                self.line.outbox.sent(bytes);
                resources.counters.add(Counter::BytesSent, bytes as u64);
                self.sent_of_chunk = from + bytes;
                self.sending = true;
                driver.send(self.line.key, self.socket, chunk, self.sent_of_chunk);
                return self.extend_flush(resources);
            }
            Ok(bytes) => {
                resources.counters.add(Counter::BytesSent, bytes as u64);
                self.extend_flush(resources);
            }
            Err(_) if self.stage == Stage::Closing => {}
            Err(_) => self.abort(Reason::PeerReset, resources),
        }
        self.line.outbox.sent(length - from);
        self.sent_of_chunk = 0;
        give_back(chunk, &mut resources.pool);
    }

    /// A peer that still takes bytes is given time for the next.
    fn extend_flush(&mut self, resources: &Resources) {
        if self.stage == Stage::Flushing {
            self.stage_deadline = resources.now + Connection::STAGE_TIME;
        }
    }

    fn settle_stage(&mut self, driver: &mut impl Driver, resources: &Resources) {
        if self.stage == Stage::Flushing && self.line.outbox.is_empty() && !self.sending {
            driver.shutdown(self.socket);
            self.stage = Stage::Lingering;
            self.stage_deadline = resources.now + Connection::STAGE_TIME;
        }
        if self.stage == Stage::Lingering && self.peer_ended {
            self.stage = Stage::Closing;
        }
        if self.stage == Stage::Closing && self.sending && !self.send_cancelled {
            self.send_cancelled = true;
            driver.cancel_send(self.line.key);
        }
    }

    #[inline]
    fn settle_receive(&mut self, driver: &mut impl Driver, resources: &mut Resources) {
        match (self.receive, self.wants_receive()) {
            (Receive::Off, true) if !self.starved => {
                driver.receive(self.line.key, self.socket);
                self.receive = Receive::Armed;
            }
            (Receive::Armed, false) => {
                driver.cancel_receive(self.line.key);
                self.receive = Receive::Cancelling;
                if self.stage == Stage::Running {
                    resources.counters.add(Counter::ReceivePaused, 1);
                }
            }
            _ => {}
        }
    }
}
