//! The task behind a client: it owns the socket and the clock, moves bytes between the socket
//! and the conversation, reconnects when that is due, and fetches credentials.
//!
//! One step: handle deadlines, send ACK, write pending bytes, deliver what has arrived; then
//! wait for the first of: bytes, room to write, a deadline, a handle's wake-up, a credential.
//! While the inbox is full it reads nothing, but keeps signalling to the server that this side
//! is alive.
//!
//! It ends when the conversation is over: by a handle's `close`, when the last handle is
//! dropped, or for good. If it is dropped before (its runtime ends), all waiting calls fail.

mod core;
mod dial;
mod fetch;
mod socket;
mod stream;

pub(super) use core::{Core, Shared};

use super::address::Address;
use super::builder::Options;
use super::clock;
use super::conversation::Conversation;
use super::error::Error;
use crate::base::clock::Instant;
use fetch::Fetching;
use socket::Trust;
use std::future::pending;
use std::io::{self, ErrorKind, Write};
use std::pin::{Pin, pin};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;
use stream::Stream;
use tokio::io::Interest;
use tokio::sync::mpsc;
use tokio::time::Sleep;

/// Bytes read from the socket at once.
const RECEIVE_BYTES: usize = 64 * 1024;
/// How many such reads one step makes while there is more, and how many bytes it writes. It reads
/// more than it writes: a publisher that does not read the answers would be a slow consumer.
const READS_MAX: usize = 16;
const SEND_BYTES_MAX: usize = 128 * 1024;
/// If one step writes this many bytes, as many may come back.
const BUSY_BYTES: usize = 16 * 1024;
/// How long the last bytes may take to send, and how long the server's are then read and discarded.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Connects and starts the task, which holds `alive`; the handshake follows later.
///
/// # Errors
/// As `dial::open`.
pub(super) async fn start(
    options: &Options,
    address: &Address,
    alive: Option<mpsc::Sender<()>>,
) -> Result<Arc<Shared>, Error> {
    let opened = dial::open(options, address).await?;
    let schedule = options.schedule(address.clone());
    let conversation = Conversation::new(opened.link, options, schedule);
    let shared = Shared::new(Core::new(conversation, opened.peer), options.clone());
    let driver = Driver {
        shared: shared.clone(),
        stream: Some(opened.stream),
        buffer: vec![0; RECEIVE_BYTES].into_boxed_slice(),
        fetching: Fetching::default(),
        nudge_at: Instant::NEVER,
        _alive: alive,
    };
    tokio::spawn(driver.run());
    Ok(shared)
}

/// What to wait for after a step.
struct Wait {
    until: Instant,
    interest: Option<Interest>,
    /// There is more to read already.
    is_pending: bool,
    /// Much was written: its answers are read first, so that the server does not take this side for
    /// slow.
    is_busy: bool,
}

impl Wait {
    fn reads(&self) -> bool {
        self.interest.is_some_and(Interest::is_readable)
    }
}

enum Step {
    Up,
    Down(Instant),
    Over,
}

struct Driver {
    shared: Arc<Shared>,
    /// `None` while there is no connection.
    stream: Option<Stream>,
    buffer: Box<[u8]>,
    fetching: Fetching,
    /// When to send the next sign of life, while reading is paused.
    nudge_at: Instant,
    /// Dropped when this task ends, for a caller that waits for that.
    _alive: Option<mpsc::Sender<()>>,
}

