//! A scripted server: a thread with a real loopback socket and the protocol's own session,
//! which does what a test tells it to, mistakes included.
//!
//! Not a server: one connection after the other, one script, in order.

#![allow(dead_code)] // each test binary uses its part

use ringmail::base::clock::Instant;
use ringmail::base::reason::Reason;
use ringmail::proto::envelope::{Envelope, FLAG_FAILED};
use ringmail::proto::error::{Code, Refusal};
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::reassembly::Reassembly;
use ringmail::proto::session::{Event, Session, Settings, Step};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub const SHARD: u16 = 3;
pub const PRODUCT: &str = "scripted/1";

pub fn settings() -> Settings {
    Settings {
        message_bytes_max: 1 << 20,
        handshake_timeout: Duration::from_secs(10),
        frame_timeout: Duration::from_secs(10),
        heartbeat_interval: Duration::from_secs(30),
        heartbeat_timeout: Duration::from_secs(90),
        auth_methods: 0,
        auth_timeout: Duration::from_secs(5),
        product: PRODUCT.to_owned(),
        shard: SHARD,
    }
}

/// A listening server; dropped, it waits for its script and fails as that failed.
pub struct Peer {
    pub address: String,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Runs `script` over the first connection.
    pub fn run(script: impl FnOnce(Served) + Send + 'static) -> Peer {
        Peer::with(settings(), script)
    }

    pub fn with(settings: Settings, script: impl FnOnce(Served) + Send + 'static) -> Peer {
        Peer::open_with(settings, |door| {
            let served = door.accept();
            drop(door);
            script(served);
        })
    }

    /// Runs `script` over the connections it accepts.
    pub fn open(script: impl FnOnce(Door) + Send + 'static) -> Peer {
        Peer::open_with(settings(), script)
    }

    pub fn open_with(settings: Settings, script: impl FnOnce(Door) + Send + 'static) -> Peer {
        Peer::at(TcpListener::bind("127.0.0.1:0").unwrap(), settings, script)
    }

    /// Runs `script` over the connections that come to this listener.
    pub fn at(
        listener: TcpListener,
        settings: Settings,
        script: impl FnOnce(Door) + Send + 'static,
    ) -> Peer {
        let address = listener.local_addr().unwrap().to_string();
        let settings = Arc::new(settings);
        let thread = std::thread::spawn(move || script(Door { listener, settings }));
        Peer {
            address,
            thread: Some(thread),
        }
    }

    /// Answers `$sys/echo`, fails all else with NO_SERVICE, until the client leaves.
    pub fn echo() -> Peer {
        Peer::run(|mut served| {
            served.establish();
            served.echo();
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let thread = self.thread.take().unwrap();
        if std::thread::panicking() {
            return; // a script that waits for a failed test would hide the failure
        }
        thread.join().unwrap();
    }
}

/// Where connections come in; dropped, nobody listens any more.
pub struct Door {
    listener: TcpListener,
    settings: Arc<Settings>,
}

impl Door {
    pub fn accept(&self) -> Served {
        let (stream, _) = self.listener.accept().unwrap();
        let timeout = Some(Duration::from_secs(20));
        stream.set_read_timeout(timeout).unwrap();
        stream.set_nodelay(true).unwrap();
        Served {
            stream,
            session: Session::accept(self.settings.clone(), 0xFFFF_FFFF, Instant::now()),
            input: Reassembly::default(),
            unread: Vec::new(),
            chunk_bytes: usize::MAX,
        }
    }

    /// Accepts, and refuses the handshake.
    pub fn refuse(&self, code: Code) {
        let mut served = self.accept();
        let mut out = Vec::new();
        served.session.refuse(&Refusal::new(code, ""), &mut out);
        served.write(&out);
        served.ignore();
    }

    /// Accepts and shakes hands.
    pub fn establish(&self) -> Served {
        let mut served = self.accept();
        served.establish();
        served
    }
}

/// An event of the client's, owned.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Established {
        client_id: Option<String>,
    },
    Request(Asked),
    /// Any other type from 0x10 on.
    Operation(MessageType, Asked),
    Session {
        key: [u8; 16],
        received: u32,
    },
    Ack(u32),
    Message(MessageType),
    Closed {
        code: Code,
        reason: String,
    },
    Ended(Reason),
    Eof,
}

