//! What the load engine needs of a protocol: how to open a connection, send requests, and recognise
//! answers.
//!
//! One speaker stands on each connection, without I/O: received bytes in, bytes to send
//! out. The engines are compiled for each speaker, so that the trait costs nothing per
//! message. A protocol without ids (Redis, say) numbers its answers itself, in order.
//! [`Asker`]s ask and are answered on the same connection; those who take part in an
//! exchange between connections are in `dialect`.
//!
//! Here: [`Echo`] (this protocol's REQUEST to `$sys/echo`) and [`Raw`] (the same bytes to a
//! server that sends back what it gets, to compare with). Both compare every answer with
//! what was sent: an echo that returns something else is not measured but reported.

use super::fault::Fault;
use crate::base::clock::Instant;
use crate::base::limits::MESSAGE_BYTES_FLOOR;
use crate::client::Credential;
use crate::proto::encoded::{self, Encoded};
use crate::proto::envelope::Envelope;
use crate::proto::error::Code;
use crate::proto::message::{Message, MessageType};
use crate::proto::option::{AUTH_OPTIONAL, Options};
use crate::proto::outcome::Failure;
use crate::proto::session::{Event, Session, Settings, Step};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The result of parsing the head of the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<M> {
    /// No message is complete yet; with `need` bytes in all, parsing gets further.
    Incomplete { need: usize },
    /// The first `used` bytes are what the run waits for: `mark` says which.
    Answer { used: usize, mark: M },
    /// The first `used` bytes were something else, which is handled.
    Other { used: usize },
}

/// One connection's end of a protocol.
pub trait Speaker {
    /// What distinguishes awaited messages.
    type Mark;

    /// Whether messages may be sent: the handshake, if there is one, is complete.
    fn is_ready(&self) -> bool;

    /// Handles the message at the head of `bytes`; what the protocol answers by itself (a PING) is
    /// appended to `out`.
    ///
    /// # Errors
    /// Anything but an answer or a control message of the protocol.
    fn take(
        &mut self,
        bytes: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Taken<Self::Mark>, Fault>;

    /// Appends the protocol's farewell, if it has one.
    fn close(&mut self, _out: &mut Vec<u8>) {}
}

/// A speaker that asks, and is answered on its own connection. Its marks are the ids.
pub trait Asker: Speaker<Mark = u32> {
    /// Appends one request. Ids rise by one with each request of a connection.
    fn request(&mut self, id: u32, out: &mut Vec<u8>);
}

/// A payload neither constant nor compressible, and the same in every run.
pub fn payload(bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(bytes as u64);
    std::iter::repeat_with(|| random.u8(..))
        .take(bytes)
        .collect()
}

/// The settings of all this protocol's sessions in a run; `largest` is the largest number of bytes
/// in a message.
pub fn settings(largest: usize, timeout: Duration) -> Arc<Settings> {
    let largest = u32::try_from(largest).unwrap_or(u32::MAX);
    Arc::new(Settings {
        message_bytes_max: largest.max(MESSAGE_BYTES_FLOOR),
        handshake_timeout: timeout,
        frame_timeout: timeout,
        // The server's PINGs are answered; none are sent of our own (`timeout` and
        // `handle_timeout` are never asked), so these two are not in force.
        heartbeat_interval: Duration::from_secs(30),
        heartbeat_timeout: Duration::from_secs(90),
        auth_methods: 0,
        auth_timeout: timeout,
        product: String::new(),
        shard: 0,
    })
}

/// Begins a session: the SYN is appended to `out`. `heartbeat_ms` 0 leaves the interval to
/// the server.
///
/// # Errors
/// When the system has no randomness for the initial number.
pub fn connect(
    settings: &Arc<Settings>,
    heartbeat_ms: u32,
    now: Instant,
    out: &mut Vec<u8>,
) -> Result<Session, Fault> {
    let seq = getrandom::u32().map_err(|error| Fault::Connect(io::Error::other(error)))?;
    let hello = Options {
        heartbeat_ms: Some(heartbeat_ms).filter(|&ms| ms > 0),
        message_max: Some(settings.message_bytes_max),
        ..Options::default()
    };
    let settings = Arc::clone(settings);
    Ok(Session::connect(settings, &hello, seq, now, out))
}

/// Authenticates the generator at a server that requires it, and tracks the result.
#[derive(Debug, Default)]
pub struct Proof {
    credential: Option<Credential>,
    /// AUTH was sent, and AUTH_OK has not come.
    pub is_open: bool,
}

impl Proof {
    pub fn by(credential: Option<&Credential>) -> Proof {
        Proof {
            credential: credential.cloned(),
            is_open: false,
        }
    }

