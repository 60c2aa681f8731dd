//! The message phase: order of checks, sizes, directions, AUTH, budgets.

use super::pair::{End, Seen, encoded, fatal, messages, ms, raw, settings, start};
use ringmail::base::reason::Reason;
use ringmail::proto::error::Code;
use ringmail::proto::kind::{Class, Sender};
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::option::{AUTH_API_KEY, AUTH_JWT};
use ringmail::proto::session::{Event, Settings};

const REQUEST: u8 = 0x20;

/// A body that every type from 0x10 on takes, but for RESPONSE's name.
const ENVELOPE: &[u8] = b"\0\0\0\x01\0\0\x01xhello";

fn asking_auth() -> Settings {
    Settings {
        auth_methods: AUTH_JWT | AUTH_API_KEY,
        ..settings()
    }
}

/// A well-formed body for each type: the shortest of zeros, but for names.
fn body(kind: MessageType) -> Vec<u8> {
    if kind.has_envelope() && kind.class() != Class::Response {
        return ENVELOPE.to_vec();
    }
    let mut zeros = (0..).map(|size| vec![0; size]);
    let fits = |body: &Vec<u8>| Message::parse(kind, body).is_ok();
    zeros.find(fits).expect("some size fits")
}

fn refused(bytes: &[u8], checksum: bool) -> Code {
    let mut end = End::open_server(settings(), checksum);
    end.receive(bytes, start());
    assert!(end.session.is_ended(), "{bytes:?}");
    let code = Code::from_wire(fatal(&end.out, checksum));
    assert_eq!(end.seen, [Seen::Ended(code.close_reason())]);
    code
}

#[test]
fn every_wrong_magic_version_and_type_is_refused_at_once() {
    for byte in 0..=u8::MAX {
        if byte != b'M' {
            assert_eq!(refused(&[byte], false), Code::Malformed);
        }
        if byte != b'C' {
            assert_eq!(refused(&[b'M', byte], false), Code::Malformed);
        }
        if byte != 1 {
            assert_eq!(
                refused(&[b'M', b'C', byte], false),
                Code::UnsupportedVersion
            );
        }
        if MessageType::from_wire(byte).is_none() {
            assert_eq!(refused(&[b'M', b'C', 1, byte], false), Code::UnknownType);
        }
    }
}

#[test]
fn oversized_length_is_refused_before_buffering() {
    let max = settings().message_bytes_max;
    for (length, allowed) in [
        (0, true),
        (max, true),
        (max + 1, false),
        (1 << 31, false),
        (u32::MAX, false),
    ] {
        for piece in [1, 8] {
            let mut end = End::open_server(settings(), false);
            let mut header = vec![b'M', b'C', 1, REQUEST];
            header.extend(length.to_be_bytes());
            for bytes in header.chunks(piece) {
                end.receive(bytes, start());
            }
            if !allowed {
                assert_eq!(fatal(&end.out, false), Code::TooLarge.to_wire());
            } else if length > 0 {
                assert_eq!((&end.seen[..], end.input.len()), (&[][..], 8));
            }
            assert!(end.input.capacity() <= 64, "{}", end.input.capacity());
        }
    }
}

#[test]
fn what_is_kept_grows_with_what_came_not_with_what_is_claimed() {
    let mut end = End::open_server(settings(), false);
    let whole = raw(REQUEST, &[ENVELOPE, &[7; 900_000]].concat());
    let mut received = 0;
    for bytes in whole.chunks(1000) {
        assert!(end.input.capacity() <= 2 * received + 64);
        end.receive(bytes, start());
        received += bytes.len();
    }
    assert_eq!(end.seen, [Seen::Message(whole)]);
    assert!(end.input.is_empty());
}

#[test]
fn the_largest_message_does_not_count_its_crc() {
    let mut small = settings();
    small.message_bytes_max = 100;
    for checksum in [false, true] {
        let room = 100 - ENVELOPE.len();
        for (count, fits) in [(room, true), (room + 1, false)] {
            let body = [ENVELOPE, &vec![b'x'; count]].concat();
            let message = Message::parse(MessageType::Request, &body).unwrap();
            let mut end = End::open_server(small.clone(), checksum);
            end.receive(&encoded(&message, checksum), start());
            assert_eq!(end.session.is_ended(), !fits);
            assert_eq!(end.seen.len(), 1);
        }
    }
}

