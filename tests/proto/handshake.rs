//! The link phase: what is accepted, what is refused with which RST, in which order.

use super::pair::{
    CLIENT_SEQ, End, Pair, SERVER_SEQ, Seen, ack, fatal, frame, ms, options, raw, rst, settings,
    start, syn, syn_ack,
};
use ringmail::base::clock::Instant;
use ringmail::base::reason::Reason;
use ringmail::proto::envelope::Codec;
use ringmail::proto::error::Code;
use ringmail::proto::frame::{Frame, FrameType, Parsed};
use ringmail::proto::message::MessageType;
use ringmail::proto::option::Options;
use ringmail::proto::session::{Event, Session, Step};
use std::sync::Arc;

/// A server that has taken a SYN, its SYN-ACK taken away.
fn awaiting_ack() -> End {
    let mut end = End::server(settings());
    end.receive(&syn(false), start());
    assert!(!end.out.is_empty() && !end.session.is_ended());
    end.forget();
    end
}

fn refused_syn(bytes: &[u8]) -> Code {
    let mut end = End::server(settings());
    end.receive(bytes, start());
    assert!(end.session.is_ended(), "{bytes:?}");
    let (seq, code) = rst(&end.out);
    assert_eq!(seq, 0);
    let code = Code::from_wire(code);
    assert_eq!(end.seen, [Seen::Ended(code.close_reason())]);
    code
}

/// The server's answer to a SYN with these options, and its session.
fn answer(asked: &Options<'_>) -> (Vec<u8>, End) {
    let mut end = End::server(settings());
    let bytes = frame(FrameType::Syn, CLIENT_SEQ, &options(asked));
    end.receive(&bytes, start());
    let Ok(Parsed::Whole { used, value }) = Frame::parse(&end.out) else {
        panic!("no frame came back");
    };
    assert_eq!(used, end.out.len());
    assert_eq!((value.kind, value.seq), (FrameType::SynAck, SERVER_SEQ));
    assert_eq!(value.payload[..4], (CLIENT_SEQ + 1).to_be_bytes());
    (value.payload[4..].to_vec(), end)
}

#[test]
fn the_smallest_client_says_thirteen_bytes_and_is_let_in() {
    let bytes = frame(FrameType::Syn, CLIENT_SEQ, &[]);
    assert_eq!(bytes.len(), 13);
    let mut end = End::server(settings());
    end.receive(&bytes, start());
    end.receive(&ack(), start());
    assert_eq!(end.seen, [Seen::Established]);
    assert!(!end.session.has_checksum());
    assert_eq!(end.session.codec(), Codec::Bytes);
    assert_eq!(end.session.client_id(), None);
    assert_eq!(end.session.peer_message_bytes_max(), u32::MAX);
}

#[test]
fn both_sides_agree_whatever_the_client_asks_for() {
    let heartbeats = [None, Some(0), Some(1), Some(15_000), Some(u32::MAX)];
    let features = [None, Some(0), Some(1), Some(u32::MAX), Some(0xFFFF_FFFE)];
    let codecs = [
        None,
        Some(Codec::Bytes),
        Some(Codec::Json),
        Some(Codec::Protobuf),
    ];
    let names = [None, Some("meter-17")];
    let maxima = [None, Some(1), Some(u32::MAX)];
    let mut seed = 0;
    for heartbeat_ms in heartbeats {
        for features in features {
            for codec in codecs {
                for client_id in names {
                    for message_max in maxima {
                        let asked = Options {
                            heartbeat_ms,
                            message_max,
                            features,
                            client_id,
                            codec,
                            ..Options::default()
                        };
                        seed += 1;
                        check_agreement(seed, &asked);
                    }
                }
            }
        }
    }
}

