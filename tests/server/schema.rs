//! Topics with a schema (PROTOCOL.md: CODEC of SYN and of SUBSCRIBE, codec of the envelope;
//! ringmail.toml: `[[topic]]`).
//!
//! - a subscriber gets the codec its SUBSCRIBE wants, else its connection's, else as published;
//!   all else of the message is the same
//! - what does not fit is refused to whoever publishes it, by the field's path, not fatally;
//!   what fits goes on, and an empty payload, and every topic that has no schema
//! - order holds between small and large, translated and not
//! - what is too large for a subscriber once it is translated is not sent to it

use crate::harness::{Server, command, each_placement};
use crate::peer::{
    ERROR, Got, KEY, Manner, Op, PUBLISH, Peer, TIMESTAMP_NS, WILL, code, op, publish, subscribe,
};
use std::io::Write;

const JSON: u8 = 1;
const PROTOBUF: u8 = 2;

/// From here on a worker checks it; and from there on it is sent by reference.
const SIZES: [usize; 6] = [1, 60, 5000, 3, 70_000, 900];

/// A server where the topics below each placement's `s` carry readings.
fn start(settings: &[&str]) -> Server {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/site.binpb");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(
        file,
        "[[topic]]\nfilter = \"+/s/#\"\nschema_file = \"{schema}\"\nmessage = \"site.Reading\"\n"
    )
    .unwrap();
    let mut command = command(env!("CARGO_BIN_EXE_ringmail"), &[], settings);
    command.arg("--config").arg(file.path());
    Server::spawn(&mut command)
}

fn sensor(bytes: usize) -> String {
    "t".repeat(bytes)
}

/// A reading with a sensor's name of so many bytes.
fn json(bytes: usize) -> String {
    format!("{{\"sensor\":\"{}\"}}", sensor(bytes))
}

