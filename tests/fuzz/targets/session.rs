//! One session against whatever a peer may send, in every phase and either role: how the bytes
//! are cut makes no difference, all it writes can be read, its ERRORs stay within their budget,
//! and silence ends it.
//!
//! What holds in every step is asked by [`End`]: nothing is written after the end, there is one
//! end, and no message moves a deadline nearer.

use super::{Draw, speech};
use crate::pair::{CLIENT_SEQ, End, SERVER_SEQ, Seen, ack, ms, raw, settings, start, syn, syn_ack};
use ringmail::base::limits::ERRORS_PER_S_MAX;
use ringmail::proto::error::{Code, Refusal};
use ringmail::proto::frame::{Frame, Parsed};
use ringmail::proto::message::{Header, Message, open};
use ringmail::proto::option::Options;
use ringmail::proto::session::Session;
use std::time::Duration;

/// More says nothing new.
const BYTES_MAX: usize = 8 << 10;

/// Who the session is, and how far it has come before the peer's bytes.
#[derive(Clone, Copy)]
struct Case {
    is_server: bool,
    checksum: bool,
    auth: bool,
    opened: bool,
    /// What its owner does first: CLOSE, a refusal, or nothing.
    owner: u8,
}

impl Case {
    fn end(self) -> End {
        let mut settings = settings();
        settings.auth_methods = u8::from(self.auth);
        let (mut end, opening) = match self.is_server {
            true => (End::server(settings), [syn(self.checksum), ack()].concat()),
            false => {
                let end = End::client(settings, &Options::default());
                (end, syn_ack(self.checksum))
            }
        };
        if self.opened {
            end.receive(&opening, start());
        }
        match self.owner {
            1 => end.session.close(Code::Normal, "bye", &mut end.out),
            2 => {
                let refusal = Refusal::new(Code::Shutdown, "over");
                end.session.refuse(&refusal, &mut end.out);
            }
            _ => {}
        }
        end
    }
}

pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let flags = draw.byte();
    let case = Case {
        is_server: flags & 1 == 0,
        checksum: flags & 2 != 0,
        auth: flags & 4 != 0,
        opened: flags & 8 == 0,
        owner: flags >> 4 & 3,
    };
    let cut = 1 + usize::from(draw.byte() & 31);
    let seqs = [
        CLIENT_SEQ,
        CLIENT_SEQ.wrapping_add(1),
        SERVER_SEQ,
        SERVER_SEQ.wrapping_add(1),
    ];
    let mut bytes = Vec::new();
    while !draw.is_empty() && bytes.len() < BYTES_MAX {
        speech::piece(&mut draw, &seqs, case.checksum, &mut bytes);
    }
    let bytes = &bytes[..];

    let mut whole = case.end();
    whole.receive(bytes, start());
    check_written(&whole, case);
    for size in [1, cut] {
        let mut cut = case.end();
        for piece in bytes.chunks(size) {
            cut.receive(piece, start());
        }
        assert_eq!(
            (&cut.seen, &cut.out),
            (&whole.seen, &whole.out),
            "by {size}"
        );
    }

    // The same over time: a piece a second, then silence.
    let mut slow = case.end();
    let mut now = start();
    for piece in bytes.chunks(cut).take(64) {
        now = now + ms(1000);
        slow.tick(now);
        slow.receive(piece, now);
    }
    slow.silence(now + Duration::from_secs(3600));
    assert!(
        is_over(&slow.session),
        "an hour of silence: {:?}",
        slow.seen
    );
    check_written(&slow, case);
}

/// It has ended, or has said CLOSE, and how long it waits for the answer is its owner's to say.
pub fn is_over(session: &Session) -> bool {
    let waits = session.is_established() && !session.is_open() && !session.is_peer_closing();
    session.is_ended() || waits
}

/// What it wrote is frames and then messages, whole and right, of its direction. What came of
/// one moment has ERRORs within the budget, and the fatal one last.
fn check_written(end: &End, case: Case) {
    let mut rest = &end.out[..];
    // A server's first frame is of type 2 or 4 and a message's version 1; a client's is a SYN.
    let mut is_first = !case.is_server;
    while is_first || matches!(rest.get(2), Some(2..=4)) {
        let Ok(Parsed::Whole { used, .. }) = Frame::parse(rest) else {
            panic!("no frame: {rest:?}");
        };
        rest = &rest[used..];
        is_first = false;
    }
    let checksum = end.session.has_checksum();
    let mut fatal = None;
    let mut errors = 0;
    while !rest.is_empty() {
        assert_eq!(fatal, None, "written behind a fatal ERROR");
        let header = Header::parse(rest, u32::MAX).expect("a header");
        let (message, after) = rest.split_at(header.expect("a whole header").message_bytes());
        let kind = header.expect("a whole header").kind;
        let body = open(message, checksum).expect("its CRC");
        let allowed = match case.is_server {
            true => kind.from_server(),
            false => kind.from_client(),
        };
        assert!(allowed, "{kind:?} is not its to send");
        match Message::parse(kind, body).expect("what it wrote") {
            Message::Error {
                code, fatal: true, ..
            } => fatal = Some(code),
            Message::Error { .. } => errors += 1,
            _ => {}
        }
        if !checksum {
            assert_eq!(raw(kind as u8, body), message);
        }
        rest = after;
    }
    assert!(errors <= ERRORS_PER_S_MAX, "{errors} ERRORs");
    let was_refused = end
        .seen
        .iter()
        .any(|seen| matches!(seen, Seen::Refused(..)));
    assert!(fatal.is_none() || end.session.is_ended() && !was_refused);
}