#[test]
fn the_first_check_that_fails_names_the_code() {
    // Each has every fault that comes after its own in the protocol's list: the body of an
    // OK (the server's to send) with one byte too many and no CRC at its end.
    let mut bytes = raw(5, &[0; 5]);
    assert_eq!(refused(&bytes, true), Code::BadChecksum);
    assert_eq!(refused(&bytes, false), Code::Unexpected);
    bytes[4] = 0xFF;
    assert_eq!(refused(&bytes, true), Code::TooLarge);
    bytes[3] = 0xFF;
    assert_eq!(refused(&bytes, true), Code::UnknownType);
    bytes[2] = 0xFF;
    assert_eq!(refused(&bytes, true), Code::UnsupportedVersion);
    bytes[1] = 0xFF;
    assert_eq!(refused(&bytes, true), Code::Malformed);
    // The state before the body: a SUBSCRIBE too short for an envelope, before AUTH.
    let mut end = End::open_server(asking_auth(), false);
    end.receive(&raw(0x11, &[0; 3]), start());
    assert_eq!(fatal(&end.out, false), Code::AuthRequired.to_wire());
    assert_eq!(refused(&raw(0x11, &[0; 3]), false), Code::Malformed);
}

#[test]
fn each_type_is_taken_from_the_side_that_sends_it_alone() {
    for &kind in MessageType::ALL {
        let bytes = raw(kind as u8, &body(kind));
        let mut server = End::open_server(settings(), false);
        server.receive(&bytes, start());
        let mut client = End::open_client(settings(), false);
        client.receive(&bytes, start());
        use MessageType::*;
        let servers = kind.sender() == Sender::Server;
        let clients = kind.sender() == Sender::Client;
        let unexpected = [Seen::Ended(Reason::Unexpected)];
        // This server asks for no AUTH.
        assert_eq!(
            server.seen == unexpected,
            servers || kind == Auth,
            "{kind:?}"
        );
        assert_eq!(client.seen == unexpected, clients, "{kind:?}");
        if clients {
            // A client refuses with CLOSE: ERROR is the server's.
            let sent = messages(&client.out, false);
            assert_eq!((sent[0].0, &sent[0].1[..2]), (3, &[0, 6][..]));
        }
        let handed_out = [Seen::Message(bytes)];
        let ours = matches!(kind, Ping | Pong | Close);
        let server_is_handed = !ours && !servers && kind != Auth;
        assert_eq!(server.seen == handed_out, server_is_handed, "{kind:?}");
        // A client measures by PONGs.
        let client_is_handed = kind == Pong || !ours && !clients;
        assert_eq!(client.seen == handed_out, client_is_handed, "{kind:?}");
    }
}

