//! PUBLISH (PROTOCOL.md, Operations: "PUBLISH").
//!
//! - every subscriber gets it, on every shard
//! - as the same bytes: type, id, flags, codec, name, headers and payload as published
//! - re-framed where the two sides differ in CHECKSUM
//! - OK(id) when every subscriber present has it queued: what a subscriber is answered after
//!   that comes behind the message
//! - no one is sent more than the MESSAGE_MAX it asked for (§1)

use crate::harness::{Server, each_placement};
use crate::peer::{
    EXPIRES_MS, KEY, Manner, Op, PUBLISH, SCHEMA, TIMESTAMP_NS, TRACEPARENT, publish,
};

/// One of everything a PUBLISH may carry.
fn kinds(topic: &str) -> Vec<Op> {
    let filled = |bytes: usize| {
        (0..bytes)
            .map(|i| (i * 7 + i / 251) as u8)
            .collect::<Vec<_>>()
    };
    let mut kinds: Vec<Op> = [0, 1, 63, 64, 1000, 4096, 70_000, 1_000_000]
        .into_iter()
        .map(|bytes| publish(topic, filled(bytes)))
        .collect();
    kinds.push(publish(topic, "{\"a\": 1}").codec(1));
    kinds.push(publish(topic, b"\x08\x96\x01").codec(2));
    kinds.push(publish(topic, "unconfirmed").id(0));
    kinds.push(publish(topic, "the last id").id(u32::MAX));
    kinds.push(publish(topic, "retained").retain());
    kinds.push(publish(topic, "retained no more").retain().payload(""));
    // The flag with an empty block.
    kinds.push(publish(topic, "no headers").flag(crate::peer::HEADERS));
    kinds.push(
        publish(topic, filled(5000))
            .header(0xFF, filled(20_000))
            .header(TRACEPARENT, [7; 25])
            .header(EXPIRES_MS, 60_000u32.to_be_bytes())
            .header(KEY, b"\0key")
            .header(SCHEMA, "site.Reading")
            .header(TIMESTAMP_NS, [1; 8])
            .header(0x40, "")
            .header(0x40, "again"),
    );
    kinds
}

#[test]
fn a_subscriber_gets_the_same_bytes_whatever_the_framing_of_either_side() {
    let server = Server::start(&["limits.outbox_bytes_max=16777216"]);
    let topic = "site/étage/7";
    for publishing in [Manner::default(), Manner::SUMMED] {
        each_placement(|place| {
            let manners = [Manner::default(), Manner::SUMMED];
            let mut subscribers = manners.map(|manner| server.peer_with(place.b, manner));
            for subscriber in &mut subscribers {
                subscriber.subscribe(topic);
            }
            let mut publisher = server.peer_with(place.a, publishing);
            for op in kinds(topic) {
                let id = publisher.start(&op);
                let body = op.id(id).body();
                if id != 0 {
                    assert_eq!(publisher.answer(), (id, Ok(())));
                }
                for subscriber in &mut subscribers {
                    // The CRC, if there is one, has been checked; it is not the payload's.
                    let got = subscriber.published();
                    assert!(got.body == body, "{got:?} is not {}", body.escape_ascii());
                }
            }
            subscribers
                .iter_mut()
                .for_each(|subscriber| subscriber.quiet());
            subscribers
                .into_iter()
                .for_each(|subscriber| subscriber.close());
            publisher.close();
        });
    }
    server.end_beside_closes(&[]);
}

