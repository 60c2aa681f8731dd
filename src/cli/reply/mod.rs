//! `ringmail reply`: requests answered by a command's output.
//!
//! ```text
//!   server ── this thread ── waiting (bounded) ── a thread for each running command
//!                 ▲                                        │
//!                 └───────────── outcome ──────────────────┘
//! ```
//!
//! Only this thread uses the client. While the maximum of commands is running, it waits for one
//! of them to end and services the connection in between; while some are running and more may
//! start, it waits for requests, in slices that are short compared with how long the commands
//! have run.
//!
//! Invariants: `running ≤ parallel`; each request taken is answered once, unless the server has
//! already failed it; the commands do not outlive this program.

mod command;

use super::args::Reply;
use super::failure::{Failure, note};
use super::interrupt::{Interrupt, SLICE};
use super::peer;
use super::sub::{codec_name, traceparent};
use crate::base::clock::Instant;
use crate::client::blocking::Client;
use crate::client::{Code, Error, Incoming, IncomingRequest};
use crate::proto::envelope::header;
use command::{Outcome, Task};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How many requests may wait for a command to end, and the bytes of their payloads.
const WAITING_MAX: usize = 1024;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// The envelope of the largest answer, which counts towards the server's limit beside the payload.
const ENVELOPE_BYTES: usize = 64;
/// The first of the application's own codes: an exit status is added to it.
const CODE_BASE: u16 = 0x1000;
/// How long the end waits for commands to be killed.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves and answers.
///
/// # Errors
/// No server, a service that it refuses, a broken connection.
pub fn run(args: &Reply) -> Result<(), Failure> {
    let mut client = peer::connect(&args.peer, peer::CONNECT_TIMEOUT)?;
    // Until here Ctrl-C ends it at once, whatever it waits for.
    let interrupt = Interrupt::watch()?;
    let served = client.serve(&args.service);
    served.map_err(|error| peer::failure(&error))?;
    if !args.quiet {
        note(format!("serving {} at {}", args.service, client.peer()));
    }

    let (tell, outcomes) = channel();
    let mut desk = Desk {
        args,
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        running: 0,
        started: 0,
        answered: 0,
        youngest: Instant::ZERO,
        stop: Arc::default(),
        tell,
        outcomes,
    };
    let outcome = desk.run(&mut client, &interrupt);
    desk.leave();
    let _ = client.close();
    outcome.map_err(|error| peer::failure(&error))
}

/// A request and until when its requester waits.
struct Waiting {
    request: IncomingRequest,
    until: Instant,
}

/// The queue of requests, the running commands, and their outcomes.
struct Desk<'a> {
    args: &'a Reply,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    running: u16,
    started: u64,
    answered: u64,
    /// When the last command was started.
    youngest: Instant,
    /// Set when the commands must end.
    stop: Arc<AtomicBool>,
    tell: Sender<(IncomingRequest, Outcome)>,
    outcomes: Receiver<(IncomingRequest, Outcome)>,
}

impl Desk<'_> {
    fn run(&mut self, client: &mut Client, interrupt: &Interrupt) -> Result<(), Error> {
        while !interrupt.came() && self.args.count != Some(self.answered) {
            while let Ok((request, outcome)) = self.outcomes.try_recv() {
                self.answer(client, &request, outcome)?;
            }
            self.start(client)?;
            if self.running < self.args.parallel {
                let wait = self.slice();
                self.receive(client, wait)?;
                continue;
            }
            match self.outcomes.recv_timeout(SLICE) {
                Ok((request, outcome)) => self.answer(client, &request, outcome)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()), // cannot be: `tell` is ours
            }
            while self.receive(client, Duration::ZERO)? {}
        }
        Ok(())
    }

    /// How long to wait for the next request while an outcome may come: an answer is late by
    /// a sixteenth of the time its command took, or by a millisecond.
    fn slice(&self) -> Duration {
        if self.running == 0 {
            return SLICE;
        }
        (self.youngest.age() / 16).clamp(Duration::from_millis(1), SLICE / 5)
    }

    /// Takes one request if one arrives in time.
    fn receive(&mut self, client: &mut Client, wait: Duration) -> Result<bool, Error> {
        let Some(incoming) = client.receive_timeout(wait)? else {
            return Ok(false);
        };
        let Incoming::Request(request) = incoming else {
            return Ok(true);
        };
        let bytes = self.waiting_bytes + request.payload.len();
        if self.waiting.len() >= WAITING_MAX || bytes > WAITING_BYTES_MAX {
            let outcome = Outcome::none("too many requests are waiting for the command");
            respond(client, &request, self.args, outcome)?;
            return Ok(true);
        }
        self.waiting_bytes = bytes;
        let until = request
            .timeout()
            .map_or(Instant::NEVER, |timeout| Instant::now() + timeout);
        self.waiting.push_back(Waiting { request, until });
        Ok(true)
    }

    /// Starts commands for waiting requests while there is room.
    fn start(&mut self, client: &mut Client) -> Result<(), Error> {
        while self.running < self.args.parallel && self.args.count != Some(self.started) {
            let Some(Waiting { request, until }) = self.waiting.pop_front() else {
                return Ok(());
            };
            self.waiting_bytes -= request.payload.len();
            let now = Instant::now();
            if now >= until {
                continue; // the server has told REQUEST_TIMEOUT, and drops late answers
            }
            let job = Job {
                exec: self.args.exec.clone(),
                address: self.args.peer.address.clone(),
                timeout: self.args.timeout.min(until - now),
                answer_bytes_max: answer_bytes_max(client),
                stop: self.stop.clone(),
                tell: self.tell.clone(),
                request: request.clone(),
            };
            self.started += 1;
            self.youngest = now;
            let thread = std::thread::Builder::new().name("command".to_owned());
            match thread.spawn(move || job.run()) {
                Ok(_) => self.running += 1,
                Err(error) => {
                    let outcome = Outcome::none(format!("cannot start a thread: {error}"));
                    self.answered += 1;
                    respond(client, &request, self.args, outcome)?;
                }
            }
        }
        Ok(())
    }

    fn answer(
        &mut self,
        client: &mut Client,
        request: &IncomingRequest,
        outcome: Outcome,
    ) -> Result<(), Error> {
        self.running -= 1;
        self.answered += 1;
        respond(client, request, self.args, outcome)
    }

    /// Kills the commands that still run; the server fails their requests.
    fn leave(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let until = Instant::now() + FAREWELL;
        while self.running > 0 && self.outcomes.recv_timeout(until - Instant::now()).is_ok() {
            self.running -= 1;
        }
    }
}

