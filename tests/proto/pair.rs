//! The test bench: one end of a connection as an owner would drive it, and two ends joined
//! by a wire with latency and splits under a virtual clock, all from one seed.
//!
//! An [`End`] also holds every session to its contract: nothing is written after the end,
//! exactly one event says it is over, and hearing something never moves a deadline earlier.

use ringmail::base::clock::Instant;
use ringmail::base::reason::Reason;
use ringmail::proto::error::Code;
use ringmail::proto::frame::{Frame, FrameType};
use ringmail::proto::message::Message;
use ringmail::proto::option::{FEATURE_CHECKSUM, Options};
use ringmail::proto::reassembly::Reassembly;
use ringmail::proto::session::{Event, Session, Settings, Step};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub const SERVER_SEQ: u32 = 0xFFFF_FFFF;
pub const CLIENT_SEQ: u32 = 0x0102_0304;

pub fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A time at which the process has run for a while.
pub fn start() -> Instant {
    Instant::ZERO + Duration::from_secs(86_400)
}

pub fn settings() -> Settings {
    Settings {
        message_bytes_max: 1 << 20,
        handshake_timeout: ms(2_000),
        frame_timeout: ms(10_000),
        heartbeat_interval: ms(30_000),
        heartbeat_timeout: ms(90_000),
        auth_methods: 0,
        auth_timeout: ms(5_000),
        product: "ringmail/0.1.0".to_owned(),
        shard: 1,
    }
}

/// What an owner saw, kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Established,
    /// The message's bytes, encoded again without CHECKSUM.
    Message(Vec<u8>),
    PeerClosed(Code, String),
    Refused(Code, String),
    Ended(Reason),
}

/// A session with its reassembly, driven like an owner drives it.
pub struct End {
    pub session: Session,
    pub input: Reassembly,
    pub out: Vec<u8>,
    pub seen: Vec<Seen>,
    /// The owner's timer: moved when it fires, and when the session asks for an earlier one.
    pub armed: Instant,
    /// Leave the answer to a CLOSE to the test.
    pub slow_to_finish: bool,
}

impl End {
    pub fn new(session: Session) -> End {
        let armed = session.timeout();
        End {
            session,
            input: Reassembly::default(),
            out: Vec::new(),
            seen: Vec::new(),
            armed,
            slow_to_finish: false,
        }
    }

    pub fn server(settings: Settings) -> End {
        End::new(Session::accept(Arc::new(settings), SERVER_SEQ, start()))
    }

    pub fn client(settings: Settings, hello: &Options<'_>) -> End {
        let mut out = Vec::new();
        let session = Session::connect(Arc::new(settings), hello, CLIENT_SEQ, start(), &mut out);
        End {
            out,
            ..End::new(session)
        }
    }

    /// A server that has shaken hands at `start()`, its output and events taken away.
    pub fn open_server(settings: Settings, checksum: bool) -> End {
        let mut end = End::server(settings);
        end.receive(&syn(checksum), start());
        end.receive(&ack(), start());
        assert_eq!(end.seen, [Seen::Established]);
        end.forget();
        end
    }

    /// A client that has shaken hands at `start()`, its output and events taken away.
    pub fn open_client(settings: Settings, checksum: bool) -> End {
        let mut end = End::client(settings, &Options::default());
        end.receive(&syn_ack(checksum), start());
        assert_eq!(end.seen, [Seen::Established]);
        end.forget();
        end
    }

    pub fn forget(&mut self) {
        self.out.clear();
        self.seen.clear();
    }

    /// What was seen but for PONGs, which a client is handed for each PING, its session's
    /// own among them.
    pub fn seen_but_pongs(&self) -> Vec<Seen> {
        let is_pong = |seen: &Seen| matches!(seen, Seen::Message(bytes) if bytes[3] == 2);
        let others = self.seen.iter().filter(|seen| !is_pong(seen));
        others.cloned().collect()
    }

