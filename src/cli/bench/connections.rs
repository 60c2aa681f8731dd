//! All connections of a run on one epoll, and how they are opened: a bounded number at a time, each
//! within its timeout, so that the server is not flooded and the run does not wait forever.
//!
//! Registered once, edge-triggered, for both directions: no epoll_ctl in the steady state.

use super::connection::Connection;
use super::fault::{Fault, Halt};
use super::speaker::Speaker;
use super::target::Endpoint;
use crate::base::clock::Instant;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Handshakes in flight: below the backlog of any listener.
const OPENING_MAX: usize = 128;
/// How long opening all connections may take.
const RAMP_MAX: Duration = Duration::from_secs(120);
/// Bytes read at once.
const SCRATCH_BYTES: usize = 128 << 10;
const EVENTS_MAX: usize = 1024;

pub struct Connections<S> {
    poll: Poll,
    pub all: Vec<Connection<S>>,
    /// How many connections there are once all are open.
    count: usize,
    /// Longest time for one connection to become ready.
    timeout: Duration,
    scratch: Box<[u8]>,
    /// Set by a signal that ends the run.
    interrupted: Arc<AtomicBool>,
}

impl<S: Speaker> Connections<S> {
    /// Opens `count` connections, each given its speaker (and first words) by `speak`.
    ///
    /// # Errors
    /// The first connection that cannot be opened within `timeout`.
    pub fn open(
        to: impl Into<Endpoint>,
        count: usize,
        timeout: Duration,
        interrupted: &Arc<AtomicBool>,
        speak: impl FnMut(Instant, &mut Vec<u8>) -> Result<S, Fault>,
    ) -> Result<Connections<S>, Halt> {
        let mut connections = Connections {
            poll: Poll::new().map_err(Halt::Poll)?,
            all: Vec::with_capacity(count),
            count: 0,
            timeout,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            interrupted: Arc::clone(interrupted),
        };
        connections.grow(to, count, speak)?;
        Ok(connections)
    }

    /// Opens `more` additional connections.
    ///
    /// # Errors
    /// As [`Connections::open`].
    pub fn grow(
        &mut self,
        to: impl Into<Endpoint>,
        more: usize,
        mut speak: impl FnMut(Instant, &mut Vec<u8>) -> Result<S, Fault>,
    ) -> Result<(), Halt> {
        let to = to.into();
        let first = self.count;
        self.count += more;
        self.ready(first..self.count, |connections, index| {
            debug_assert_eq!(index, connections.all.len());
            let started = connections.start(&to, &mut speak);
            started.map_err(|fault| halt(index, connections.count, fault))
        })
    }

    /// Lets every connection's speaker send something, depending on its index, and waits until all
    /// are ready again.
    ///
    /// # Errors
    /// The first connection that is not ready within the timeout.
    pub fn settle(
        &mut self,
        mut speak: impl FnMut(usize, &mut S, &mut Vec<u8>),
    ) -> Result<(), Halt> {
        self.ready(0..self.count, |connections, index| {
            let connection = &mut connections.all[index];
            let (speaker, out) = connection.say();
            speak(index, speaker, out);
            connection.flush();
            Ok(())
        })
    }

    /// Begins with each connection of the range, a bounded number at a time, and waits
    /// until all of them are ready.
    fn ready(
        &mut self,
        range: Range<usize>,
        mut begin: impl FnMut(&mut Self, usize) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let mut events = Connections::<S>::events();
        let mut opening: Vec<(usize, Instant)> = Vec::with_capacity(OPENING_MAX);
        let mut next = range.start;
        let began = Instant::now();
        loop {
            while opening.len() < OPENING_MAX && next < range.end {
                opening.push((next, Instant::now()));
                begin(self, next)?;
                next += 1;
            }
            opening.retain(|&(index, _)| !self.all[index].is_ready());
            if opening.is_empty() && next == range.end {
                return Ok(());
            }
            if opening.is_empty() {
                continue;
            }
            self.wait(&mut events, Some(Duration::from_millis(50)))?;
            for event in &events {
                let unasked = "a message before the load has begun";
                let connection = self.handle(event, |_, _| Err(Fault::Answer(unasked)))?;
                connection.flush();
            }
            let now = Instant::now();
            let late = |&&(index, since): &&(usize, Instant)| {
                now - since > self.timeout && !self.all[index].is_ready()
            };
            if let Some(&(index, _)) = opening.iter().find(late) {
                let fault = Fault::HandshakeTimeout(self.timeout);
                return Err(halt(index, self.count, fault));
            }
            if now - began > RAMP_MAX {
                return Err(Halt::Ramp(RAMP_MAX));
            }
        }
    }

    pub fn events() -> Events {
        Events::with_capacity(EVENTS_MAX)
    }

    fn start(
        &mut self,
        to: &Endpoint,
        speak: &mut impl FnMut(Instant, &mut Vec<u8>) -> Result<S, Fault>,
    ) -> Result<(), Fault> {
        let mut stream = mio::net::TcpStream::connect(to.address).map_err(Fault::connect)?;
        let tls = to.secure()?;
        let mut output = Vec::new();
        let speaker = speak(Instant::now(), &mut output)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(self.all.len()), both)
            .map_err(Fault::connect)?;
        self.all.push(Connection::new(stream, tls, speaker, output));
        Ok(())
    }

    /// Waits for events; `None` waits forever, zero not at all. Epoll counts in milliseconds and
    /// rounds up: callers that need less spin with zero.
    #[inline]
    pub fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<(), Halt> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Halt::Interrupted);
        }
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            result => result.map_err(Halt::Poll),
        }
    }

    /// Lets the event's connection act; returns its index, for the flush.
    #[inline]
    pub fn handle(
        &mut self,
        event: &mio::event::Event,
        taken: impl FnMut(S::Mark, Instant) -> Result<(), Fault>,
    ) -> Result<&mut Connection<S>, Halt> {
        let index = event.token().0;
        let count = self.count;
        let connection = &mut self.all[index];
        match connection.handle(event, &mut self.scratch, taken) {
            Ok(()) => Ok(connection),
            Err(fault) => Err(halt(index, count, fault)),
        }
    }

    /// How many bytes wait for their sockets.
    pub fn backlog_bytes(&self) -> usize {
        self.all.iter().map(Connection::backlog_bytes).sum()
    }

    /// Sends the farewell on every connection and closes them all.
    pub fn close(self) {
        for mut connection in self.all {
            connection.close();
        }
    }
}

/// A fault of the connection `index` of `count`.
pub fn halt(index: usize, count: usize, fault: Fault) -> Halt {
    Halt::Connection {
        index,
        count,
        fault,
    }
}
