//! The driver's contract: the few operations a shard asks for, and what comes back.
//!
//! A shard owns its sockets and keys, the driver owns memory while the kernel may touch
//! it: a chunk goes in with [`Driver::send`] and comes back with [`Completion::Sent`]; a
//! receive buffer comes out as a [`Buffer`] and goes back with [`Driver::release`]. So the
//! layers above need no `unsafe`, and two implementations can be held to the same rules:
//!
//! - Operations are only queued; [`Driver::poll`] submits them all and collects completions.
//! - At most one receive and one send of a key are in flight; the shard sees to that.
//! - A receive is multishot: it yields `Received` with `more` until one without, which is
//!   its last, whatever the cause: end of stream, an error, no buffers, a cancel, or
//!   nothing in particular (a full completion queue). The shard re-arms or closes.
//! - A key is free for reuse only after its receive's last completion and its send's
//!   completion. Completions may come late; the key's generation tells.
//! - `close` is asked for only when nothing of that socket is in flight.

use crate::base::chunk::Chunk;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::wake::Waker;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A connected socket's descriptor. Whoever holds it must see that it is closed once.
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

/// What a receive brought.
#[derive(Debug)]
pub enum Received {
    Data(Buffer),
    /// The peer has shut its sending side down.
    End,
    /// No receive buffer was free; nothing is lost, the data waits in the kernel.
    NoBuffers,
    /// The receive was cancelled, or ended by itself with nothing to say.
    Stopped,
    Failed(io::Error),
}

/// What became of an operation.
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
    /// The send is over: how many bytes went (perhaps fewer than asked), and the chunk back.
    Sent {
        key: Key,
        result: io::Result<usize>,
        chunk: Chunk,
    },
}

/// What lies under a shard.
pub trait Driver {
    /// The time of the last `poll`: one clock read a turn, not one a message.
    fn now(&self) -> Instant;

    /// How long the turn before the last `poll` took: from the end of the poll before it to
    /// its begin. Zero where time is simulated.
    fn turn_time(&self) -> Duration {
        Duration::ZERO
    }

    /// What reads the time in the midst of a turn; `None` where time is simulated.
    fn clock(&self) -> Option<fn() -> Instant> {
        None
    }

    /// Receive buffers that are not lent out, and how many there are; zero where there are
    /// none.
    fn buffers(&self) -> (usize, usize) {
        (0, 0)
    }

    /// Arms the multishot accept on this shard's listener.
    fn accept(&mut self);

    /// Ends the accept and closes the listener, for good. An accept that was armed still
    /// ends with [`Completion::AcceptEnded`], behind the last connection it brought.
    fn stop_accepting(&mut self);

    /// Arms a multishot receive.
    fn receive(&mut self, key: Key, socket: Socket);

    /// Asks the receive of `key` to end; its last completion still comes.
    fn cancel_receive(&mut self, key: Key);

    /// Sends `chunk[from..]`.
    fn send(&mut self, key: Key, socket: Socket, chunk: Chunk, from: usize);

    /// Gives up the send in flight of `key`; its completion still comes.
    fn cancel_send(&mut self, key: Key);

    /// Shuts the sending side down, after what was sent.
    fn shutdown(&mut self, socket: Socket);

    fn close(&mut self, socket: Socket);

    /// The peer's address; `None` when the peer is gone already.
    fn peer(&self, socket: Socket) -> Option<SocketAddr>;

    /// Bytes sent on this socket that the peer's machine has not acknowledged, those among
    /// them that are lost: what the kernel holds for the peer. Zero where it cannot tell.
    fn unacknowledged(&self, socket: Socket) -> usize;

    /// Submits what is queued and collects completions, `limit` at most. With `until`, and
    /// when nothing is there, sleeps until then (`Instant::NEVER`: until something comes),
    /// but only if `idle` still holds after others have been told to wake this shard.
    ///
    /// # Errors
    /// The ring itself is broken: the shard cannot go on.
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
