//! Order (PROTOCOL.md, Operations: "Order").
//!
//! - what one connection publishes on one topic reaches each subscriber in that order,
//!   whatever the sizes, however many publish at once, confirmed or not, on whichever shard
//! - nothing is lost and nothing comes twice on the way

use crate::harness::{Server, each_placement};
use crate::peer::{Peer, publish};

const ROOMY: &[&str] = &["limits.outbox_bytes_max=134217728"];

/// The publisher's number, its message's number, and then as many bytes as make sizes change:
/// most are small enough to be copied, some large enough to be shared.
fn numbered(publisher: u32, number: u32) -> Vec<u8> {
    let mut payload = publisher.to_be_bytes().to_vec();
    payload.extend(number.to_be_bytes());
    let more = match number % 50 {
        0 => 60_000,
        7 | 23 => 5_000,
        rest => rest as usize * 3,
    };
    payload.resize(payload.len() + more, number as u8);
    payload
}

fn numbers(payload: &[u8]) -> (usize, u32) {
    let field = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    assert!(payload[8..].iter().all(|&byte| byte == field(4) as u8));
    (field(0) as usize, field(4))
}

/// Publishes `count` messages on `topic`, a third of them confirmed, without waiting.
fn flood(peer: &mut Peer, publisher: u32, topic: &str, count: u32) {
    let mut confirmed = Vec::new();
    for number in 0..count {
        let op = publish(topic, numbered(publisher, number));
        match number % 3 {
            0 => confirmed.push(peer.start(&op)),
            _ => _ = peer.start(&op.id(0)),
        }
    }
    for id in confirmed {
        assert_eq!(peer.answer(), (id, Ok(())));
    }
}

/// Reads what `publishers` sent, `count` each, and holds each one's to its order.
fn expect_in_order(peer: &mut Peer, publishers: usize, count: u32) {
    let mut next = vec![0; publishers];
    for _ in 0..publishers as u32 * count {
        let got = peer.published();
        let (publisher, number) = numbers(got.payload());
        assert_eq!(number, next[publisher], "publisher {publisher}");
        next[publisher] += 1;
    }
    peer.quiet();
}

#[test]
fn many_publishers_at_once_are_each_heard_in_order_by_everyone() {
    const COUNT: u32 = 400;
    let server = Server::start(ROOMY);
    let mut subscribers: Vec<Peer> = (0..6).map(|i| server.peer(i % 2)).collect();
    for (i, subscriber) in subscribers.iter_mut().enumerate() {
        for filter in [&["all/t"][..], &["all/#"], &["all/+", "#"]][i / 2] {
            subscriber.subscribe(filter);
        }
    }
    let mut publishers: Vec<Peer> = (0..4).map(|i| server.peer(i % 2)).collect();
    std::thread::scope(|scope| {
        for (i, publisher) in publishers.iter_mut().enumerate() {
            scope.spawn(move || flood(publisher, i as u32, "all/t", COUNT));
        }
        for subscriber in &mut subscribers {
            scope.spawn(|| expect_in_order(subscriber, 4, COUNT));
        }
    });
    for peer in publishers.into_iter().chain(subscribers) {
        peer.close();
    }
    server.end_beside_closes(&[]);
}

/// Many small messages in few segments: more than a ring between shards holds at once, so
/// that the publisher has to be slowed down and nothing may be dropped or overtake.
#[test]
fn a_full_pipe_of_small_messages_loses_and_reorders_nothing() {
    const COUNT: u32 = 60_000;
    let server = Server::start(ROOMY);
    each_placement(|place| {
        let topic = place.name("t");
        let mut subscriber = server.peer(place.b);
        subscriber.subscribe(&topic);
        let mut publisher = server.peer(place.a);
        let mut bytes = Vec::new();
        for number in 0..COUNT {
            let op = publish(&topic, number.to_be_bytes()).id(0);
            bytes.extend(publisher.framed(op.kind, &op.body()));
        }
        std::thread::scope(|scope| {
            scope.spawn(|| publisher.write(&bytes));
            for number in 0..COUNT {
                assert_eq!(subscriber.published().payload(), number.to_be_bytes());
            }
        });
        publisher.close();
        subscriber.close();
    });
    server.end_beside_closes(&[]);
}
