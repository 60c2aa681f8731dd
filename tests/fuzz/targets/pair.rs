//! Two sessions and a man in the middle, who delays, cuts, changes and ends what goes by.
//!
//! Nothing changed: both open, and each hears what the other said, in order. With CHECKSUM and
//! bytes changed or lost: what is heard was said, in that order; a message that is lost whole is
//! not missed, and one that the man in the middle makes up is his, CRC and all. In every case
//! each side ends once, for a named reason, whatever the other has come to.

use super::Draw;
use super::session::is_over;
use crate::pair::{End, Seen, encoded, ms, settings, start};
use ringmail::base::clock::Instant;
use ringmail::proto::envelope::Envelope;
use ringmail::proto::error::Code;
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::option::{FEATURE_CHECKSUM, Options};
use std::time::Duration;

const STEPS_MAX: usize = 200;

/// One direction: what was written and has not arrived, and the messages said that way.
#[derive(Default)]
struct Way {
    bytes: Vec<u8>,
    said: Vec<Vec<u8>>,
    /// Something of it was changed.
    is_changed: bool,
    /// There is something that nobody said.
    is_forged: bool,
    /// Nothing arrives any more.
    is_cut: bool,
}

struct Wire {
    ends: [End; 2],
    ways: [Way; 2],
    now: Instant,
}

impl Wire {
    fn new(checksum: bool) -> Wire {
        let hello = Options {
            features: checksum.then_some(FEATURE_CHECKSUM),
            ..Options::default()
        };
        Wire {
            ends: [End::client(settings(), &hello), End::server(settings())],
            ways: [Way::default(), Way::default()],
            now: start(),
        }
    }

    /// Puts what both have written on its way.
    fn collect(&mut self) {
        for (end, way) in self.ends.iter_mut().zip(&mut self.ways) {
            way.bytes.append(&mut end.out);
        }
    }

    /// Lets the first `count` bytes from one side arrive at the other.
    fn deliver(&mut self, from: usize, count: usize) {
        let way = &mut self.ways[from];
        let bytes: Vec<u8> = way.bytes.drain(..count.min(way.bytes.len())).collect();
        if !way.is_cut {
            self.ends[1 - from].receive(&bytes, self.now);
        }
        self.collect();
    }

    fn say(&mut self, from: usize, message: &Message<'_>) {
        let end = &mut self.ends[from];
        if end.session.is_open() {
            end.session.send(message, &mut end.out);
            self.ways[from].said.push(encoded(message, false));
        }
        self.collect();
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        for end in &mut self.ends {
            end.tick(self.now);
        }
        self.collect();
    }
}

pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let checksum = draw.bool();
    let mut wire = Wire::new(checksum);
    wire.collect();
    for _ in 0..STEPS_MAX {
        if draw.is_empty() {
            break;
        }
        step(&mut wire, &mut draw);
    }
    // All that is on its way arrives, then both are left alone.
    while wire.ways.iter().any(|way| !way.bytes.is_empty()) {
        wire.deliver(0, usize::MAX);
        wire.deliver(1, usize::MAX);
    }
    let is_honest = !wire
        .ways
        .iter()
        .any(|way| way.is_changed || way.is_forged || way.is_cut);
    let is_summed = wire.ends.iter().all(|end| end.session.has_checksum());
    check_heard(&wire, is_honest, is_summed);
    for end in &mut wire.ends {
        end.silence(wire.now + Duration::from_secs(3600));
        assert!(is_over(&end.session), "{:?}", end.seen);
        let is_end = |seen: &&Seen| matches!(seen, Seen::Ended(_) | Seen::Refused(..));
        assert!(
            end.seen.iter().filter(is_end).count() <= 1,
            "{:?}",
            end.seen
        );
    }
}

fn step(wire: &mut Wire, draw: &mut Draw<'_>) {
    let choice = draw.byte();
    let from = usize::from(choice & 1);
    match choice >> 1 & 15 {
        0..=2 => wire.deliver(from, usize::MAX),
        3 => wire.deliver(from, 1 + draw.below(40)),
        4 | 5 => {
            let payload = draw.piece();
            let kind = match from {
                0 => *draw.pick(&[MessageType::Publish, MessageType::Request]),
                _ => MessageType::Publish,
            };
            let envelope = Envelope {
                id: u32::from(draw.byte()),
                name: "a/b",
                payload,
                ..Envelope::default()
            };
            wire.say(from, &Message::Envelope(kind, envelope));
        }
        6 => wire.say(from, &Message::Ping(draw.take(8))),
        7 => {
            let end = &mut wire.ends[from];
            end.session.close(Code::Normal, "bye", &mut end.out);
            wire.collect();
        }
        8 => wire.wait(ms(u64::from(draw.byte()))),
        9 => wire.wait(ms(1000 * u64::from(draw.byte()))),
        10..=12 => {
            let (at, mask) = (usize::from(draw.byte()), draw.byte());
            let way = &mut wire.ways[from];
            if let Some(byte) = way.bytes.get_mut(at) {
                *byte ^= mask;
                way.is_changed |= mask != 0;
            }
        }
        13 => wire.ways[from].is_cut = true,
        14 => {
            let added = draw.piece();
            wire.ways[from].bytes.extend_from_slice(added);
            wire.ways[from].is_forged |= !added.is_empty();
        }
        _ => {
            let way = &mut wire.ways[from];
            let kept = way.bytes.len().saturating_sub(1 + draw.below(16));
            way.is_changed |= kept < way.bytes.len();
            way.bytes.truncate(kept);
        }
    }
}

/// What each side heard is what the other said: all of it, if nobody meddled and nobody left;
/// some of it in its order, if each message is summed.
fn check_heard(wire: &Wire, is_honest: bool, is_summed: bool) {
    for (from, way) in wire.ways.iter().enumerate() {
        let end = &wire.ends[1 - from];
        let heard: Vec<&Vec<u8>> = end
            .seen
            .iter()
            .filter_map(|seen| match seen {
                // PONG and ERROR are the sessions' own.
                Seen::Message(bytes) if !matches!(bytes[3], 2 | 4) => Some(bytes),
                _ => None,
            })
            .collect();
        // A session answers PING by itself.
        let said: Vec<&Vec<u8>> = way.said.iter().filter(|said| said[3] != 1).collect();
        if is_honest || is_summed && !way.is_forged {
            let mut rest = said.iter();
            let was_said = |one: &&Vec<u8>| rest.any(|said| said == one);
            assert!(heard.iter().all(was_said), "{heard:?} of {said:?}");
        }
        if is_honest && end.session.is_open() {
            assert_eq!(heard, said);
        }
    }
    if is_honest {
        let [client, server] = &wire.ends;
        let opened = |end: &End| end.seen.contains(&Seen::Established);
        assert!(!opened(server) || opened(client), "the server alone opened");
    }
}
