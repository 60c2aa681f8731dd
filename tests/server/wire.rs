//! A raw client: bytes on a TcpStream, written with the protocol's encoders or by hand, and
//! whole frames and messages read back. It keeps no rules that a test may want to break.

use crate::stream::Stream;
use ringmail::proto::envelope::{Codec, Envelope, Headers};
use ringmail::proto::error::Code;
use ringmail::proto::frame::{Frame, FrameType, Parsed};
use ringmail::proto::message::{Header, Message, MessageType, open};
use ringmail::proto::option::Options;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

/// How long anything may take before it counts as never.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// This client's initial sequence number: near the wrap, so that every test crosses it.
pub const SEQ: u32 = u32::MAX;

pub struct Wire {
    pub stream: Stream,
    received: Vec<u8>,
    checksum: bool,
    /// A reset counts as the end of the stream.
    pub may_be_reset: bool,
}

/// A control frame that came.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub kind: FrameType,
    pub seq: u32,
    pub payload: Vec<u8>,
}

/// A message that came.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    pub kind: MessageType,
    pub body: Vec<u8>,
}

impl Heard {
    pub fn message(&self) -> Message<'_> {
        Message::parse(self.kind, &self.body).unwrap()
    }

    /// A response's id, and its payload or the code it failed with.
    pub fn response(&self) -> (u32, Result<Vec<u8>, Code>) {
        let Message::Envelope(MessageType::Response, envelope) = self.message() else {
            panic!("no RESPONSE: {:?}", self.message());
        };
        let payload = envelope.payload;
        let result = match envelope.failed() {
            false => Ok(payload.to_vec()),
            true => Err(Code::from_wire(u16::from_be_bytes([
                payload[0], payload[1],
            ]))),
        };
        (envelope.id, result)
    }
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Wire {
        Wire::of(Stream::connect(address, None))
    }

    pub fn of(stream: impl Into<Stream>) -> Wire {
        let stream = stream.into();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Wire {
            stream,
            received: Vec::new(),
            checksum: false,
            may_be_reset: false,
        }
    }

    pub fn greet(address: SocketAddr) -> Wire {
        Wire::greet_with(address, &Options::default()).0
    }

    /// Shakes hands; also the SYN-ACK's options, as bytes.
    pub fn greet_with(address: SocketAddr, asked: &Options<'_>) -> (Wire, Vec<u8>) {
        let mut wire = Wire::connect(address);
        let options = wire.shake(asked);
        (wire, options)
    }

    /// The handshake on a fresh connection.
    pub fn shake(&mut self, asked: &Options<'_>) -> Vec<u8> {
        self.send(&syn(asked));
        let acknowledged = self.syn_ack();
        self.send(&acknowledged.ack);
        self.checksum = acknowledged.checksum;
        acknowledged.options
    }

    /// Reads the SYN-ACK.
    pub fn syn_ack(&mut self) -> SynAck {
        let told = self.frame().expect("a SYN-ACK, not the end");
        assert_eq!(told.kind, FrameType::SynAck, "{told:?}");
        let (acknowledgement, options) = told.payload.split_first_chunk().unwrap();
        assert_eq!(u32::from_be_bytes(*acknowledgement), SEQ.wrapping_add(1));
        let features = Options::parse(options).unwrap().features;
        SynAck {
            ack: ack(SEQ.wrapping_add(1), told.seq.wrapping_add(1)),
            seq: told.seq,
            checksum: features == Some(1),
            options: options.to_vec(),
        }
    }

    /// Messages from here on end in a CRC, or do not.
    pub fn set_checksum(&mut self, checksum: bool) {
        self.checksum = checksum;
    }

    // ---- sending ----

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends to a peer that may have ended the connection already.
    pub fn send_anyway(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub fn say(&mut self, message: &Message<'_>) {
        let bytes = encode(message, self.checksum);
        self.send(&bytes);
    }

    pub fn ask(&mut self, id: u32, service: &str, payload: &[u8]) {
        let bytes = request_bytes(id, service, payload, self.checksum);
        self.send(&bytes);
    }

    pub fn shut(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    // ---- receiving ----

    /// The next control frame; `None` at the end of the stream.
    pub fn frame(&mut self) -> Option<Told> {
        loop {
            if let Parsed::Whole { used, value } = Frame::parse(&self.received).unwrap() {
                let told = Told {
                    kind: value.kind,
                    seq: value.seq,
                    payload: value.payload.to_vec(),
                };
                self.received.drain(..used);
                return Some(told);
            }
            if !self.receive() {
                return None;
            }
        }
    }

    /// The next message; `None` at the end of the stream.
    pub fn message(&mut self) -> Option<Heard> {
        loop {
            let header = Header::parse(&self.received, u32::MAX).unwrap();
            if let Some(header) = header
                && let Some(message) = self.received.get(..header.message_bytes())
            {
                let heard = Heard {
                    kind: header.kind,
                    body: open(message, self.checksum).unwrap().to_vec(),
                };
                self.received.drain(..header.message_bytes());
                return Some(heard);
            }
            if !self.receive() {
                return None;
            }
        }
    }

    /// More bytes; false at the end of the stream. A reset is a failure: whoever ends a
    /// connection sees to it that the reason arrives.
    fn receive(&mut self) -> bool {
        let mut chunk = [0; 65_536];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    assert!(self.received.is_empty(), "ended in the middle of a message");
                    return false;
                }
                Ok(count) => {
                    self.received.extend_from_slice(&chunk[..count]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset && self.may_be_reset => {
                    return false;
                }
                Err(error) => panic!("neither bytes nor the end came: {error}"),
            }
        }
    }

    pub fn response(&mut self) -> (u32, Result<Vec<u8>, Code>) {
        self.message().expect("a RESPONSE, not the end").response()
    }

    /// Asks and waits for the answer.
    pub fn request(&mut self, service: &str, payload: &[u8]) -> Result<Vec<u8>, Code> {
        self.ask(7, service, payload);
        let (id, result) = self.response();
        assert_eq!(id, 7);
        result
    }

    /// The connection serves.
    pub fn echoes(&mut self) {
        assert_eq!(
            self.request("$sys/echo", b"still there").unwrap(),
            b"still there"
        );
    }

    /// A PING is answered.
    pub fn pings(&mut self) {
        self.say(&Message::Ping(b"there?"));
        let heard = self.message().expect("a PONG, not the end");
        assert_eq!(heard.message(), Message::Pong(b"there?"));
    }

    /// RST with `code`, then the end.
    pub fn expect_rst(&mut self, code: Code) -> Told {
        let told = self.frame().expect("an RST, not the end");
        assert_eq!(told.kind, FrameType::Rst, "{told:?}");
        let found = Code::from_wire(u16::from_be_bytes([told.payload[0], told.payload[1]]));
        assert_eq!(found, code, "{told:?}");
        assert!(told.payload.len() > 2, "an RST says why");
        self.expect_end();
        told
    }

    /// A fatal ERROR with `code`, then the end.
    pub fn expect_fatal(&mut self, code: Code) {
        let heard = self.message().expect("an ERROR, not the end");
        let Message::Error {
            code: found,
            fatal,
            text,
            ..
        } = heard.message()
        else {
            panic!("no ERROR: {heard:?}");
        };
        assert_eq!((found, fatal), (code, true), "{text}");
        self.expect_end();
    }

    pub fn expect_end(&mut self) {
        let more = !self.received.is_empty() || self.receive();
        assert!(!more, "more came: {:?}", self.received);
    }

    /// Ends in order: CLOSE, and the server's CLOSE.
    pub fn close(mut self) {
        self.say(&Message::Close {
            code: Code::Normal,
            reason: "",
        });
        let heard = self.message().expect("a CLOSE, not the end");
        assert_eq!(heard.kind, MessageType::Close, "{heard:?}");
        self.expect_end();
    }
}

