//! Listeners: incoming connections wait in the backlog; the multishot accept turns them into
//! descriptors until it ends, for whatever cause.

use super::event_queue::Segment;
use super::kernel::Kernel;
use super::link::{Direction, LinkId};
use super::ring::Accepting;
use crate::base::clock::Instant;
use crate::ring::driver::{Completion, Socket};
use std::io;
use std::time::Duration;

/// How long the client waits before it resends a SYN that found the backlog full.
const SYN_RETRY: Duration = Duration::from_secs(1);

/// What an accept may fail with (accept(2)), beside EMFILE and ECONNABORTED.
const ACCEPT_ERRORS: [(i32, &str); 6] = [
    (libc::ENFILE, "accept: ENFILE"),
    (libc::ENOBUFS, "accept: ENOBUFS"),
    (libc::ENOMEM, "accept: ENOMEM"),
    (libc::EPROTO, "accept: EPROTO"),
    (libc::ENETDOWN, "accept: ENETDOWN"),
    (libc::EINTR, "accept: EINTR"),
];

impl Kernel {
    /// The shards that listen.
    pub(super) fn listening(&self) -> Vec<u16> {
        let open = self.rings.iter().enumerate();
        open.filter(|(_, ring)| ring.accepting != Accepting::Stopped)
            .map(|(index, _)| index as u16)
            .collect()
    }

    pub(super) fn arrive_connect(&mut self, shard: u16, id: LinkId) {
        let Some(link) = self.links.find_mut(id) else {
            return;
        };
        let ring = &mut self.rings[usize::from(shard)];
        if ring.accepting == Accepting::Stopped {
            // The listener is closed: the SYN is answered with a reset.
            link.server_closed = true;
            self.reset_client_end_soon(id);
            return;
        }
        if ring.backlog.len() >= ring.size.backlog {
            self.cover("backlog full");
            let again = super::event_queue::Event::Arrive {
                link: id,
                direction: Direction::Up,
                segment: Segment::Syn(shard),
            };
            self.event_queue.push(self.now + SYN_RETRY, again);
            return;
        }
        ring.backlog.push_back(id);
        self.pump_accept(shard);
    }

    /// Checks that no accept is armed and records that one is requested.
    pub(super) fn begin_accept(&mut self, shard: u16) {
        match self.rings[usize::from(shard)].accepting {
            Accepting::Idle => self.rings[usize::from(shard)].accepting = Accepting::Queued,
            Accepting::Queued | Accepting::Armed => self.fail(shard, "two accepts armed"),
            Accepting::Stopped => self.fail(shard, "an accept on a closed listener"),
        }
    }

    pub(super) fn arm_accept(&mut self, shard: u16) {
        let ring = &mut self.rings[usize::from(shard)];
        if ring.accepting == Accepting::Queued {
            ring.accepting = Accepting::Armed;
            if self.descriptors.is_full() {
                // The kernel allocates the descriptor before it looks for a connection.
                self.end_accept(shard, Some(libc::EMFILE));
            }
            self.pump_accept(shard);
        }
    }

    pub(super) fn close_listener(&mut self, shard: u16) {
        let ring = &mut self.rings[usize::from(shard)];
        let armed = matches!(ring.accepting, Accepting::Armed | Accepting::Queued);
        let waiting = std::mem::take(&mut ring.backlog);
        if armed {
            self.end_accept(shard, None);
        }
        self.rings[usize::from(shard)].accepting = Accepting::Stopped;
        for id in waiting {
            if let Some(link) = self.links.find_mut(id) {
                link.server_closed = true;
                self.reset_client_end_soon(id);
            }
        }
    }

    /// Turns waiting connections into descriptors.
    fn pump_accept(&mut self, shard: u16) {
        let index = usize::from(shard);
        while self.rings[index].accepting == Accepting::Armed
            && !self.rings[index].backlog.is_empty()
        {
            if self.descriptors.is_full() || self.fault("accept_full", self.faults.accept_full) {
                return self.end_accept(shard, Some(libc::EMFILE));
            }
            if self.fault("accept_fails", self.faults.accept_fails) {
                let errno = self.any_error(&ACCEPT_ERRORS);
                return self.end_accept(shard, Some(errno));
            }
            let Some(id) = self.rings[index].backlog.pop_front() else {
                return;
            };
            if self.fault("accept_aborts", self.faults.accept_aborts) {
                self.abort(id);
                return self.end_accept(shard, Some(libc::ECONNABORTED));
            }
            let socket = self.descriptors.insert(id);
            let after = self.rings[index].accept_visible_at;
            let full = self.rings[index].is_full();
            self.note("accept", &[u64::from(shard), socket as u64]);
            let at = self.post(shard, after, Completion::Accepted(Socket(socket)));
            self.rings[index].accept_visible_at = at;
            if full {
                self.cover("queue full at accept");
            }
            if full || self.fault("multishot_ends", self.faults.multishot_ends) {
                self.end_accept(shard, None);
            }
        }
    }

    fn end_accept(&mut self, shard: u16, errno: Option<i32>) {
        self.note("accept ends", &[errno.unwrap_or(0) as u64]);
        let after = self.rings[usize::from(shard)].accept_visible_at;
        let error = errno.map(io::Error::from_raw_os_error);
        let at: Instant = self.post(shard, after, Completion::AcceptEnded(error));
        let ring = &mut self.rings[usize::from(shard)];
        ring.accept_visible_at = at;
        ring.accepting = Accepting::Idle;
    }

    /// The connection is lost before the server has accepted it.
    fn abort(&mut self, id: LinkId) {
        if let Some(link) = self.links.find_mut(id) {
            link.broken = true;
            link.server_closed = true;
            self.reset_client_end_soon(id);
        }
    }
}
