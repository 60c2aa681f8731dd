//! The server's ends of connections: what receives, sends, shutdowns and closes do, and how
//! arriving segments affect them. The rules are those of TCP on Linux:
//!
//! - Closing with unread bytes, or bytes arriving after the close, resets the connection, and
//!   whatever had not reached the peer by then is lost.
//! - A reset is seen after the bytes that had arrived (unless a fault discards those, too).
//! - A send takes as much as there is room for; with no room at all it stays in flight.

use super::event_queue::{Event, Segment};
use super::kernel::{Kernel, Operation};
use super::link::{Direction, LinkId};
use super::ring::{Phase, Receive, Send};
use crate::base::chunk::Chunk;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::ring::driver::{Buffer, Completion, Received};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// What a receive may fail with; the shard cannot tell these apart.
const RECEIVE_ERRORS: [(i32, &str); 5] = [
    (libc::ECONNRESET, "receive: ECONNRESET"),
    (libc::ETIMEDOUT, "receive: ETIMEDOUT"),
    (libc::EHOSTUNREACH, "receive: EHOSTUNREACH"),
    (libc::ENOMEM, "receive: ENOMEM"),
    (libc::EIO, "receive: EIO"),
];
const SEND_ERRORS: [(i32, &str); 6] = [
    (libc::EPIPE, "send: EPIPE"),
    (libc::ECONNRESET, "send: ECONNRESET"),
    (libc::EHOSTUNREACH, "send: EHOSTUNREACH"),
    (libc::ENOBUFS, "send: ENOBUFS"),
    (libc::ENOMEM, "send: ENOMEM"),
    (libc::EIO, "send: EIO"),
];

impl Kernel {
    // ---- requested: checks only ----

    pub(super) fn begin_receive(&mut self, shard: u16, key: Key, socket: i32) {
        match self.descriptors.find_mut(socket) {
            Some(open) if !open.receiving => open.receiving = true,
            Some(_) => self.fail(
                shard,
                format_args!("two receives on socket {socket}, {key}"),
            ),
            None => self.fail(
                shard,
                format_args!("a receive of {key} on socket {socket}, not open"),
            ),
        }
        let receive = Receive {
            socket,
            phase: Phase::Queued,
            visible_at: Instant::ZERO,
        };
        let before = match self.rings[usize::from(shard)].slot_entry(key) {
            Some(slot) => slot.receive.replace(receive),
            None => self.fail(
                shard,
                format_args!("{key} used while its slot is in flight"),
            ),
        };
        if before.is_some() {
            self.fail(shard, format_args!("two receives of {key}"));
        }
    }

    pub(super) fn begin_send(
        &mut self,
        shard: u16,
        key: Key,
        socket: i32,
        chunk: Chunk,
        from: usize,
    ) {
        if from >= chunk.len() {
            self.fail(shard, format_args!("a send of nothing, {key}"));
        }
        match self.descriptors.find_mut(socket) {
            Some(open) if !open.sending => open.sending = true,
            Some(_) => self.fail(shard, format_args!("two sends on socket {socket}, {key}")),
            None => self.fail(
                shard,
                format_args!("a send of {key} on socket {socket}, not open"),
            ),
        }
        let send = Box::new(Send {
            socket,
            phase: Phase::Queued,
            held: false,
            chunk: Some(chunk),
            from,
        });
        let before = match self.rings[usize::from(shard)].slot_entry(key) {
            Some(slot) => slot.send.replace(send),
            None => self.fail(
                shard,
                format_args!("{key} used while its slot is in flight"),
            ),
        };
        if before.is_some() {
            self.fail(shard, format_args!("two sends of {key}"));
        }
    }

    // ---- submitted ----

    pub(super) fn submit(&mut self, shard: u16, operation: Operation) {
        match operation {
            Operation::Accept => self.arm_accept(shard),
            Operation::Receive { key, socket } => self.arm_receive(shard, key, socket),
            Operation::CancelReceive(key) if self.fault("late_cancel", self.faults.late_cancel) => {
                let at = self.now + self.delay(self.faults.late_max);
                self.event_queue
                    .push(at, Event::CancelReceive { shard, key });
            }
            Operation::CancelReceive(key) => self.end_receive(shard, key),
            Operation::Send { key, socket } => self.arm_send(shard, key, socket),
            Operation::CancelSend(key) if self.fault("late_cancel", self.faults.late_cancel) => {
                let at = self.now + self.delay(self.faults.late_max);
                self.event_queue.push(at, Event::CancelSend { shard, key });
            }
            Operation::CancelSend(key) => self.end_send(shard, key),
        }
    }

