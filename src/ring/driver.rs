//! The driver's contract: the operations a shard requests, and their completions.
//!
//! A shard owns its sockets and keys, the driver owns memory while the kernel may touch
//! it: a chunk goes in with [`Driver::send`] and comes back with [`Completion::Sent`]; a
//! receive buffer comes out as a [`Buffer`] and goes back with [`Driver::release`]. So the
//! layers above need no `unsafe`, and two implementations can be held to the same rules:
//!
//! - Operations are only queued; [`Driver::poll`] submits them all and collects completions.
//! - At most one receive and one send of a key are in flight; the shard ensures that.
//! - A receive is multishot: it yields `Received` with `more` until one without, which is
//!   its last, whatever the cause: end of stream, an error, no buffers, a cancel, or
//!   nothing in particular (a full completion queue). The shard re-arms or closes.
//! - A key may be reused only after its receive's last completion and its send's completion.
//!   Completions may come late; the key's generation tells them apart.
//! - `close` is called only when no operation on that socket is in flight.

use crate::base::chunk::Chunk;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::wake::Waker;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A connected socket's descriptor. Its owner must close it exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket(pub i32);

/// A receive buffer that the driver filled and lent out: read it with [`Driver::bytes`],
/// then give it back with [`Driver::release`]. Not `Clone`, so it goes back once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a buffer that is not released is lost to the ring"]
pub struct Buffer {
    pub(super) id: u16,
    pub(super) len: u32,
}

/// The result of a receive.
#[derive(Debug)]
pub enum Received {
    Data(Buffer),
    /// The peer has shut its sending side down.
    End,
    /// No receive buffer was free; nothing is lost, the data waits in the kernel.
    NoBuffers,
    /// The receive was cancelled, or ended by itself without a result.
    Stopped,
    Failed(io::Error),
}

/// The completion of an operation.
#[derive(Debug)]
pub enum Completion {
    Accepted(Socket),
    /// The multishot accept has ended and wants to be armed again (later, if an error says
    /// that descriptors or memory are short).
    AcceptEnded(Option<io::Error>),
    Received {
        key: Key,
        result: Received,
        /// False: this was the receive's last completion.
        more: bool,
    },
    /// The send has ended: how many bytes went out (perhaps fewer than requested), and its chunk.
    Sent {
        key: Key,
        result: io::Result<usize>,
        chunk: Chunk,
    },
}

/// What a shard runs on.
pub trait Driver {
    /// The time of the last `poll`: one clock read a turn, not one a message.
    fn now(&self) -> Instant;

    /// How long the shard's last turn took: from the end of the previous `poll` to the start of the
    /// last one. Zero where time is simulated.
    fn turn_time(&self) -> Duration {
        Duration::ZERO
    }

    /// A clock for reading the time within a turn; `None` where time is simulated.
    fn clock(&self) -> Option<fn() -> Instant> {
        None
    }

    /// How many receive buffers are not lent out, and how many there are in all; zero where there
    /// are none.
    fn buffers(&self) -> (usize, usize) {
        (0, 0)
    }

    /// Arms the multishot accept on this shard's listener.
    fn accept(&mut self);

    /// Ends the accept and closes the listener for good. An armed accept still ends with
    /// [`Completion::AcceptEnded`], after the last connection it accepted.
    fn stop_accepting(&mut self);

    /// Arms a multishot receive.
    fn receive(&mut self, key: Key, socket: Socket);

    /// Cancels the receive of `key`; its last completion still comes.
    fn cancel_receive(&mut self, key: Key);

    /// Sends `chunk[from..]`.
    fn send(&mut self, key: Key, socket: Socket, chunk: Chunk, from: usize);

    /// Cancels the send in flight of `key`; its completion still comes.
    fn cancel_send(&mut self, key: Key);

    /// Shuts the sending side down, after everything sent before.
    fn shutdown(&mut self, socket: Socket);

    fn close(&mut self, socket: Socket);

    /// The peer's address; `None` when the peer is gone already.
    fn peer(&self, socket: Socket) -> Option<SocketAddr>;

    /// Bytes sent on this socket that the peer's machine has not acknowledged, including lost ones:
    /// what the kernel holds for the peer. Zero where the driver cannot tell.
    fn unacknowledged(&self, socket: Socket) -> usize;

    /// Submits what is queued and collects at most `limit` completions. With `until`, and if there
    /// is no completion, sleeps until then (`Instant::NEVER`: until one comes), but only if `idle`
    /// still holds after other threads have been told to wake this shard.
    ///
    /// # Errors
    /// If the ring itself is broken: the shard cannot go on.
    fn poll(
        &mut self,
        limit: usize,
        until: Option<Instant>,
        idle: &mut dyn FnMut() -> bool,
    ) -> io::Result<()>;

    /// The next completion of the last `poll`.
    fn next(&mut self) -> Option<Completion>;

    /// The bytes in a buffer.
    fn bytes(&self, buffer: &Buffer) -> &[u8];

    /// Gives a buffer back to the ring.
    fn release(&mut self, buffer: Buffer);

    /// Wakes this driver's shard from another thread.
    fn waker(&self) -> Waker;
}
