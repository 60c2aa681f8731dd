//! `tests/vectors/frames.json`: what PROTOCOL.md's author wrote down byte by byte. Each
//! entry decodes to its fields and encodes back to its bytes, or is refused with its error
//! by the parsers and by a session alike.

use super::pair::{End, encoded, fatal, frame, rst, settings, start};
use ringmail::proto::envelope::Codec;
use ringmail::proto::error::{Code, Refusal};
use ringmail::proto::frame::{Frame, FrameType, Parsed};
use ringmail::proto::message::{Header, Message, MessageType, open};
use ringmail::proto::name::{check_filter, check_topic, matches};
use ringmail::proto::option::Options;
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/frames.json")).unwrap()
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(pair).collect()
}

fn number(entry: &Value, field: &str) -> u32 {
    let number = entry[field].as_u64();
    u32::try_from(number.unwrap_or_else(|| panic!("no {field} in {entry}"))).unwrap()
}

fn checksum(entry: &Value) -> bool {
    entry["checksum"].as_bool().unwrap()
}

fn entries(phase: &str, refused: bool) -> Vec<Value> {
    let all = vectors()["frames"].as_array().unwrap().clone();
    let wanted = |v: &Value| v["phase"] == phase && v.get("error").is_some() == refused;
    let some: Vec<Value> = all.into_iter().filter(wanted).collect();
    assert!(!some.is_empty());
    some
}

fn whole(bytes: &[u8]) -> Result<Frame<'_>, Refusal> {
    match Frame::parse(bytes)? {
        Parsed::Whole { used, value } => {
            assert_eq!(used, bytes.len());
            Ok(value)
        }
        Parsed::Incomplete { .. } => panic!("half a frame"),
    }
}

fn decode(bytes: &[u8], checksum: bool) -> Result<Message<'_>, Refusal> {
    let header = Header::parse(bytes, 1 << 20)?.expect("a whole header");
    assert_eq!(header.message_bytes(), bytes.len());
    Message::parse(header.kind, open(bytes, checksum)?)
}

#[test]
fn every_vector_is_of_a_phase_that_is_tried() {
    let all = vectors();
    let known = |v: &&Value| v["phase"] == "link" || v["phase"] == "message";
    let frames = all["frames"].as_array().unwrap();
    assert_eq!(frames.iter().filter(known).count(), frames.len());
    assert!(frames.len() >= 48);
}

#[test]
fn valid_frames_decode_to_their_fields_and_encode_to_their_bytes() {
    for entry in entries("link", false) {
        let bytes = unhex(&entry["hex"]);
        let read = whole(&bytes).unwrap_or_else(|e| panic!("{entry}: {e}"));
        let kind = match entry["type"].as_str().unwrap() {
            "SYN" => FrameType::Syn,
            "SYN-ACK" => FrameType::SynAck,
            "ACK" => FrameType::Ack,
            "RST" => FrameType::Rst,
            other => panic!("{other}"),
        };
        assert_eq!((read.kind, read.seq), (kind, number(&entry, "seq")));
        assert_eq!(frame(kind, read.seq, read.payload), bytes);
        let mut rest = read.payload;
        let mut again = Vec::new();
        if entry.get("ack").is_some() {
            let (head, tail) = rest.split_at(4);
            assert_eq!(head, number(&entry, "ack").to_be_bytes());
            again.extend(head);
            rest = tail;
        }
        if entry.get("payload").is_some() {
            assert_eq!(rest, unhex(&entry["payload"]));
            again.extend(rest);
        } else if kind == FrameType::Rst {
            let refusal = read.rst_refusal();
            assert_eq!(u32::from(refusal.code.to_wire()), number(&entry, "code"));
            assert_eq!(refusal.text, entry["reason"].as_str().unwrap());
            let mut out = Vec::new();
            Frame::encode_rst(read.seq, &refusal, &mut out);
            assert_eq!(out, bytes);
            continue;
        } else {
            let options = Options::parse(rest).unwrap();
            check_options(&options, &entry["options"]);
            options.encode(&mut again);
        }
        // A skipped option is not ours to write again.
        if !entry["name"].as_str().unwrap().contains("skipped") {
            assert_eq!(frame(kind, read.seq, &again), bytes, "{entry}");
        }
    }
}

fn check_options(options: &Options<'_>, wanted: &Value) {
    let empty = serde_json::Map::new();
    let wanted = wanted.as_object().unwrap_or(&empty);
    let number = |name: &str| wanted.get(name).map(|v| v.as_u64().unwrap());
    let text = |name: &str| wanted.get(name).map(|v| v.as_str().unwrap());
    assert_eq!(options.heartbeat_ms.map(u64::from), number("HEARTBEAT_MS"));
    assert_eq!(options.message_max.map(u64::from), number("MESSAGE_MAX"));
    assert_eq!(options.features.map(u64::from), number("FEATURES"));
    assert_eq!(options.client_id, text("CLIENT_ID"));
    assert_eq!(options.codec.map(|c| c as u64), number("CODEC"));
    assert_eq!(options.server, text("SERVER"));
    assert_eq!(options.auth.map(u64::from), number("AUTH"));
    assert_eq!(options.shard.map(u64::from), number("SHARD"));
}