#[derive(Debug, PartialEq)]
pub struct Asked {
    pub id: u32,
    pub flags: u8,
    /// The service, topic or filter.
    pub service: String,
    pub codec: u8,
    pub headers: Vec<(u8, Vec<u8>)>,
    pub payload: Vec<u8>,
}

/// The server's end of a connection.
pub struct Served {
    pub stream: TcpStream,
    pub session: Session,
    input: Reassembly,
    unread: Vec<u8>,
    /// Everything is written in pieces of this size.
    pub chunk_bytes: usize,
}

impl Served {
    pub fn establish(&mut self) -> Option<String> {
        match self.hear() {
            Heard::Established { client_id } => client_id,
            other => panic!("a handshake was expected, not {other:?}"),
        }
    }

    /// The client need not show who it is, whatever the handshake said.
    pub fn admit(&mut self) {
        self.session.authenticate();
    }

    pub fn request(&mut self) -> Asked {
        match self.hear() {
            Heard::Request(asked) => asked,
            other => panic!("a request was expected, not {other:?}"),
        }
    }

    /// The next operation, which must be of this type.
    pub fn operation(&mut self, kind: MessageType) -> Asked {
        match self.hear() {
            Heard::Operation(heard, asked) if heard == kind => asked,
            other => panic!("{kind:?} was expected, not {other:?}"),
        }
    }

    /// The next operation, which must be of this type and about this name; confirmed.
    pub fn confirm(&mut self, kind: MessageType, name: &str) -> Asked {
        let asked = self.operation(kind);
        assert_eq!(asked.service, name);
        self.send(&Message::Ok { id: asked.id });
        asked
    }

    /// SESSION, which must be for this key and count; answered.
    pub fn join(&mut self, key: [u8; 16], received: u32, answer: &Message<'_>) {
        assert_eq!(self.hear(), Heard::Session { key, received });
        self.send(answer);
    }