fn check_agreement(seed: u64, asked: &Options<'_>) {
    let mut pair = Pair::new(seed, settings(), settings(), asked);
    pair.run(start() + ms(1_000));
    let (client, server) = (&pair.client, &pair.server);
    assert_eq!(client.seen_but_pongs(), [Seen::Established], "{asked:?}");
    assert_eq!(server.seen, [Seen::Established], "{asked:?}");
    let summed = asked.features.unwrap_or(0) & 1 != 0;
    assert_eq!(client.session.has_checksum(), summed);
    assert_eq!(server.session.has_checksum(), summed);
    let codec = asked.codec.unwrap_or_default();
    assert_eq!(
        (client.session.codec(), server.session.codec()),
        (codec, codec)
    );
    assert_eq!(server.session.client_id(), asked.client_id);
    let theirs = asked.message_max.unwrap_or(u32::MAX);
    assert_eq!(server.session.peer_message_bytes_max(), theirs);
    assert_eq!(client.session.peer_message_bytes_max(), 1 << 20);
}

#[test]
fn a_syn_ack_always_carries_what_the_protocol_lists() {
    let minimal = Options {
        heartbeat_ms: Some(30_000),
        message_max: Some(1 << 20),
        features: Some(0),
        client_id: None,
        codec: None,
        server: Some("ringmail/0.1.0"),
        auth: Some(0),
        shard: Some(1),
    };
    let (payload, _) = answer(&Options::default());
    assert_eq!(Options::parse(&payload), Ok(minimal));
    let (payload, _) = answer(&Options {
        features: Some(u32::MAX),
        client_id: Some("a"),
        codec: Some(Codec::Json),
        ..Options::default()
    });
    let granted = Options {
        features: Some(1),
        codec: Some(Codec::Json),
        ..minimal
    };
    assert_eq!(Options::parse(&payload), Ok(granted));
}

#[test]
fn the_heartbeat_asked_for_is_held_within_bounds() {
    for (asked, granted) in [
        (0, 30_000),
        (1, 100),
        (99, 100),
        (100, 100),
        (45_000, 45_000),
        (45_001, 45_000),
        (u32::MAX, 45_000),
    ] {
        let (payload, _) = answer(&Options {
            heartbeat_ms: Some(asked),
            ..Options::default()
        });
        let heartbeat_ms = Options::parse(&payload).unwrap().heartbeat_ms;
        assert_eq!(heartbeat_ms, Some(granted), "{asked}");
    }
}

#[test]
fn numbers_wrap() {
    let corners = [0, 1, 0x7FFF_FFFF, 0x8000_0000, u32::MAX - 1, u32::MAX];
    for client_seq in corners {
        for server_seq in corners {
            let shared = Arc::new(settings());
            let mut to_server = Vec::new();
            let mut to_client = Vec::new();
            let mut client = End::new(Session::connect(
                Arc::clone(&shared),
                &Options::default(),
                client_seq,
                start(),
                &mut to_server,
            ));
            let mut server = Session::accept(shared, server_seq, start());
            server.handle(&to_server, start(), &mut to_client);
            client.receive(&to_client, start());
            assert_eq!(client.seen, [Seen::Established]);
            let Step::Taken { event, .. } = server.handle(&client.out, start(), &mut to_client)
            else {
                panic!("half an ACK");
            };
            assert!(matches!(event, Event::Established(_)));
        }
    }
}

#[test]
fn every_wrong_byte_of_the_magic_is_malformed_at_once() {
    for byte in (0..=u8::MAX).filter(|&b| b != b'M' && b != 0x16) {
        assert_eq!(refused_syn(&[byte]), Code::Malformed);
    }
    for byte in (0..=u8::MAX).filter(|&b| b != b'C') {
        assert_eq!(refused_syn(&[b'M', byte]), Code::Malformed);
    }
}

#[test]
fn every_wrong_type_is_unknown_at_once() {
    for byte in (0..=u8::MAX).filter(|b| !(1..=4).contains(b)) {
        assert_eq!(refused_syn(&[b'M', b'C', byte]), Code::UnknownType);
    }
}

#[test]
fn a_wrong_byte_is_noticed_when_it_comes_alone() {
    let mut end = End::server(settings());
    for byte in [&b"M"[..], b"C", b"\x09"] {
        assert!(end.out.is_empty());
        end.receive(byte, start());
    }
    assert_eq!(rst(&end.out).1, Code::UnknownType.to_wire());
}

