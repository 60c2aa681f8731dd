//! RETAIN (PROTOCOL.md, Operations: "RETAIN").
//!
//! - the topic's last retained message is delivered on SUBSCRIBE, on whichever shard it was
//!   published and whichever asks, as the same bytes, RETAIN flag included
//! - with a wildcard filter, that of every topic that matches
//! - a PUBLISH without RETAIN leaves it; a later one with RETAIN replaces it
//! - a retained message with an empty payload clears it
//! - it is a message like any other for those who are there: flag kept, empty one too
//! - it stays when its publisher ends
//! - thousands of them are as complete and as recent as one
//! - memory for them is bounded; what has expired makes room
//! - those who are there see last what is retained, whichever shards publishers are on
//! - behind a SUBSCRIBE's OK nothing is missing between one and the next

use crate::harness::{Server, each_placement};
use crate::peer::{
    Got, Manner, OK, PUBLISH, Peer, RETAIN, UNSUBSCRIBE, code, op, publish, subscribe,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
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
fn an_empty_retained_message_clears_it() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("state");
        let mut publisher = server.peer(place.a);
        // From either shard, whichever it was retained on.
        let mut clearer = server.peer(place.b);
        for round in 0..5 {
            publisher.ok(&retain(&topic, "there"));
            let mut subscriber = server.peer(place.b);
            assert_eq!(brought(&mut subscriber, &topic).len(), 1);
            clearer.ok(&retain(&topic, ""));
            // Who is there is told.
            let got = subscriber.published();
            assert_eq!((got.payload(), got.flags()), (&b""[..], RETAIN));
            for shard in [0, 1] {
                let mut late = server.peer(shard);
                let got = brought(&mut late, &topic);
                assert!(got.is_empty(), "round {round}, shard {shard}: {got:?}");
                late.close();
            }
            subscriber.close();
        }
        clearer.ok(&retain(&topic, "")); // nothing to clear is no error
        publisher.close();
        clearer.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn a_wildcard_brings_that_of_every_topic_it_matches() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let mut publisher = server.peer(place.a);
        let topics: Vec<String> = (0..40)
            .map(|i| place.name(&format!("{}/{i:02}", ["odd", "even"][(i + 1) % 2])))
            .collect();
        for topic in &topics {
            publisher.ok(&retain(topic, topic));
        }
        publisher.ok(&retain(&topics[0], ""));
        let mut subscriber = server.peer(place.b);
        for (filter, expected) in [
            (
                "even/+",
                topics[1..].iter().skip(1).step_by(2).collect::<Vec<_>>(),
            ),
            ("odd/#", topics.iter().skip(1).step_by(2).collect()),
            ("+/03", vec![&topics[3]]),
            ("odd/04", vec![]),
        ] {
            let got = brought(&mut subscriber, &place.name(filter));
            let mut expected: Vec<&str> = expected.into_iter().map(String::as_str).collect();
            expected.sort_unstable();
            assert_eq!(
                got.iter().map(Got::name).collect::<Vec<_>>(),
                expected,
                "{filter}"
            );
            assert!(got.iter().all(|got| got.text() == got.name()));
        }
        publisher.close();
        subscriber.close();
    });
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

/// A subscription made while others publish misses nothing: it begins with the retained
/// message or a later one, and from there on every number comes.
#[test]
fn between_the_retained_message_and_the_next_there_is_no_gap() {
    const COUNT: u32 = 400;
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("count");
        let mut publisher = server.peer(place.a);
        publisher.ok(&retain(&topic, "0"));
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                for number in 1..=COUNT {
                    publisher.ok(&retain(&topic, &number.to_string()));
                }
            });
            for _ in 0..10 {
                let mut subscriber = server.peer(place.b);
                subscriber.ok(&subscribe(&topic));
                let mut last: Option<u32> = None;
                for _ in 0..5 {
                    let number = subscriber.published().text().parse().unwrap();
                    // The same once more: retained, and on its way when we came.
                    let next = last.is_none_or(|last| number == last || number == last + 1);
                    assert!(next, "{number} behind {last:?}");
                    last = Some(number);
                    if number == COUNT {
                        break;
                    }
                }
                subscriber.close();
            }
            publishing.join().unwrap();
        });
        publisher.close();
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

/// R10.
#[test]
fn of_two_published_at_once_the_last_that_comes_is_the_retained_one() {
    let server = Server::start(&[]);
    let mut publishers = [server.peer(0), server.peer(1)];
    let mut readers = [server.peer(0), server.peer(1)];
    for reader in &mut readers {
        reader.subscribe("d/#");
    }
    let mut late = server.peer(0);
    for round in 0..400 {
        let topic = format!("d/{round}");
        // One of them clears it now and then.
        let texts = [if round % 4 == 0 { "" } else { "zero" }, "one"];
        let first = round % 2;
        let ids = [first, 1 - first].map(|n| (n, publishers[n].start(&retain(&topic, texts[n]))));
        for (n, id) in ids {
            assert_eq!(publishers[n].answer(), (id, Ok(())));
        }
        let last = readers.each_mut().map(|reader| {
            reader.published();
            reader.published().text().to_owned()
        });
        let kept = brought(&mut late, &topic);
        let kept = kept.first().map_or("", |got| got.text());
        assert_eq!(last, [kept; 2], "{topic}");
    }
    for peer in publishers.into_iter().chain(readers).chain([late]) {
        peer.close();
    }
    server.end_beside_closes(&[]);
}

/// Dropped, it is over, also for a test that fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// R7: snapshots that are retained, and what has changed since, which is not.
#[test]
fn behind_the_ok_of_a_subscribe_no_change_between_snapshots_is_missing() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("feed");
        let (mut publisher, mut subscriber) = (server.peer(place.a), server.peer(place.b));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let end = Over(&is_over);
            scope.spawn(|| {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let some = (number..number + 20).map(|number| {
                        let one = publish(&topic, format!("{number}"));
                        match number % 10 {
                            0 => one.retain().id(0),
                            9 => one,
                            _ => one.id(0),
                        }
                    });
                    publisher.start_all(&some.collect::<Vec<_>>());
                    assert_eq!(
                        (publisher.answer().1, publisher.answer().1),
                        (Ok(()), Ok(()))
                    );
                    number += 20;
                }
                publisher.close();
            });
            for round in 0..150 {
                subscriber.start(&subscribe(&topic));
                while subscriber.read().expect("an OK").kind != OK {}
                let behind: Vec<u32> = (0..40)
                    .map(|_| {
                        let got = subscriber.read().expect("a message");
                        assert_eq!(got.kind, PUBLISH, "{got:?}");
                        got.text().parse().unwrap()
                    })
                    .collect();
                let next = behind.iter().skip(1);
                let holes = behind
                    .iter()
                    .zip(next)
                    .find(|(one, next)| *one + 1 != **next);
                assert_eq!(holes, None, "round {round}");
                subscriber.ok(&op(UNSUBSCRIBE, &topic));
                subscriber.drain();
            }
            drop(end);
        });
        subscriber.close();
    });
    server.end_beside_closes(&[]);
}
