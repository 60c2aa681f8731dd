//! The client's conversation with a server that says anything, breaks off and comes back, while
//! callers ask, take, answer and give up.
//!
//! All it writes is right and a client's to send; nobody's call is answered twice; what waits to
//! be taken is bounded; it always knows when to go on, or is over and says why. Each mailbox has
//! what the server said for it, once and in order, whatever is said besides, and nothing is
//! acknowledged before it is taken; a PUBLISH is repeated only in a session.

mod said;

use super::{Draw, speech};
use crate::pair::{encoded, start};
use ringmail::base::clock::Instant;
use ringmail::client::harness::{Harness, SEQ, Wish};
use ringmail::proto::envelope::Envelope;
use ringmail::proto::frame::{Frame, FrameType, Parsed};
use ringmail::proto::message::{Header, Message, MessageType, open};
use said::Said;
use std::collections::VecDeque;
use std::time::Duration;

const STEPS_MAX: usize = 300;
const INBOX_BYTES_MAX: usize = 4 << 10;
/// Beyond the inbox's bound: what one receive brings, and what an entry costs besides.
const ONE_RECEIVE_BYTES: usize = 64 << 10;
const TOPICS: &[&str] = &["a", "a/b", "b", "c", "$sys/x"];
const FILTERS: &[&str] = &["a", "a/b", "a/#", "+/b", "#", "b", "$sys/x", "", "a/#/b"];

/// The bytes of one of its connections, as the server reads them.
#[derive(Default)]
struct Reader {
    connection: usize,
    /// A connection's first frame is a SYN.
    has_begun: bool,
    is_open: bool,
    /// The last PUBLISH of this connection; without a session, of all of them.
    published: Option<u32>,
    /// The id that PUBLISH had.
    published_id: u32,
    /// What a server answers to all that it was asked on this connection.
    owed: VecDeque<Vec<u8>>,
}

impl Reader {
    fn read(&mut self, client: &mut Harness, said: &mut Said, has_session: bool) {
        if client.connections() != self.connection {
            *self = Reader {
                connection: client.connections(),
                published: self.published.filter(|_| !has_session),
                published_id: self.published_id,
                ..Reader::default()
            };
        }
        let checksum = client.has_checksum();
        let written = client.take_written();
        let mut bytes = &written[..];
        while !bytes.is_empty() {
            if !self.has_begun || !self.is_open {
                let Ok(Parsed::Whole { used, value }) = Frame::parse(bytes) else {
                    panic!("no frame: {bytes:?}");
                };
                let is_first = !std::mem::replace(&mut self.has_begun, true);
                assert_eq!(value.kind == FrameType::Syn, is_first);
                self.is_open = value.kind == FrameType::Ack;
                bytes = &bytes[used..];
                continue;
            }
            let header = Header::parse(bytes, u32::MAX).expect("a header");
            let header = header.expect("a whole header");
            let (message, rest) = bytes.split_at(header.message_bytes());
            assert!(header.kind.from_client(), "{:?}", header.kind);
            let body = open(message, checksum).expect("its CRC");
            let message = Message::parse(header.kind, body).expect("what a client writes");
            let answer = self.answer(&message);
            self.owed
                .extend(answer.map(|answer| encoded(&answer, checksum)));
            match message {
                Message::Ack { received } => said.acknowledged(received, client.counted().1),
                Message::Envelope(MessageType::Publish, envelope) => {
                    let number = envelope.payload.try_into().map(u32::from_be_bytes);
                    let number = number.expect("one of ours").into();
                    assert!(number > self.published, "a PUBLISH again, or out of order");
                    self.published = number;
                    self.published_id = envelope.id;
                }
                _ => {}
            }
            bytes = rest;
        }
    }

    /// What a server says to it.
    fn answer<'m>(&self, message: &Message<'m>) -> Option<Message<'m>> {
        Some(match *message {
            Message::Ping(bytes) => Message::Pong(bytes),
            Message::Auth { .. } => Message::AuthOk {
                expires_in_s: 0,
                principal: "p",
                access_token: b"",
                refresh_token: b"",
            },
            Message::Session { key, .. } => Message::SessionOk {
                key: [7; 16],
                resumed: key == [7; 16],
                last_publish_id: self.published_id,
            },
            Message::Envelope(MessageType::Request, envelope) => {
                let answer = Envelope {
                    id: envelope.id,
                    payload: envelope.payload,
                    ..Envelope::default()
                };
                Message::Envelope(MessageType::Response, answer)
            }
            Message::Envelope(MessageType::Response, _) => return None,
            Message::Envelope(_, envelope) if envelope.id != 0 => Message::Ok { id: envelope.id },
            _ => return None,
        })
    }
}

pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let flags = draw.byte();
    let wish = Wish {
        session: flags & 1 != 0,
        checksum: flags & 2 != 0,
        reconnect: flags & 4 != 0,
        credential: flags & 8 != 0,
        inbox_bytes_max: INBOX_BYTES_MAX,
    };
    let mut now = start();
    let mut client = Harness::new(wish, now);
    let (mut reader, mut said) = (Reader::default(), Said::default());
    if flags & 16 == 0 {
        // Mostly a server that begins well.
        let checksum = wish.checksum;
        welcome(&mut client, checksum, draw.byte(), now);
    }
    for _ in 0..STEPS_MAX {
        if draw.is_empty() {
            break;
        }
        step(
            &mut client,
            &mut said,
            &mut reader.owed,
            &mut draw,
            &mut now,
        );
        said.flush(&mut client, now);
        reader.read(&mut client, &mut said, wish.session);
        check(&client);
        if client.is_over() {
            break;
        }
    }
    let has_all = client.is_open() || client.is_over();
    said.take_all(&mut client, has_all);
    assert!(!client.is_paused(), "all is taken, and nothing is read");
    end(client, now);
}

/// The handshake, and what follows it for a client that asks for a session.
fn welcome(client: &mut Harness, checksum: bool, auth: u8, now: Instant) {
    let mut options = vec![3, 4, 0, 0, 0, u8::from(checksum)];
    if auth & 3 == 3 {
        options.extend([7, 1, 1]);
    }
    let payload = [&SEQ.wrapping_add(1).to_be_bytes()[..], &options].concat();
    client.receive(&crate::pair::frame(FrameType::SynAck, 9, &payload), now);
}

fn step(
    client: &mut Harness,
    said: &mut Said,
    owed: &mut VecDeque<Vec<u8>>,
    draw: &mut Draw<'_>,
    now: &mut Instant,
) {
    match draw.byte() & 31 {
        6..=8 => {
            let count = 1 + draw.below(4);
            for answer in owed.drain(..count.min(owed.len())) {
                said.add(client, &answer, *now);
            }
        }
        0..=5 => {
            let seqs = [SEQ.wrapping_add(1), SEQ, 9, 10];
            let mut bytes = Vec::new();
            let count = 1 + draw.below(3);
            for _ in 0..count {
                speech::piece(draw, &seqs, client.has_checksum(), &mut bytes);
            }
            said.add(client, &bytes, *now);
        }
        9..=11 => {
            let (topic, size) = (draw.word(TOPICS), draw.byte());
            for _ in 0..=size & 3 {
                said.publish(client, topic, usize::from(size >> 2) * 32, *now);
            }
        }
        12 => welcome(client, client.has_checksum(), draw.byte(), *now),
        13 => client.lose(*now),
        14 => {
            *now = *now + Duration::from_millis(10 * u64::from(draw.byte()));
            client.tick(*now);
        }
        15 => {
            *now = (*now)
                .max(client.due())
                .min(*now + Duration::from_secs(120));
            client.tick(*now);
        }
        16 | 17 => client.subscribe(draw.word(FILTERS), None),
        18 => client.subscribe(draw.word(FILTERS), Some("g")),
        19 | 20 => client.serve(draw.word(FILTERS)),
        21 => {
            client.leave(draw.below(8));
            said.forget_closed(client);
        }
        22 => client.request("a", draw.piece()),
        23 | 24 => {
            let number = said.next_number().to_be_bytes();
            client.publish("a/b", &number, draw.bool());
        }
        25 => client.ping(),
        26 => client.forget(draw.below(8)),
        27 | 28 => {
            let at = draw.below(8);
            let id = client.mailboxes().nth(at).map(|mailbox| mailbox.id);
            if let Some(id) = id {
                said.take(client, id);
            }
        }
        29 | 30 => {
            let payload = draw.bool().then(|| draw.piece());
            client.answer(payload);
        }
        _ => client.close(*now),
    }
}

fn check(client: &Harness) {
    assert!(client.answers_most() <= 1, "a call was answered twice");
    let most = INBOX_BYTES_MAX + ONE_RECEIVE_BYTES;
    assert!(
        client.inbox_bytes() <= most,
        "{} bytes wait",
        client.inbox_bytes()
    );
    assert_eq!(client.ending().is_some(), client.is_over());
    let waits = client.due() == Instant::NEVER;
    assert!(!waits || client.is_over() || client.is_paused() || client.is_open());
}

/// It is closed, and over in the end, whatever the server does.
fn end(mut client: Harness, mut now: Instant) {
    client.close(now);
    for _ in 0..1000 {
        if client.is_over() {
            break;
        }
        now = now.max(client.due());
        client.tick(now);
        client.take_written();
    }
    assert!(client.is_over(), "closed, and not over");
    check(&client);
}
