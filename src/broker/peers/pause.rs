//! When a connection stops handling its input: it has used its share of the turn, or waits for an
//! event.

use crate::base::limits::ANSWERS_OPEN_MAX;
use crate::broker::context::resource::Resources;
use crate::broker::context::scheduler::UNITS_BEYOND;
use crate::broker::peers::connection::Connection;
use crate::broker::publish::fanout_queue::Fanning;

impl Connection {
    /// Newly received bytes must be queued behind the kept ones.
    #[inline]
    pub(in crate::broker) fn is_paused(&self) -> bool {
        self.member.ready || self.waits()
    }

    /// It must wait for an event that will wake it.
    #[inline]
    pub(in crate::broker) fn waits(&self) -> bool {
        self.transport.stalled
            || self.member.blocked
            || self.member.fanning == Fanning::Waits
            || self.member.unanswered
            || self.is_moving()
            || self.transport.held
    }

    /// Called after each message: whether the rest must wait, for another turn or for the outbox.
    /// `units` is what the connection's own messages have cost: when the lane's share is used up, a
    /// connection that has cost little need not wait.
    #[inline]
    pub(in crate::broker) fn must_pause(
        &mut self,
        handled: u32,
        units: usize,
        mesh_pressed: bool,
        resources: &Resources,
    ) -> bool {
        let queued = self.transport.outbox.queued_bytes();
        let pressed = queued > 0 && resources.pool.is_exhausted();
        if queued > resources.limits.outbox_bytes_max / 2 || pressed {
            self.transport.stalled = true;
        } else if handled >= resources.limits.pace.messages
            || (resources.work.is_over() && units >= UNITS_BEYOND)
        {
            self.member.ready = true;
        }
        self.member.blocked = mesh_pressed && self.member.uses_mesh;
        self.member.unanswered = self.member.answers_open >= resources.limits.pace.answers;
        self.is_paused()
    }

    /// The outbox has drained somewhat: continues if the connection was waiting for that. True if
    /// the connection is to be listed as ready: it has input to handle, or an end that waited.
    pub(crate) fn unstall(&mut self, resources: &Resources) -> bool {
        let outbox = &self.transport.outbox;
        let low = outbox.queued_bytes() <= resources.limits.outbox_bytes_max / 4;
        let eased = outbox.is_empty() || !resources.pool.is_exhausted();
        if !self.transport.stalled || !low || !eased {
            return false;
        }
        self.transport.stalled = false;
        self.transport.session.restart_frame_clock(resources.now);
        let ending = self.transport.peer_ended || self.transport.session.is_peer_closing();
        let listed = self.member.ready;
        self.member.ready |= ending || !self.transport.input.is_empty();
        self.member.ready && !listed
    }

    /// Some of its operations have been answered: continues if the connection was waiting for that.
    /// True if the connection is to be listed as ready.
    pub(in crate::broker) fn heed_answers(&mut self) -> bool {
        if !self.member.unanswered || self.member.answers_open > ANSWERS_OPEN_MAX / 2 {
            return false;
        }
        self.member.unanswered = false;
        !std::mem::replace(&mut self.member.ready, true)
    }
}
