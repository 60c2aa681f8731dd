//! Large messages, full pipes and slow readers, through records.

use super::authority::{Authority, Habit, VERSIONS};
use crate::harness::each_placement;
use crate::peer::{ERROR, Manner, PUBLISH, code, publish};
use crate::slow::told;
use crate::stream::Stream;
use crate::wire::Wire;
use ringmail::proto::option::Options;

const MIB: usize = 1 << 20;

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index * 7 + index / 251) as u8)
        .collect()
}

#[test]
fn a_message_of_a_mebibyte_goes_both_ways() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    for version in VERSIONS {
        let client = authority.client_with(Habit {
            version: Some(version),
            ..Habit::default()
        });
        let mut wire = Wire::of(Stream::connect(server.address, Some(&client)));
        wire.shake(&Options::default());
        for length in [
            0,
            1,
            4000,
            4096,
            16_000,
            16_384,
            16_385,
            65_536,
            MIB - 64,
            100,
        ] {
            let payload = pattern(length);
            let echo = wire.request("$sys/echo", &payload).unwrap();
            assert!(echo == payload, "{length} bytes");
        }
        wire.close();
    }
    server.settle(&[("peer_close", 2)]);
    server.end();
}

#[test]
fn a_large_publication_reaches_many_on_both_shards() {
    let authority = Authority::new();
    let server = authority.server(&[]);
    each_placement(|place| {
        let topic = place.name("t");
        let mut readers: Vec<_> = (0..4).map(|_| server.peer(place.b)).collect();
        for reader in &mut readers {
            reader.subscribe(&topic);
        }
        let mut publisher = server.peer(place.a);
        let payload = pattern(MIB - 100);
        publisher.publish(&topic, &payload);
        publisher.publish(&topic, "behind");
        for reader in &mut readers {
            assert!(reader.published().payload() == payload);
            assert_eq!(reader.published().text(), "behind");
        }
        readers.into_iter().for_each(|reader| reader.close());
        publisher.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn a_thousand_requests_in_one_piece_are_answered_in_order() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    let mut wire = server.greet();
    let mut bytes = Vec::new();
    for id in 0..1000 {
        let payload = vec![id as u8; (id % 400) as usize];
        bytes.extend(crate::wire::request_bytes(id, "$sys/echo", &payload, false));
    }
    wire.send(&bytes);
    for id in 0..1000 {
        let expected = vec![id as u8; (id % 400) as usize];
        assert_eq!(wire.response(), (id, Ok(expected)));
    }
    wire.close();
    server.settle(&[("peer_close", 1)]);
    server.end();
}

/// Publishes until the reader that does not read is too slow.
#[test]
fn a_slow_reader_is_dropped_by_the_policy_and_told() {
    let authority = Authority::new();
    let server = authority.server(&[
        "limits.outbox_bytes_max=131072",
        "limits.message_bytes_max=65536",
    ]);
    let mut ended = 0;
    each_placement(|place| {
        let topic = place.name("t");
        let mut slow = server.peer_with(place.b, Manner::NARROW);
        let mut fast = server.peer(place.b);
        slow.subscribe(&topic);
        fast.subscribe(&topic);
        let mut publisher = server.peer(place.a);
        let mut sent = 0u32;
        while told(&server, "disconnect") == ended {
            assert!(sent < 40_000, "never too slow");
            let mut payload = vec![0; 4000];
            payload[..4].copy_from_slice(&sent.to_be_bytes());
            publisher.ok(&publish(&topic, &payload));
            assert_eq!(fast.published().payload(), payload);
            sent += 1;
        }
        ended += 1;
        let mut number = 0u32;
        loop {
            let got = slow.read().expect("an ERROR, not the end");
            match got.kind {
                PUBLISH => assert_eq!(got.payload()[..4], number.to_be_bytes()),
                ERROR => {
                    assert_eq!(got.u16(0), code::SLOW_CONSUMER, "{got:?}");
                    break;
                }
                kind => panic!("{kind:#04x}: {got:?}"),
            }
            number += 1;
        }
        assert!(number < sent, "all came, and yet it was too slow");
        slow.ended();
        fast.close();
        publisher.close();
    });
    server.end_beside_closes(&[("slow_consumer", 4)]);
}

#[test]
fn a_slow_reader_with_drop_oldest_has_the_latest_when_it_reads() {
    let authority = Authority::new();
    let server = authority.server(&[
        "limits.outbox_bytes_max=131072",
        "limits.message_bytes_max=65536",
        "slow_consumer.policy=drop-oldest",
    ]);
    each_placement(|place| {
        let topic = place.name("t");
        let mut slow = server.peer_with(place.b, Manner::NARROW);
        slow.subscribe(&topic);
        let mut publisher = server.peer(place.a);
        const COUNT: u32 = 3000;
        for number in 0..COUNT {
            let mut payload = vec![0; 4000];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            publisher.ok(&publish(&topic, &payload));
        }
        let mut last = None;
        let mut count = 0;
        while last != Some(COUNT - 1) {
            let got = slow.published();
            let number = u32::from_be_bytes(got.payload()[..4].try_into().unwrap());
            assert!(last.is_none_or(|last| number > last));
            last = Some(number);
            count += 1;
        }
        assert!(count < COUNT, "nothing was dropped");
        slow.close();
        publisher.close();
    });
    server.end_beside_closes(&[]);
}