impl Driver {
    async fn run(mut self) {
        let mut alarm = pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            let step = self.step_kind();
            match step {
                Step::Up => self.turn(alarm.as_mut()).await,
                Step::Down(retry_at) => self.redial(retry_at).await,
                Step::Over => break,
            }
        }
        self.shared.spread();
        self.leave().await;
    }

    fn step_kind(&self) -> Step {
        let core = self.shared.lock();
        match core.conversation.retry_at() {
            Some(retry_at) => Step::Down(retry_at),
            None if core.conversation.is_over() => Step::Over,
            None => Step::Up,
        }
    }

    // ---- while there is a connection ----

    async fn turn(&mut self, mut alarm: Pin<&mut Sleep>) {
        let wait = self.step();
        self.shared.spread();
        let Some(wait) = wait else {
            return;
        };
        if wait.is_pending {
            self.read_in(Trust::Runtime);
            tokio::task::consume_budget().await;
            return;
        }
        if wait.is_busy && self.read_in(Trust::Kernel) {
            tokio::task::consume_budget().await;
            return;
        }
        let until = tokio::time::Instant::now() + (wait.until - clock::now());
        // Deadlines move later with each message: an alarm that fires early is set again.
        if alarm.is_elapsed() || until < alarm.deadline() {
            alarm.as_mut().reset(until);
        }
        let shared = self.shared.clone();
        // Whichever it is, the next step looks at everything.
        tokio::select! { biased;
            fetched = self.fetching.done() => {
                shared.lock().conversation.provide(fetched, clock::now());
            }
            ready = ready(self.stream.as_ref(), wait.interest) => match ready {
                // Room to write, while reading is paused, is none to read into.
                Ok(()) => {
                    if wait.reads() {
                        self.read_in(Trust::Runtime);
                    }
                }
                Err(error) => self.lose("waiting for the server failed", error),
            },
            () = alarm => {}
            () = shared.wait_for_work() => {}
        }
    }

    /// Handles deadlines, and writes pending output; `None` if the connection has ended.
    fn step(&mut self) -> Option<Wait> {
        let shared = self.shared.clone();
        let mut core = shared.lock();
        let now = clock::now();
        let is_paused = core.conversation.is_paused();
        self.pace(&mut core, is_paused, now);
        core.conversation.acknowledge(true);
        let source = core.conversation.take_fetch();
        let sent_bytes = self.write_out(&mut core);
        if core.conversation.is_over() || core.conversation.retry_at().is_some() {
            return None;
        }
        let stream = self.stream.as_ref()?;
        let is_behind = !core.conversation.unsent().is_empty() || stream.has_unsent();
        let interest = match (is_paused, is_behind) {
            (false, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, true) => Some(Interest::WRITABLE),
            (true, false) => None,
        };
        let deadline = match is_paused {
            true => core.conversation.own_timeout().min(self.nudge_at),
            false => core.conversation.timeout(),
        };
        drop(core);
        if let Some(source) = source {
            self.fetching.begin(source);
        }
        Some(Wait {
            until: deadline,
            interest,
            is_pending: !is_paused && stream.has_pending(),
            is_busy: !is_paused && sent_bytes >= BUSY_BYTES,
        })
    }

    /// Acts on deadlines. While reading is paused, the server's silence means nothing; instead this
    /// side sends a sign of life after each interval.
    fn pace(&mut self, core: &mut MutexGuard<'_, Core>, is_paused: bool, now: Instant) {
        let conversation = &mut core.conversation;
        if !is_paused {
            if self.nudge_at != Instant::NEVER {
                self.nudge_at = Instant::NEVER;
                conversation.resume(now);
            }
            if now >= conversation.timeout() {
                conversation.handle_timeout(now);
            }
            return;
        }
        let interval = conversation.link().server().heartbeat;
        if self.nudge_at == Instant::NEVER {
            self.nudge_at = now + interval;
        } else if now >= self.nudge_at {
            conversation.nudge();
            self.nudge_at = now + interval;
        }
        if now >= conversation.own_timeout() {
            conversation.handle_own_timeout(now);
        }
    }

    /// Reads a bounded part of what has arrived; false if there was nothing.
    fn read_in(&mut self, trust: Trust) -> bool {
        for count in 0..READS_MAX {
            let Some(stream) = &mut self.stream else {
                return true;
            };
            match stream.read(&mut self.buffer, trust) {
                Ok(0) => {
                    let source = ErrorKind::UnexpectedEof.into();
                    self.lose("the server ended the connection", source);
                    return true;
                }
                Ok(bytes) => {
                    let is_empty = bytes < self.buffer.len();
                    let bytes = &self.buffer[..bytes];
                    let mut core = self.shared.lock();
                    core.conversation.receive(bytes, clock::now());
                    if is_empty || core.conversation.is_paused() || !core.conversation.is_up() {
                        return true;
                    }
                }
                Err(error) if is_passing(&error) => return count > 0,
                Err(error) => {
                    self.lose("the connection broke", error);
                    return true;
                }
            }
        }
        true
    }

    /// Sends a bounded part of the output, as far as there is room; returns how many bytes.
    fn write_out(&mut self, core: &mut MutexGuard<'_, Core>) -> usize {
        let mut sent_bytes = 0;
        while sent_bytes < SEND_BYTES_MAX
            && let Some(stream) = &mut self.stream
        {
            let unsent = core.conversation.unsent();
            if unsent.is_empty() && !stream.has_unsent() {
                break;
            }
            let unsent = &unsent[..unsent.len().min(SEND_BYTES_MAX)];
            let written = match unsent.is_empty() {
                true => stream.flush().map(|()| 0),
                false => stream.write(unsent),
            };
            match written {
                // TLS accepts everything; what has no room in the socket waits there.
                Ok(0) => break,
                Ok(count) => {
                    core.conversation.advance(count);
                    sent_bytes += count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    // The server may have sent a reason before it closed.
                    let now = clock::now();
                    while let Ok(count @ 1..) = stream.read(&mut self.buffer, Trust::Kernel) {
                        core.conversation.receive(&self.buffer[..count], now);
                    }
                    if !core.conversation.link().is_ended() {
                        core.lose("the connection broke", error);
                    }
                    break;
                }
            }
        }
        sent_bytes
    }

    fn lose(&mut self, what: &'static str, source: io::Error) {
        self.shared.lock().lose(what, source);
    }

    // ---- connecting again ----

    /// Without a connection: waits until the next attempt is due, and makes it.
    async fn redial(&mut self, retry_at: Instant) {
        self.fetching.forget();
        self.shared.spread();
        self.hang_up().await;
        let shared = self.shared.clone();
        let mut wait = pin!(tokio::time::sleep(retry_at - clock::now()));
        loop {
            tokio::select! { biased;
                () = wait.as_mut(), if !wait.is_elapsed() => {}
                () = shared.wait_for_work() => if shared.lock().conversation.is_over() {
                    return;
                },
            }
            if wait.is_elapsed() && !shared.lock().conversation.is_overfull() {
                break;
            }
        }
        let Some(address) = shared.lock().conversation.address() else {
            return;
        };
        let mut opening = pin!(dial::open(&shared.options, &address));
        let opened = loop {
            tokio::select! { biased;
                opened = opening.as_mut() => break opened,
                () = shared.wait_for_work() => if shared.lock().conversation.is_over() {
                    return;
                },
            }
        };
        let mut core = shared.lock();
        match opened {
            Ok(opened) => {
                core.peer = opened.peer;
                self.stream = Some(opened.stream);
                core.conversation.connect(opened.link, clock::now());
            }
            Err(error) => core.conversation.connect_failed(error, clock::now()),
        }
    }

    /// Closes the socket, after the answer to the server's CLOSE if that is due. Sends nothing
    /// else: a CLOSE from this side would end the session too.
    async fn hang_up(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        let last = {
            let core = self.shared.lock();
            let is_left = core.conversation.link().is_left();
            let unsent = core.conversation.unsent();
            if is_left { unsent.to_vec() } else { Vec::new() }
        };
        let _ = tokio::time::timeout(LAST_WORDS, say(&mut stream, &last)).await;
        stream.finish();
    }

    /// Sends the last bytes, and reads the server's.
    async fn leave(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        let last = self.shared.lock().conversation.unsent().to_vec();
        let leaving = async {
            say(&mut stream, &last).await?;
            stream.finish();
            loop {
                match stream.read(&mut self.buffer, Trust::Runtime) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if is_passing(&error) => stream.ready(Interest::READABLE).await?,
                    Err(error) => return Err(error),
                }
            }
        };
        let _: Result<io::Result<()>, _> = tokio::time::timeout(LAST_WORDS, leaving).await;
    }
}

impl Drop for Driver {
    /// If the runtime ends before the client, published messages are sent as far as the kernel has
    /// room for them at this moment.
    fn drop(&mut self) {
        self.shared.abandon();
        if let Some(stream) = &mut self.stream {
            let core = self.shared.lock();
            stream.end_now(core.conversation.unsent(), &mut self.buffer);
        }
    }
}

impl Core {
    /// The stream has ended or broken: a final error, unless the client reconnects.
    fn lose(&mut self, what: &'static str, source: io::Error) {
        self.conversation.lose(clock::now());
        if self.conversation.is_over() {
            self.failure.get_or_insert(Error::of_stream(what, source));
        }
    }
}

/// Writes everything.
async fn say(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() || stream.has_unsent() {
        let written = match bytes.is_empty() {
            true => stream.flush().map(|()| 0),
            false => stream.write(bytes),
        };
        match written {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        if !bytes.is_empty() || stream.has_unsent() {
            stream.ready(Interest::WRITABLE).await?;
        }
    }
    Ok(())
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

async fn ready(stream: Option<&Stream>, interest: Option<Interest>) -> io::Result<()> {
    match (stream, interest) {
        (Some(stream), Some(interest)) => stream.ready(interest).await,
        _ => pending().await,
    }
}
