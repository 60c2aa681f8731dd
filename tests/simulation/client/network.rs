//! The network between a client and whoever plays its server: two pipes a connection, which break
//! after a number of bytes, stall, and carry a few bytes at a time.

use ringmail::client::network::{Dialing, Network, Wire};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What comes of an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    Refused,
    /// Nobody answers for this long.
    Slow(Duration),
}

/// How a connection ends that nobody closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The stream ends, as if the server had gone.
    Eof,
    Reset,
}

/// What becomes of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Fortune {
    pub door: Door,
    /// It breaks once this many bytes have passed, in both directions together.
    pub cut: Option<(usize, End)>,
    /// Nothing passes for this long once this many bytes have.
    pub stall: Option<(usize, Duration)>,
    /// The most bytes that one read or write takes.
    pub piece_bytes: usize,
}

impl Default for Fortune {
    fn default() -> Fortune {
        Fortune {
            door: Door::Open,
            cut: None,
            stall: None,
            piece_bytes: usize::MAX,
        }
    }
}

/// Draws the fortune of the connection with this number, from 0.
type Draw = dyn FnMut(usize) -> Fortune + Send;

struct Pipes {
    fortune: Fortune,
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    passed_bytes: usize,
    stalled_until: Option<Instant>,
    /// The connection broke, or the server ended it: what is in `down` can still be read.
    end: Option<End>,
    /// The client writes nothing more; it has let go.
    is_finished: bool,
    is_dropped: bool,
    wakers: Vec<Waker>,
}

#[derive(Default)]
struct State {
    connections: Vec<Pipes>,
    /// How many of them the server's side has accepted.
    accepted: usize,
    dials: usize,
    draw: Option<Box<Draw>>,
    /// Bytes that a pipe holds.
    pipe_bytes: usize,
}

/// A network; clones are the same.
#[derive(Clone)]
pub struct Net {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

/// A connection's number.
pub type Id = usize;

impl Net {
    pub fn new(draw: impl FnMut(usize) -> Fortune + Send + 'static) -> Net {
        let state = State {
            draw: Some(Box::new(draw)),
            pipe_bytes: 64 << 10,
            ..State::default()
        };
        Net {
            state: Arc::new(Mutex::new(state)),
            changed: Arc::default(),
        }
    }