#[test]
fn bodies_that_do_not_fit_their_type_are_malformed() {
    let long = [b'x'; 65];
    let wrong: &[(u8, &[u8])] = &[
        (1, &long),
        (2, &long),
        (3, b""),
        (3, b"\0"),
        (3, b"\0\0\xFF"),
        (9, &[0; 3]),
        (9, &[0; 5]),
        (10, &[0; 19]),
        (10, &[0; 21]),
        (0x10, &[0; 6]),
        // Flags and codecs that the type does not have.
        (0x10, b"\0\0\0\0\x04\0\x01x"),
        (0x10, b"\0\0\0\0\x08\0\x01x"),
        (0x11, b"\0\0\0\0\x01\0\x01x"),
        (0x13, b"\0\0\0\0\x04\0\x01x"),
        (0x20, b"\0\0\0\0\x01\0\x01x"),
        (0x20, b"\0\0\0\0\x04\0\x01x"),
        (0x21, b"\0\0\0\0\x01\0\0"),
        (0x20, b"\0\0\0\0\0\x03\x01x"),
        // A RESPONSE has no name; a name is UTF-8 and inside the message.
        (0x21, b"\0\0\0\0\0\0\x01x"),
        (0x20, b"\0\0\0\0\0\0\x02x"),
        (0x20, b"\0\0\0\0\0\0\x01\xFF"),
        // Header blocks: no length, past the end, an entry past its block.
        (0x20, b"\0\0\0\0\x02\0\x01x"),
        (0x20, b"\0\0\0\0\x02\0\x01x\0"),
        (0x20, b"\0\0\0\0\x02\0\x01x\0\x01"),
        (0x20, b"\0\0\0\0\x02\0\x01x\0\x02\x40\0"),
        (0x20, b"\0\0\0\0\x02\0\x01x\0\x03\x40\0\x01y"),
        // Known headers: twice, or with a value out of range.
        (
            0x20,
            b"\0\0\0\0\x02\0\x01x\0\x0E\x02\0\x04\0\0\0\0\x02\0\x04\0\0\0\0",
        ),
        (0x20, b"\0\0\0\0\x02\0\x01x\0\x06\x01\0\x03\0\0\0"),
        (0x20, b"\0\0\0\0\x02\0\x01x\0\x06\x02\0\x03\0\0\0"),
        (0x20, b"\0\0\0\0\x02\0\x01x\0\x06\x03\0\x03\0\0\0"),
        (0x11, b"\0\0\0\0\x02\0\x01x\0\x03\x04\0\0"),
        (0x11, b"\0\0\0\0\x02\0\x01x\0\x04\x05\0\x01\x05"),
        (0x11, b"\0\0\0\0\x02\0\x01x\0\x03\x05\0\0"),
        (0x10, b"\0\0\0\0\x02\0\x01x\0\x04\x07\0\x01\xFF"),
        (0x10, b"\0\0\0\0\x02\0\x01x\0\x06\x08\0\x03\0\0\0"),
        // START, SEQ: not theirs to send; a REPLY_TO that is a filter; half a PROPERTY.
        (0x10, b"\0\0\0\0\x02\0\x01x\0\x04\x09\0\x01\x01"),
        (0x12, b"\0\0\0\0\x02\0\x01x\0\x04\x09\0\x01\x01"),
        (0x11, b"\0\0\0\0\x02\0\x01x\0\x04\x09\0\x01\x02"),
        (
            0x10,
            b"\0\0\0\0\x02\0\x01x\0\x0b\x0a\0\x08\0\0\0\0\0\0\0\x01",
        ),
        (0x10, b"\0\0\0\0\x02\0\x01x\0\x04\x0c\0\x01#"),
        (0x10, b"\0\0\0\0\x02\0\x01x\0\x04\x0e\0\x01\x01"),
    ];
    for (kind, body) in wrong {
        let code = refused(&raw(*kind, body), false);
        assert_eq!(code, Code::Malformed, "{kind:#x} {body:?}");
    }
    let mut group = b"\0\0\0\0\x02\0\x01x\0\x44\x04\0\x41".to_vec();
    group.extend([b'g'; 65]);
    assert_eq!(refused(&raw(0x11, &group), false), Code::Malformed);
    assert!(Message::parse(MessageType::Auth, b"").is_err());
    for wrong in [&[0u8, 1, 0, 0, 0, 9, 2][..], b"\0\x01\0\0\0\x09\0\xFF"] {
        assert!(Message::parse(MessageType::Error, wrong).is_err());
    }
}

#[test]
fn nothing_is_delivered_of_a_prefix() {
    for checksum in [false, true] {
        for &kind in MessageType::ALL.iter().filter(|kind| kind.from_client()) {
            let body = body(kind);
            let message = Message::parse(kind, &body).unwrap();
            let bytes = encoded(&message, checksum);
            for count in 0..bytes.len() {
                let mut end = End::open_server(settings(), checksum);
                end.receive(&bytes[..count], start());
                assert_eq!((end.seen, end.out), (vec![], vec![]), "{kind:?} {count}");
            }
        }
    }
}