    /// After the handshake: AUTH, if the server asks for it; where it may be left out, if
    /// there is a credential.
    ///
    /// # Errors
    /// If there is no credential that the server accepts.
    pub fn begin(&mut self, options: &Options<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let methods = options.auth.unwrap_or_default();
        let credential = self.credential.take();
        let goes_without = methods & AUTH_OPTIONAL != 0 && credential.is_none();
        if methods & !AUTH_OPTIONAL == 0 || goes_without {
            return Ok(());
        }
        let credential = credential.filter(|credential| credential.is_among(methods));
        let credential = credential.ok_or(Fault::AuthRequired)?;
        let auth = Message::Auth {
            method: credential.method(),
            credential: credential.secret().expose().as_bytes(),
        };
        auth.encode(false, out);
        self.is_open = true;
        Ok(())
    }
}

/// The messages of one benchmark, encoded once; only the id differs from one to the next.
#[derive(Debug)]
pub struct Shape {
    request: Vec<u8>,
    answer: Vec<u8>,
    payload_bytes: usize,
}

impl Shape {
    /// `$sys/echo` with a payload of `bytes` bytes, answered by RESPONSE.
    pub fn echo(bytes: usize) -> Shape {
        let payload = payload(bytes);
        let encode = |kind, name| {
            let envelope = Envelope {
                name,
                payload: &payload,
                ..Envelope::default()
            };
            let mut out = Vec::new();
            Message::Envelope(kind, envelope).encode(false, &mut out);
            out
        };
        Shape {
            request: encode(MessageType::Request, "$sys/echo"),
            answer: encode(MessageType::Response, ""),
            payload_bytes: bytes,
        }
    }

    /// The same request, answered by the very bytes.
    pub fn raw(bytes: usize) -> Shape {
        let mut shape = Shape::echo(bytes);
        shape.answer.clone_from(&shape.request);
        shape
    }

    /// Bytes of one request on the wire.
    pub fn request_bytes(&self) -> usize {
        self.request.len()
    }

    #[inline]
    fn put_request(&self, id: u32, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&self.request);
        encoded::set_id(&mut out[at..], id);
    }

    /// The id, when `bytes` begin with exactly the answer that is expected.
    #[inline]
    fn answered(&self, bytes: &[u8]) -> Option<u32> {
        let message = bytes.get(..self.answer.len())?;
        match encoded::is_alike(message, &self.answer) {
            true => Encoded::of(message).id(),
            false => None,
        }
    }

    fn payload(&self) -> &[u8] {
        &self.answer[self.answer.len() - self.payload_bytes..]
    }
}

/// Speaks this project's protocol.
#[derive(Debug)]
pub struct Echo {
    shape: Rc<Shape>,
    session: Session,
    proof: Proof,
}

