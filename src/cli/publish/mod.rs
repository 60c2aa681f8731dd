//! `ringmail pub`: the argument, standard input, or each line of it, published.
//!
//! Lines are published as they arrive and sent a chunk at a time: the lines of one read go out
//! together, so that a file is sent in bulk and the line of an idle pipe at once.
//!
//! Without --confirm, a round trip (a PING) follows the last message, so that refusals by the
//! server are noticed. It does not show that anybody received the other messages.

mod field;
mod lines;

use super::args::Pub;
use super::failure::{Failure, note};
use super::interrupt::{Interrupt, SLICE};
use super::peer;
use crate::base::exit::Status;
use crate::client::blocking::Client;
use crate::client::{Codec, Error, Incoming, MESSAGE_BYTES_CEILING, Publish};
use crate::proto::name::check_topic;
use field::Field;
use lines::Input;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How many skipped lines are reported one by one; the others are counted.
const SKIPPED_TOLD_MAX: u64 = 10;
/// How many messages' line numbers are remembered: more than a client leaves unconfirmed.
const RECENT_MAX: usize = 64 * 1024;

/// Publishes everything.
///
/// # Errors
/// No server, a line that cannot be published or that the server refused, a broken connection.
pub fn run(args: &Pub) -> Result<(), Failure> {
    let form = Form::of(args)?;
    // The payload first: a connection should not wait for someone typing.
    let single = match &args.payload {
        Some(text) if text == "-" => Some(whole_input()?),
        Some(text) => Some(text.as_bytes().to_vec()),
        None => None,
    };
    let builder = peer::builder(args.timeout).session(args.session);
    let client = peer::connect_with(&builder, &args.peer)?;
    // Until here Ctrl-C ends it at once, whatever it waits for.
    let interrupt = Interrupt::watch()?;
    let mut publisher = Publisher {
        args,
        form,
        client,
        line: 0,
        skipped: 0,
        recent: VecDeque::new(),
    };
    let outcome = match single {
        Some(payload) => publisher
            .publish(&payload)
            .map_err(|problem| match problem {
                Problem::Line(text) => Failure::new(Status::Usage, text),
                Problem::Fatal(failure) => failure,
            }),
        None => {
            let line_bytes_max = publisher.client.server().message_bytes_max as usize;
            let inputs = lines::read(io::stdin(), line_bytes_max);
            publisher.stream(&inputs, &interrupt)
        }
    };
    publisher.finish(outcome)
}

fn whole_input() -> Result<Vec<u8>, Failure> {
    let bytes_max = u64::from(MESSAGE_BYTES_CEILING);
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(bytes_max + 1)
        .read_to_end(&mut bytes);
    read.map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        let text = "the payload on standard input is larger than any server accepts (1 GiB)";
        return Err(Failure::new(Status::Usage, text));
    }
    Ok(bytes)
}

fn unreadable(error: io::Error) -> Failure {
    let text = format!("cannot read standard input: {error}");
    Failure::new(Status::Runtime, text)
}

/// What all messages have in common, and where each one's topic comes from.
struct Form<'a> {
    args: &'a Pub,
    field: Option<Field>,
    codec: Codec,
    confirm: bool,
}

impl<'a> Form<'a> {
    /// # Errors
    /// An option with which no message could be published.
    fn of(args: &'a Pub) -> Result<Form<'a>, Failure> {
        let usage = |text: String| Failure::new(Status::Usage, text);
        if let Some(topic) = &args.topic {
            check_topic(topic).map_err(|refusal| usage(format!("topic {topic:?}: {refusal}")))?;
        }
        let field = args.topic_from_json.as_deref().map(Field::parse);
        let field = field
            .transpose()
            .map_err(|text| usage(format!("--topic-from-json: {text}")))?;
        let by_default = if field.is_some() {
            Codec::Json
        } else {
            Codec::Bytes
        };
        Ok(Form {
            args,
            field,
            codec: args.codec.map_or(by_default, Into::into),
            confirm: args.confirm || args.session,
        })
    }

    /// The topic of a payload; `None` for one to be skipped silently.
    ///
    /// # Errors
    /// Why it has none.
    fn topic(&self, payload: &[u8]) -> Result<Option<Cow<'a, str>>, String> {
        let topic = self.args.topic.as_deref();
        let Some(field) = &self.field else {
            return Ok(topic.map(Cow::Borrowed));
        };
        if payload.trim_ascii().is_empty() {
            return Ok(None);
        }
        let line = std::str::from_utf8(payload).map_err(|_| "it is not UTF-8".to_owned())?;
        let value = field.find(line)?;
        Ok(Some(match topic {
            Some(prefix) => format!("{prefix}/{value}").into(),
            None => value.into(),
        }))
    }

    fn message<'m>(&'m self, topic: &'m str, payload: &'m [u8]) -> Publish<'m> {
        let args = self.args;
        let mut publish = Publish::new(topic)
            .payload(payload)
            .codec(self.codec)
            .retain(args.retain)
            .confirm(self.confirm);
        if let Some(after) = args.expires {
            publish = publish.expires(after);
        }
        if let Some(key) = &args.key {
            publish = publish.key(key.as_bytes());
        }
        if let Some(schema) = &args.schema {
            publish = publish.schema(schema);
        }
        for (key, value) in &args.headers {
            publish = publish.header(*key, value.as_bytes());
        }
        publish
    }
}

