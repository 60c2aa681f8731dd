//! Subscribing, serving and receiving on one connection: what is sent, what is handed out, and
//! in which order.

use crate::peer::{Heard, Peer, Served};
use ringmail::blocking::Client;
use ringmail::client::{
    Code, Codec, Error, IncomingRequest, Message as Received, Serve, SlowPolicy, Subscribe, header,
};
use ringmail::proto::envelope::{Envelope, FLAG_FAILED, FLAG_RETAIN, Headers};
use ringmail::proto::message::{Message, MessageType};
use std::time::Duration;

fn refuse(served: &mut Served, kind: MessageType, code: Code) {
    let asked = served.operation(kind);
    served.send(&Message::Error {
        code,
        id: asked.id,
        fatal: false,
        text: "no",
    });
}

fn message(client: &mut Client) -> Received {
    client.receive().unwrap().into_message().unwrap()
}

fn request(client: &mut Client) -> IncomingRequest {
    client.receive().unwrap().into_request().unwrap()
}

#[test]
fn a_subscription_waits_for_its_ok_and_messages_come_as_published() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.confirm(MessageType::Subscribe, "site/#");
        let mut block = Vec::new();
        Headers::push(&mut block, 0x41, b"own");
        let envelope = Envelope {
            id: 99,
            flags: FLAG_RETAIN,
            codec: Codec::Json,
            name: "site/1",
            headers: Headers::check(&block).unwrap(),
            payload: b"{}",
        };
        served.send(&Message::Envelope(MessageType::Publish, envelope));
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    client.subscribe("site/#").unwrap();
    let message = message(&mut client);
    assert_eq!(
        (message.topic.as_str(), &message.payload[..]),
        ("site/1", &b"{}"[..])
    );
    assert_eq!((message.codec, message.retain), (Codec::Json, true));
    assert_eq!(message.headers().find(0x41), Some(&b"own"[..]));
    assert_eq!(
        client.receive_timeout(Duration::from_millis(20)).unwrap(),
        None
    );
    client.close().unwrap();
}

#[test]
fn what_a_subscription_is_told_reaches_the_server_and_refusals_come_back() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.confirm(MessageType::Subscribe, "jobs/+");
        assert_eq!(asked.codec, Codec::Protobuf as u8);
        let expected = [
            (header::GROUP, b"g".to_vec()),
            (header::SLOW_POLICY, vec![4]),
        ];
        assert_eq!(asked.headers, expected);
        let asked = served.confirm(MessageType::Unsubscribe, "jobs/+");
        assert_eq!(asked.headers, [(header::GROUP, b"g".to_vec())]);
        refuse(&mut served, MessageType::Subscribe, Code::Forbidden);
        refuse(&mut served, MessageType::Unsubscribe, Code::NotSubscribed);
        let asked = served.confirm(MessageType::Serve, "svc/#");
        assert_eq!(asked.headers, [(header::GROUP, b"g".to_vec())]);
        served.confirm(MessageType::Unserve, "svc/#");
        refuse(&mut served, MessageType::Unserve, Code::NotSubscribed);
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    let subscribe = Subscribe::new("jobs/+")
        .group("g")
        .slow_policy(SlowPolicy::LatestPerKey)
        .codec(Codec::Protobuf);
    client.subscribe_with(&subscribe).unwrap();
    client.unsubscribe_with(&subscribe).unwrap();
    let error = client.subscribe("secret").unwrap_err();
    assert_eq!(error.code(), Some(Code::Forbidden));
    let error = client.unsubscribe("jobs/+").unwrap_err();
    assert_eq!(error.code(), Some(Code::NotSubscribed));
    let serve = Serve::new("svc/#").group("g");
    client.serve_with(&serve).unwrap();
    client.unserve_with(&serve).unwrap();
    let error = client.unserve("svc").unwrap_err();
    assert_eq!(error.code(), Some(Code::NotSubscribed));
    // Refused here.
    for error in [
        client.subscribe("a/#/b").unwrap_err(),
        client.subscribe("").unwrap_err(),
        client.serve("a/#/b").unwrap_err(),
        client
            .subscribe_with(&Subscribe::new("a").group(""))
            .unwrap_err(),
    ] {
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
    client.close().unwrap();
}

#[test]
fn messages_that_come_while_a_call_waits_are_kept_in_order() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.operation(MessageType::Subscribe);
        served.publish("t", b"1"); // a retained one may come before the OK
        served.send(&Message::Ok { id: asked.id });
        served.publish("t", b"2");
        let asked = served.request();
        served.publish("t", b"3");
        served.answer(&asked);
        served.publish("t", b"4");
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    client.subscribe("t").unwrap();
    client.request("$sys/echo", "").unwrap();
    for expected in [b"1", b"2", b"3", b"4"] {
        assert_eq!(message(&mut client).payload, expected);
    }
    client.close().unwrap();
}