#[test]
fn an_oversized_length_is_refused_from_the_header_alone() {
    for length in [0u16, 1024, 1025, 0x8000, 0xFFFF] {
        let mut end = End::server(settings());
        let mut bytes = b"MC\x01\x00\x00\x00\x07".to_vec();
        bytes.extend(length.to_be_bytes());
        for byte in bytes.chunks(1) {
            assert!(end.out.is_empty());
            end.receive(byte, start());
        }
        if length > 1024 {
            assert_eq!(rst(&end.out).1, Code::TooLarge.to_wire());
        } else {
            assert!(end.out.is_empty() && !end.session.is_ended());
        }
        assert!(end.input.capacity() <= 64, "{}", end.input.capacity());
    }
}

#[test]
fn the_largest_payload_is_taken() {
    // One option of an unknown kind, four times: 4 × (2 + 254) bytes.
    let payload = [&[200, 254][..], &[0; 254]].concat().repeat(4);
    assert_eq!(payload.len(), 1024);
    let mut end = End::server(settings());
    end.receive(&frame(FrameType::Syn, CLIENT_SEQ, &payload), start());
    assert_eq!(end.out[2], 2, "a SYN-ACK");
}

#[test]
fn no_frame_with_a_flipped_bit_is_accepted() {
    let hello = Options {
        client_id: Some("dev"),
        ..Options::default()
    };
    let first = frame(FrameType::Syn, CLIENT_SEQ, &options(&hello));
    for bit in 0..first.len() * 8 {
        let mut end = End::server(settings());
        end.receive(&flip(&first, bit), start());
        let answered = end.out.get(2) == Some(&(FrameType::SynAck as u8));
        assert!(!answered, "bit {bit} of a SYN");
        assert!(end.session.is_ended() || !end.input.is_empty());
    }
    for bit in 0..ack().len() * 8 {
        let mut end = awaiting_ack();
        end.receive(&flip(&ack(), bit), start());
        assert!(!end.session.is_established(), "bit {bit} of an ACK");
        assert!(!end.seen.contains(&Seen::Established));
    }
    for bit in 0..syn_ack(true).len() * 8 {
        let mut end = End::client(settings(), &Options::default());
        end.forget();
        end.receive(&flip(&syn_ack(true), bit), start());
        assert!(!end.session.is_established(), "bit {bit} of a SYN-ACK");
        assert_ne!(end.out.get(2), Some(&(FrameType::Ack as u8)));
    }
    let gone = frame(FrameType::Rst, 0, &[0, 7]);
    for bit in 0..gone.len() * 8 {
        let mut end = End::client(settings(), &Options::default());
        end.receive(&flip(&gone, bit), start());
        let believed = |seen: &Seen| matches!(seen, Seen::Refused(..));
        assert!(!end.seen.iter().any(believed), "bit {bit} of an RST");
    }
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

#[test]
fn the_first_check_that_fails_names_the_code() {
    // Each has every fault that comes after its own in the protocol's list.
    let bad_options = frame(FrameType::Ack, 9, &[4]);
    let mut bad_crc = bad_options.clone();
    bad_crc[9] ^= 1;
    let mut bad_length = bad_crc.clone();
    bad_length[7] = 0xFF;
    let mut bad_type = bad_length.clone();
    bad_type[2] = 9;
    let mut bad_magic = bad_type.clone();
    bad_magic[1] = b'X';
    assert_eq!(refused_syn(&bad_magic), Code::Malformed);
    assert_eq!(refused_syn(&bad_type), Code::UnknownType);
    assert_eq!(refused_syn(&bad_length), Code::TooLarge);
    assert_eq!(refused_syn(&bad_crc), Code::BadChecksum);
    assert_eq!(refused_syn(&bad_options), Code::Unexpected);
    assert_eq!(
        refused_syn(&frame(FrameType::Syn, 9, &[4])),
        Code::Malformed
    );
    // Seq and acknowledgement before options.
    let mut wrong = 99u32.to_be_bytes().to_vec();
    wrong.push(4);
    let mut right = SERVER_SEQ.wrapping_add(1).to_be_bytes().to_vec();
    right.push(4);
    for (seq, payload, code) in [
        (CLIENT_SEQ, &right, Code::Unexpected),
        (CLIENT_SEQ + 1, &wrong, Code::Unexpected),
        (CLIENT_SEQ + 1, &right, Code::Malformed),
    ] {
        let mut end = awaiting_ack();
        end.receive(&frame(FrameType::Ack, seq, payload), start());
        assert_eq!(rst(&end.out), (CLIENT_SEQ + 1, code.to_wire()));
    }
}

#[test]
fn a_frame_that_does_not_belong_is_unexpected() {
    for kind in [FrameType::SynAck, FrameType::Ack] {
        assert_eq!(refused_syn(&frame(kind, 0, &[0; 4])), Code::Unexpected);
    }
    for kind in [FrameType::Syn, FrameType::SynAck] {
        let mut end = awaiting_ack();
        end.receive(&frame(kind, CLIENT_SEQ + 1, &[0; 4]), start());
        assert_eq!(rst(&end.out), (CLIENT_SEQ + 1, Code::Unexpected.to_wire()));
    }
    for kind in [FrameType::Syn, FrameType::Ack] {
        let mut end = End::client(settings(), &Options::default());
        end.forget();
        let acknowledgement = (CLIENT_SEQ + 1).to_be_bytes();
        end.receive(&frame(kind, SERVER_SEQ, &acknowledgement), start());
        assert_eq!(rst(&end.out), (0, Code::Unexpected.to_wire()));
    }
}

#[test]
fn a_wrong_sequence_number_or_acknowledgement_is_unexpected() {
    let right = SERVER_SEQ.wrapping_add(1);
    let seq = CLIENT_SEQ + 1;
    let wrong: [(u32, &[u8]); 6] = [
        (seq - 1, &right.to_be_bytes()),
        (seq + 1, &right.to_be_bytes()),
        (seq, &(right + 1).to_be_bytes()),
        (seq, &SERVER_SEQ.to_be_bytes()),
        (seq, &[]),
        (seq, &[0; 3]),
    ];
    for (seq, payload) in wrong {
        let mut end = awaiting_ack();
        end.receive(&frame(FrameType::Ack, seq, payload), start());
        assert_eq!(rst(&end.out), (CLIENT_SEQ + 1, Code::Unexpected.to_wire()));
        assert_eq!(end.seen, [Seen::Ended(Reason::Unexpected)]);
    }
    for payload in [&CLIENT_SEQ.to_be_bytes()[..], &[], &[1, 2, 3]] {
        let mut end = End::client(settings(), &Options::default());
        end.forget();
        end.receive(&frame(FrameType::SynAck, SERVER_SEQ, payload), start());
        assert_eq!(rst(&end.out), (0, Code::Unexpected.to_wire()));
    }
}

#[test]
fn nothing_is_made_of_a_prefix() {
    let stream = [syn(false), ack()].concat();
    for count in 0..stream.len() {
        for piece in [1, stream.len()] {
            let mut end = End::server(settings());
            for bytes in stream[..count].chunks(piece) {
                end.receive(bytes, start());
            }
            assert_eq!(end.seen, []);
            assert_eq!(end.out.is_empty(), count < syn(false).len());
            assert!(!end.session.is_established());
        }
    }
}

#[test]
fn messages_in_the_segment_of_the_ack_are_handled() {
    let ping = raw(1, b"first");
    let request = raw(0x20, b"\0\0\0\x01\0\0\x01xhello");
    let mut end = End::server(settings());
    end.receive(&syn(false), start());
    end.forget();
    end.receive(&[ack(), ping, request.clone()].concat(), start());
    assert_eq!(end.seen, [Seen::Established, Seen::Message(request)]);
    assert_eq!(end.out, raw(2, b"first"));
}

#[test]
fn no_message_is_decoded_before_the_handshake_is_over() {
    for &kind in MessageType::ALL {
        for body in [&b""[..], b"\0\0\0\x01\0\0\x01xhello", &[0; 2000]] {
            for mut end in [End::server(settings()), awaiting_ack()] {
                end.receive(&raw(kind as u8, body), start());
                end.silence(start() + ms(2_000));
                assert!(end.session.is_ended(), "{kind:?}");
                assert!(matches!(end.seen[..], [Seen::Ended(_)]), "{:?}", end.seen);
                rst(&end.out);
            }
        }
    }
}

#[test]
fn no_control_frame_is_taken_after_the_handshake() {
    for (bytes, code) in [
        (ack(), Code::UnsupportedVersion),
        (syn_ack(false), Code::UnsupportedVersion),
        (frame(FrameType::Rst, 0, &[0, 1]), Code::UnsupportedVersion),
        // Type 1 is the version; the first byte of its Seq would be a message's type.
        (frame(FrameType::Syn, 0xFF00_0000, &[]), Code::UnknownType),
        (frame(FrameType::Syn, 0x20FF_FFFF, &[]), Code::TooLarge),
    ] {
        let mut end = End::open_server(settings(), false);
        end.receive(&bytes, start());
        assert_eq!(fatal(&end.out, false), code.to_wire());
        assert_eq!(end.seen, [Seen::Ended(code.close_reason())]);
    }
}

#[test]
fn an_rst_ends_the_session_without_an_answer() {
    let gone = frame(FrameType::Rst, 0, b"\x02\x02full");
    let wanted = Seen::Refused(Code::TooManyConnections, "full".to_owned());
    let client = End::client(settings(), &Options::default());
    for mut end in [client, End::server(settings()), awaiting_ack()] {
        end.forget();
        end.receive(&gone, start());
        assert_eq!(end.seen, std::slice::from_ref(&wanted));
        assert!(end.session.is_ended() && end.out.is_empty());
    }
    // Without a code it is an RST all the same.
    let mut end = End::client(settings(), &Options::default());
    end.receive(&frame(FrameType::Rst, 0, &[]), start());
    assert!(matches!(end.seen[..], [Seen::Refused(Code::Malformed, _)]));
}

#[test]
fn a_client_understands_the_rst_that_crossed_its_ack() {
    let gone = frame(FrameType::Rst, CLIENT_SEQ + 1, b"\x00\x07too late");
    for piece in [1, 5, gone.len()] {
        let mut end = End::open_client(settings(), false);
        for bytes in gone.chunks(piece) {
            end.receive(bytes, start());
        }
        let wanted = Seen::Refused(Code::HandshakeTimeout, "too late".to_owned());
        assert_eq!(end.seen, [wanted]);
        assert!(end.out.is_empty());
    }
    let mut end = End::open_client(settings(), false);
    end.receive(&flip(&gone, 8 * 14), start());
    assert_eq!(end.seen, [Seen::Ended(Reason::UnsupportedVersion)]);
}

#[test]
fn a_tls_client_is_closed_without_an_rst_where_tls_is_off() {
    let mut end = End::server(settings());
    end.receive(&[0x16, 3, 1, 2, 0], start());
    assert_eq!(end.seen, [Seen::Ended(Reason::Malformed)]);
    assert!(end.out.is_empty());
    let mut end = awaiting_ack();
    end.receive(&[0x16, 3, 1], start());
    assert_eq!(rst(&end.out).1, Code::Malformed.to_wire());
}

#[test]
fn a_handshake_that_takes_too_long_is_refused() {
    for (mut end, seq) in [
        (End::server(settings()), 0),
        (awaiting_ack(), CLIENT_SEQ + 1),
    ] {
        end.receive(b"MC", start() + ms(1_500));
        end.silence(start() + ms(1_999));
        assert_eq!(end.seen, []);
        end.silence(start() + ms(2_000));
        assert_eq!(end.seen, [Seen::Ended(Reason::HandshakeTimeout)]);
        assert_eq!(rst(&end.out), (seq, Code::HandshakeTimeout.to_wire()));
        assert_eq!(end.session.timeout(), Instant::NEVER);
    }
    let mut end = End::client(settings(), &Options::default());
    end.forget();
    end.silence(start() + ms(2_000));
    assert_eq!(rst(&end.out), (0, Code::HandshakeTimeout.to_wire()));
}

#[test]
fn a_byte_now_and_then_does_not_stretch_the_handshake() {
    let mut end = End::server(settings());
    for (count, byte) in syn(true).chunks(1).enumerate() {
        let now = start() + ms(200 * count as u64);
        end.receive(byte, now);
        end.tick(now);
    }
    assert_eq!(end.seen, [Seen::Ended(Reason::HandshakeTimeout)]);
}