    /// Without faults.
    pub fn sound() -> Net {
        Net::new(|_| Fortune::default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// From now on nothing breaks.
    pub fn heal(&self) {
        let mut state = self.state();
        state.draw = None;
        for pipes in &mut state.connections {
            pipes.fortune = Fortune::default();
            pipes.stalled_until = None;
        }
        drop(state);
        self.tell();
    }

    /// How often a client has dialed.
    pub fn dials(&self) -> usize {
        self.state().dials
    }

    /// Bytes that have passed on a connection, in both directions.
    pub fn passed_bytes(&self, id: Id) -> usize {
        let state = self.state();
        state.connections.get(id).map_or(0, |it| it.passed_bytes)
    }

    /// Connections that the client has not let go.
    pub fn held(&self) -> usize {
        let state = self.state();
        state.connections.iter().filter(|it| !it.is_dropped).count()
    }

    /// Tells who waits for a change, and who is about to.
    fn tell(&self) {
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    /// Waits until the client does something.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    // ---- the server's side ----

    /// The next connection to serve.
    pub fn accept(&self) -> Option<Id> {
        let mut state = self.state();
        let id = state.accepted;
        (id < state.connections.len()).then(|| {
            state.accepted += 1;
            id
        })
    }

    /// Takes what the client has written, as far as it passes.
    pub fn take(&self, id: Id, max: usize) -> Vec<u8> {
        let mut state = self.state();
        let pipes = &mut state.connections[id];
        let count = pipes.pass(pipes.up.len().min(max));
        let taken = pipes.up.drain(..count).collect();
        pipes.wear();
        taken
    }

    /// Gives the client bytes, as far as they pass and there is room; returns how many.
    pub fn give(&self, id: Id, bytes: &[u8]) -> usize {
        let mut state = self.state();
        let room = state.pipe_bytes;
        let pipes = &mut state.connections[id];
        let room = room.saturating_sub(pipes.down.len());
        let count = pipes.pass(bytes.len().min(room));
        pipes.down.extend(&bytes[..count]);
        pipes.wear();
        count
    }

    /// How many bytes [`Net::give`] would take now.
    pub fn room(&self, id: Id) -> usize {
        let state = self.state();
        let pipes = &state.connections[id];
        let room = state.pipe_bytes.saturating_sub(pipes.down.len());
        pipes.may_pass(room)
    }

    /// The server's side ends it.
    pub fn end(&self, id: Id, end: End) {
        let pipes = &mut self.state().connections[id];
        if pipes.end.is_none() {
            pipes.end(end);
        }
    }

    /// How it ended, if it did: by a fault, or by the server's side.
    pub fn ended(&self, id: Id) -> Option<End> {
        self.state().connections[id].end
    }

    /// Whether the client writes nothing more and all it has written was taken.
    pub fn is_finished(&self, id: Id) -> bool {
        let pipes = &self.state().connections[id];
        pipes.is_finished && pipes.up.is_empty()
    }

    /// Whether the client has let go of it.
    pub fn is_dropped(&self, id: Id) -> bool {
        self.state().connections[id].is_dropped
    }

    /// When a stall ends.
    pub fn due(&self) -> Option<Instant> {
        let state = self.state();
        let stalls = state.connections.iter().filter(|it| !it.is_dropped);
        stalls.filter_map(|it| it.stalled_until).min()
    }

    fn with<T>(&self, id: Id, act: impl FnOnce(&mut Pipes, usize) -> T) -> T {
        let mut state = self.state();
        let room = state.pipe_bytes;
        let done = act(&mut state.connections[id], room);
        drop(state);
        self.tell();
        done
    }
}

impl Pipes {
    /// How many of these bytes may pass now.
    fn may_pass(&self, count: usize) -> usize {
        let is_stalled = self.stalled_until.is_some_and(|at| Instant::now() < at);
        if self.end.is_some() || is_stalled {
            return 0;
        }
        let cut = self.fortune.cut.map_or(usize::MAX, |(at, _)| at);
        let stall = self.fortune.stall.map_or(usize::MAX, |(at, _)| at);
        let until = cut.min(stall).saturating_sub(self.passed_bytes);
        count.min(until).min(self.fortune.piece_bytes)
    }

    fn pass(&mut self, count: usize) -> usize {
        if self.stalled_until.is_some_and(|at| Instant::now() >= at) {
            self.stalled_until = None;
        }
        let count = self.may_pass(count);
        self.passed_bytes += count;
        count
    }

    /// What is due after this many bytes; and the client may go on.
    fn wear(&mut self) {
        if let Some((at, time)) = self.fortune.stall
            && self.passed_bytes >= at
        {
            self.fortune.stall = None;
            self.stalled_until = Some(Instant::now() + time);
        }
        if let Some((at, end)) = self.fortune.cut
            && self.passed_bytes >= at
            && self.end.is_none()
        {
            self.end(end);
        }
        self.wake();
    }

    fn end(&mut self, end: End) {
        self.end = Some(end);
        self.up.clear();
        self.wake();
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    fn is_readable(&self) -> bool {
        !self.down.is_empty() || self.end.is_some()
    }

    fn is_writable(&self, room: usize) -> bool {
        self.up.len() < room || self.end.is_some()
    }
}

impl Network for Net {
    fn dial(&self, _address: &str) -> Dialing {
        let net = self.clone();
        Box::pin(async move {
            let fortune = {
                let mut state = net.state();
                let number = state.dials;
                state.dials += 1;
                let draw = state.draw.as_mut();
                draw.map_or_else(Fortune::default, |draw| draw(number))
            };
            match fortune.door {
                Door::Open => {}
                Door::Refused => return Err(ErrorKind::ConnectionRefused.into()),
                Door::Slow(time) => tokio::time::sleep(time).await,
            }
            let mut state = net.state();
            state.connections.push(Pipes {
                fortune,
                up: VecDeque::new(),
                down: VecDeque::new(),
                passed_bytes: 0,
                stalled_until: None,
                end: None,
                is_finished: false,
                is_dropped: false,
                wakers: Vec::new(),
            });
            let id = state.connections.len() - 1;
            state.connections[id].wear(); // it may break before its first byte
            drop(state);
            net.tell();
            Ok(Arc::new(Line { net, id }) as Arc<dyn Wire>)
        })
    }
}

/// The client's end.
struct Line {
    net: Net,
    id: Id,
}

impl Wire for Line {
    fn poll_ready(&self, read: bool, write: bool, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.net.state();
        let room = state.pipe_bytes;
        let pipes = &mut state.connections[self.id];
        if (read && pipes.is_readable()) || (write && pipes.is_writable(room)) {
            return Poll::Ready(());
        }
        pipes.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.net.with(self.id, |pipes, _| {
            let piece = buffer.len().min(pipes.fortune.piece_bytes);
            let count = piece.min(pipes.down.len());
            match (count, pipes.end) {
                (0, None) => Err(ErrorKind::WouldBlock.into()),
                (0, Some(End::Eof)) => Ok(0),
                (0, Some(End::Reset)) => Err(ErrorKind::ConnectionReset.into()),
                (count, _) => {
                    let bytes = pipes.down.drain(..count);
                    buffer
                        .iter_mut()
                        .zip(bytes)
                        .for_each(|(to, from)| *to = from);
                    Ok(count)
                }
            }
        })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.net.with(self.id, |pipes, room| {
            let room = room.saturating_sub(pipes.up.len());
            let count = bytes.len().min(room).min(pipes.fortune.piece_bytes);
            match (count, pipes.end) {
                (_, Some(_)) => Err(ErrorKind::BrokenPipe.into()),
                (0, None) => Err(ErrorKind::WouldBlock.into()),
                (count, None) => {
                    pipes.up.extend(&bytes[..count]);
                    Ok(count)
                }
            }
        })
    }

    fn finish(&self) {
        self.net.with(self.id, |pipes, _| pipes.is_finished = true);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.net.with(self.id, |pipes, _| {
            pipes.is_finished = true;
            pipes.is_dropped = true;
        });
    }
}