pub struct SynAck {
    /// The ACK that answers it.
    pub ack: Vec<u8>,
    pub seq: u32,
    pub checksum: bool,
    pub options: Vec<u8>,
}

pub fn frame(kind: FrameType, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame { kind, seq, payload }.encode(&mut bytes);
    bytes
}

pub fn syn(options: &Options<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    options.encode(&mut payload);
    frame(FrameType::Syn, SEQ, &payload)
}

pub fn ack(seq: u32, acknowledgement: u32) -> Vec<u8> {
    frame(FrameType::Ack, seq, &acknowledgement.to_be_bytes())
}

pub fn encode(message: &Message<'_>, checksum: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(checksum, &mut bytes);
    bytes
}

pub fn envelope_bytes(kind: MessageType, id: u32, name: &str, payload: &[u8]) -> Vec<u8> {
    let envelope = Envelope {
        id,
        name,
        payload,
        ..Envelope::default()
    };
    encode(&Message::Envelope(kind, envelope), false)
}

pub fn request_bytes(id: u32, service: &str, payload: &[u8], checksum: bool) -> Vec<u8> {
    let envelope = Envelope {
        id,
        name: service,
        payload,
        codec: Codec::Bytes,
        headers: Headers::default(),
        flags: 0,
    };
    encode(&Message::Envelope(MessageType::Request, envelope), checksum)
}