#[test]
fn every_subscriber_of_every_shard_gets_it_and_nobody_else() {
    let server = Server::start(&[]);
    let mut subscribers: Vec<_> = (0..40).map(|i| server.peer(i % 2)).collect();
    let mut others: Vec<_> = (0..4).map(|i| server.peer(i % 2)).collect();
    let filters = ["crowd/x", "crowd/+", "crowd/#", "+/x"];
    for (subscriber, filter) in subscribers.iter_mut().zip(filters.iter().cycle()) {
        subscriber.subscribe(filter);
    }
    for other in &mut others {
        other.subscribe("crowd/y");
    }
    for shard in [0, 1] {
        let mut publisher = server.peer(shard);
        publisher.publish("crowd/x", "small");
        publisher.publish("crowd/x", vec![b'L'; 50_000]);
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.published().text(), "small");
            assert_eq!(subscriber.published().payload().len(), 50_000);
            subscriber.quiet();
        }
        publisher.close();
    }
    for mut peer in subscribers.into_iter().chain(others) {
        peer.quiet();
        peer.close();
    }
    server.end_beside_closes(&[]);
}

#[test]
fn ok_means_that_every_subscriber_has_it_queued() {
    let server = Server::start(&["limits.outbox_bytes_max=16777216"]);
    each_placement(|place| {
        let mut subscribers: Vec<_> = (0..3).map(|_| server.peer(place.b)).collect();
        for subscriber in &mut subscribers {
            subscriber.subscribe("queued");
        }
        let mut publisher = server.peer(place.a);
        for round in 0..60usize {
            publisher.publish("queued", vec![b'q'; 1 + round * 997]);
            for subscriber in &mut subscribers {
                let queued = subscriber.drain();
                assert_eq!(queued.len(), 1, "round {round}: {queued:?}");
                assert_eq!(queued[0].kind, PUBLISH);
                assert_eq!(queued[0].payload().len(), 1 + round * 997);
            }
        }
        publisher.close();
        subscribers
            .into_iter()
            .for_each(|subscriber| subscriber.close());
    });
    server.end_beside_closes(&[]);
}

#[test]
fn nobody_is_sent_more_than_it_said_it_accepts() {
    let mut server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("t");
        let small = Manner {
            message_max: Some(1000),
            ..Manner::default()
        };
        let mut subscriber = server.peer_with(place.b, small);
        let mut other = server.peer(place.b);
        let mut publisher = server.peer(place.a);
        for peer in [&mut subscriber, &mut other] {
            peer.subscribe(&topic);
        }
        for bytes in [900, 1001, 100_000, 10] {
            publisher.publish(&topic, vec![b'm'; bytes]);
            assert_eq!(other.published().payload().len(), bytes);
        }
        for bytes in [900, 10] {
            assert_eq!(subscriber.published().payload().len(), bytes);
        }
        subscriber.quiet();
        for peer in [subscriber, other, publisher] {
            peer.close();
        }
    });
    let stats = server.settle_beside_closes(&[]);
    assert_eq!(stats.total["deliveries_too_large"], 8);
    server.end();
}

/// R14: what a subscriber accepts and what the server takes is meant without the CRC.
#[test]
fn a_crc_makes_no_message_too_large() {
    const MOST: u32 = 1 << 20;
    let mut server = Server::start(&[]);
    for (publishes, subscribes) in [(false, true), (true, false), (true, true)] {
        each_placement(|place| {
            let topic = place.name("t");
            let manner = |checksum, message_max| Manner {
                checksum,
                message_max: Some(message_max),
                ..Manner::default()
            };
            let mut publisher = server.peer_with(place.a, manner(publishes, MOST));
            for most in [1000, MOST] {
                let mut subscriber = server.peer_with(place.b, manner(subscribes, most));
                subscriber.subscribe(&topic);
                // An envelope without headers is 7 bytes and its name.
                let fits = most as usize - 7 - topic.len();
                publisher.publish(&topic, vec![b'm'; fits]);
                assert_eq!(subscriber.published().payload().len(), fits);
                if most < MOST {
                    publisher.publish(&topic, vec![b'm'; fits + 1]);
                }
                subscriber.quiet();
                subscriber.close();
            }
            publisher.close();
        });
    }
    let stats = server.settle_beside_closes(&[]);
    let placements = stats.total["deliveries_too_large"] / 3;
    assert!(placements > 1);
    assert_eq!(stats.total["deliveries_too_large"], 3 * placements);
    server.end();
}