fn answer_bytes_max(client: &Client) -> usize {
    let bytes_max = client.server().message_bytes_max as usize;
    bytes_max.saturating_sub(ENVELOPE_BYTES)
}

fn respond(
    client: &mut Client,
    request: &IncomingRequest,
    args: &Reply,
    outcome: Outcome,
) -> Result<(), Error> {
    match outcome {
        Outcome::Answer(payload) => {
            let codec = args.codec.map_or(request.codec, Into::into);
            client.respond_with(request, codec, payload)
        }
        Outcome::Failed { status, text } => {
            let code = Code::Application(CODE_BASE + status.min(0xFF));
            client.respond_failed(request, code, &text)
        }
    }
}

/// The input of a command's thread.
struct Job {
    exec: OsString,
    address: String,
    timeout: Duration,
    answer_bytes_max: usize,
    stop: Arc<AtomicBool>,
    tell: Sender<(IncomingRequest, Outcome)>,
    request: IncomingRequest,
}

impl Job {
    fn run(self) {
        self.run_by(command::run);
    }

    /// Whatever happens, the slot is released and the requester gets an answer.
    fn run_by(self, run: impl FnOnce(&Task<'_>, &AtomicBool) -> Outcome) {
        let attempt = AssertUnwindSafe(|| {
            let task = Task {
                exec: &self.exec,
                environment: environment(&self.request, &self.address),
                payload: &self.request.payload,
                answer_bytes_max: self.answer_bytes_max,
                timeout: self.timeout,
            };
            run(&task, &self.stop)
        });
        let lost = |_| Outcome::none("the command could not be run");
        let outcome = catch_unwind(attempt).unwrap_or_else(lost);
        let _ = self.tell.send((self.request, outcome));
    }
}

/// Environment variables that describe the request to the command.
fn environment(request: &IncomingRequest, address: &str) -> Vec<(String, OsString)> {
    let mut environment = vec![
        ("SERVICE".to_owned(), request.service.clone()),
        ("ADDRESS".to_owned(), address.to_owned()),
        ("CODEC".to_owned(), codec_name(request.codec).to_owned()),
    ];
    if let Some(timeout) = request.timeout() {
        environment.push(("TIMEOUT_MS".to_owned(), timeout.as_millis().to_string()));
    }
    for (key, value) in request.headers().iter() {
        let name = match key {
            header::TRACEPARENT => {
                environment.push(("TRACEPARENT".to_owned(), traceparent(value)));
                continue;
            }
            header::SCHEMA => "SCHEMA".to_owned(),
            header::APPLICATION.. => format!("HEADER_{key:02X}"),
            _ => continue,
        };
        if let Ok(text) = std::str::from_utf8(value) {
            environment.push((name, text.to_owned()));
        }
    }
    // The system allows no NUL in an environment.
    environment.retain(|(_, value)| !value.contains('\0'));
    let prefixed = |(name, value): (String, String)| (format!("RINGMAIL_{name}"), value.into());
    environment.into_iter().map(prefixed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::envelope::Envelope;

    /// On the thread where a command runs.
    #[test]
    fn a_panic_ends_its_request_with_an_error_and_gives_the_place_back() {
        let (tell, outcomes) = channel();
        let envelope = Envelope {
            name: "text/upper",
            payload: b"hello",
            ..Envelope::default()
        };
        let request = IncomingRequest::of(&envelope, 0);
        let job = Job {
            exec: "cat".into(),
            address: "127.0.0.1:7411".to_owned(),
            timeout: Duration::MAX,
            answer_bytes_max: 100,
            stop: Arc::default(),
            tell,
            request: request.clone(),
        };
        let thread = std::thread::spawn(move || job.run_by(|_, _| panic!("as a test wants it")));
        let lost = Outcome::none("the command could not be run");
        assert_eq!(outcomes.recv(), Ok((request, lost)));
        assert!(thread.join().is_ok(), "it ends the thread too");
    }
}
