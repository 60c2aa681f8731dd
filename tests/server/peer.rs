//! A client of the message phase, written from PROTOCOL.md by hand: it shares no encoder and
//! no parser with the crate, so it shares none of its misreadings. It reads what comes in the
//! order it comes and fails, saying so, when something does not come within `PATIENCE`.
//!
//! Messages of type 0x10 and more that come while an answer is awaited are kept, in order, and
//! read first by whoever asks for them next. `counted` is the session's running count.

pub use crate::operation::*;
use crate::stream::Stream;
use crate::wire::PATIENCE;
use rustls::ClientConfig;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What SESSION_OK says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOk {
    pub key: [u8; 16],
    pub resumed: bool,
    pub last_publish_id: u32,
}

/// What AUTH_OK says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthOk {
    pub expires_in_s: u32,
    pub principal: String,
    pub access_token: String,
    pub refresh_token: String,
}

/// How a peer connects.
#[derive(Clone, Copy, Default)]
pub struct Manner {
    pub checksum: bool,
    /// SO_RCVBUF, so that little hides in the kernel of a peer that does not read.
    pub receive_bytes: Option<usize>,
    /// MESSAGE_MAX: the largest payload it accepts.
    pub message_max: Option<u32>,
    /// CODEC: what it prefers to receive.
    pub codec: Option<u8>,
}

impl Manner {
    pub const SUMMED: Manner = Manner {
        checksum: true,
        receive_bytes: None,
        message_max: None,
        codec: None,
    };
    pub const NARROW: Manner = Manner {
        checksum: false,
        receive_bytes: Some(4096),
        message_max: None,
        codec: None,
    };
}

pub struct Peer {
    pub stream: Stream,
    pub shard: u16,
    /// Counted messages of the session taken so far.
    pub counted: u32,
    checksum: bool,
    received: Vec<u8>,
    kept: VecDeque<Got>,
    ids: u32,
}