impl Echo {
    /// Begins a session: the SYN is appended to `out`. `heartbeat_ms` 0 leaves the interval
    /// to the server.
    ///
    /// # Errors
    /// When the system has no randomness for the initial number.
    pub fn open(
        shape: &Rc<Shape>,
        settings: &Arc<Settings>,
        heartbeat_ms: u32,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Echo, Fault> {
        Ok(Echo {
            shape: Rc::clone(shape),
            session: connect(settings, heartbeat_ms, now, out)?,
            proof: Proof::default(),
        })
    }

    /// Uses this credential if the server requires one.
    pub fn proving_by(mut self, credential: Option<&Credential>) -> Echo {
        self.proof = Proof::by(credential);
        self
    }

    /// The settings of all sessions of a run.
    pub fn settings(shape: &Shape, timeout: Duration) -> Arc<Settings> {
        settings(shape.request_bytes(), timeout)
    }

    /// Everything that is not the expected answer, whole and first in line.
    #[cold]
    fn take_other(
        &mut self,
        bytes: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Taken<u32>, Fault> {
        let (used, event) = match self.session.handle(bytes, now, out) {
            Step::Incomplete { need } => return Ok(Taken::Incomplete { need }),
            Step::Taken { used, event } => (used, event),
        };
        match event {
            Event::Handled => Ok(Taken::Other { used }),
            Event::Message(Message::AuthOk { .. }) if self.proof.is_open => {
                self.proof.is_open = false;
                Ok(Taken::Other { used })
            }
            Event::Established(options) => {
                self.proof.begin(&options, out)?;
                let bytes = Encoded::of(&self.shape.request).body_bytes();
                let max = self.session.peer_message_bytes_max();
                if bytes > max as usize {
                    return Err(Fault::TooLarge { bytes, max });
                }
                Ok(Taken::Other { used })
            }
            Event::Message(Message::Envelope(MessageType::Response, envelope)) => {
                if envelope.failed() {
                    return Err(failed(&envelope));
                }
                if envelope.payload != self.shape.payload() {
                    return Err(Fault::Answer("an answer does not carry what was sent"));
                }
                let mark = envelope.id;
                Ok(Taken::Answer { used, mark })
            }
            event => Err(unwanted(event)),
        }
    }
}

/// A fault for a message that the run does not expect.
pub fn unwanted(event: Event<'_>) -> Fault {
    match event {
        Event::Message(Message::Error { code, text, .. }) => Fault::Refused {
            code,
            text: text.to_owned(),
        },
        Event::Message(Message::Drain { .. }) => Fault::Answer("the server is draining"),
        Event::PeerClosed { code, reason } => Fault::Closed {
            code,
            text: reason.to_owned(),
        },
        Event::Refused { code, reason } => Fault::Refused { code, text: reason },
        Event::Ended(_) => Fault::Answer("bytes that are not in this protocol"),
        Event::Message(_) | Event::Handled | Event::Established(_) => {
            Fault::Answer("a response without a request")
        }
    }
}

/// A RESPONSE with FAILED.
pub fn failed(envelope: &Envelope<'_>) -> Fault {
    let text = "it does not say why";
    let failure = Failure::of_response(envelope);
    let Failure { code, text } = failure.unwrap_or_else(|| Failure::of(Code::Malformed, text));
    Fault::Failed {
        code: Code::from_wire(code),
        text,
    }
}

impl Asker for Echo {
    #[inline]
    fn request(&mut self, id: u32, out: &mut Vec<u8>) {
        self.shape.put_request(id, out);
    }
}

impl Speaker for Echo {
    type Mark = u32;

    fn is_ready(&self) -> bool {
        self.session.is_established() && !self.proof.is_open
    }

    #[inline]
    fn take(&mut self, bytes: &[u8], now: Instant, out: &mut Vec<u8>) -> Result<Taken<u32>, Fault> {
        // The usual answer needs no parser. It cannot be mistaken for a frame of the link
        // phase: byte 2 is the version there and a type here, but byte 3 on differ, and a
        // server that answers before the handshake is refused when no request is open.
        if let Some(mark) = self.shape.answered(bytes) {
            let used = self.shape.answer.len();
            return Ok(Taken::Answer { used, mark });
        }
        self.take_other(bytes, now, out)
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        self.session.close(Code::Normal, "", out);
    }
}

/// Speaks to a server that sends back what it gets.
#[derive(Debug)]
pub struct Raw {
    shape: Rc<Shape>,
}

impl Raw {
    pub fn open(shape: &Rc<Shape>) -> Raw {
        Raw {
            shape: Rc::clone(shape),
        }
    }
}

impl Asker for Raw {
    #[inline]
    fn request(&mut self, id: u32, out: &mut Vec<u8>) {
        self.shape.put_request(id, out);
    }
}

impl Speaker for Raw {
    type Mark = u32;

    fn is_ready(&self) -> bool {
        true
    }

    #[inline]
    fn take(
        &mut self,
        bytes: &[u8],
        _now: Instant,
        _out: &mut Vec<u8>,
    ) -> Result<Taken<u32>, Fault> {
        let need = self.shape.answer.len();
        match self.shape.answered(bytes) {
            Some(mark) => Ok(Taken::Answer { used: need, mark }),
            None if bytes.len() < need => Ok(Taken::Incomplete { need }),
            None => Err(Fault::Answer("the server did not echo what was sent")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::reassembly::Reassembly;

    /// A server's session that has answered the client's SYN; returns both ends, open.
    fn established(shape: &Rc<Shape>) -> (Echo, Session) {
        let settings = Echo::settings(shape, Duration::from_secs(1));
        let now = Instant::ZERO;
        let mut out = Vec::new();
        let mut echo = Echo::open(shape, &settings, 0, now, &mut out).unwrap();
        let mut server = Session::accept(settings, 7, now);
        let mut back = Vec::new();
        assert!(matches!(
            server.handle(&out, now, &mut back),
            Step::Taken { .. }
        ));
        out.clear();
        assert!(!echo.is_ready());
        assert_eq!(
            echo.take(&back, now, &mut out).unwrap(),
            Taken::Other { used: back.len() }
        );
        assert!(echo.is_ready());
        server.handle(&out, now, &mut Vec::new());
        (echo, server)
    }

    fn response(id: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let envelope = Envelope {
            id,
            flags,
            payload,
            ..Envelope::default()
        };
        let mut out = Vec::new();
        Message::Envelope(MessageType::Response, envelope).encode(false, &mut out);
        out
    }

    /// Feeds `stream` in two parts and collects the ids answered.
    fn ids(speaker: &mut impl Asker, stream: &[u8], split: usize) -> Vec<u32> {
        let mut input = Reassembly::default();
        let mut ids = Vec::new();
        for mut part in [&stream[..split], &stream[split..]] {
            loop {
                let view = input.view(part);
                match speaker.take(view, Instant::ZERO, &mut Vec::new()).unwrap() {
                    Taken::Incomplete { need } => {
                        if !input.fill(need, &mut part) {
                            break;
                        }
                    }
                    Taken::Answer { used, mark } => {
                        ids.push(mark);
                        input.consume(used, &mut part);
                    }
                    Taken::Other { used } => input.consume(used, &mut part),
                }
            }
        }
        ids
    }

    #[test]
    fn answers_split_at_any_byte_are_counted_once() {
        let shape = Rc::new(Shape::echo(33));
        let (mut echo, _) = established(&shape);
        let payload = shape.payload().to_vec();
        let mut stream = response(4, 0, &payload);
        Message::Ping(b"alive").encode(false, &mut stream);
        stream.extend(response(5, 0, &payload));
        for split in 0..=stream.len() {
            assert_eq!(ids(&mut echo, &stream, split), [4, 5], "split at {split}");
        }

        let shape = Rc::new(Shape::raw(33));
        let mut raw = Raw::open(&shape);
        let mut stream = Vec::new();
        (8..12).for_each(|id| raw.request(id, &mut stream));
        for split in 0..=stream.len() {
            assert_eq!(ids(&mut raw, &stream, split), [8, 9, 10, 11]);
        }
    }

    #[test]
    fn a_servers_ping_is_answered() {
        let (mut echo, _) = established(&Rc::new(Shape::echo(1)));
        let (mut ping, mut pong, mut out) = (Vec::new(), Vec::new(), Vec::new());
        Message::Ping(b"alive").encode(false, &mut ping);
        Message::Pong(b"alive").encode(false, &mut pong);
        echo.take(&ping, Instant::ZERO, &mut out).unwrap();
        assert_eq!(out, pong);
    }

    #[test]
    fn anything_but_the_expected_answer_ends_the_run() {
        let shape = Rc::new(Shape::echo(8));
        let end = |bytes: Vec<u8>| {
            let (mut echo, _) = established(&shape);
            let fault = echo.take(&bytes, Instant::ZERO, &mut Vec::new());
            fault.unwrap_err().to_string()
        };
        let mut error = Vec::new();
        let (code, text) = (Code::RateLimited, "slow down");
        Message::Error {
            code,
            id: 1,
            fatal: false,
            text,
        }
        .encode(false, &mut error);
        let mut close = Vec::new();
        let (code, reason) = (Code::Shutdown, "bye");
        Message::Close { code, reason }.encode(false, &mut close);
        let no_service = [&0x0301u16.to_be_bytes()[..], b"none"].concat();

        assert!(end(error).contains("RATE_LIMITED: slow down"));
        assert!(end(close).contains("SHUTDOWN bye"));
        assert!(
            end(response(
                1,
                crate::proto::envelope::FLAG_FAILED,
                &no_service
            ))
            .contains("NO_SERVICE: none")
        );
        assert!(end(response(1, 0, b"otherwis")).contains("does not carry"));
        assert!(end(b"HTTP/1.1 400 Bad Request".to_vec()).contains("not in this protocol"));

        let shape = Rc::new(Shape::raw(8));
        let mut raw = Raw::open(&shape);
        let mut bytes = Vec::new();
        raw.request(1, &mut bytes);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(raw.take(&bytes, Instant::ZERO, &mut Vec::new()).is_err());
    }
}