    fn arm_receive(&mut self, shard: u16, key: Key, socket: i32) {
        let id = self.link_of(socket);
        if let Some(receive) = self.rings[usize::from(shard)].receive_mut(key) {
            receive.phase = Phase::Armed;
        }
        if let Some(id) = id
            && let Some(link) = self.links.find_mut(id)
        {
            link.receiver = Some((shard, key));
            self.pump_receive(id);
        }
    }

    fn arm_send(&mut self, shard: u16, key: Key, socket: i32) {
        let held = self.fault("slow_send", self.faults.slow_send);
        if held {
            let at = self.now + self.delay(self.faults.late_max * 4);
            self.event_queue.push(at, Event::Send { shard, key });
        }
        let id = self.link_of(socket);
        if let Some(send) = self.rings[usize::from(shard)].send_mut(key) {
            send.phase = Phase::Armed;
            send.held = held;
        }
        if let Some(id) = id
            && let Some(link) = self.links.find_mut(id)
        {
            link.sender = Some((shard, key));
            self.pump_send(id);
        }
    }

    /// `shutdown` and `close` take effect at once: in the real driver they are system calls of
    /// their own as well.
    pub(super) fn shutdown(&mut self, shard: u16, socket: i32) {
        let Some(id) = self.link_of(socket) else {
            self.fail(
                shard,
                format_args!("a shutdown of socket {socket}, not open"),
            )
        };
        if let Some(link) = self.links.find_mut(id)
            && !link.down.shut
        {
            link.down.shut = true;
            self.dispatch(id, Direction::Down, Segment::Fin);
            self.pump_send(id);
        }
    }

    pub(super) fn close(&mut self, shard: u16, socket: i32) {
        self.note("close", &[u64::from(shard), socket as u64]);
        let Some(open) = self.descriptors.remove(socket) else {
            self.fail(shard, format_args!("a close of socket {socket}, not open"))
        };
        if open.receiving || open.sending {
            self.fail(
                shard,
                format_args!("socket {socket} closed with something in flight"),
            );
        }
        let id = open.link;
        let Some(link) = self.links.find_mut(id) else {
            return;
        };
        link.server_closed = true;
        if link.up.arrived() > 0 && !link.server_reset {
            self.reset_client_end_soon(id);
        } else if !link.down.shut && !link.server_reset {
            link.down.shut = true;
            self.dispatch(id, Direction::Down, Segment::Fin);
        }
        self.drop_finished(id);
    }

    // ---- completed ----

    /// Moves arrived bytes into buffers while a receive is armed.
    pub(super) fn pump_receive(&mut self, id: LinkId) {
        while let Some(link) = self.links.find(id)
            && let Some((shard, key)) = link.receiver
        {
            let (arrived, ended, reset) = (link.up.arrived(), link.up.ended, link.server_reset);
            let last = |result| (result, Vec::new(), false);
            let (result, bytes, more) = if arrived == 0 && reset {
                last(Received::Failed(io::Error::from_raw_os_error(
                    libc::ECONNRESET,
                )))
            } else if arrived == 0 && ended {
                last(Received::End)
            } else if arrived == 0 {
                return;
            } else if self.fault("breaks", self.faults.breaks) {
                return self.break_link(id);
            } else if self.fault("receive_fails", self.faults.receive_fails) {
                self.blame_nobody(id);
                let errno = self.any_error(&RECEIVE_ERRORS);
                last(Received::Failed(io::Error::from_raw_os_error(errno)))
            } else if self.fault("multishot_ends", self.faults.multishot_ends / 2.0) {
                last(Received::Stopped)
            } else {
                self.fill_buffer(shard, id, arrived)
            };
            self.note(
                "receive",
                &[u64::from(key.slot), bytes.len() as u64, u64::from(more)],
            );
            self.post_received(shard, key, result, bytes, more);
        }
    }