#[test]
fn a_call_whose_answer_is_behind_too_many_messages_says_so_and_receiving_helps() {
    const COUNT: usize = 400;
    let peer = Peer::run(|mut served| {
        served.establish();
        served.confirm(MessageType::Subscribe, "t");
        let asked = served.request();
        for _ in 0..COUNT {
            served.publish("t", &[0; 1000]);
        }
        served.answer(&asked);
        let asked = served.request();
        served.answer(&asked);
        served.part();
    });
    let mut client = Client::builder()
        .inbox_bytes_max(100_000)
        .connect(&peer.address)
        .unwrap();
    client.subscribe("t").unwrap();
    match client.request("$sys/echo", "").unwrap_err() {
        Error::InboxFull { bytes } => assert!((100_000..300_000).contains(&bytes), "{bytes}"),
        other => panic!("{other}"),
    }
    for _ in 0..COUNT {
        message(&mut client);
    }
    // The late answer to the first is not taken for the second's.
    let response = client.request("$sys/echo", "second").unwrap();
    assert_eq!(response.payload, b"second");
    client.close().unwrap();
}

#[test]
fn what_had_come_is_handed_out_before_the_end_is_told() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.confirm(MessageType::Subscribe, "t");
        served.publish("t", b"1");
        served.publish("t", b"2");
        served.send(&Message::Close {
            code: Code::Draining,
            reason: "bye",
        });
        while !matches!(served.hear(), Heard::Closed { .. } | Heard::Eof) {}
    });
    let mut client = Client::connect(&peer.address).unwrap();
    client.subscribe("t").unwrap();
    assert_eq!(message(&mut client).payload, b"1");
    assert_eq!(message(&mut client).payload, b"2");
    let error = client.receive().unwrap_err();
    assert_eq!(error.code(), Some(Code::Draining));
}

#[test]
fn requests_are_handed_out_and_answered_under_their_ids() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.operation(MessageType::Serve);
        // Another shard may know of it before the OK is here.
        served.deliver(MessageType::Request, 70, "svc/a", b"early");
        served.send(&Message::Ok { id: asked.id });
        let answer = served.operation(MessageType::Response);
        assert_eq!(
            (answer.id, &answer.payload[..], answer.flags),
            (70, &b"EARLY"[..], 0)
        );
        let mut block = Vec::new();
        Headers::push(&mut block, header::TIMEOUT_MS, &250u32.to_be_bytes());
        let envelope = Envelope {
            id: 71,
            codec: Codec::Json,
            name: "svc/b",
            headers: Headers::check(&block).unwrap(),
            ..Envelope::default()
        };
        served.send(&Message::Envelope(MessageType::Request, envelope));
        let answer = served.operation(MessageType::Response);
        assert_eq!((answer.id, answer.codec), (71, Codec::Json as u8));
        served.deliver(MessageType::Request, 72, "svc/c", b"");
        let answer = served.operation(MessageType::Response);
        assert_eq!((answer.id, answer.flags), (72, FLAG_FAILED));
        assert_eq!(answer.payload, b"\x10\x01out of paper");
        served.confirm(MessageType::Unserve, "svc/+");
        served.deliver(MessageType::Request, 73, "svc/d", b"");
        let answer = served.operation(MessageType::Response);
        assert_eq!((answer.id, answer.flags), (73, FLAG_FAILED));
        assert_eq!(answer.payload[..2], [0x03, 0x01]);
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    client.serve("svc/+").unwrap();
    let asked = request(&mut client);
    assert_eq!((asked.service.as_str(), asked.timeout()), ("svc/a", None));
    let answer = asked.payload.to_ascii_uppercase();
    client.respond(&asked, answer).unwrap();
    let asked = request(&mut client);
    assert_eq!(asked.timeout(), Some(Duration::from_millis(250)));
    client.respond(&asked, "{}").unwrap();
    let asked = request(&mut client);
    let code = Code::Application(0x1001);
    client.respond_failed(&asked, code, "out of paper").unwrap();
    client.unserve("svc/+").unwrap();
    // Declined without being handed out.
    assert_eq!(
        client.receive_timeout(Duration::from_millis(50)).unwrap(),
        None
    );
    client.close().unwrap();
}

#[test]
fn an_answer_too_large_for_the_server_is_refused_and_can_be_replaced() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.confirm(MessageType::Serve, "svc");
        served.deliver(MessageType::Request, 7, "svc", b"");
        let answer = served.operation(MessageType::Response);
        assert_eq!((answer.id, answer.flags), (7, FLAG_FAILED));
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    client.serve("svc").unwrap();
    let asked = request(&mut client);
    let error = client.respond(&asked, vec![0; 2 << 20]).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    client.respond_failed(&asked, Code::TooLarge, "").unwrap();
    client.close().unwrap();
}

#[test]
fn a_ping_is_answered_while_receiving_and_nothing_reconnects_unasked() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.send(&Message::Ping(b"alive?"));
        served.hear_bytes(b"alive?");
    });
    let mut client = Client::connect(&peer.address).unwrap();
    let error = client.receive().unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(!client.is_connected());
    let error = client.receive_timeout(Duration::ZERO).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}
