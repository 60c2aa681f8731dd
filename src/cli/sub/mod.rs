//! `ringmail sub`: the messages of topics on standard output, until the count, a timeout,
//! Ctrl-C or the connection ends it.
//!
//! One thread takes messages from the client and buffers their output; the buffer is flushed
//! only when no message is waiting. A reader that stops reading stops this thread: the server
//! then does what --slow-policy says.
//!
//! It does not keep a session beyond its own lifetime: an orderly end sends CLOSE.

mod format;
mod output;
mod rate;

use super::args::{self, Sub, SubOutput};
use super::failure::{Failure, note};
use super::interrupt::{Interrupt, SLICE};
use super::peer;
use crate::base::clock::Instant;
use crate::base::exit::Status;
use crate::client::blocking::Client;
use crate::client::{Incoming, Message, SlowPolicy, Subscribe};
use crate::proto::envelope::{Envelope, FLAG_RETAIN};
use format::Format;
pub(super) use format::{codec_name, traceparent};
use output::Output;
use rate::Rate;
use std::time::Duration;

/// How many messages are taken between two looks at the clock while more wait.
const MESSAGES_PER_LOOK: u32 = 64;
/// How much may arrive for the first filters while the last are being subscribed.
const INBOX_BYTES_MAX: usize = 64 << 20;

/// Subscribes and prints.
///
/// # Errors
/// No server, a filter that it refuses, a broken connection, no message in time.
pub fn run(args: &Sub) -> Result<(), Failure> {
    if args.topic && args.output == SubOutput::Raw {
        let text = "--topic goes with --output lines: raw writes payloads only";
        return Err(Failure::new(Status::Usage, text));
    }
    let output = Output::stdout()?;
    let builder = peer::builder(peer::CONNECT_TIMEOUT)
        .inbox_bytes_max(INBOX_BYTES_MAX)
        .session(args.session);
    let mut client = peer::connect_with(&builder, &args.peer)?;
    // Until here Ctrl-C ends it at once, whatever it waits for.
    let interrupt = Interrupt::watch()?;
    for filter in &args.filters {
        let subscribed = client.subscribe_with(&subscription(args, filter));
        subscribed.map_err(|error| {
            let failure = peer::failure(&error);
            Failure::new(failure.status, format!("{filter}: {failure}"))
        })?;
    }
    if !args.quiet {
        args.filters
            .iter()
            .filter_map(|filter| hint(filter))
            .for_each(note);
        let filters = args.filters.join(" ");
        note(format!("subscribed to {filters} at {}", client.peer()));
    }

    let mut stream = Stream {
        args,
        format: Format::of(args),
        output,
        rate: args.rate.then(|| Rate::new(Instant::now())),
        count: 0,
        last: Instant::now(),
    };
    let outcome = stream.run(&mut client, &interrupt);
    // Whatever ended it, received messages are printed.
    let flushed = stream.output.flush();
    let _ = client.close();
    outcome.and(flushed)
}

/// A hint for a filter with the wildcards of another server (NATS, Redis).
fn hint(filter: &str) -> Option<String> {
    let is_foreign = |level: &str| level.contains('*') || level.ends_with('>');
    filter.split('/').any(is_foreign).then(|| {
        format!(
            "{filter}: * and > are not wildcards here, but ordinary characters: + matches one \
             level between slashes, # at the end any number of them"
        )
    })
}

fn subscription<'a>(args: &'a Sub, filter: &'a str) -> Subscribe<'a> {
    let mut subscribe = Subscribe::new(filter);
    if let Some(group) = &args.group {
        subscribe = subscribe.group(group);
    }
    if let Some(policy) = args.slow_policy {
        subscribe = subscribe.slow_policy(policy.into());
    }
    if let Some(codec) = args.codec {
        subscribe = subscribe.codec(codec.into());
    }
    subscribe
}

/// The messages on their way from the client to standard output.
struct Stream<'a> {
    args: &'a Sub,
    format: Format,
    output: Output,
    rate: Option<Rate>,
    count: u64,
    /// When the last message arrived.
    last: Instant,
}