#[test]
fn a_thousand_messages_in_one_segment_come_out_in_order() {
    let one = |id: u32| raw(REQUEST, &[&id.to_be_bytes()[..], &ENVELOPE[4..]].concat());
    let segment: Vec<u8> = (0..1000).flat_map(one).collect();
    let mut end = End::open_server(settings(), false);
    end.receive(&segment, start());
    let wanted: Vec<Seen> = (0..1000).map(|id| Seen::Message(one(id))).collect();
    assert_eq!(end.seen, wanted);
    assert_eq!(end.input.capacity(), 0, "all was parsed in place");
}

#[test]
fn a_message_split_anywhere_is_the_same_message() {
    for checksum in [false, true] {
        let message = Message::parse(MessageType::Request, ENVELOPE).unwrap();
        let bytes = encoded(&message, checksum);
        let stream = bytes.repeat(3);
        for at in 0..=stream.len() {
            let mut end = End::open_server(settings(), checksum);
            end.receive(&stream[..at], start());
            end.receive(&stream[at..], start());
            assert_eq!(end.seen, vec![Seen::Message(encoded(&message, false)); 3]);
            assert!(end.input.is_empty());
        }
    }
}

#[test]
fn a_ping_is_answered_with_its_bytes_and_a_clients_owner_sees_the_answer() {
    for checksum in [false, true] {
        for bytes in [&b""[..], b"0123", &[0xFF; 64]] {
            let ping = encoded(&Message::Ping(bytes), checksum);
            let pong = encoded(&Message::Pong(bytes), checksum);
            let mut server = End::open_server(asking_auth(), checksum);
            let mut client = End::open_client(settings(), checksum);
            for end in [&mut server, &mut client] {
                end.receive(&ping, start());
                assert_eq!((&end.out, &end.seen[..]), (&pong, &[][..]));
                end.forget();
                end.receive(&pong, start());
                assert!(end.out.is_empty());
            }
            // A server asks only for life; a client measures by the answers.
            assert_eq!(server.seen, []);
            let pong = encoded(&Message::Pong(bytes), false);
            assert_eq!(client.seen, [Seen::Message(pong)]);
        }
    }
}

#[test]
fn before_auth_only_auth_ping_pong_and_close_are_taken() {
    for &kind in MessageType::ALL {
        let mut end = End::open_server(asking_auth(), false);
        end.receive(&raw(kind as u8, &body(kind)), start());
        use MessageType::*;
        match kind {
            Ping | Pong => assert!(end.seen.is_empty() && end.session.is_open()),
            Auth => assert!(matches!(end.seen[..], [Seen::Message(_)])),
            Close => assert!(matches!(end.seen[..], [Seen::PeerClosed(..)])),
            _ if kind.sender() == Sender::Server => {
                assert_eq!(end.seen, [Seen::Ended(Reason::Unexpected)]);
            }
            _ => {
                assert_eq!(end.seen, [Seen::Ended(Reason::AuthRequired)], "{kind:?}");
                assert_eq!(fatal(&end.out, false), Code::AuthRequired.to_wire());
            }
        }
    }
}

#[test]
fn after_auth_everything_is_taken_and_auth_again() {
    let mut end = End::open_server(asking_auth(), false);
    let auth = raw(6, b"\x02key");
    end.receive(&auth, start());
    end.session.authenticate();
    let request = raw(REQUEST, ENVELOPE);
    end.receive(&[request.clone(), auth.clone()].concat(), start());
    let wanted = [auth.clone(), request, auth].map(Seen::Message);
    assert_eq!(end.seen, wanted);
    assert!(end.session.is_open());
}