    /// The owner's loop, as the head of `reassembly` shows it.
    pub fn receive(&mut self, mut bytes: &[u8], now: Instant) {
        let before = self.session.timeout();
        let was_established = self.session.is_established();
        loop {
            let ended = self.session.is_ended();
            let written = self.out.len();
            let step = self
                .session
                .handle(self.input.view(bytes), now, &mut self.out);
            match step {
                Step::Taken { used, event } => {
                    assert!(used > 0, "a step that takes nothing would never end");
                    let seen = see(&event);
                    let closing = matches!(event, Event::PeerClosed { .. });
                    self.input.consume(used, &mut bytes);
                    if ended {
                        assert_eq!((self.out.len(), &seen), (written, &None));
                    }
                    self.seen.extend(seen);
                    if closing && !self.slow_to_finish {
                        self.session.finish(&mut self.out);
                    }
                }
                Step::Incomplete { need } => {
                    assert!(need > self.input.view(bytes).len());
                    if !self.input.fill(need, &mut bytes) {
                        break;
                    }
                }
            }
        }
        assert!(bytes.is_empty());
        let after = self.session.timeout();
        let hastened = self.session.is_established() != was_established || !self.input.is_empty();
        assert!(after >= before || hastened, "{after:?} before {before:?}");
        self.armed = self.armed.min(after);
        self.check_one_end();
    }

    /// Acts on the owner's timer when it is due.
    pub fn tick(&mut self, now: Instant) {
        if now < self.armed {
            return;
        }
        if self.session.timeout() <= now {
            let event = self.session.handle_timeout(now, &mut self.out);
            self.seen.extend(see(&event));
        }
        self.armed = self.session.timeout();
        assert!(self.armed > now, "a timer that is always due");
        self.check_one_end();
    }

    /// Lets time pass from one timer to the next up to `until`, hearing nothing.
    pub fn silence(&mut self, until: Instant) {
        while self.armed <= until {
            self.tick(self.armed);
        }
    }

    fn check_one_end(&self) {
        let ends = |seen: &&Seen| matches!(seen, Seen::Ended(_) | Seen::Refused(..));
        let count = self.seen.iter().filter(ends).count();
        assert!(count <= 1, "ended more than once: {:?}", self.seen);
        assert!(count == 0 || self.session.is_ended());
    }
}

pub fn see(event: &Event<'_>) -> Option<Seen> {
    Some(match event {
        Event::Handled => return None,
        Event::Established(_) => Seen::Established,
        Event::Message(message) => Seen::Message(encoded(message, false)),
        Event::PeerClosed { code, reason } => Seen::PeerClosed(*code, (*reason).to_owned()),
        Event::Refused { code, reason } => Seen::Refused(*code, reason.clone()),
        Event::Ended(reason) => Seen::Ended(*reason),
    })
}

pub fn encoded(message: &Message<'_>, checksum: bool) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(checksum, &mut out);
    out
}

pub fn frame(kind: FrameType, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Frame { kind, seq, payload }.encode(&mut out);
    out
}

pub fn options(options: &Options<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    options.encode(&mut out);
    out
}

pub fn syn(checksum: bool) -> Vec<u8> {
    let asked = Options {
        features: checksum.then_some(FEATURE_CHECKSUM),
        ..Options::default()
    };
    frame(FrameType::Syn, CLIENT_SEQ, &options(&asked))
}

/// The ACK that answers `SERVER_SEQ`.
pub fn ack() -> Vec<u8> {
    let acknowledgement = SERVER_SEQ.wrapping_add(1).to_be_bytes();
    frame(FrameType::Ack, CLIENT_SEQ.wrapping_add(1), &acknowledgement)
}

pub fn syn_ack(checksum: bool) -> Vec<u8> {
    let mut payload = CLIENT_SEQ.wrapping_add(1).to_be_bytes().to_vec();
    let granted = Options {
        features: Some(u32::from(checksum)),
        ..Options::default()
    };
    payload.extend(options(&granted));
    frame(FrameType::SynAck, SERVER_SEQ, &payload)
}