/// The same as protobuf: field 1, delimited by its length.
fn protobuf(bytes: usize) -> Vec<u8> {
    let mut payload = vec![1 << 3 | 2];
    let mut rest = bytes;
    while rest >= 0x80 {
        payload.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    payload.push(rest as u8);
    payload.extend(sensor(bytes).as_bytes());
    payload
}

fn reading(topic: &str, codec: u8, bytes: usize) -> Op {
    let payload = match codec {
        JSON => json(bytes).into_bytes(),
        _ => protobuf(bytes),
    };
    publish(topic, payload).codec(codec)
}

/// The same PUBLISH in another codec, as it must come.
fn expected(op: &Op, id: u32, codec: u8, bytes: usize) -> Vec<u8> {
    let payload = match codec {
        JSON => json(bytes).into_bytes(),
        _ => protobuf(bytes),
    };
    op.clone().id(id).codec(codec).payload(payload).body()
}

fn wants(filter: &str, codec: u8) -> Op {
    subscribe(filter).codec(codec)
}

/// Codec and bytes of the sensor's name.
fn read(got: &Got) -> (u8, usize) {
    let payload = got.payload();
    let is = |bytes: usize| match got.codec() {
        JSON => payload == json(bytes).as_bytes(),
        _ => payload == protobuf(bytes),
    };
    // Around the name stand a few bytes.
    let bytes = (0..=payload.len()).rev().find(|&bytes| is(bytes));
    let bytes = bytes.unwrap_or_else(|| panic!("{got:?}"));
    (got.codec(), bytes)
}

#[track_caller]
fn refused(peer: &mut Peer, op: &Op) -> String {
    let id = peer.start(op);
    let got = peer.read().expect("an ERROR, not the end");
    assert_eq!(got.kind, ERROR, "{got:?}");
    assert_eq!(
        (got.u16(0), got.u32(2), got.body[6]),
        (code::BAD_PAYLOAD, id, 0)
    );
    String::from_utf8(got.body[7..].to_vec()).unwrap()
}

#[test]
fn each_subscriber_gets_its_codec_and_all_else_as_published() {
    let server = start(&[]);
    for summed in [false, true] {
        each_placement(|place| {
            let topic = place.name("s/a");
            let manner = Manner {
                checksum: summed,
                ..Manner::default()
            };
            let preferring = |codec| Manner {
                codec: Some(codec),
                ..manner
            };
            // What each wants; 0: as published.
            let mut readers = [
                (server.peer_with(place.b, manner), 0, 0),
                (server.peer_with(place.b, manner), JSON, JSON),
                (server.peer_with(place.b, manner), PROTOBUF, PROTOBUF),
                (server.peer_with(place.b, preferring(JSON)), 0, JSON),
                (server.peer_with(place.b, preferring(PROTOBUF)), 0, PROTOBUF),
                (server.peer_with(place.b, preferring(PROTOBUF)), JSON, JSON),
            ];
            for (reader, asked, _) in &mut readers {
                reader.ok(&wants(&topic, *asked));
            }
            let mut publisher = server.peer_with(place.a, manner);
            for codec in [JSON, PROTOBUF] {
                for bytes in SIZES {
                    let op = reading(&topic, codec, bytes)
                        .header(KEY, b"k")
                        .header(TIMESTAMP_NS, [3; 8]);
                    let id = publisher.start(&op);
                    assert_eq!(publisher.answer(), (id, Ok(())));
                    for (reader, _, wanted) in &mut readers {
                        let wanted = if *wanted == 0 { codec } else { *wanted };
                        let got = reader.published();
                        let whole = expected(&op, id, wanted, bytes);
                        assert!(got.body == whole, "{got:?} is not {}", whole.escape_ascii());
                    }
                }
            }
            for (mut reader, ..) in readers {
                reader.quiet();
                reader.close();
            }
            publisher.close();
        });
    }
    server.end_beside_closes(&[]);
}

#[test]
fn order_holds_between_small_and_large_confirmed_and_not() {
    let server = start(&["limits.outbox_bytes_max=67108864"]);
    each_placement(|place| {
        let topic = place.name("s/a");
        let mut readers = [JSON, PROTOBUF, 0].map(|codec| {
            let mut reader = server.peer(place.b);
            reader.ok(&wants(&topic, codec));
            (reader, codec)
        });
        let mut publisher = server.peer(place.a);
        let sent: Vec<(u8, usize)> = (0..200)
            .map(|n| ([JSON, PROTOBUF, JSON][n % 3], SIZES[n % SIZES.len()] + n))
            .collect();
        let ops: Vec<Op> = sent
            .iter()
            .enumerate()
            .map(|(n, &(codec, bytes))| {
                let op = reading(&topic, codec, bytes);
                if n % 2 == 0 { op.id(0) } else { op }
            })
            .collect();
        let ids = publisher.start_all(&ops);
        for (reader, wanted) in &mut readers {
            for &(codec, bytes) in &sent {
                let wanted = if *wanted == 0 { codec } else { *wanted };
                assert_eq!(read(&reader.published()), (wanted, bytes));
            }
        }
        for id in ids.into_iter().filter(|&id| id != 0) {
            assert_eq!(publisher.answer(), (id, Ok(())));
        }
        publisher.close();
        readers.into_iter().for_each(|(reader, _)| reader.close());
    });
    server.end_beside_closes(&[]);
}

#[test]
fn what_does_not_fit_is_refused_by_the_fields_path_and_nothing_ends() {
    let mut server = start(&[]);
    let mut reader = server.peer(0);
    reader.subscribe("#");
    let mut publisher = server.peer(1);
    let padding = sensor(20_000);
    for (payload, path) in [
        (
            "{\"values\":[{},{},{},{\"celsius\":\"warm\"}]}".to_owned(),
            "values[3].celsius: invalid float literal",
        ),
        (
            format!("{{\"sensor\":\"{padding}\",\"state\":[]}}"),
            "state: ",
        ),
        (
            "{\"kelvin\":1}".to_owned(),
            "site.Reading: unrecognized field name 'kelvin'",
        ),
        ("not JSON".to_owned(), "site.Reading: "),
    ] {
        let text = refused(&mut publisher, &publish("x/s/a", payload).codec(JSON));
        assert!(text.starts_with(path), "{text}");
    }
    let text = refused(
        &mut publisher,
        &publish("x/s/a", b"\x0a\x05t").codec(PROTOBUF),
    );
    assert!(text.starts_with("sensor: "), "{text}");
    let text = refused(&mut publisher, &publish("x/s/a", json(1)));
    assert!(
        text.contains("publish it as JSON (codec 1) or protobuf (codec 2)"),
        "{text}"
    );
    // Without an id it is told the same, and so is a will.
    let text = refused(&mut publisher, &publish("x/s/a", "5").codec(JSON).id(0));
    assert!(text.starts_with("site.Reading: "), "{text}");
    for bytes in [1, 20_000] {
        let will = op(WILL, "x/s/a").payload(sensor(bytes)).codec(JSON);
        refused(&mut publisher, &will);
    }
    assert_eq!(server.stats().total["schema_refused"], 9);
    // Nor do many of them within a second end anything.
    for bytes in [1, 20_000] {
        for kind in [WILL, PUBLISH] {
            let wrong = op(kind, "x/s/a").payload(sensor(bytes)).codec(JSON);
            for _ in 0..12 {
                refused(&mut publisher, &wrong);
            }
        }
    }

    publisher.ok(&reading("x/s/a", JSON, 1));
    assert_eq!(reader.published().payload(), json(1).as_bytes());
    publisher.ok(&publish("x/s/a", ""));
    assert_eq!(reader.published().payload(), b"");
    // In protobuf that is a reading too, of which every field has its default.
    let mut json_reader = server.peer(0);
    json_reader.ok(&wants("x/s/b", JSON));
    publisher.ok(&publish("x/s/b", "").codec(PROTOBUF));
    assert_eq!(json_reader.published().payload(), b"{}");
    publisher.ok(&publish("x/s/b", "").codec(PROTOBUF).retain());
    assert_eq!(
        json_reader.published().payload(),
        b"",
        "nothing is retained"
    );
    json_reader.close();
    assert_eq!(reader.published().payload(), b"");
    assert_eq!(reader.published().payload(), b"");
    publisher.ok(&publish("x/other", "not JSON").codec(JSON));
    assert_eq!(reader.published().payload(), b"not JSON");
    reader.quiet();
    reader.close();
    publisher.close();
    server.end_beside_closes(&[]);
}

#[test]
fn what_becomes_too_large_for_a_subscriber_is_not_sent_to_it() {
    let mut server = start(&[]);
    each_placement(|place| {
        let topic = place.name("s/a");
        let narrow = Manner {
            message_max: Some(3000),
            ..Manner::default()
        };
        let mut reader = server.peer_with(place.b, narrow);
        reader.ok(&wants(&topic, JSON));
        let mut publisher = server.peer(place.a);
        // A byte of protobuf is a state's name in JSON.
        let states = [b"\x42\x64".to_vec(), vec![2; 100]].concat();
        publisher.ok(&publish(&topic, states).codec(PROTOBUF));
        publisher.ok(&reading(&topic, PROTOBUF, 10));
        assert_eq!(read(&reader.published()), (JSON, 10));
        reader.quiet();
        reader.close();
        publisher.close();
    });
    assert_eq!(server.stats().total["deliveries_too_large"], 4);
    server.end_beside_closes(&[]);
}