#[test]
fn who_has_not_authenticated_is_kept_small() {
    let claim = |kind: u8, length: u32| {
        let header = [&[b'M', b'C', 1, kind][..], &length.to_be_bytes()].concat();
        let mut end = End::open_server(asking_auth(), false);
        end.receive(&header, start());
        end
    };
    let most = 4096 - 8;
    for (kind, max, code) in [
        // A method, and a credential of 16 KiB.
        (6, 1 + 16_384, Code::AuthFailed),
        (0x10, most, Code::AuthRequired),
        (REQUEST, most, Code::AuthRequired),
        (3, most, Code::TooLarge),
    ] {
        assert!(claim(kind, max).session.is_open());
        assert_eq!(fatal(&claim(kind, max + 1).out, false), code.to_wire());
        // Over the server's own maximum it is TOO_LARGE for everyone.
        let over = claim(kind, settings().message_bytes_max + 1);
        assert_eq!(fatal(&over.out, false), Code::TooLarge.to_wire());
    }
    let mut end = End::open_server(asking_auth(), false);
    end.session.authenticate();
    end.receive(&[b'M', b'C', 1, REQUEST, 0, 1, 0, 0], start());
    assert!(end.session.is_open());
}

#[test]
fn the_eleventh_error_within_a_second_is_fatal() {
    let mut end = End::open_server(settings(), true);
    let now = start();
    for id in 1..=10 {
        let event = end
            .session
            .error(Code::Forbidden, id, "no", now + ms(99), &mut end.out);
        assert_eq!(event, Event::Handled);
    }
    let sent = messages(&end.out, true);
    assert!(sent.iter().all(|(kind, body)| (*kind, body[6]) == (4, 0)));
    assert_eq!(
        (sent.len(), &sent[9].1[..6]),
        (10, &[1, 4, 0, 0, 0, 10][..])
    );
    end.forget();
    // A second after the first, ten more.
    for id in 11..=20 {
        end.session
            .error(Code::BadName, id, "no", now + ms(1_099), &mut end.out);
    }
    assert!(end.session.is_open());
    end.forget();
    let event = end
        .session
        .error(Code::BadName, 21, "no", now + ms(1_100), &mut end.out);
    assert_eq!(event, Event::Ended(Reason::TooManyErrors));
    let sent = messages(&end.out, true);
    assert_eq!((sent[0].0, sent[0].1[6]), (4, 1), "fatal");
    assert!(end.session.is_ended());
    end.forget();
    let event = end
        .session
        .error(Code::BadName, 22, "no", now + ms(1_100), &mut end.out);
    assert_eq!((event, end.out), (Event::Handled, vec![]));
}

#[test]
fn a_flood_of_pings_ends_in_a_refusal() {
    let flood = raw(1, b"").repeat(1000);
    let mut server = End::open_server(settings(), false);
    let mut client = End::open_client(settings(), false);
    for end in [&mut server, &mut client] {
        for _ in 0..100 {
            end.receive(&flood, start() + ms(500));
        }
        assert_eq!(end.out, raw(2, b"").repeat(100_000));
        end.forget();
        end.receive(&flood, start() + ms(600));
        assert!(end.session.is_ended());
    }
    assert_eq!(server.seen, [Seen::Ended(Reason::TooManyErrors)]);
    let sent = messages(&server.out, false);
    let limited = |(kind, body): &(u8, Vec<u8>)| *kind == 4 && body[..2] == [2, 1];
    assert!(sent.len() == 11 && sent.iter().all(limited));
    let fatal: Vec<u8> = sent.iter().map(|(_, body)| body[6]).collect();
    assert_eq!(fatal, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    // The client says CLOSE, and that once: ERROR is the server's.
    let sent = messages(&client.out, false);
    assert_eq!(
        (sent.len(), sent[0].0, &sent[0].1[..2]),
        (1, 3, &[2, 1][..])
    );
    assert_eq!(client.seen, [Seen::Ended(Reason::RateLimited)]);
}

#[test]
fn pings_at_the_bound_second_after_second_are_answered() {
    let flood = raw(1, b"").repeat(50_000);
    let mut end = End::open_server(settings(), false);
    for second in 1..5 {
        end.receive(&flood, start() + ms(second * 1000));
        end.receive(&flood, start() + ms(second * 1000 + 900));
    }
    assert!(end.session.is_open());
    assert_eq!(end.out.len(), 8 * 400_000);
}