/// A message with any header and body, right or wrong, without CRC.
pub fn raw(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![b'M', b'C', 1, kind];
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The messages in a stream of output: kind byte and body, CRC checked and taken off.
pub fn messages(mut bytes: &[u8], checksum: bool) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
        assert_eq!(&header[..3], b"MC\x01");
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let (mut body, rest) = rest.split_at(length);
        if checksum {
            let whole = &bytes[..8 + length - 4];
            assert_eq!(body[length - 4..], crc32fast::hash(whole).to_be_bytes());
            body = &body[..length - 4];
        }
        all.push((header[3], body.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a message was written");
    all
}

/// The one RST that `bytes` are: its Seq and code.
pub fn rst(bytes: &[u8]) -> (u32, u16) {
    assert_eq!((&bytes[..2], bytes[2]), (&b"MC"[..], 4));
    let mut zeroed = bytes.to_vec();
    zeroed[9..13].fill(0);
    assert_eq!(bytes[9..13], crc32fast::hash(&zeroed).to_be_bytes());
    let length = usize::from(u16::from_be_bytes([bytes[7], bytes[8]]));
    assert_eq!(bytes.len(), 13 + length);
    assert!(std::str::from_utf8(&bytes[15..]).is_ok_and(|reason| !reason.is_empty()));
    let seq = u32::from_be_bytes([bytes[3], bytes[4], bytes[5], bytes[6]]);
    (seq, u16::from_be_bytes([bytes[13], bytes[14]]))
}

/// The one fatal ERROR that `bytes` are: its code.
pub fn fatal(bytes: &[u8], checksum: bool) -> u16 {
    let all = messages(bytes, checksum);
    assert_eq!(all.len(), 1, "{all:?}");
    let (kind, body) = &all[0];
    assert_eq!(*kind, 4, "an ERROR");
    assert_eq!(body[2..7], [0, 0, 0, 0, 1], "of no operation, and fatal");
    u16::from_be_bytes([body[0], body[1]])
}

/// Two ends and the wire between them.
pub struct Pair {
    pub client: End,
    pub server: End,
    pub now: Instant,
    random: fastrand::Rng,
    latency_max_ms: u64,
    to_server: VecDeque<(Instant, Vec<u8>)>,
    to_client: VecDeque<(Instant, Vec<u8>)>,
    /// Nothing arrives any more in either direction.
    pub cut: bool,
}

impl Pair {
    pub fn new(seed: u64, server: Settings, client: Settings, hello: &Options<'_>) -> Pair {
        let mut random = fastrand::Rng::with_seed(seed);
        let latency_max_ms = random.u64(0..50);
        Pair {
            client: End::client(client, hello),
            server: End::server(server),
            now: start(),
            random,
            latency_max_ms,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            cut: false,
        }
    }

    /// Runs until `until`, or until nothing more can happen.
    pub fn run(&mut self, until: Instant) {
        loop {
            self.flush();
            let arrival = |wire: &VecDeque<(Instant, Vec<u8>)>| {
                wire.front().map_or(Instant::NEVER, |(at, _)| *at)
            };
            let next = arrival(&self.to_server)
                .min(arrival(&self.to_client))
                .min(self.client.armed)
                .min(self.server.armed);
            if next > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            let now = self.now;
            for (wire, end) in [
                (&mut self.to_server, &mut self.server),
                (&mut self.to_client, &mut self.client),
            ] {
                let due = wire.iter().take_while(|(at, _)| *at <= now).count();
                for (_, bytes) in wire.drain(..due) {
                    end.receive(&bytes, now);
                }
            }
            self.client.tick(now);
            self.server.tick(now);
        }
    }

    /// Puts what both have written onto the wire, cut into pieces that arrive in order.
    fn flush(&mut self) {
        for (end, wire) in [
            (&mut self.client, &mut self.to_server),
            (&mut self.server, &mut self.to_client),
        ] {
            let bytes = std::mem::take(&mut end.out);
            let mut rest = &bytes[..];
            while !rest.is_empty() && !self.cut {
                let (piece, after) = rest.split_at(self.random.usize(1..=rest.len()));
                rest = after;
                let at = self.now + ms(self.random.u64(0..=self.latency_max_ms));
                let at = wire.back().map_or(at, |(last, _)| at.max(*last));
                wire.push_back((at, piece.to_vec()));
            }
        }
    }
}