/// Why a payload was not published.
enum Problem {
    /// This one cannot be published; others may.
    Line(String),
    /// Nothing more can be published.
    Fatal(Failure),
}

struct Publisher<'a> {
    args: &'a Pub,
    form: Form<'a>,
    client: Client,
    /// The number of the current line; 0 before the first, and without lines.
    line: u64,
    skipped: u64,
    /// Id and line of what was published last.
    recent: VecDeque<(u32, u64)>,
}

impl Publisher<'_> {
    /// Publishes lines until they end, or Ctrl-C ends them.
    fn stream(&mut self, inputs: &Receiver<Input>, interrupt: &Interrupt) -> Result<(), Failure> {
        while !interrupt.came() {
            match inputs.recv_timeout(SLICE) {
                Ok(Input::Lines(chunk)) => {
                    for line in lines::lines(&chunk) {
                        self.line += 1;
                        match self.publish(line) {
                            Ok(()) => {}
                            Err(Problem::Line(text)) => self.skip(text)?,
                            Err(Problem::Fatal(failure)) => return Err(failure),
                        }
                    }
                    self.client.flush().map_err(|error| self.failure(&error))?;
                }
                Ok(Input::TooLong) => {
                    self.line += 1;
                    let bytes = self.client.server().message_bytes_max;
                    self.skip(format!(
                        "it is longer than the {bytes} bytes that the server accepts"
                    ))?;
                }
                Ok(Input::Broken(error)) => return Err(unreadable(error)),
                // While waiting for input, the client still answers the server and receives
                // refusals.
                Err(RecvTimeoutError::Timeout) => self.hear()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        Ok(())
    }

    fn publish(&mut self, payload: &[u8]) -> Result<(), Problem> {
        let topic = self.form.topic(payload).map_err(Problem::Line)?;
        let Some(topic) = topic else {
            return Ok(());
        };
        let message = self.form.message(&topic, payload);
        match self.client.publish_queued(&message) {
            Ok(0) => Ok(()),
            Ok(id) => {
                if self.recent.len() == RECENT_MAX {
                    self.recent.pop_front();
                }
                self.recent.push_back((id, self.line));
                Ok(())
            }
            Err(Error::Invalid { text }) => Err(Problem::Line(text)),
            Err(error) => Err(Problem::Fatal(self.failure(&error))),
        }
    }

    /// Takes what has arrived: here only notices of reconnects.
    fn hear(&mut self) -> Result<(), Failure> {
        loop {
            let heard = self.client.receive_timeout(Duration::ZERO);
            match heard.map_err(|error| self.failure(&error))? {
                None => return Ok(()),
                Some(Incoming::Reconnected { resumed: true }) => {
                    let peer = self.client.peer();
                    note(format!(
                        "reconnected to {peer}: the session was resumed, nothing was lost"
                    ));
                }
                Some(Incoming::Reconnected { resumed: false }) => {
                    let peer = self.client.peer();
                    note(format!(
                        "reconnected to {peer}: the session is gone (the server was restarted, \
                         or the client was away for too long), and with it what had been \
                         confirmed but not yet delivered"
                    ));
                }
                Some(_) => {}
            }
        }
    }

    /// The current line cannot be published.
    fn skip(&mut self, text: String) -> Result<(), Failure> {
        let text = format!("line {}: {text}", self.line);
        if !self.args.skip_invalid {
            let remedy = match self.form.field {
                Some(_) => "; --skip-invalid skips such lines",
                None => "",
            };
            return Err(Failure::new(Status::Runtime, format!("{text}{remedy}")));
        }
        self.skipped += 1;
        if self.skipped <= SKIPPED_TOLD_MAX {
            note(format!("{text}; passed over"));
        }
        Ok(())
    }

    /// Sends what is left, waits for confirmations, and closes.
    fn finish(mut self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        let settled = self.settle();
        if self.skipped > SKIPPED_TOLD_MAX {
            let (skipped, lines) = (self.skipped, self.line);
            note(format!("{skipped} of {lines} lines were skipped"));
        }
        let _ = self.client.close();
        outcome.and(settled)
    }

    fn settle(&mut self) -> Result<(), Failure> {
        let settled = match self.client.wait_confirmed() {
            Ok(()) if self.form.confirm => Ok(()),
            // The next call reports what the server refused before its answer.
            Ok(()) => self.client.ping().and_then(|_| self.client.flush()),
            Err(error) => Err(error),
        };
        settled.map_err(|error| self.failure(&error))?;
        self.hear()
    }

    /// The failure of a message, with its line number if that is known.
    fn failure(&self, error: &Error) -> Failure {
        let failure = peer::failure(error);
        let id = match error {
            // A message without confirmation has no id to find its line by.
            Error::Rejected {
                id: 0, code, text, ..
            }
            | Error::Failed { code, text } => {
                let (code, text) = (*code, text.clone());
                let refused = Error::Failed { code, text };
                return Failure::new(failure.status, format!("a message was refused: {refused}"));
            }
            Error::Rejected { id, .. } | Error::Unconfirmed { id, .. } => *id,
            _ => return failure,
        };
        match self.recent.iter().find(|recent| recent.0 == id) {
            Some((_, line)) if *line > 0 => {
                Failure::new(failure.status, format!("line {line}: {failure}"))
            }
            _ => failure,
        }
    }
}