#[test]
fn wrong_frames_are_refused_with_their_error() {
    for entry in entries("link", true) {
        let bytes = unhex(&entry["hex"]);
        let error = entry["error"].as_str().unwrap();
        let mut end = End::server(settings());
        end.receive(&bytes, start());
        assert!(end.session.is_ended(), "{entry}");
        let (_, code) = rst(&end.out);
        let name = Code::from_wire(code).listed_name();
        assert_eq!(name, Some(error), "{entry}");
    }
}

#[test]
fn valid_messages_decode_to_their_fields_and_encode_to_their_bytes() {
    for entry in entries("message", false) {
        let bytes = unhex(&entry["hex"]);
        let checksum = checksum(&entry);
        let message = decode(&bytes, checksum).unwrap_or_else(|e| panic!("{entry}: {e}"));
        assert_eq!(encoded(&message, checksum), bytes, "{entry}");
        let kind = format!("{:?}", message.kind()).to_uppercase();
        assert_eq!(kind, entry["type"].as_str().unwrap());
        match message {
            Message::Ping(opaque) => assert_eq!(opaque, unhex(&entry["payload"])),
            Message::Error {
                code,
                id,
                fatal,
                text,
            } => {
                assert_eq!(u32::from(code.to_wire()), number(&entry, "code"));
                assert_eq!(id, number(&entry, "id"));
                assert_eq!(u32::from(fatal), number(&entry, "fatal"));
                assert_eq!(text, entry["text"].as_str().unwrap());
            }
            Message::Session { key, received } => {
                assert_eq!(key[..], unhex(&entry["key"]));
                assert_eq!(received, number(&entry, "received"));
            }
            Message::Envelope(_, envelope) => {
                assert_eq!(envelope.id, number(&entry, "id"));
                assert_eq!(u32::from(envelope.flags), number(&entry, "flags"));
                let codec = Codec::from_wire(number(&entry, "codec") as u8);
                assert_eq!(Some(envelope.codec), codec);
                assert_eq!(envelope.name, entry["envelope_name"].as_str().unwrap());
                assert_eq!(envelope.payload, unhex(&entry["payload"]));
                let wanted = entry["headers"].as_array().unwrap().iter();
                let wanted = wanted.map(|h| (h[0].as_u64().unwrap() as u8, unhex(&h[1])));
                let read = envelope.headers.iter().map(|(k, v)| (k, v.to_vec()));
                assert!(read.eq(wanted), "{entry}");
            }
            other => panic!("no fields known of {other:?}"),
        }
    }
}

#[test]
fn wrong_messages_are_refused_with_their_error() {
    for entry in entries("message", true) {
        let bytes = unhex(&entry["hex"]);
        let checksum = checksum(&entry);
        let error = entry["error"].as_str();
        let refusal = decode(&bytes, checksum).expect_err("refused");
        assert_eq!(refusal.code.listed_name(), error, "{entry}");
        let mut end = End::open_server(settings(), checksum);
        end.receive(&bytes, start());
        let code = Code::from_wire(fatal(&end.out, checksum));
        assert_eq!(code.listed_name(), error, "{entry}");
        assert!(end.session.is_ended());
    }
}

#[test]
fn names_are_valid_or_not_and_match_as_the_vectors_say() {
    let all = vectors();
    let names = |list: &str| -> Vec<String> {
        serde_json::from_value(all["names"][list].clone()).expect("a list of names")
    };
    for name in names("topics_valid") {
        assert_eq!(check_topic(&name), Ok(()), "{name}");
        assert_eq!(check_filter(&name), Ok(()), "{name}");
    }
    for name in names("topics_invalid") {
        let refusal = check_topic(&name).expect_err(&name);
        assert_eq!(refusal.code, Code::BadName);
    }
    for name in names("filters_valid") {
        assert_eq!(check_filter(&name), Ok(()), "{name}");
    }
    for name in names("filters_invalid") {
        let refusal = check_filter(&name).expect_err(&name);
        assert_eq!(refusal.code, Code::BadName);
    }
    for case in all["names"]["matches"].as_array().unwrap() {
        let (filter, topic) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
        assert_eq!(matches(filter, topic), case[2].as_bool().unwrap(), "{case}");
    }
}

#[test]
fn every_message_type_has_a_number_and_no_other_number_has_a_type() {
    let known = (0..=u8::MAX).filter_map(MessageType::from_wire);
    assert!(known.eq(MessageType::ALL.iter().copied()));
}
