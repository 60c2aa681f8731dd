//! The floor: the cheapest echo of raw bytes that io_uring gives one thread.
//!
//! Multishot accept, one multishot receive per connection, provided buffers, and a plain send straight from the buffer
//! that was received into; the buffer goes back to the kernel when its send has completed. One system call a turn:
//! submit what the last turn queued, wait for something to do.
//!
//! ```text
//!   receive ──► queue of the connection ──► one send in flight ──► buffer given back ──► receive re-armed if it starved
//! ```
//!
//! Tried at 64 bytes, in turn with this, and within the noise (3 %) of it: copying to a send buffer of the connection
//! and giving the receive buffer back at once; direct descriptors; a registered ring; 256 buffers, or 4096 offered 64 at
//! a time, last in first out, instead of 4096 in rotation. 16 at a time cost up to 14 % (1000 × 1: starved receives are
//! re-armed). What is left is the kernel's TCP, hence the plainest form.
//!
//! A message that fills many buffers costs as many sends: for a floor of 16 KiB and more give `--buffer-bytes 65536
//! --buffers 256` (a third of the default's CPU at 64 KiB).
//!
//! What it does not do: frames (bytes are echoed as they come), bounds per connection. A peer that sends and never reads
//! holds buffers until none are left and everybody starves; load generators read.
//!
//! Invariants: a connection has at most one receive armed and one send in flight. Its slot is freed only when neither
//! is left, so no completion ever meets a stranger in its slot, and needs no generation to tell.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::squeue::Entry;
use io_uring::types::Fd;
use io_uring::{IoUring, SubmissionQueue, Submitter, cqueue, opcode};

use crate::buffer_ring::{self, BufferRing};

const ENTRIES: u32 = 4096;
const COMPLETIONS: u32 = 16384;

const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

/// User data: the operation above, the slot below.
const SLOT_BITS: u32 = 32;

/// Received bytes on their way back: `bytes` of the buffer's start, of which `sent` have left.
struct Piece {
    buffer: u16,
    bytes: u32,
    sent: u32,
}

struct Connection {
    fd: OwnedFd,
    /// In order of arrival; the first is the one in flight. Empty, it has no allocation to its name.
    pieces: VecDeque<Piece>,
    /// Armed, or in the queue of the starved to be armed.
    receiving: bool,
    sending: bool,
    /// The peer is done, or broken: nothing more to receive.
    ended: bool,
}

struct Echo<'ring> {
    submitter: Submitter<'ring>,
    submissions: SubmissionQueue<'ring>,
    buffers: BufferRing,
    listener: RawFd,
    accepting: bool,
    connections: Vec<Option<Connection>>,
    free: Vec<u32>,
    /// Slots whose receive ended for want of buffers.
    starved: VecDeque<u32>,
}

pub fn serve(
    listener: &TcpListener,
    size: buffer_ring::Size,
    ready: impl FnOnce(&TcpListener) -> io::Result<()>,
) -> io::Result<()> {
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_cqsize(COMPLETIONS)
        .build(ENTRIES)?;
    let (submitter, submissions, mut completions) = ring.split();
    let buffers = BufferRing::register(&submitter, size)?;
    let mut echo = Echo {
        submitter,
        submissions,
        buffers,
        listener: listener.as_raw_fd(),
        accepting: false,
        connections: Vec::new(),
        free: Vec::new(),
        starved: VecDeque::new(),
    };
    echo.accept()?;
    ready(listener)?;
    loop {
        echo.submissions.sync();
        match echo.submitter.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        completions.sync();
        for completion in completions.by_ref() {
            echo.handle(&completion)?;
        }
        // Publishes the head, so that the kernel sees the room before it is asked for more.
        completions.sync();
        echo.buffers.publish();
        echo.feed_the_starved()?;
    }
}

/// Interrupted, or completions must be taken before more can be submitted: both end in another turn.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
    )
}

