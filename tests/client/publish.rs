//! Publishing and the will: what goes over the wire, when a call returns, and what it says of
//! refusals.

use crate::peer::{Heard, Peer, Served};
use ringmail::blocking::Client;
use ringmail::client::{Code, Codec, Error, Publish, header};
use ringmail::proto::envelope::FLAG_RETAIN;
use ringmail::proto::message::{Message, MessageType};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(50);

fn refuse(served: &mut Served, id: u32, code: Code) {
    served.send(&Message::Error {
        code,
        id,
        fatal: false,
        text: "no",
    });
}

#[test]
fn an_unconfirmed_publish_is_sent_at_once_and_has_no_id() {
    let (heard, hear) = std::sync::mpsc::channel();
    let peer = Peer::run(move |mut served| {
        served.establish();
        let asked = served.operation(MessageType::Publish);
        assert_eq!((asked.id, asked.flags), (0, 0));
        assert_eq!(
            (asked.service.as_str(), &asked.payload[..]),
            ("a/b", &b"21.5"[..])
        );
        heard.send(()).unwrap();
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    client.publish("a/b", "21.5").unwrap();
    hear.recv().unwrap(); // before any other call
    client.close().unwrap();
}

#[test]
fn what_a_publish_is_told_reaches_the_server() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.confirm(MessageType::Publish, "a");
        assert!(asked.id != 0);
        assert_eq!(asked.flags & FLAG_RETAIN, FLAG_RETAIN);
        assert_eq!(asked.codec, Codec::Json as u8);
        let expected = [
            (header::EXPIRES_MS, 1500u32.to_be_bytes().to_vec()),
            (header::KEY, b"sensor-1".to_vec()),
            (header::SCHEMA, b"site.Reading".to_vec()),
            (header::TIMESTAMP_NS, 7u64.to_be_bytes().to_vec()),
            (0x40, b"own".to_vec()),
        ];
        assert_eq!(asked.headers, expected);
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    let publish = Publish::new("a")
        .payload(b"{}")
        .codec(Codec::Json)
        .retain(true)
        .confirm(true)
        .expires(Duration::from_micros(1_499_001))
        .key(b"sensor-1")
        .schema("site.Reading")
        .timestamp_ns(7)
        .header(0x40, b"own");
    client.publish_with(&publish).unwrap();
    client.close().unwrap();
}

#[test]
fn a_publish_that_cannot_be_is_refused_before_it_is_sent() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    let large = vec![0; 2 << 20];
    let long = vec![0; 70_000];
    for publish in [
        Publish::new(""),
        Publish::new("a/#"),
        Publish::new("a").payload(&large),
        Publish::new("a").header(0x40, &long),
        Publish::new("a").header(header::EXPIRES_MS, b"123"),
    ] {
        for publish in [publish.clone(), publish.confirm(true)] {
            let error = client.publish_with(&publish).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{error}");
            let error = client.publish_queued(&publish).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{error}");
        }
    }
    assert_eq!(client.unconfirmed_count(), 0);
    client.close().unwrap();
}

#[test]
fn a_confirmed_publish_waits_for_its_own_answer() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.operation(MessageType::Publish);
        served.publish("other", b"in between");
        served.send(&Message::Ok { id: asked.id + 7 });
        served.send(&Message::Ok { id: asked.id });
        let asked = served.operation(MessageType::Publish);
        refuse(&mut served, asked.id, Code::Forbidden);
        served.confirm(MessageType::Publish, "allowed");
        served.operation(MessageType::Publish); // unanswered
        served.part();
    });
    let mut client = Client::builder()
        .request_timeout(Duration::from_secs(20))
        .connect(&peer.address)
        .unwrap();
    client.publish_confirmed("a", "1").unwrap();
    match client.publish_confirmed("secret", "2").unwrap_err() {
        Error::Rejected {
            topic, code, text, ..
        } => {
            assert_eq!(
                (topic.as_str(), code, text.as_str()),
                ("secret", Code::Forbidden, "no")
            );
        }
        other => panic!("{other}"),
    }
    client.publish_confirmed("allowed", "3").unwrap();
    assert_eq!(client.unconfirmed_count(), 0);
    // The answer that does not come is waited for no longer than allowed.
    let received = client.receive_timeout(Duration::ZERO).unwrap().unwrap();
    assert_eq!(received.into_message().unwrap().topic, "other");
    let mut client = client;
    client
        .publish_queued(&Publish::new("late").confirm(true))
        .unwrap();
    client.flush().unwrap();
    assert_eq!(client.unconfirmed_count(), 1);
    client.close().unwrap();
}

#[test]
fn a_confirmation_that_does_not_come_is_a_timeout_and_may_still_come_later() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let peer = Peer::run(move |mut served| {
        served.establish();
        let asked = served.operation(MessageType::Publish);
        gone.recv().unwrap();
        served.send(&Message::Ok { id: asked.id });
        served.part();
    });
    let mut client = Client::builder()
        .request_timeout(SHORT)
        .connect(&peer.address)
        .unwrap();
    let error = client.publish_confirmed("a", "").unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(client.unconfirmed_count(), 1);
    go.send(()).unwrap();
    let confirmed = (0..400).any(|_| client.wait_confirmed().is_ok());
    assert!(confirmed && client.unconfirmed_count() == 0);
    client.close().unwrap();
}

