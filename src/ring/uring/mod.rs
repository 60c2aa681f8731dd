//! The driver on io_uring: one ring per shard, one `enter` per turn.
//!
//! - Multishot accept and receive: armed once, one completion per connection or arrival.
//! - `SINGLE_ISSUER | DEFER_TASKRUN`: completions are made when this thread enters, not by
//!   interrupting it; `TASKRUN_FLAG` says when there are some to make. Watching such a ring from
//!   user space alone is not enough: only entering makes progress.
//! - User data carries operation (8 bits), generation (24) and slot (32); a send carries
//!   the index of its flight instead.
//!
//! What it does not do: decide anything. The shard decides which socket to arm, pause or close.
//!
//! Invariant: memory named in a submitted operation stays until its completion. Receive
//! buffers live as long as the ring, chunks in `flights`, the wake word in `wake`.

mod buffers;
mod flight;
mod pages;
mod wake;

use super::driver::{Buffer, Completion, Driver, Received, Socket};
use crate::base::chunk::Chunk;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::wake::Waker;
use buffers::BufferRing;
use flight::Flights;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;
use wake::EventWake;

const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const WAKE: u64 = 4;
/// Completions that are ignored: those of cancels.
const IGNORED: u64 = 5;

/// The most completions that one enter makes on a DEFER_TASKRUN ring.
const COMPLETIONS_PER_ENTER: usize = 20;

/// The size of a ring, from the configuration's `[ring]`.
#[derive(Clone, Debug)]
pub struct Geometry {
    /// Submission queue entries, a power of two.
    pub entries: u32,
    /// Completion queue entries, a power of two and at least `entries`.
    pub completions: u32,
    /// Provided receive buffers, a power of two and at most 32,768.
    pub buffers: u16,
    pub buffer_bytes: u32,
    /// How long to spin before sleeping; zero: no spinning.
    pub busy_poll: Duration,
}

/// The io_uring driver of one shard. Made and used on that shard's thread only.
pub struct Uring {
    /// First, so that it is dropped before the memory it refers to.
    ring: IoUring,
    buffers: BufferRing,
    flights: Flights,
    /// Completions that `poll` has collected and `next` has not returned yet.
    ready: VecDeque<cqueue::Entry>,
    /// The accept's last completion carried a connection, and the listener is closed: `AcceptEnded`
    /// is still to be reported.
    accept_ended: bool,
    listener: Option<TcpListener>,
    wake: Arc<EventWake>,
    now: Instant,
    turn_time: Duration,
    busy_poll: Duration,
}

