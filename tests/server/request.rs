//! Requests and what becomes of them; messages that make no sense now.

use crate::harness::Server;
use crate::wire::{Wire, encode, envelope_bytes};
use prost::Message as _;
use ringmail::proto::envelope::{Codec, Envelope};
use ringmail::proto::error::Code;
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::option::Options;
use ringmail::sys;

#[test]
fn a_request_nobody_answers_for_fails_and_the_connection_goes_on() {
    let mut server = Server::start(&[]);
    let mut wire = server.greet();
    assert_eq!(wire.request("site/none", b"x"), Err(Code::NoService));
    assert_eq!(wire.request("$sys/none", b"x"), Err(Code::NoService));
    let deep = vec!["a"; 33].join("/");
    for name in ["", "a/+", "a/#", "a\u{1}b", &deep] {
        assert_eq!(wire.request(name, b"x"), Err(Code::BadName), "{name:?}");
    }
    // A failed request is an answer, not an ERROR: a hundred in a row are no abuse.
    for _ in 0..100 {
        assert_eq!(wire.request("site/none", b""), Err(Code::NoService));
    }
    wire.echoes();
    wire.close();
    let stats = server.settle(&[("peer_close", 1)]);
    assert_eq!(stats.total["requests_failed"], 107);
    server.end();
}

#[test]
fn an_answer_larger_than_the_client_accepts_fails_instead() {
    let mut server = Server::start(&[]);
    let asked = Options {
        message_max: Some(1000),
        ..Options::default()
    };
    let (mut wire, _) = Wire::greet_with(server.address, &asked);
    // An envelope without a name is 7 bytes.
    let fits = vec![5; 1000 - 7];
    assert!(wire.request("$sys/echo", &fits).unwrap() == fits);
    assert_eq!(
        wire.request("$sys/echo", &[5; 1000]),
        Err(Code::TooLarge),
        "the request is within the server's limit"
    );
    wire.echoes();
    wire.close();
    server.settle(&[("peer_close", 1)]);
    server.end();
}

/// The answer's codec and payload.
fn asked_in(wire: &mut Wire, codec: Codec, name: &str) -> (Codec, Vec<u8>) {
    let envelope = Envelope {
        id: 1,
        name,
        codec,
        ..Envelope::default()
    };
    wire.say(&Message::Envelope(MessageType::Request, envelope));
    let heard = wire.message().expect("a RESPONSE");
    let (_, result) = heard.response();
    let Message::Envelope(_, envelope) = heard.message() else {
        unreachable!()
    };
    (envelope.codec, result.unwrap())
}

#[test]
fn built_in_services_answer_in_json_whether_asked_for_bytes_or_json() {
    let mut server = Server::start(&[]);
    let mut wire = server.greet();
    for codec in [Codec::Bytes, Codec::Json] {
        for name in ["$sys/time", "$sys/info", "$sys/stats"] {
            let (answered, json) = asked_in(&mut wire, codec, name);
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
            assert!(json.is_object(), "{name}");
            assert_eq!(answered, Codec::Json);
        }
    }
    let info: serde_json::Value =
        serde_json::from_slice(&wire.request("$sys/info", b"").unwrap()).unwrap();
    assert_eq!(info["pid"], server.pid());
    assert_eq!(info["shards"], 2);
    wire.close();
    server.settle(&[("peer_close", 1)]);
    server.end();
}

#[test]
fn built_in_services_answer_in_protobuf_what_they_answer_in_json() {
    let mut server = Server::start(&[]);
    let mut wire = server.greet();
    let mut both = |name| {
        let (codec, protobuf) = asked_in(&mut wire, Codec::Protobuf, name);
        assert_eq!(codec, Codec::Protobuf, "{name}");
        (protobuf, asked_in(&mut wire, Codec::Json, name).1)
    };

    let (protobuf, json) = both("$sys/info");
    let mut info = sys::Info::decode(&*protobuf).unwrap();
    let later: sys::Info = serde_json::from_slice(&json).unwrap();
    assert_eq!((info.pid, info.shards), (server.pid(), 2));
    info.uptime_s = later.uptime_s;
    assert_eq!(info, later);

    let (protobuf, json) = both("$sys/time");
    let time = sys::Time::decode(&*protobuf).unwrap();
    let later: sys::Time = serde_json::from_slice(&json).unwrap();
    assert!(time.unix_ns > 0 && time.unix_ns <= later.unix_ns);

    let (protobuf, json) = both("$sys/stats");
    let stats = sys::Stats::decode(&*protobuf).unwrap();
    let later: sys::Stats = serde_json::from_slice(&json).unwrap();
    assert_eq!((stats.connections, stats.shards.len()), (1, 2));
    assert_eq!(stats.total["connections_opened"], 1);
    assert!(stats.total.keys().eq(later.total.keys()));
    assert!(stats.timings_us.keys().eq(later.timings_us.keys()));
    // One REQUEST was between the two.
    assert_eq!(stats.total["requests"] + 1, later.total["requests"]);
    assert!(protobuf.len() < json.len());

    wire.close();
    server.settle(&[("peer_close", 1)]);
    server.end();
}

#[test]
fn what_makes_no_sense_now_is_unexpected() {
    let mut server = Server::start(&[]);
    // Without a session there is nothing to acknowledge, without AUTH nothing to prove.
    for message in [
        Message::Ack { received: 1 },
        Message::Auth {
            method: 1,
            credential: b"token",
        },
    ] {
        let mut wire = server.greet();
        wire.say(&message);
        wire.expect_fatal(Code::Unexpected);
    }
    server.settle(&[("unexpected", 2)]);
    server.end();
}

#[test]
fn an_answer_nobody_asked_for_is_dropped_and_counted() {
    let mut server = Server::start(&[]);
    let mut wire = server.greet();
    wire.send(&envelope_bytes(MessageType::Response, 7, "", b"surprise"));
    wire.echoes();
    wire.close();
    let stats = server.settle(&[("peer_close", 1)]);
    assert_eq!(stats.total["responses_unasked"], 1);
    server.end();
}

#[test]
fn what_comes_behind_a_close_is_not_handled() {
    let mut server = Server::start(&[]);
    let mut wire = server.greet();
    let close = Message::Close {
        code: Code::Application(0x1234),
        reason: "done",
    };
    let mut bytes = encode(&close, false);
    bytes.extend(envelope_bytes(
        MessageType::Request,
        1,
        "$sys/echo",
        b"late",
    ));
    wire.send(&bytes);
    let heard = wire.message().expect("a CLOSE");
    assert!(matches!(
        heard.message(),
        Message::Close {
            code: Code::Normal,
            ..
        }
    ));
    wire.expect_end();
    let stats = server.settle(&[("peer_close", 1)]);
    assert_eq!(stats.total["requests"], server.asked_requests());
    server.end();
}