impl Stream<'_> {
    fn run(&mut self, client: &mut Client, interrupt: &Interrupt) -> Result<(), Failure> {
        loop {
            let is_idle = self.take(client)?;
            if self.args.count == Some(self.count) {
                return Ok(());
            }
            if is_idle {
                self.output.flush()?;
            }
            let now = Instant::now();
            if let Some(line) = self.rate.as_mut().and_then(|rate| rate.line(now)) {
                note(line);
            }
            if interrupt.came() {
                return self.interrupted();
            }
            let Some(wait) = self.wait(now) else {
                return Err(self.silence());
            };
            if is_idle {
                let incoming = client.receive_timeout(wait);
                if let Some(incoming) = incoming.map_err(|error| peer::failure(&error))? {
                    self.write(&incoming, client)?;
                }
            }
        }
    }

    /// Takes waiting messages, a few dozen at most; true if none is left.
    fn take(&mut self, client: &mut Client) -> Result<bool, Failure> {
        for _ in 0..MESSAGES_PER_LOOK {
            if self.args.count == Some(self.count) {
                return Ok(true);
            }
            let incoming = client.receive_timeout(Duration::ZERO);
            match incoming.map_err(|error| peer::failure(&error))? {
                Some(incoming) => self.write(&incoming, client)?,
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    fn write(&mut self, incoming: &Incoming, client: &Client) -> Result<(), Failure> {
        match incoming {
            Incoming::Message(message) => {
                self.count += 1;
                if let Some(rate) = &mut self.rate {
                    rate.count(message.payload.len());
                }
                if self.args.timeout.is_some() {
                    self.last = Instant::now();
                }
                let format = self.format;
                self.output
                    .append(|out| format.write(&envelope(message), out))
            }
            Incoming::Reconnected { resumed } => {
                let lost = if *resumed {
                    "the session was resumed, nothing was lost"
                } else {
                    "the session is gone, and with it what was published in the meantime"
                };
                note(format!("reconnected to {}: {lost}", client.peer()));
                Ok(())
            }
            // This client serves nothing, so it gets no requests.
            _ => Ok(()),
        }
    }

    /// How long to wait for the next message; `None` when --timeout has passed.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let mut wait = SLICE;
        if let Some(rate) = &self.rate {
            wait = wait.min(rate.due() - now);
        }
        if let Some(timeout) = self.args.timeout {
            let rest = self.last + timeout - now;
            if rest.is_zero() {
                return None;
            }
            wait = wait.min(rest);
        }
        Some(wait)
    }

    fn silence(&self) -> Failure {
        let after = self.args.timeout.unwrap_or_default();
        let text = match self.args.count {
            Some(wanted) => format!(
                "no message within {after:?}; {} of {wanted} were received",
                self.count
            ),
            None => format!("no message within {after:?}"),
        };
        Failure::new(Status::Runtime, text)
    }

    fn interrupted(&self) -> Result<(), Failure> {
        let Some(wanted) = self.args.count else {
            return Ok(());
        };
        let text = format!("interrupted after {} of {wanted} messages", self.count);
        Err(Failure::new(Status::Runtime, text))
    }
}

fn envelope(message: &Message) -> Envelope<'_> {
    Envelope {
        id: 0,
        flags: if message.retain { FLAG_RETAIN } else { 0 },
        codec: message.codec,
        name: &message.topic,
        headers: message.headers(),
        payload: &message.payload,
    }
}

impl From<args::SlowPolicy> for SlowPolicy {
    fn from(policy: args::SlowPolicy) -> SlowPolicy {
        match policy {
            args::SlowPolicy::Disconnect => SlowPolicy::Disconnect,
            args::SlowPolicy::DropOldest => SlowPolicy::DropOldest,
            args::SlowPolicy::DropNewest => SlowPolicy::DropNewest,
            args::SlowPolicy::LatestPerKey => SlowPolicy::LatestPerKey,
        }
    }
}