impl Uring {
    /// Sets up a ring for the calling thread.
    ///
    /// # Errors
    /// Those of io_uring_setup(2) and io_uring_register(2); `probe` explains the usual ones.
    pub fn new(geometry: &Geometry, listener: TcpListener) -> io::Result<Uring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(geometry.completions)
            .build(geometry.entries)?;
        let buffers =
            BufferRing::register(&ring.submitter(), geometry.buffers, geometry.buffer_bytes)?;
        let mut driver = Uring {
            ring,
            buffers,
            flights: Flights::default(),
            accept_ended: false,
            ready: VecDeque::with_capacity(geometry.completions as usize / 4),
            listener: Some(listener),
            wake: Arc::new(EventWake::new()?),
            now: Instant::now(),
            turn_time: Duration::ZERO,
            busy_poll: geometry.busy_poll,
        };
        driver.arm_wake();
        Ok(driver)
    }

    fn arm_wake(&mut self) {
        let descriptor = Fd(self.wake.descriptor());
        let entry =
            opcode::Read::new(descriptor, self.wake.word(), size_of::<u64>() as u32).build();
        self.push(entry.user_data(WAKE << 56));
    }

    /// Queues an operation, submitting the queue first when it is full.
    ///
    /// The driver keeps all memory that the entry names until its completion; see each caller.
    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: receives name memory of `buffers`, sends that of a chunk in
            // `flights`, the wake read the word in `wake`; all of it is held by `self`, on
            // the heap, where it does not move, and is freed only after the completion, or
            // after `drop` has cancelled whatever is in flight. Other operations name no
            // memory.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Submitting empties a full queue; that fails only for lack of memory or of completion
            // room, and then collecting makes room.
            if self.ring.submit().is_err() {
                self.collect(usize::MAX);
            }
        }
    }

    /// Moves completions from the ring to `ready`, up to `limit` in all.
    fn collect(&mut self, limit: usize) {
        let mut completions = self.ring.completion();
        while self.ready.len() < limit {
            let Some(completion) = completions.next() else {
                break;
            };
            let flags = completion.flags();
            if completion.user_data() >> 56 == RECEIVE {
                if cqueue::buffer_select(flags).is_some() {
                    self.buffers.taken();
                } else if completion.result() == -libc::ENOBUFS {
                    self.buffers.exhausted();
                }
            }
            self.ready.push_back(completion);
        }
    }

    fn cancel(&mut self, target: u64) {
        self.push(
            opcode::AsyncCancel::new(target)
                .build()
                .user_data(IGNORED << 56),
        );
    }

    /// Enters only if there is something to submit or a completion to make.
    fn enter_if_due(&mut self) -> io::Result<()> {
        let submission = self.ring.submission();
        let due = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if due { self.enter(None) } else { Ok(()) }
    }

    /// Enters the kernel: submits, makes completions, waits for one until `until` if asked.
    fn enter(&mut self, until: Option<Instant>) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let entered = match until {
            None => submitter.submit(),
            Some(Instant::NEVER) => submitter.submit_and_wait(1),
            Some(until) => {
                let time = Timespec::from(until.since(Instant::now()));
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        match entered {
            Ok(_) => Ok(()),
            // The wait timed out, a signal came, or completions must be collected first.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Enters until no more completions are to be made or `limit` is reached, but stops before
    /// receives would run out of buffers while lent ones wait to be handled.
    ///
    /// TASKRUN alone is no reason to go on: the core that adds work sets the flag afterwards,
    /// perhaps when this core has already done that work; then the flag stays set with no work
    /// behind it. So an enter that made no completion ends the loop.
    fn drain(&mut self, limit: usize) -> io::Result<()> {
        self.collect(limit);
        while self.ring.submission().taskrun()
            && self.ready.len() < limit
            && self.buffers.in_ring() > COMPLETIONS_PER_ENTER
        {
            let made = self.ready.len();
            self.enter(None)?;
            self.collect(limit);
            if self.ready.len() == made {
                break;
            }
        }
        Ok(())
    }

    /// Spins on entering the kernel: far cheaper than a sleep and a wake-up when the next message
    /// is microseconds away.
    fn spin(&mut self, limit: usize, until: Instant) -> io::Result<()> {
        let end = until.min(Instant::now() + self.busy_poll);
        while self.ready.is_empty() && Instant::now() < end {
            // SAFETY: no pointers are passed. GETEVENTS makes this enter do the deferred
            // work, which is what the spin is for.
            let entered = unsafe {
                let submitter = self.ring.submitter();
                submitter.enter::<libc::sigset_t>(0, 0, EnterFlags::GETEVENTS.bits(), None)
            };
            if let Err(error) = entered
                && error.raw_os_error() != Some(libc::EINTR)
            {
                return Err(error);
            }
            self.collect(limit);
        }
        Ok(())
    }

    fn received(&self, completion: &cqueue::Entry) -> Received {
        let (result, flags) = (completion.result(), completion.flags());
        match (cqueue::buffer_select(flags), result) {
            (Some(id), 1..) => Received::Data(Buffer {
                id,
                len: result as u32,
            }),
            (_, 0) => Received::End,
            (_, code) if code == -libc::ENOBUFS => Received::NoBuffers,
            (_, code) if code == -libc::ECANCELED => Received::Stopped,
            (_, code) => Received::Failed(os_error(code)),
        }
    }

    fn accepted(&mut self, completion: &cqueue::Entry) -> Completion {
        match completion.result() {
            socket @ 0.. => {
                if !cqueue::more(completion.flags()) {
                    // It ended without an error that the shard would have to wait out.
                    self.accept();
                    self.accept_ended = self.listener.is_none();
                }
                Completion::Accepted(Socket(socket))
            }
            code if code == -libc::ECANCELED => Completion::AcceptEnded(None),
            code => Completion::AcceptEnded(Some(os_error(code))),
        }
    }

    fn sent(&mut self, completion: &cqueue::Entry) -> Option<Completion> {
        let (key, chunk) = self.flights.land(completion.user_data() as u32)?;
        let result = match completion.result() {
            bytes @ 0.. => Ok(bytes as usize),
            code => Err(os_error(code)),
        };
        Some(Completion::Sent { key, result, chunk })
    }
}

impl Driver for Uring {
    fn now(&self) -> Instant {
        self.now
    }

    fn turn_time(&self) -> Duration {
        self.turn_time
    }

    fn clock(&self) -> Option<fn() -> Instant> {
        Some(Instant::now)
    }

    fn buffers(&self) -> (usize, usize) {
        (self.buffers.free(), self.buffers.count())
    }

    fn accept(&mut self) {
        if let Some(listener) = &self.listener {
            let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
                .flags(libc::SOCK_CLOEXEC)
                .build();
            self.push(entry.user_data(ACCEPT << 56));
        }
    }

    fn stop_accepting(&mut self) {
        if let Some(listener) = self.listener.take() {
            self.cancel(ACCEPT << 56);
            // Closing the descriptor alone would leave the accept armed. If the cancel is not
            // submitted now, the ring keeps the listener open until it is.
            let _ = self.enter(None);
            drop(listener);
        }
    }

    fn receive(&mut self, key: Key, socket: Socket) {
        let entry = opcode::RecvMulti::new(Fd(socket.0), buffers::GROUP).build();
        self.push(entry.user_data(user_data(RECEIVE, key)));
    }

    fn cancel_receive(&mut self, key: Key) {
        self.cancel(user_data(RECEIVE, key));
    }

    fn send(&mut self, key: Key, socket: Socket, chunk: Chunk, from: usize) {
        let index = self.flights.launch(key, chunk);
        let bytes = self.flights.bytes(index);
        let bytes = bytes.get(from..).unwrap_or_default();
        // A longer chunk takes several sends: the completion tells the shard how far this one got.
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // WAITALL: the kernel continues a short send by itself, without a turn of the shard in
        // between.
        let entry = opcode::Send::new(Fd(socket.0), bytes.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(entry.user_data(SEND << 56 | u64::from(index)));
    }

    fn cancel_send(&mut self, key: Key) {
        if let Some(index) = self.flights.find(key) {
            self.cancel(SEND << 56 | u64::from(index));
        }
    }

    fn shutdown(&mut self, socket: Socket) {
        // It fails if the peer has reset the connection: then there is nothing to shut down.
        let _ = rustix::net::shutdown(borrow(socket), rustix::net::Shutdown::Write);
    }

    fn close(&mut self, socket: Socket) {
        // SAFETY: the shard owns the descriptor, closes it once, and only when nothing of
        // it is in flight.
        unsafe { rustix::io::close(socket.0) };
    }

    fn peer(&self, socket: Socket) -> Option<SocketAddr> {
        let address = rustix::net::getpeername(borrow(socket)).ok()??;
        SocketAddr::try_from(address).ok()
    }

    fn unacknowledged(&self, socket: Socket) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ, whose number is TIOCOUTQ's, writes one int to the address given
        // (tcp(7)); a descriptor that is no socket of that kind makes it fail.
        let asked = unsafe { libc::ioctl(socket.0, libc::TIOCOUTQ, &raw mut bytes) };
        usize::try_from(bytes)
            .ok()
            .filter(|_| asked == 0)
            .unwrap_or(0)
    }

    fn poll(
        &mut self,
        limit: usize,
        until: Option<Instant>,
        idle: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        self.turn_time = Instant::now().since(self.now);
        self.buffers.replenish();
        self.collect(limit);
        let until = until.filter(|_| self.ready.is_empty());
        if let Some(until) = until {
            self.wake.going_to_sleep();
            if self.busy_poll > Duration::ZERO {
                self.enter_if_due()?;
                self.collect(limit);
                self.spin(limit, until)?;
            }
            let sleep = self.ready.is_empty() && idle();
            self.enter(sleep.then_some(until))?;
            self.wake.awake();
        } else {
            self.enter_if_due()?;
        }
        self.drain(limit)?;
        self.now = Instant::now();
        Ok(())
    }

    fn next(&mut self) -> Option<Completion> {
        if std::mem::take(&mut self.accept_ended) {
            return Some(Completion::AcceptEnded(None));
        }
        loop {
            let completion = self.ready.pop_front()?;
            let data = completion.user_data();
            match data >> 56 {
                RECEIVE => {
                    let more = cqueue::more(completion.flags());
                    let result = self.received(&completion);
                    return Some(Completion::Received {
                        key: key_of(data),
                        result,
                        more,
                    });
                }
                SEND => match self.sent(&completion) {
                    Some(sent) => return Some(sent),
                    None => debug_assert!(false, "a send landed twice"),
                },
                ACCEPT => return Some(self.accepted(&completion)),
                WAKE => self.arm_wake(),
                _ => {}
            }
        }
    }

    fn bytes(&self, buffer: &Buffer) -> &[u8] {
        self.buffers.bytes(buffer.id, buffer.len)
    }

    fn release(&mut self, buffer: Buffer) {
        self.buffers.give_back(buffer.id);
    }

    fn waker(&self) -> Waker {
        Waker::new(self.wake.clone())
    }
}

impl Drop for Uring {
    /// Ends everything in flight before its memory is freed: closing a ring cancels as well, but
    /// does not wait.
    fn drop(&mut self) {
        let timeout = Timespec::new().sec(1);
        let _ = self.ring.submit();
        let _ = self
            .ring
            .submitter()
            .register_sync_cancel(Some(timeout), CancelBuilder::any());
    }
}

/// The descriptor of a socket that the shard holds.
fn borrow(socket: Socket) -> BorrowedFd<'static> {
    // SAFETY: the shard closes a socket only after its last use of it, and the borrow does
    // not outlive the one system call it is made for.
    unsafe { BorrowedFd::borrow_raw(socket.0) }
}

fn os_error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(-code)
}

const fn user_data(operation: u64, key: Key) -> u64 {
    operation << 56 | (key.generation as u64) << 32 | key.slot as u64
}

const fn key_of(user_data: u64) -> Key {
    Key {
        slot: user_data as u32,
        generation: (user_data >> 32) as u32 & (Key::GENERATIONS - 1),
    }
}
