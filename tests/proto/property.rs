//! Properties over random input: what is written reads back, how the bytes were cut does
//! not matter, and nothing a peer sends brings a session down.

use super::pair::{
    CLIENT_SEQ, End, SERVER_SEQ, Seen, ack, encoded, frame, ms, options, raw, settings, start, syn,
    syn_ack,
};
use super::random::{block_bytes, config, header_block, message, message_of, option_set};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use ringmail::proto::envelope::{Envelope, Headers};
use ringmail::proto::error::Code;
use ringmail::proto::frame::{Frame, FrameType, Parsed};
use ringmail::proto::message::{Header, Message, MessageType, open};
use ringmail::proto::name::{check_filter, check_topic, matches};
use ringmail::proto::option::Options;

fn frame_type() -> impl Strategy<Value = FrameType> {
    (1u8..=4).prop_map(|byte| FrameType::from_wire(byte).unwrap())
}

/// Cuts `bytes` where `cuts` say.
fn pieces<'b>(bytes: &'b [u8], cuts: &[Index]) -> Vec<&'b [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    at.push(bytes.len());
    let mut from = 0;
    at.iter()
        .map(|&to| &bytes[std::mem::replace(&mut from, to)..to])
        .collect()
}

fn outcome(mut end: End, bytes: &[&[u8]]) -> (Vec<Seen>, Vec<u8>) {
    for piece in bytes {
        end.receive(piece, start());
    }
    (end.seen, end.out)
}