    /// Delivers a message.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.deliver(MessageType::Publish, 0, topic, payload);
    }

    pub fn deliver(&mut self, kind: MessageType, id: u32, name: &str, payload: &[u8]) {
        let envelope = Envelope {
            id,
            name,
            payload,
            ..Envelope::default()
        };
        self.send(&Message::Envelope(kind, envelope));
    }

    /// Hears the client leave with CLOSE, and answers.
    pub fn part(mut self) {
        let heard = self.hear();
        assert!(matches!(heard, Heard::Closed { .. }), "{heard:?}");
        self.finish();
    }

    /// The next thing the client does; what the session answers by itself is sent.
    pub fn hear(&mut self) -> Heard {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let bytes = std::mem::take(&mut self.unread);
            let mut rest = &bytes[..];
            let mut out = Vec::new();
            let mut heard = None;
            while heard.is_none() {
                let view = self.input.view(rest);
                match self.session.handle(view, Instant::now(), &mut out) {
                    Step::Taken { used, event } => {
                        heard = own(event, self.session.is_ended());
                        self.input.consume(used, &mut rest);
                    }
                    Step::Incomplete { need } => {
                        if !self.input.fill(need, &mut rest) {
                            break;
                        }
                    }
                }
            }
            self.unread = rest.to_vec();
            self.write(&out);
            if let Some(Heard::Established { .. }) = heard {
                let client_id = self.session.client_id().map(str::to_owned);
                return Heard::Established { client_id };
            }
            if let Some(heard) = heard {
                return heard;
            }
            match self.read(&mut buffer) {
                0 => return Heard::Eof,
                count => self.unread = buffer[..count].to_vec(),
            }
        }
    }

    /// Reads until these bytes have come, whatever else comes before them, and drops it all:
    /// for what the session does not hand out, such as a PONG.
    pub fn hear_bytes(&mut self, wanted: &[u8]) {
        let mut seen = std::mem::take(&mut self.unread);
        let mut buffer = [0; 4096];
        while !seen.windows(wanted.len()).any(|window| window == wanted) {
            let count = self.read(&mut buffer);
            assert!(count > 0, "{wanted:?} did not come");
            seen.extend_from_slice(&buffer[..count]);
        }
    }

    /// Reads and answers nothing until the client has gone.
    pub fn ignore(&mut self) {
        let mut buffer = [0; 4096];
        while self.read(&mut buffer) > 0 {}
    }

    fn read(&mut self, buffer: &mut [u8]) -> usize {
        loop {
            match self.stream.read(buffer) {
                Ok(count) => return count,
                // With a timeout set, the kernel does not restart a read by itself.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the client was not heard: {error}"),
            }
        }
    }

    pub fn send(&mut self, message: &Message<'_>) {
        let mut out = Vec::new();
        self.session.send(message, &mut out);
        self.write(&out);
    }

    /// Writes bytes as they are; a client that has gone is no failure.
    pub fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(self.chunk_bytes.min(bytes.len().max(1))) {
            if self.stream.write_all(chunk).is_err() {
                return;
            }
            if self.chunk_bytes < usize::MAX {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }

    pub fn answer(&mut self, asked: &Asked) {
        self.respond(asked.id, 0, &asked.payload);
    }

    pub fn fail(&mut self, id: u32, code: Code, text: &str) {
        let mut payload = code.to_wire().to_be_bytes().to_vec();
        payload.extend_from_slice(text.as_bytes());
        self.respond(id, FLAG_FAILED, &payload);
    }

    pub fn respond(&mut self, id: u32, flags: u8, payload: &[u8]) {
        let envelope = Envelope {
            id,
            flags,
            payload,
            ..Envelope::default()
        };
        self.send(&Message::Envelope(MessageType::Response, envelope));
    }

    /// Echoes until the client says CLOSE, and answers that.
    pub fn echo(&mut self) {
        loop {
            match self.hear() {
                Heard::Request(asked) if asked.service == "$sys/echo" => self.answer(&asked),
                Heard::Request(asked) => self.fail(asked.id, Code::NoService, "nobody serves it"),
                Heard::Closed { .. } => return self.finish(),
                Heard::Eof => return,
                _ => {}
            }
        }
    }

    /// Answers the client's CLOSE.
    pub fn finish(&mut self) {
        let mut out = Vec::new();
        self.session.finish(&mut out);
        self.write(&out);
    }
}

fn own(event: Event<'_>, ended: bool) -> Option<Heard> {
    match event {
        Event::Handled if ended => Some(Heard::Eof),
        Event::Handled => None,
        Event::Established(_) => Some(Heard::Established { client_id: None }),
        Event::Message(Message::Envelope(kind, envelope)) => {
            let headers = envelope.headers.iter();
            let asked = Asked {
                id: envelope.id,
                flags: envelope.flags,
                service: envelope.name.to_owned(),
                codec: envelope.codec as u8,
                headers: headers.map(|(key, value)| (key, value.to_vec())).collect(),
                payload: envelope.payload.to_vec(),
            };
            Some(match kind {
                MessageType::Request => Heard::Request(asked),
                kind => Heard::Operation(kind, asked),
            })
        }
        Event::Message(Message::Session { key, received }) => {
            Some(Heard::Session { key, received })
        }
        Event::Message(Message::Ack { received }) => Some(Heard::Ack(received)),
        Event::Message(message) => Some(Heard::Message(message.kind())),
        Event::PeerClosed { code, reason } => Some(Heard::Closed {
            code,
            reason: reason.to_owned(),
        }),
        Event::Refused { .. } => Some(Heard::Eof),
        Event::Ended(reason) => Some(Heard::Ended(reason)),
    }
}