#[test]
fn many_publishes_are_in_flight_at_once_and_failures_are_named() {
    const COUNT: u32 = 5000;
    const TOPICS: u32 = 10;
    let peer = Peer::run(|mut served| {
        served.establish();
        for number in 0..TOPICS {
            served.confirm(MessageType::Publish, &format!("t/{number}"));
        }
        let mut last = 0;
        // None is answered before all are here: on topics that were accepted before, the client
        // does not wait for answers.
        let asked: Vec<_> = (0..COUNT)
            .map(|_| served.operation(MessageType::Publish))
            .collect();
        for asked in asked {
            assert!(asked.id > last, "ids rise");
            last = asked.id;
            match &asked.payload[..] {
                b"7" | b"4999" => refuse(&mut served, asked.id, Code::Forbidden),
                _ => served.send(&Message::Ok { id: asked.id }),
            }
        }
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    for number in 0..TOPICS {
        client
            .publish_confirmed(&format!("t/{number}"), "")
            .unwrap();
    }
    let mut ids = Vec::new();
    for i in 0..COUNT {
        let (topic, payload) = (format!("t/{}", i % TOPICS), i.to_string());
        let publish = Publish::new(&topic).payload(payload.as_bytes());
        let publish = publish.confirm(true);
        ids.push(client.publish_queued(&publish).unwrap());
    }
    let mut failed = Vec::new();
    while let Err(error) = client.wait_confirmed() {
        match error {
            Error::Rejected { id, topic, .. } => failed.push((id, topic)),
            other => panic!("{other}"),
        }
    }
    assert_eq!(
        failed,
        [(ids[7], "t/7".to_owned()), (ids[4999], "t/9".to_owned())]
    );
    client.close().unwrap();
}

#[test]
fn queued_publishes_go_out_in_few_pieces_and_all_of_them() {
    const COUNT: usize = 20_000;
    let peer = Peer::run(|mut served| {
        served.establish();
        for i in 0..COUNT {
            let asked = served.operation(MessageType::Publish);
            assert_eq!(asked.payload, i.to_string().as_bytes());
        }
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    for i in 0..COUNT {
        let payload = i.to_string();
        let id = client.publish_queued(&Publish::new("t").payload(payload.as_bytes()));
        assert_eq!(id.unwrap(), 0);
    }
    client.flush().unwrap();
    client.close().unwrap();
}

#[test]
fn a_reader_that_reads_nothing_makes_publishing_wait_instead_of_filling_memory() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let peer = Peer::run(move |mut served| {
        served.establish();
        let _ = held.recv();
        drop(served);
    });
    let mut client = Client::builder()
        .request_timeout(SHORT)
        .connect(&peer.address)
        .unwrap();
    let payload = vec![0; 64 * 1024];
    let publish = Publish::new("t").payload(&payload);
    let error = (0..10_000).find_map(|_| client.publish_queued(&publish).err());
    assert!(matches!(error, Some(Error::Timeout { .. })), "{error:?}");
    drop(hold);
}

#[test]
fn an_error_to_an_unconfirmed_publish_comes_out_of_the_next_call_and_ends_nothing() {
    let peer = Peer::run(|mut served| {
        served.establish();
        for _ in 0..2 {
            served.operation(MessageType::Publish);
            refuse(&mut served, 0, Code::Forbidden);
            let asked = served.request();
            served.answer(&asked);
        }
        served.confirm(MessageType::Publish, "c");
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    client.publish("a", "").unwrap();
    client.request("$sys/echo", "").unwrap(); // the ERROR is here, and is not its answer
    let error = client.publish("never sent", "").unwrap_err();
    assert_eq!(error.code(), Some(Code::Forbidden));
    assert!(error.to_string().contains("FORBIDDEN"), "{error}");
    client.publish("b", "").unwrap();
    client.request("$sys/echo", "").unwrap();
    let error = client.receive_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(error.code(), Some(Code::Forbidden));
    client.publish_confirmed("c", "").unwrap();
    client.close().unwrap();
}

#[test]
fn a_will_is_confirmed_replaced_and_withdrawn() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.confirm(MessageType::Will, "gone");
        assert_eq!(
            (&asked.payload[..], asked.flags),
            (&b"bye"[..], FLAG_RETAIN)
        );
        let asked = served.confirm(MessageType::Will, "");
        assert!(asked.payload.is_empty());
        let asked = served.operation(MessageType::Will);
        refuse(&mut served, asked.id, Code::Forbidden);
        match served.hear() {
            Heard::Closed { .. } => served.finish(),
            other => panic!("{other:?}"),
        }
    });
    let mut client = Client::connect(&peer.address).unwrap();
    let will = Publish::new("gone").payload(b"bye").retain(true);
    client.will(&will).unwrap();
    client.withdraw_will().unwrap();
    let error = client.will(&Publish::new("$sys/x")).unwrap_err();
    assert_eq!(error.code(), Some(Code::Forbidden));
    client.close().unwrap();
}
