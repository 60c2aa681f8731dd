//! Bytes that are no protocol: wrong, flipped, of impossible lengths. Each is
//! refused with the code PROTOCOL.md names, by the first check it fails, and the reason
//! arrives even behind a megabyte that nobody will read.

use crate::harness::Server;
use crate::wire::{Wire, encode, frame, request_bytes, syn};
use ringmail::proto::error::Code;
use ringmail::proto::frame::FrameType;
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::option::Options;
use std::time::Duration;

/// Sent behind what is refused.
const MORE_BYTES: usize = 1 << 20;

fn hello() -> Vec<u8> {
    syn(&Options {
        heartbeat_ms: Some(30_000),
        client_id: Some("cut-short"),
        ..Options::default()
    })
}

#[test]
fn every_wrong_byte_of_a_frames_head_is_refused_with_its_code() {
    let mut server = Server::start(&[]);
    let good = frame(FrameType::Syn, 1, &[]);
    let (mut malformed, mut unknown, mut unexpected) = (0, 0, 0);
    for at in 0..3 {
        for byte in 0..=255u8 {
            if byte == good[at] {
                continue;
            }
            let mut wire = server.connect();
            let mut bytes = good.clone();
            bytes[at] = byte;
            match (at, byte) {
                (0, 0x16) => continue, // TLS: a test of its own
                (0 | 1, _) => {
                    wire.send(&bytes);
                    wire.expect_rst(Code::Malformed);
                    malformed += 1;
                }
                (2, 2..=4) => {
                    // A known type, so its CRC is looked at next.
                    wire.send(&bytes);
                    wire.expect_rst(Code::BadChecksum);
                    unexpected += 1;
                }
                _ => {
                    wire.send(&bytes);
                    wire.expect_rst(Code::UnknownType);
                    unknown += 1;
                }
            }
        }
    }
    // The skipped TLS byte left a connection that said nothing and ended.
    server.settle(&[
        ("bad_checksum", unexpected),
        ("malformed", malformed),
        ("peer_eof", 1),
        ("unknown_type", unknown),
    ]);
    server.end();
}

#[test]
fn every_wrong_byte_of_a_messages_head_is_refused_with_its_code() {
    let mut server = Server::start(&[]);
    let good = encode(&Message::Ping(b""), false);
    let (mut malformed, mut versions, mut unknown) = (0, 0, 0);
    for at in 0..4 {
        for byte in 0..=255u8 {
            let known = at == 3 && MessageType::from_wire(byte).is_some();
            if byte == good[at] || known {
                continue;
            }
            let mut wire = server.greet();
            let mut bytes = good.clone();
            bytes[at] = byte;
            wire.send(&bytes);
            match at {
                0 | 1 => {
                    wire.expect_fatal(Code::Malformed);
                    malformed += 1;
                }
                2 => {
                    wire.expect_fatal(Code::UnsupportedVersion);
                    versions += 1;
                }
                _ => {
                    wire.expect_fatal(Code::UnknownType);
                    unknown += 1;
                }
            }
        }
    }
    assert_eq!((malformed, versions), (510, 255));
    server.settle(&[
        ("malformed", malformed),
        ("unknown_type", unknown),
        ("unsupported_version", versions),
    ]);
    server.end();
}

#[test]
fn the_reason_arrives_though_a_megabyte_was_sent_behind_the_mistake() {
    let mut server = Server::start(&[]);
    let more = vec![0xA5; MORE_BYTES];
    for _ in 0..4 {
        let mut wire = server.connect();
        wire.send(b"XY");
        wire.send_anyway(&more);
        wire.expect_rst(Code::Malformed);

        let mut wire = server.greet();
        let mut bytes = encode(&Message::Ping(b""), false);
        bytes[2] = 2;
        bytes.extend_from_slice(&more);
        wire.send_anyway(&bytes);
        wire.expect_fatal(Code::UnsupportedVersion);
    }
    // A client that is still sending when it is refused, and reads only then.
    let mut wire = server.greet();
    wire.send(b"XY");
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(10));
        wire.send(&more[..4096]);
    }
    wire.expect_fatal(Code::Malformed);
    server.settle(&[("malformed", 5), ("unsupported_version", 4)]);
    server.end();
}

#[test]
fn a_frame_with_any_bit_flipped_is_never_accepted() {
    let mut server = Server::start(&[]);
    let good = hello();
    let mut sent = 0;
    let flips = (0..good.len() * 8).map(Some).chain([None; 17 * 8]);
    for (count, bit) in flips.enumerate() {
        let mut wire = server.connect();
        let (mut bytes, bit) = match bit {
            Some(bit) => (good.clone(), bit),
            None => {
                wire.send(&good);
                (wire.syn_ack().ack, count - good.len() * 8)
            }
        };
        bytes[bit / 8] ^= 1 << (bit % 8);
        wire.send(&bytes);
        wire.shut();
        // A longer length waits for bytes that never come: then there is only the end.
        if let Some(told) = wire.frame() {
            assert_eq!(told.kind, FrameType::Rst, "bit {bit} was let through");
            wire.expect_end();
        }
        sent += 1;
    }
    let stats = server.wait_for("closed", |stats| stats.connections == 1);
    assert_eq!(
        stats.total["connections_opened"],
        sent + server.asked_requests()
    );
    assert_eq!(
        stats.total["connections_established"],
        server.asked_requests()
    );
    server.end();
}

