//! RETAIN (PROTOCOL.md, Operations: "RETAIN").
//!
//! - the topic's last retained message is delivered on SUBSCRIBE, on whichever shard it was
//!   published and whichever asks, as the same bytes, RETAIN flag included
//! - a PUBLISH without RETAIN leaves it; a later one with RETAIN replaces it
//! - it stays when its publisher ends
//! - thousands of them are as complete and as recent as one
//! - memory for them is bounded; what has expired makes room

use crate::harness::{Server, each_placement};
use crate::peer::{Got, Manner, Peer, RETAIN, UNSUBSCRIBE, code, op, publish};
use std::collections::HashMap;
use std::time::{Duration, Instant};

fn retain(topic: &str, payload: &str) -> crate::peer::Op {
    publish(topic, payload).retain()
}

/// What a new subscription of `filter` brings, in the order of topics.
fn brought(peer: &mut Peer, filter: &str) -> Vec<Got> {
    peer.subscribe(filter);
    let mut got = peer.drain();
    got.sort_by(|a, b| a.name().cmp(b.name()));
    got
}

#[test]
fn the_last_retained_message_is_delivered_on_subscribe_as_it_was_published() {
    let server = Server::start(&[]);
    for manner in [Manner::default(), Manner::SUMMED] {
        each_placement(|place| {
            let topic = place.name("state");
            let mut publisher = server.peer(place.a);
            publisher.ok(&retain(&topic, "first"));
            let last = retain(&topic, "last").codec(1).header(0x41, "mine");
            let last = last.header(8, [9; 8]).id(4711);
            publisher.ok(&last);
            publisher.publish(&topic, "not retained");
            publisher.close();
            let mut subscriber = server.peer_with(place.b, manner);
            for _ in 0..3 {
                let got = brought(&mut subscriber, &topic);
                assert_eq!(got.len(), 1, "{got:?}");
                assert_eq!(got[0].body, last.body(), "{got:?}");
                assert_eq!(got[0].flags() & RETAIN, RETAIN);
                subscriber.ok(&op(UNSUBSCRIBE, &topic));
            }
            subscriber.close();
        });
    }
    server.end_beside_closes(&[]);
}

#[test]
fn a_large_retained_message_is_kept_whole() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("large");
        let mut publisher = server.peer(place.a);
        let body: Vec<u8> = (0..300_000u32).map(|i| (i * 13 + i / 256) as u8).collect();
        publisher.ok(&publish(&topic, &body).retain());
        publisher.close();
        let mut subscriber = server.peer(place.b);
        let got = brought(&mut subscriber, &topic);
        assert!(got.len() == 1 && got[0].payload() == body, "{got:?}");
        subscriber.close();
    });
    server.end_beside_closes(&[]);
}

/// However much is retained, and whatever changes while it is brought: of each topic the
/// numbers rise, and the last one comes.
#[test]
fn of_thousands_that_change_meanwhile_a_subscriber_has_the_last_of_each() {
    const TOPICS: u32 = 3000;
    const ROUNDS: u32 = 3;
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = |number: u32| place.name(&format!("{}/{number}", number % 7));
        let round = |round: u32| -> Vec<_> {
            let text = round.to_string();
            (0..TOPICS).map(|n| retain(&topic(n), &text)).collect()
        };
        let mut publisher = server.peer(place.a);
        let publish_all = |publisher: &mut Peer, number| {
            for some in round(number).chunks(100) {
                let ids = publisher.start_all(some);
                for id in ids {
                    assert_eq!(publisher.answer(), (id, Ok(())));
                }
            }
        };
        publish_all(&mut publisher, 0);
        let mut subscribers = Vec::new();
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                for number in 1..=ROUNDS {
                    publish_all(&mut publisher, number);
                }
            });
            for _ in 0..8 {
                let mut subscriber = server.peer(place.b);
                subscriber.subscribe(&place.name("#"));
                subscribers.push(subscriber);
            }
            publishing.join().unwrap();
        });
        for mut subscriber in subscribers {
            let mut last = HashMap::new();
            let mut complete = 0;
            while complete < TOPICS {
                let got = subscriber.published();
                let number: u32 = got.text().parse().unwrap();
                let before = last.insert(got.name().to_owned(), number);
                assert!(before <= Some(number), "{number} behind {before:?}");
                complete += u32::from(number == ROUNDS && before != Some(ROUNDS));
            }
            subscriber.close();
        }
        for some in (0..TOPICS).collect::<Vec<_>>().chunks(100) {
            let clear: Vec<_> = some.iter().map(|&n| retain(&topic(n), "")).collect();
            publisher.start_all(&clear);
            some.iter()
                .for_each(|_| assert_eq!(publisher.answer().1, Ok(())));
        }
        publisher.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn what_has_expired_makes_room_for_others() {
    // A quarter of it is for what is retained.
    let server = Server::start(&["limits.outbox_bytes_shard_max=4194304"]);
    let mut publisher = server.peer(0);
    let body = [b'x'; 1000];
    let soon = |number: u32| {
        let expires = 2000u32.to_be_bytes();
        let topic = format!("soon/{number}");
        publish(topic, body).retain().header(3, expires)
    };
    // At once, so that none expires before the room is full.
    let most: Vec<_> = (0..700).map(soon).collect();
    for id in publisher.start_all(&most) {
        assert_eq!(publisher.answer(), (id, Ok(())));
    }
    let refused = (700..2000).map(soon).find_map(|one| {
        publisher.start(&one);
        publisher.answer().1.err()
    });
    assert_eq!(refused, Some(code::OVERLOADED));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        assert!(Instant::now() < deadline, "nothing has made room");
        std::thread::sleep(Duration::from_millis(200));
        publisher.start(&publish("later", body).retain());
        if publisher.answer().1 == Ok(()) {
            break;
        }
    }
    let mut subscriber = server.peer(1);
    assert_eq!(brought(&mut subscriber, "later").len(), 1);
    subscriber.close();
    publisher.close();
    server.end_beside_closes(&[]);
}
