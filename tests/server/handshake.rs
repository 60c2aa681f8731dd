//! The link phase: who has not shaken hands gets nothing, and is told why; what SYN-ACK says;
//! peers that connect and say nothing.

use crate::harness::Server;
use crate::wire::{SEQ, Wire, ack, frame, request_bytes, syn};
use ringmail::proto::envelope::Codec;
use ringmail::proto::error::Code;
use ringmail::proto::frame::FrameType;
use ringmail::proto::message::MessageType;
use ringmail::proto::option::Options;

#[test]
fn syn_ack_carries_what_the_protocol_lists_and_nothing_it_does_not_grant() {
    let mut server = Server::start(&["heartbeat.interval_ms=7000"]);
    let (wire, options) = Wire::greet_with(server.address, &Options::default());
    let kinds: Vec<u8> = kinds(&options);
    assert_eq!(kinds, [1, 2, 3, 6, 7, 8]);
    let granted = Options::parse(&options).unwrap();
    assert_eq!(granted.heartbeat_ms, Some(7000));
    assert_eq!(granted.message_max, Some(1 << 20));
    assert_eq!(granted.features, Some(0));
    assert!(granted.server.unwrap().starts_with("ringmail/"));
    assert_eq!(granted.auth, Some(0));
    assert!(granted.shard.unwrap() < 2);
    wire.close();

    let asked = Options {
        features: Some(u32::MAX),
        client_id: Some("sensor_17.a-b"),
        codec: Some(Codec::Json),
        ..Options::default()
    };
    let (mut wire, options) = Wire::greet_with(server.address, &asked);
    let granted = Options::parse(&options).unwrap();
    assert_eq!(granted.features, Some(1), "CHECKSUM and no reserved bit");
    assert_eq!(granted.codec, Some(Codec::Json));
    wire.echoes(); // with CHECKSUM, both ways
    wire.close();
    server.settle(&[("peer_close", 2)]);
    server.end();
}

fn kinds(mut options: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [kind, length, rest @ ..] = options {
        kinds.push(*kind);
        options = &rest[usize::from(*length)..];
    }
    kinds
}

#[test]
fn options_that_do_not_hold_are_malformed_and_unknown_ones_are_skipped() {
    let mut server = Server::start(&[]);
    let wrong: &[&[u8]] = &[
        &[1, 3, 0, 0, 1],                      // a length that is not its kind's
        &[2, 4, 0, 0, 0, 0],                   // no message is that small
        &[3, 4, 0, 0, 0, 1, 3, 4, 0, 0, 0, 1], // twice
        &[4, 0],                               // an empty name
        &[4, 3, b'a', b'/', b'b'],             // a name with what names cannot have
        &[5, 1, 9],                            // no such codec
        &[6],                                  // no length
        &[99, 200, 1],                         // past the end of the frame
    ];
    for options in wrong {
        let mut wire = server.connect();
        wire.send(&frame(FrameType::Syn, SEQ, options));
        wire.expect_rst(Code::Malformed);
    }
    let mut wire = server.connect();
    wire.send(&frame(FrameType::Syn, SEQ, &[200, 2, 1, 2, 201, 0]));
    let acknowledged = wire.syn_ack();
    wire.send(&acknowledged.ack);
    wire.echoes();
    wire.close();
    server.settle(&[("malformed", wrong.len() as u64), ("peer_close", 1)]);
    server.end();
}

#[test]
fn nothing_but_syn_opens_and_nothing_but_the_right_ack_establishes() {
    let mut server = Server::start(&[]);
    let plain = syn(&Options::default());
    // Before SYN: frames that belong later.
    for kind in [FrameType::SynAck, FrameType::Ack] {
        let mut wire = server.connect();
        wire.send(&frame(kind, SEQ, &[0; 4]));
        assert_eq!(wire.expect_rst(Code::Unexpected).seq, 0);
    }
    // An RST is not answered with one.
    let mut wire = server.connect();
    wire.send(&frame(FrameType::Rst, 0, &[0, 6, b'n', b'o']));
    wire.expect_end();
    // After SYN: again, or an ACK with a wrong number on either side, or with none.
    let next = SEQ.wrapping_add(1);
    let mut wrong = 0;
    for make in [
        (|_| syn(&Options::default())) as fn(u32) -> Vec<u8>,
        |seq| ack(SEQ, seq.wrapping_add(1)),
        |seq| ack(SEQ.wrapping_add(2), seq.wrapping_add(1)),
        |seq| ack(SEQ.wrapping_add(1), seq),
        |seq| ack(SEQ.wrapping_add(1), seq.wrapping_add(2)),
        |_| frame(FrameType::Ack, SEQ.wrapping_add(1), &[]),
        |_| frame(FrameType::SynAck, SEQ.wrapping_add(1), &[0; 4]),
    ] {
        let mut wire = server.connect();
        wire.send(&plain);
        let seq = wire.syn_ack().seq;
        wire.send(&make(seq));
        let told = wire.expect_rst(Code::Unexpected);
        assert_eq!(told.seq, next, "the number that was expected");
        wrong += 1;
    }
    server.settle(&[("peer_refused", 1), ("unexpected", 2 + wrong)]);
    server.end();
}