#[test]
fn a_length_over_the_maximum_is_refused_from_the_header_alone() {
    let mut server = Server::start(&["limits.message_bytes_max=65536"]);
    let header = |length: u32| {
        let mut bytes = b"MC\x01\x20".to_vec();
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes
    };
    let before = server.resident_bytes();
    for length in [65_537, 1 << 31, u32::MAX] {
        let mut wire = server.greet();
        wire.send(&header(length));
        wire.expect_fatal(Code::TooLarge);
    }
    // Claimed and not sent: nothing is kept ready for it.
    let waiting: Vec<Wire> = (0..200)
        .map(|_| {
            let mut wire = server.greet();
            wire.send(&header(65_536));
            wire
        })
        .collect();
    server.wait_for("connected", |stats| stats.connections == 201);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 200 * 32_768, "{grown} bytes for promises");
    drop(waiting);
    // A control frame of more than 1,024 bytes.
    for length in [1025u16, u16::MAX] {
        let mut wire = server.connect();
        let mut bytes = frame(FrameType::Syn, 1, &[]);
        bytes[7..9].copy_from_slice(&length.to_be_bytes());
        wire.send(&bytes);
        wire.expect_rst(Code::TooLarge);
    }
    // Exactly the maximum is served, and an empty body is no envelope.
    let mut wire = server.greet();
    let payload = vec![7; 65_536 - 7 - "$sys/echo".len()];
    assert!(wire.request("$sys/echo", &payload).unwrap() == payload);
    wire.send(&header(0));
    wire.expect_fatal(Code::Malformed);
    server.settle(&[("malformed", 1), ("peer_eof", 200), ("too_large", 5)]);
    server.end();
}

#[test]
fn a_body_that_does_not_fit_its_type_is_malformed() {
    let mut server = Server::start(&[]);
    let message = |kind: MessageType, body: &[u8]| {
        let mut bytes = vec![b'M', b'C', 1, kind as u8];
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    };
    let wrong = [
        message(MessageType::Ping, &[0; 65]),
        message(MessageType::Close, &[0]),
        message(MessageType::Close, &[0, 0, 0xFF]),
        message(MessageType::Request, &[0; 6]),
        message(MessageType::Request, &[0, 0, 0, 1, 0x80, 0, 1, b'a']), // a flag
        message(MessageType::Request, &[0, 0, 0, 1, 0, 9, 1, b'a']),    // a codec
        message(MessageType::Request, &[0, 0, 0, 1, 0, 0, 2, b'a']),    // a name
        message(MessageType::Request, &[0, 0, 0, 1, 0, 0, 1, 0xFF]),    // its UTF-8
        message(MessageType::Request, &[0, 0, 0, 1, 2, 0, 1, b'a', 0, 9]), // headers
    ];
    for bytes in &wrong {
        let mut wire = server.greet();
        wire.send(bytes);
        wire.expect_fatal(Code::Malformed);
    }
    // What only a server sends is not for a client to say.
    let mut wire = server.greet();
    wire.send(&message(MessageType::Ok, &[0; 4]));
    wire.expect_fatal(Code::Unexpected);
    server.settle(&[("malformed", wrong.len() as u64), ("unexpected", 1)]);
    server.end();
}

#[test]
fn a_broken_checksum_is_fatal_wherever_the_bit_flipped() {
    let mut server = Server::start(&[]);
    let asked = Options {
        features: Some(1),
        ..Options::default()
    };
    let good = request_bytes(3, "$sys/echo", b"sum", true);
    let flips = (8..good.len()).map(|at| (at, 1u8 << (at % 8)));
    let mut refused = 0;
    for (at, bit) in flips {
        let (mut wire, _) = Wire::greet_with(server.address, &asked);
        wire.echoes();
        let mut bytes = good.clone();
        bytes[at] ^= bit;
        wire.send(&bytes);
        wire.expect_fatal(Code::BadChecksum);
        refused += 1;
    }
    // Too short to hold one.
    let (mut wire, _) = Wire::greet_with(server.address, &asked);
    wire.send(b"MC\x01\x01\x00\x00\x00\x03abc");
    wire.expect_fatal(Code::BadChecksum);
    server.settle(&[("bad_checksum", refused + 1)]);
    server.end();
}