impl Peer {
    /// Connects and shakes hands; with TLS, if settings for it are given.
    pub fn join(address: SocketAddr, manner: Manner, tls: Option<&Arc<ClientConfig>>) -> Peer {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        if let Some(bytes) = manner.receive_bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        socket.connect(&address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Peer {
            stream: Stream::over(stream, tls),
            shard: 0,
            counted: 0,
            checksum: manner.checksum,
            received: Vec::new(),
            kept: VecDeque::new(),
            ids: 0,
        };
        peer.shake(manner);
        peer
    }

    fn shake(&mut self, manner: Manner) {
        const SEQ: u32 = 0x1234_5678;
        let mut options = vec![3, 4, 0, 0, 0, u8::from(manner.checksum)];
        if let Some(bytes) = manner.message_max {
            options.extend([2, 4]);
            options.extend(bytes.to_be_bytes());
        }
        if let Some(codec) = manner.codec {
            options.extend([5, 1, codec]);
        }
        self.write(&control_frame(1, SEQ, &options));
        let header = self.take(13).expect("a SYN-ACK, not the end");
        let length = usize::from(u16::from_be_bytes([header[7], header[8]]));
        let payload = self.take(length).unwrap();
        assert_eq!(header[..3], *b"MC\x02", "no SYN-ACK: {payload:?}");
        assert_eq!(payload[..4], (SEQ + 1).to_be_bytes());
        let mut rest = &payload[4..];
        while let [kind, length, after @ ..] = rest {
            let (value, after) = after.split_at(usize::from(*length));
            match kind {
                3 => assert_eq!(value, [0, 0, 0, u8::from(manner.checksum)], "FEATURES"),
                5 => assert_eq!(Some(value[0]), manner.codec, "CODEC"),
                8 => self.shard = u16::from_be_bytes(value.try_into().unwrap()),
                _ => {}
            }
            rest = after;
        }
        let theirs = u32::from_be_bytes(header[3..7].try_into().unwrap());
        let acknowledgement = theirs.wrapping_add(1).to_be_bytes();
        self.write(&control_frame(3, SEQ + 1, &acknowledgement));
    }

    // ---- sending ----

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// A message as this peer frames it.
    pub fn framed(&self, kind: u8, body: &[u8]) -> Vec<u8> {
        let length = body.len() + if self.checksum { 4 } else { 0 };
        let mut bytes = vec![b'M', b'C', 1, kind];
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes.extend(body);
        if self.checksum {
            bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        }
        bytes
    }

    pub fn send(&mut self, kind: u8, body: &[u8]) {
        let bytes = self.framed(kind, body);
        self.write(&bytes);
    }

    fn next_id(&mut self) -> u32 {
        self.ids += 1;
        self.ids
    }

    /// Sends an operation; the id it got.
    pub fn start(&mut self, op: &Op) -> u32 {
        let id = op.id.unwrap_or_else(|| self.next_id());
        self.send(op.kind, &op.clone().id(id).body());
        id
    }

    /// Sends many operations in one piece; the ids they got.
    pub fn start_all(&mut self, ops: &[Op]) -> Vec<u32> {
        let mut bytes = Vec::new();
        let ids = ops.iter().map(|op| {
            let id = op.id.unwrap_or_else(|| self.next_id());
            bytes.extend(self.framed(op.kind, &op.clone().id(id).body()));
            id
        });
        let ids = ids.collect();
        self.write(&bytes);
        ids
    }

    /// An operation that must be done: OK with its id.
    #[track_caller]
    pub fn ok(&mut self, op: &Op) -> u32 {
        let id = self.start(op);
        let name = String::from_utf8_lossy(&op.name).into_owned();
        assert_eq!(self.answer(), (id, Ok(())), "{:#04x} {name:?}", op.kind);
        id
    }

    /// An operation that must be refused, without ending the connection; the code.
    #[track_caller]
    pub fn refused(&mut self, op: &Op) -> u16 {
        let id = self.start(op);
        let name = String::from_utf8_lossy(&op.name).into_owned();
        match self.answer() {
            (found, Err(code)) if found == id => code,
            other => panic!("{:#04x} {name:?}: no ERROR({id}) but {other:?}", op.kind),
        }
    }

    /// Publishes, confirmed.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.ok(&publish(topic, payload));
    }

    #[track_caller]
    pub fn subscribe(&mut self, filter: &str) {
        self.ok(&subscribe(filter));
    }

    #[track_caller]
    pub fn serve(&mut self, service: &str) {
        self.ok(&op(SERVE, service));
    }

    /// Answers a REQUEST that came.
    pub fn respond(&mut self, request: &Got, payload: impl AsRef<[u8]>) {
        self.start(&op(RESPONSE, "").id(request.id()).payload(payload));
    }

    pub fn ack(&mut self) {
        let counted = self.counted.to_be_bytes();
        self.send(ACK, &counted);
    }

    // ---- receiving ----

    /// The next message in the order it came, whatever it is; `None` at the end of the stream.
    pub fn read(&mut self) -> Option<Got> {
        let header = self.take(8)?;
        assert_eq!(header[..3], *b"MC\x01", "no message: {header:?}");
        let length = u32::from_be_bytes(header[4..8].try_into().unwrap());
        let length = usize::try_from(length).unwrap();
        let mut body = self.take(length).expect("the rest of a message");
        if self.checksum {
            let crc = body.split_off(body.len() - 4);
            let mut whole = header.clone();
            whole.extend(&body);
            assert_eq!(crc32fast::hash(&whole).to_be_bytes()[..], crc, "CRC");
        }
        let kind = header[3];
        self.counted = self.counted.wrapping_add(u32::from(kind >= 0x10));
        Some(Got { kind, body })
    }

    /// The next message but for PINGs, which are answered.
    #[track_caller]
    fn must_read(&mut self) -> Got {
        loop {
            let got = self.read().expect("a message, not the end of the stream");
            if got.kind != PING {
                return got;
            }
            self.send(PONG, &got.body);
        }
    }