#[test]
fn a_message_before_the_handshake_is_a_frame_of_an_unknown_type() {
    let mut server = Server::start(&[]);
    // In the link phase the version byte stands where the type is: 1, a SYN. Its length is
    // then made of what the message had there, so each fails a check of frames.
    for &kind in MessageType::ALL {
        let message = [b'M', b'C', 1, kind as u8, 0, 0, 0, 4, 0, 0, 0, 0];
        let mut wire = server.connect();
        wire.send(&message);
        wire.send_anyway(&[0; 2048]); // whatever length it is taken for, it is whole
        wire.expect_rst(Code::BadChecksum);
        // After the SYN the same: it is no ACK.
        let mut wire = server.connect();
        wire.send(&syn(&Options::default()));
        wire.syn_ack();
        wire.send(&message);
        wire.send_anyway(&[0; 2048]);
        wire.expect_rst(Code::BadChecksum);
    }
    let mut wire = server.connect();
    wire.send(&request_bytes(1, "$sys/echo", b"hello", false));
    wire.expect_rst(Code::TooLarge);
    let stats = server.wait_for("closed", |stats| stats.connections == 1);
    let requests = stats.total["requests"];
    assert_eq!(requests, server.asked_requests(), "a request was decoded");
    server.end();
}

#[test]
fn a_frame_in_the_message_phase_is_refused_by_its_version_byte() {
    let mut server = Server::start(&[]);
    // A second SYN reads as a message of version 1 whose type is the first byte of its number.
    let mut wire = server.greet();
    wire.send(&frame(FrameType::Syn, SEQ, &[]));
    wire.expect_fatal(Code::UnknownType);
    // A second ACK has 3 where the version is.
    let mut wire = server.greet();
    wire.send(&ack(SEQ.wrapping_add(1), 0));
    wire.expect_fatal(Code::UnsupportedVersion);
    server.settle(&[("unknown_type", 1), ("unsupported_version", 1)]);
    server.end();
}

#[test]
fn the_first_message_may_come_in_the_segment_of_the_ack() {
    let mut server = Server::start(&[]);
    for checksum in [false, true] {
        let mut wire = server.connect();
        let asked = Options {
            features: Some(u32::from(checksum)),
            ..Options::default()
        };
        wire.send(&syn(&asked));
        let mut segment = wire.syn_ack().ack;
        segment.extend(request_bytes(9, "$sys/echo", b"early", checksum));
        wire.send(&segment);
        wire.set_checksum(checksum);
        assert_eq!(wire.response(), (9, Ok(b"early".to_vec())));
        wire.close();
    }
    server.settle(&[("peer_close", 2)]);
    server.end();
}

#[test]
fn a_tls_hello_is_closed_without_an_answer() {
    let mut server = Server::start(&[]);
    let mut wire = server.connect();
    wire.send(&[0x16, 3, 1, 0, 200, 1, 0, 0, 196]);
    wire.expect_end();
    server.settle(&[("malformed", 1)]);
    server.end();
}

#[test]
fn thousands_that_connect_and_say_nothing_are_told_and_closed_and_cost_little() {
    const SILENT: usize = 1000;
    let mut server = Server::start(&["limits.handshake_timeout_ms=3000"]);
    server.stats(); // whatever the first connection of all costs is not theirs
    let before = server.resident_bytes();
    let mut wires: Vec<Wire> = (0..2 * SILENT).map(|_| server.connect()).collect();
    for wire in &mut wires[SILENT..] {
        wire.send(&syn(&Options::default()));
    }
    for wire in &mut wires[SILENT..] {
        wire.syn_ack(); // and no ACK
    }
    let each = server.resident_bytes().saturating_sub(before) / (2 * SILENT as u64);
    println!("memory per half-open peer: {each} bytes");
    assert!(
        each <= 4096,
        "a peer that has said nothing costs {each} bytes"
    );
    for wire in &mut wires {
        wire.expect_rst(Code::HandshakeTimeout);
    }
    drop(wires);
    server.settle(&[("handshake_timeout", 2 * SILENT as u64)]);
    server.end();
}