impl Echo<'_> {
    fn handle(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let slot = completion.user_data() as u32;
        let (result, flags) = (completion.result(), completion.flags());
        match completion.user_data() >> SLOT_BITS {
            ACCEPT => self.handle_accept(result, cqueue::more(flags)),
            RECEIVE => self.handle_receive(slot, result, flags),
            _ => self.handle_send(slot, result),
        }
    }

    fn handle_accept(&mut self, result: i32, more: bool) -> io::Result<()> {
        self.accepting = more;
        if result >= 0 {
            // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
            let fd = unsafe { OwnedFd::from_raw_fd(result) };
            self.open(fd)?;
        }
        let exhausted = matches!(-result, libc::EMFILE | libc::ENFILE | libc::ENOMEM);
        // Exhausted, the next close re-arms: at once would be a hot loop.
        if !more && !exhausted {
            self.accept()?;
        }
        Ok(())
    }

    fn handle_receive(&mut self, slot: u32, result: i32, flags: u32) -> io::Result<()> {
        let Some(connection) = &mut self.connections[slot as usize] else {
            return Ok(());
        };
        let starved = result == -libc::ENOBUFS;
        connection.receiving = cqueue::more(flags) || starved;
        if let Some(buffer) = cqueue::buffer_select(flags) {
            self.buffers.take();
            match u32::try_from(result) {
                Ok(bytes) if bytes > 0 && !connection.ended => {
                    connection.pieces.push_back(Piece {
                        buffer,
                        bytes,
                        sent: 0,
                    });
                }
                _ => self.buffers.give_back(buffer),
            }
        }
        if starved {
            self.starved.push_back(slot);
            return Ok(());
        }
        // A full completion queue ends a multishot without an error: that one is simply armed again.
        connection.ended |= result <= 0 && !matches!(-result, libc::EINTR | libc::EAGAIN);
        self.go_on(slot)
    }

    fn handle_send(&mut self, slot: u32, result: i32) -> io::Result<()> {
        let Some(connection) = &mut self.connections[slot as usize] else {
            return Ok(());
        };
        connection.sending = false;
        match u32::try_from(result) {
            Ok(sent) => {
                if let Some(piece) = connection.pieces.front_mut() {
                    piece.sent += sent;
                    if piece.sent == piece.bytes {
                        self.buffers.give_back(piece.buffer);
                        connection.pieces.pop_front();
                    }
                }
            }
            Err(_) if matches!(-result, libc::EINTR | libc::EAGAIN) => {}
            Err(_) => {
                for piece in connection.pieces.drain(..) {
                    self.buffers.give_back(piece.buffer);
                }
                connection.ended = true;
                // Ends the receive that is still armed; its completion frees the slot.
                let _ = rustix::net::shutdown(&connection.fd, rustix::net::Shutdown::Both);
            }
        }
        self.go_on(slot)
    }

    /// Whatever is next for the connection: the next send, the receive again, or its end.
    fn go_on(&mut self, slot: u32) -> io::Result<()> {
        let Some(connection) = &mut self.connections[slot as usize] else {
            return Ok(());
        };
        let fd = Fd(connection.fd.as_raw_fd());
        let mut send = None;
        if !connection.sending
            && let Some(piece) = connection.pieces.front()
        {
            // SAFETY: a piece never sends more than it received, and that fits its buffer.
            let start = unsafe { self.buffers.address(piece.buffer).add(piece.sent as usize) };
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
            send = Some(
                opcode::Send::new(fd, start, piece.bytes - piece.sent)
                    .flags(flags)
                    .build()
                    .user_data(SEND << SLOT_BITS | u64::from(slot)),
            );
            connection.sending = true;
        }
        let receive = !connection.receiving && !connection.ended;
        let closed = connection.ended && !connection.receiving && !connection.sending;
        if let Some(send) = send {
            self.push(send)?;
        }
        if receive {
            self.receive(slot)?;
        }
        if closed {
            self.close(slot)?;
        }
        Ok(())
    }

    fn open(&mut self, fd: OwnedFd) -> io::Result<()> {
        let connection = Connection {
            fd,
            pieces: VecDeque::new(),
            receiving: false,
            sending: false,
            ended: false,
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.connections.push(None);
                self.connections.len() as u32 - 1
            }
        };
        self.connections[slot as usize] = Some(connection);
        self.receive(slot)
    }

    fn close(&mut self, slot: u32) -> io::Result<()> {
        self.connections[slot as usize] = None;
        self.free.push(slot);
        if self.accepting {
            Ok(())
        } else {
            self.accept()
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        self.accepting = true;
        let accept = opcode::AcceptMulti::new(Fd(self.listener))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(ACCEPT << SLOT_BITS);
        self.push(accept)
    }

    fn receive(&mut self, slot: u32) -> io::Result<()> {
        let Some(connection) = &mut self.connections[slot as usize] else {
            return Ok(());
        };
        connection.receiving = true;
        let receive = opcode::RecvMulti::new(Fd(connection.fd.as_raw_fd()), buffer_ring::GROUP)
            .build()
            .user_data(RECEIVE << SLOT_BITS | u64::from(slot));
        self.push(receive)
    }

    /// Re-arms no more receives than there are buffers: one more would fail at once.
    fn feed_the_starved(&mut self) -> io::Result<()> {
        for _ in 0..self.buffers.offered() {
            let Some(slot) = self.starved.pop_front() else {
                break;
            };
            match &mut self.connections[slot as usize] {
                Some(connection) if connection.ended => {
                    connection.receiving = false;
                    self.go_on(slot)?;
                }
                _ => self.receive(slot)?,
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> io::Result<()> {
        // SAFETY: buffers and ring memory are never freed, and a descriptor is closed only once nothing is in flight on it.
        while unsafe { self.submissions.push(&entry) }.is_err() {
            self.submissions.sync();
            match self.submitter.submit() {
                Err(error) if !is_transient(&error) => return Err(error),
                _ => self.submissions.sync(),
            }
        }
        Ok(())
    }
}