    /// `count` bytes; `None` at the end of the stream.
    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.received.len() < count {
            if !self.receive() {
                assert!(self.received.is_empty(), "ended in the middle of a message");
                return None;
            }
        }
        let rest = self.received.split_off(count);
        Some(std::mem::replace(&mut self.received, rest))
    }

    fn receive(&mut self) -> bool {
        let mut chunk = [0; 65_536];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(count) => {
                    self.received.extend_from_slice(&chunk[..count]);
                    return count > 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("neither bytes nor the end came: {error}"),
            }
        }
    }

    /// The next message of type 0x10 or more.
    #[track_caller]
    pub fn next(&mut self) -> Got {
        if let Some(got) = self.kept.pop_front() {
            return got;
        }
        let got = self.must_read();
        assert!(got.kind >= 0x10, "no envelope: {got:?}");
        got
    }

    /// The next message, which must be a PUBLISH.
    #[track_caller]
    pub fn published(&mut self) -> Got {
        let got = self.next();
        assert_eq!(got.kind, PUBLISH, "{got:?}");
        got
    }

    /// The next message, which must be a REQUEST.
    #[track_caller]
    pub fn requested(&mut self) -> Got {
        let got = self.next();
        assert_eq!(got.kind, REQUEST, "{got:?}");
        got
    }

    /// The next message, which must be the RESPONSE to `id`: its payload or code.
    #[track_caller]
    pub fn responded(&mut self, id: u32) -> Result<Vec<u8>, u16> {
        let got = self.next();
        let result = got.result().map(<[u8]>::to_vec);
        assert_eq!(got.id(), id, "{got:?}");
        result
    }

    /// The next OK or ERROR: id and code. A fatal ERROR fails.
    #[track_caller]
    pub fn answer(&mut self) -> (u32, Result<(), u16>) {
        loop {
            let got = self.must_read();
            match got.kind {
                OK => return (got.u32(0), Ok(())),
                ERROR => {
                    let text = String::from_utf8_lossy(&got.body[7..]);
                    assert_eq!(got.body[6], 0, "fatal {:#06x}: {text}", got.u16(0));
                    return (got.u32(2), Err(got.u16(0)));
                }
                0x10.. => self.kept.push_back(got),
                _ => panic!("neither OK nor ERROR: {got:?}"),
            }
        }
    }

    /// Everything queued for this peer by now: what comes before the answer to a PING.
    #[track_caller]
    pub fn drain(&mut self) -> Vec<Got> {
        self.send(PING, b"all of it");
        loop {
            let got = self.must_read();
            match got.kind {
                PONG => return self.kept.drain(..).collect(),
                0x10.. => self.kept.push_back(got),
                _ => panic!("neither a message nor PONG: {got:?}"),
            }
        }
    }

    /// Nothing is queued for this peer.
    #[track_caller]
    pub fn quiet(&mut self) {
        let queued = self.drain();
        assert!(queued.is_empty(), "unasked for: {queued:?}");
    }

    /// What has come or comes within `time`: one more message of type 0x10 or more, or none.
    pub fn glance(&mut self, time: Duration) -> Option<Got> {
        let bytes = self.received.len();
        if self.kept.is_empty() && bytes == 0 {
            self.stream.set_read_timeout(Some(time)).unwrap();
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
            if !peeked.is_ok_and(|count| count > 0) {
                return None;
            }
        }
        Some(self.next())
    }

    /// A fatal ERROR with `code`, then the end. What was queued before is dropped, and PINGs
    /// stay unanswered.
    #[track_caller]
    pub fn fatal(&mut self, code: u16) {
        loop {
            let got = self.read().expect("an ERROR, not the end of the stream");
            match got.kind {
                ERROR if got.body[6] == 1 => {
                    assert_eq!(got.u16(0), code, "{got:?}");
                    break;
                }
                PING | 0x10.. => {}
                _ => panic!("no fatal ERROR: {got:?}"),
            }
        }
        self.ended();
    }

    /// The end of the stream.
    #[track_caller]
    pub fn ended(&mut self) {
        let more = self.read();
        assert_eq!(more, None, "more came");
    }

    // ---- authentication ----

    pub fn start_auth(&mut self, method: u8, credential: &str) {
        let mut body = vec![method];
        body.extend(credential.as_bytes());
        self.send(AUTH, &body);
    }

    /// Shows a credential that is good.
    #[track_caller]
    pub fn auth(&mut self, method: u8, credential: &str) -> AuthOk {
        self.start_auth(method, credential);
        let got = self.must_read();
        assert_eq!(got.kind, AUTH_OK, "{got:?}");
        let (length, rest) = (usize::from(got.body[4]), &got.body[5..]);
        let (principal, rest) = rest.split_at(length);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let long = |bytes: &[u8]| {
            let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
            (text(&bytes[2..2 + length]), bytes[2 + length..].to_vec())
        };
        let (access_token, rest) = long(rest);
        let (refresh_token, rest) = long(&rest);
        assert!(rest.is_empty(), "{got:?}");
        AuthOk {
            expires_in_s: got.u32(0),
            principal: text(principal),
            access_token,
            refresh_token,
        }
    }

    // ---- sessions ----

    /// Asks for the session `key`, of which `received` messages were taken.
    #[track_caller]
    pub fn session(&mut self, key: [u8; 16], received: u32) -> Result<SessionOk, u16> {
        self.start_session(key, received);
        let got = self.must_read();
        match got.kind {
            ERROR => {
                assert_eq!(got.body[6], 0, "fatal: {got:?}");
                Err(got.u16(0))
            }
            SESSION_OK => {
                // What is sent again comes behind this, and counts from there.
                self.counted = received;
                Ok(SessionOk {
                    key: got.body[..16].try_into().unwrap(),
                    resumed: got.body[16] == 1,
                    last_publish_id: got.u32(17),
                })
            }
            _ => panic!("neither SESSION_OK nor ERROR: {got:?}"),
        }
    }

    pub fn start_session(&mut self, key: [u8; 16], received: u32) {
        let mut body = key.to_vec();
        body.extend(received.to_be_bytes());
        self.send(SESSION, &body);
    }

    /// A new session; its key.
    #[track_caller]
    pub fn new_session(&mut self) -> [u8; 16] {
        let granted = self.session([0; 16], 0).expect("a new session");
        assert!(!granted.resumed);
        granted.key
    }

    // ---- ends ----

    /// Ends in order: CLOSE, and the server's CLOSE. What was queued before is dropped.
    #[track_caller]
    pub fn close(mut self) {
        self.send(CLOSE, &[0, 0]);
        self.closed();
    }

    /// The server's CLOSE, and the end. What was queued before is dropped.
    #[track_caller]
    pub fn closed(mut self) {
        loop {
            let got = self.must_read();
            match got.kind {
                CLOSE => return self.ended(),
                OK | 0x10.. => {}
                _ => panic!("no CLOSE: {got:?}"),
            }
        }
    }

    /// Ends this side: FIN.
    pub fn shut(&self) {
        // The server may have ended the connection meanwhile.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends without CLOSE: FIN. Returns when the server has seen it and ended its side.
    pub fn cut(mut self) {
        self.shut();
        let end = Instant::now() + PATIENCE;
        let mut chunk = [0; 65_536];
        while self.stream.read(&mut chunk).is_ok_and(|count| count > 0) {
            assert!(Instant::now() < end, "the server does not end its side");
        }
    }

    /// Ends without CLOSE: RST.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// A frame of the link phase.
pub fn control_frame(kind: u8, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![b'M', b'C', kind];
    bytes.extend(seq.to_be_bytes());
    bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    let crc = crc32fast::hash(&bytes);
    bytes[9..13].copy_from_slice(&crc.to_be_bytes());
    bytes
}