    fn fill_buffer(&mut self, shard: u16, id: LinkId, arrived: usize) -> (Received, Vec<u8>, bool) {
        if self.fault("no_buffers", self.faults.no_buffers) {
            return (Received::NoBuffers, Vec::new(), false);
        }
        let ring = &mut self.rings[usize::from(shard)];
        let Some(buffer) = ring.buffers_free.pop() else {
            self.cover("buffers ran out");
            return (Received::NoBuffers, Vec::new(), false);
        };
        let full = ring.is_full();
        let mut count = arrived.min(ring.size.buffer_bytes as usize);
        if self.fault("short_receive", self.faults.short_receive) {
            count = self.rng.usize(1..=count);
        }
        if full {
            self.cover("queue full");
        }
        let more = !full && !self.fault("multishot_ends", self.faults.multishot_ends);
        let mut bytes = Vec::new();
        let mut blocked = None;
        if let Some(link) = self.links.find_mut(id) {
            bytes = link.up.read(count);
            blocked = std::mem::take(&mut link.client_blocked).then_some(link.client);
        }
        if let Some(client) = blocked {
            self.poke_later(client);
        }
        let len = bytes.len() as u32;
        (Received::Data(Buffer { id: buffer, len }), bytes, more)
    }

    /// A cancel ends the receive if it is still armed.
    pub(super) fn end_receive(&mut self, shard: u16, key: Key) {
        self.cover("receive cancelled");
        let receive = self.rings[usize::from(shard)].receive_mut(key);
        if receive.is_some_and(|receive| receive.phase == Phase::Armed) {
            self.post_received(shard, key, Received::Stopped, Vec::new(), false);
        }
    }

    /// The delay that a fault gave a send is over.
    pub(super) fn release_send(&mut self, shard: u16, key: Key) -> Option<LinkId> {
        let send = self.rings[usize::from(shard)].send_mut(key)?;
        send.held = false;
        let socket = send.socket;
        self.link_of(socket)
    }

    /// Sends as much as there is room for, if a send is pending.
    pub(super) fn pump_send(&mut self, id: LinkId) -> Option<()> {
        let (shard, key) = self.links.find(id)?.sender?;
        if !self.links.find(id)?.server_reset && self.fault("breaks", self.faults.breaks) {
            self.break_link(id);
            return None;
        }
        let link = self.links.find(id)?;
        let room = self.pipe_bytes.saturating_sub(link.down.len());
        let (reset, shut) = (link.server_reset, link.down.shut);
        let send = self.rings[usize::from(shard)].send_mut(key)?;
        if reset || shut {
            let errno = if reset && self.rng.bool() {
                libc::ECONNRESET
            } else {
                libc::EPIPE
            };
            self.finish_send(shard, key, Err(errno));
            return Some(());
        }
        if send.held || room == 0 {
            self.cover("send waits");
            return None;
        }
        if self.fault("send_fails", self.faults.send_fails) {
            self.blame_nobody(id);
            let errno = self.any_error(&SEND_ERRORS);
            self.finish_send(shard, key, Err(errno));
            return Some(());
        }
        let send = self.rings[usize::from(shard)].send_mut(key)?;
        let chunk = send.chunk.take()?;
        let from = send.from;
        let mut count = room.min(chunk.len() - from);
        if self.fault("short_send", self.faults.short_send) {
            count = self.rng.usize(1..=count);
        }
        self.transmit(id, Direction::Down, &chunk.as_slice()[from..from + count]);
        if let Some(send) = self.rings[usize::from(shard)].send_mut(key) {
            send.chunk = Some(chunk);
        }
        self.finish_send(shard, key, Ok(count));
        Some(())
    }

    /// A cancel ends the send if it is still armed.
    pub(super) fn end_send(&mut self, shard: u16, key: Key) {
        let send = self.rings[usize::from(shard)].send_mut(key);
        if send.is_some_and(|send| send.phase == Phase::Armed) {
            self.finish_send(shard, key, Err(libc::ECANCELED));
        }
    }