/// A server's or a client's incoming stream: the handshake, then messages of which some may
/// be of the wrong direction, then perhaps garbage.
fn stream(server: bool) -> impl Strategy<Value = (bool, Vec<u8>)> {
    let fits = |k: &MessageType| {
        if server {
            k.from_client()
        } else {
            k.from_server()
        }
    };
    // AUTH is UNEXPECTED here, and CLOSE the end: the random tail brings both sometimes.
    let usual = |k: &MessageType| fits(k) && !matches!(k, MessageType::Auth | MessageType::Close);
    let kinds = MessageType::ALL.iter().copied().filter(usual).collect();
    let tail = prop_oneof![
        2 => Just(None),
        1 => message().prop_map(|m| Some((Some(m), Vec::new()))),
        1 => vec(any::<u8>(), 0..40).prop_map(|garbage| Some((None, garbage))),
    ];
    (any::<bool>(), vec(message_of(kinds), 0..12), tail).prop_map(
        move |(checksum, messages, tail)| {
            let mut bytes = if server {
                [syn(checksum), ack()].concat()
            } else {
                syn_ack(checksum)
            };
            for message in messages {
                bytes.extend(message.bytes(checksum));
            }
            if let Some((last, garbage)) = tail {
                if let Some(last) = last {
                    bytes.extend(last.bytes(checksum));
                }
                bytes.extend(garbage);
            }
            (checksum, bytes)
        },
    )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_message_reads_back_as_it_was_written(message in message(), checksum: bool) {
        let bytes = message.bytes(checksum);
        let header = Header::parse(&bytes, u32::MAX).unwrap().unwrap();
        prop_assert_eq!(header.message_bytes(), bytes.len());
        let body = open(&bytes, checksum).unwrap();
        let read = Message::parse(header.kind, body).unwrap();
        message.with(|written| {
            assert_eq!(read, written);
            assert_eq!(written.body_len(), body.len());
        });
        prop_assert_eq!(encoded(&read, checksum), bytes);
    }

    #[test]
    fn whatever_is_accepted_is_written_as_it_came(kind in 0u8..=0x24, body in vec(any::<u8>(), 0..60)) {
        // Small numbers where lengths and flags stand make acceptance likely.
        let small: Vec<u8> = body.iter().enumerate()
            .map(|(at, byte)| if at < 12 { byte & 7 } else { *byte & 0x7F }).collect();
        for body in [body, small] {
            if let Some(kind) = MessageType::from_wire(kind)
                && let Ok(message) = Message::parse(kind, &body)
            {
                // What follows an OK's id is skipped.
                let written = match kind {
                    MessageType::Ok => &body[..4],
                    _ => &body[..],
                };
                prop_assert_eq!(encoded(&message, false), raw(kind as u8, written));
            }
        }
    }

    #[test]
    fn one_flipped_bit_of_a_summed_message_is_noticed(message in message(), at: Index) {
        let mut bytes = message.bytes(true);
        let at = at.index(bytes.len() * 8);
        bytes[at / 8] ^= 1 << (at % 8);
        let whole = Header::parse(&bytes, 1 << 20)
            .map(|header| header.is_some_and(|h| h.message_bytes() == bytes.len()));
        // Either the header is refused, or claims another length, or the CRC does not match.
        if let Ok(true) = whole {
            prop_assert_eq!(open(&bytes, true).unwrap_err().code, Code::BadChecksum);
        }
    }

    #[test]
    fn every_frame_reads_back_as_it_was_written(
        kind in frame_type(),
        seq: u32,
        payload in vec(any::<u8>(), 0..=1024),
        more in vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = frame(kind, seq, &payload);
        let whole = Frame { kind, seq, payload: &payload };
        let used = bytes.len();
        bytes.extend(more);
        prop_assert_eq!(Frame::parse(&bytes), Ok(Parsed::Whole { used, value: whole }));
    }

    #[test]
    fn options_read_back_as_they_were_written(set in option_set()) {
        let bytes = options(&set.borrow());
        prop_assert_eq!(Options::parse(&bytes), Ok(set.borrow()));
    }

    #[test]
    fn header_blocks_read_back_as_they_were_written(entries in header_block()) {
        let block = block_bytes(&entries);
        let headers = Headers::check(&block).unwrap();
        let read: Vec<_> = headers.iter().map(|(k, v)| (k, v.to_vec())).collect();
        prop_assert_eq!(&read, &entries);
        prop_assert_eq!(headers.as_bytes(), &block[..]);
        for (key, _) in &entries {
            let first = entries.iter().find(|entry| entry.0 == *key).unwrap();
            prop_assert_eq!(headers.find(*key), Some(&first.1[..]));
        }
        let timeout = entries.iter().find(|entry| entry.0 == 2);
        let timeout = timeout.map(|e| u32::from_be_bytes(e.1[..].try_into().unwrap()));
        prop_assert_eq!(headers.timeout_ms(), timeout);
    }

    #[test]
    fn how_a_stream_to_a_server_is_cut_does_not_matter(
        (_, bytes) in stream(true),
        cuts in vec(any::<Index>(), 0..30),
    ) {
        let whole = outcome(End::server(settings()), &[&bytes]);
        prop_assert!(whole.0.contains(&Seen::Established));
        prop_assert_eq!(&outcome(End::server(settings()), &pieces(&bytes, &cuts)), &whole);
        let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&outcome(End::server(settings()), &bytewise), &whole);
    }

    #[test]
    fn how_a_stream_to_a_client_is_cut_does_not_matter(
        (_, bytes) in stream(false),
        cuts in vec(any::<Index>(), 0..30),
    ) {
        let client = || End::client(settings(), &Options::default());
        let whole = outcome(client(), &[&bytes]);
        prop_assert!(whole.0.contains(&Seen::Established));
        prop_assert_eq!(&outcome(client(), &pieces(&bytes, &cuts)), &whole);
        let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&outcome(client(), &bytewise), &whole);
    }

    #[test]
    fn no_input_brings_a_session_down(
        server: bool,
        checksum: bool,
        auth: bool,
        phase in 0..6u8,
        input in vec(prop_oneof![
            vec(any::<u8>(), 0..60),
            (message(), any::<bool>(), any::<Index>(), any::<u8>()).prop_map(
                |(message, summed, at, bits)| {
                    let mut bytes = message.bytes(summed);
                    let at = at.index(bytes.len());
                    bytes[at] ^= bits & (bits >> 4);
                    bytes
                }),
            (frame_type(), any::<bool>(), vec(any::<u8>(), 0..40)).prop_map(
                |(kind, first, payload)| {
                    let seq = if first { CLIENT_SEQ } else { SERVER_SEQ };
                    frame(kind, seq.wrapping_add(1), &payload)
                }),
        ], 0..12),
    ) {
        let mut settings = settings();
        settings.auth_methods = u8::from(auth);
        let mut end = if server {
            End::server(settings)
        } else {
            End::client(settings, &Options::default())
        };
        let opening = if server { vec![syn(checksum), ack()] } else { vec![syn_ack(checksum)] };
        for bytes in opening.iter().take(phase.into()) {
            end.receive(bytes, start());
        }
        end.slow_to_finish = phase == 3;
        match phase {
            3 => end.receive(&encoded(&Message::Close { code: Code::Normal, reason: "" }, checksum), start()),
            4 => end.session.close(Code::Normal, "", &mut end.out),
            5 => { end.session.refuse(&ringmail::proto::error::Refusal::new(Code::Shutdown, "x"), &mut end.out); }
            _ => {}
        }
        end.forget();
        let mut now = start();
        for bytes in input {
            now = now + ms(700);
            end.receive(&bytes, now);
            end.tick(now);
        }
        if end.session.is_ended() {
            prop_assert!(end.session.timeout() == ringmail::base::clock::Instant::NEVER);
        }
    }

    #[test]
    fn no_bytes_bring_a_parser_down(bytes in vec(any::<u8>(), 0..80), kind: u8) {
        let _ = Frame::parse(&bytes);
        let _ = Options::parse(&bytes);
        let _ = Headers::check(&bytes).map(|headers| headers.iter().count());
        let _ = Header::parse(&bytes, 1 << 20);
        for checksum in [false, true] {
            let _ = open(&bytes, checksum);
        }
        if let Some(kind) = MessageType::from_wire(kind) {
            let _ = Message::parse(kind, &bytes);
            let _ = Envelope::parse(kind, &bytes);
        }
        let name = String::from_utf8_lossy(&bytes);
        let _ = (check_topic(&name), check_filter(&name), matches(&name, &name));
    }

    #[test]
    fn a_filter_made_from_a_topic_matches_it(
        levels in vec("[a-z]{0,3}", 1..8),
        wild in vec(any::<bool>(), 8),
        rest in 0usize..9,
    ) {
        let topic = levels.join("/");
        prop_assume!(!topic.is_empty());
        let mut filter: Vec<&str> = levels.iter().zip(&wild)
            .map(|(level, wild)| if *wild { "+" } else { level.as_str() }).collect();
        prop_assert!(matches(&filter.join("/"), &topic));
        // `#` for the last levels, none included; one level more or less is no match.
        let longer = format!("{}/+", filter.join("/"));
        prop_assert_eq!(matches(&longer, &topic), false);
        prop_assert_eq!(matches(&filter[1..].join("/"), &topic), false);
        filter.truncate(rest);
        filter.push("#");
        let filter = filter.join("/");
        prop_assert_eq!(check_filter(&filter), Ok(()));
        prop_assert!(matches(&filter, &topic));
        // The server's names are matched only by who names them.
        let own = format!("${topic}");
        prop_assert_eq!(matches(&filter, &own), false);
    }
}