    fn finish_send(&mut self, shard: u16, key: Key, result: Result<usize, i32>) {
        let Some(send) = self.rings[usize::from(shard)].send_mut(key) else {
            return;
        };
        let Some(chunk) = send.chunk.take() else {
            return;
        };
        send.phase = Phase::Done;
        let socket = send.socket;
        if let Some(id) = self.link_of(socket)
            && let Some(link) = self.links.find_mut(id)
        {
            link.sender = None;
        }
        self.note("send", &[u64::from(key.slot), result.unwrap_or(0) as u64]);
        let result = result.map_err(io::Error::from_raw_os_error);
        self.post(
            shard,
            Instant::ZERO,
            Completion::Sent { key, result, chunk },
        );
    }

    /// The shard has taken a completion: if it was the operation's last, the operation is no longer
    /// in flight.
    pub(super) fn taken(&mut self, shard: u16, completion: &Completion) {
        let ring = &mut self.rings[usize::from(shard)];
        let (key, socket, is_receive) = match completion {
            Completion::Received {
                key, more: false, ..
            } => {
                let slot = ring.slot_mut(*key);
                let receive = slot.and_then(|slot| slot.receive.take());
                (*key, receive.map(|receive| receive.socket), true)
            }
            Completion::Sent { key, .. } => {
                let send = ring.slot_mut(*key).and_then(|slot| slot.send.take());
                (*key, send.map(|send| send.socket), false)
            }
            _ => return,
        };
        ring.drop_idle_slot(key);
        let open = socket.and_then(|socket| self.descriptors.find_mut(socket));
        if let Some(open) = open {
            if is_receive {
                open.receiving = false;
            } else {
                open.sending = false;
            }
        }
        self.note("taken", &[u64::from(shard), u64::from(key.slot)]);
    }

    /// What the server's kernel holds for the client: bytes on their way or lost, and bytes that
    /// the client's kernel has no room for until the client reads: it takes half a pipe.
    pub(super) fn unacknowledged(&self, socket: i32) -> usize {
        let link = self.link_of(socket).and_then(|id| self.links.find(id));
        link.map_or(0, |link| {
            let (down, room) = (&link.down, self.pipe_bytes / 2);
            let travels = down.len() - down.arrived();
            down.lost + travels.max(down.len().saturating_sub(room))
        })
    }

    /// The address of the client at the other end, derived from its number.
    pub(super) fn peer(&mut self, shard: u16, socket: i32) -> Option<SocketAddr> {
        let Some(id) = self.link_of(socket) else {
            self.fail(shard, format_args!("the peer of socket {socket}, not open"))
        };
        if self.fault("no_peer_address", self.faults.no_peer_address) {
            return None;
        }
        let link = self.links.find(id)?;
        if link.server_reset {
            return None;
        }
        let [a, b, c, d] = link.client.0.to_be_bytes();
        let address = Ipv4Addr::new(10 + (a & 0x3F), b, c, d);
        Some(SocketAddr::from((address, 40_000)))
    }

    // ---- arrived ----

    pub(super) fn arrive_up(&mut self, id: LinkId, count: usize) {
        let Some(link) = self.links.find_mut(id) else {
            return;
        };
        if link.server_closed {
            link.up.discard();
            self.reset_client_end_soon(id);
        } else if !link.up.cut {
            link.up.arrive(count);
            self.pump_receive(id);
        }
    }

    /// A reset has arrived from the client, or a fault simulates one.
    pub(super) fn reset_server_end(&mut self, id: LinkId) {
        let discards = self.fault("reset_discards", self.faults.reset_discards);
        let Some(link) = self.links.find_mut(id) else {
            return;
        };
        link.server_reset = true;
        link.up.cut();
        link.down.cut();
        if discards {
            link.up.discard();
        }
        self.pump_receive(id);
        self.pump_send(id);
    }

    /// A fault ends the connection, neither side.
    fn blame_nobody(&mut self, id: LinkId) {
        if let Some(link) = self.links.find_mut(id) {
            link.broken = true;
        }
    }

    /// A fault breaks the connection for both ends.
    fn break_link(&mut self, id: LinkId) {
        self.note("break", &[]);
        self.blame_nobody(id);
        self.reset_client_end_soon(id);
        self.reset_server_end(id);
    }
}
