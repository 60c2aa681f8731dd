//! Sessions: how they begin, what they count and how they end (PROTOCOL.md, Sessions).
//!
//! - SESSION with a key of zeros makes one: SESSION_OK with a key of its own, not resumed,
//!   last_publish_id 0
//! - messages of type 0x10 and more count; ACK says how many are taken, and makes room; an
//!   ACK of what was never sent is an error
//! - what does not fit the buffer waits until there is room; requests and answers do not
//! - CLOSE ends a session with its subscriptions, services and will

use crate::harness::{Server, each_placement};
use crate::peer::{ACK, ERROR, Peer, RESPONSE, WILL, code, op, request};
use std::collections::BTreeSet;

/// A buffer for some twenty messages of `fill`.
const SMALL: &[&str] = &[
    "session.buffer_bytes_max=20000",
    "limits.message_bytes_max=10000",
];

#[test]
fn a_new_session_has_a_key_of_its_own() {
    let server = Server::start(&[]);
    let mut keys = BTreeSet::new();
    for i in 0..40 {
        let mut peer = server.peer(i % 2);
        let granted = peer.session([0; 16], 0).expect("a session");
        assert_eq!((granted.resumed, granted.last_publish_id), (false, 0));
        assert_ne!(granted.key, [0; 16]);
        keys.insert(granted.key);
        peer.close();
    }
    assert_eq!(keys.len(), 40);
    // Keys that count up could be guessed.
    let keys: Vec<_> = keys.into_iter().collect();
    for pair in keys.windows(2) {
        let differing: u32 = (0..16)
            .map(|i| (pair[0][i] ^ pair[1][i]).count_ones())
            .sum();
        assert!(differing > 20, "{pair:?}");
    }
    server.end_beside_closes(&[]);
}

#[test]
fn a_closed_session_is_gone_with_all_it_had() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let (topic, service) = (place.name("t"), place.name("s"));
        let mut watcher = server.peer(place.b);
        watcher.subscribe(&place.name("will"));
        let mut peer = server.peer(place.a);
        let key = peer.new_session();
        peer.subscribe(&topic);
        peer.serve(&service);
        peer.ok(&op(WILL, place.name("will")));
        peer.close();
        watcher.publish(&topic, "to nobody");
        let id = watcher.start(&request(&service, "?"));
        assert_eq!(watcher.responded(id), Err(code::NO_SERVICE));
        let mut peer = server.peer(place.b);
        assert_eq!(peer.session(key, 0), Err(code::SESSION_UNKNOWN));
        peer.quiet();
        watcher.quiet();
        peer.close();
        watcher.close();
    });
    server.end_beside_closes(&[]);
}

/// Publishes `count` messages of a kilobyte on `topic`.
fn fill(server: &Server, shard: u16, topic: &str, count: usize) {
    let mut publisher = server.peer(shard);
    for number in 0..count {
        publisher.publish(topic, format!("{number:>1000}"));
    }
    publisher.close();
}

#[test]
fn requests_and_responses_count_like_publishes_and_answers_do_not() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let (topic, service) = (place.name("t"), place.name("s"));
        let mut peer = server.peer(place.a);
        let key = peer.new_session();
        peer.subscribe(&topic);
        peer.serve(&service);
        let mut other = server.peer(place.b);
        other.publish(&topic, "first");
        assert_eq!(peer.published().text(), "first");
        let echoed = peer.start(&request("$sys/echo", "second"));
        assert_eq!(peer.responded(echoed).unwrap(), b"second");
        let asked = other.start(&request(&service, "third"));
        let got = peer.requested();
        assert_eq!(peer.counted, 3);
        peer.cut();
        let mut peer = server.peer(place.b);
        assert!(peer.session(key, 1).unwrap().resumed);
        assert_eq!(peer.responded(echoed).unwrap(), b"second");
        let again = peer.requested();
        assert_eq!(again, got);
        peer.quiet();
        // Whether the request outlived the connection or not, it is answered once.
        peer.respond(&again, "fourth");
        let answer = other.next();
        assert_eq!(answer.id(), asked);
        assert!([Ok(&b"fourth"[..]), Err(code::SERVICE_GONE)].contains(&answer.result()));
        other.quiet();
        peer.close();
        other.close();
    });
    server.end_beside_closes(&[("peer_eof", 4)]);
}

#[test]
fn an_ack_of_what_was_never_sent_is_an_error() {
    let mut server = Server::start(&[]);
    for (shard, beyond) in [(0, 3u32), (1, 3), (0, u32::MAX), (1, 0x8000_0000)] {
        let mut peer: Peer = server.peer(shard);
        peer.new_session();
        peer.subscribe("ack/x");
        for _ in 0..2 {
            peer.publish("ack/x", "counted");
            peer.published();
        }
        peer.ack();
        peer.quiet();
        peer.send(ACK, &beyond.to_be_bytes());
        let got = peer.read().expect("an ERROR");
        assert_eq!(got.kind, ERROR, "{got:?}");
    }
    server.wait_for("closed", |stats| stats.connections == 1);
    server.end();
}

#[test]
fn what_does_not_fit_the_buffer_waits_and_the_session_stays() {
    const COUNT: usize = 60;
    let server = Server::start(SMALL);
    each_placement(|place| {
        let topic = place.name("t");
        let mut peer = server.peer(place.a);
        let key = peer.new_session();
        peer.subscribe(&topic);
        fill(&server, place.b, &topic, COUNT);
        let mut came = peer.drain();
        assert!((10..20).contains(&came.len()), "{} at once", came.len());
        // Its own requests are answered meanwhile.
        let id = peer.start(&request("$sys/echo", vec![0; 9000]));
        assert_eq!(peer.responded(id).unwrap().len(), 9000);
        while came.len() < COUNT {
            peer.ack();
            came.push(peer.published());
            came.extend(peer.drain());
        }
        for (number, got) in came.iter().enumerate() {
            assert_eq!(got.text().trim(), number.to_string());
        }
        peer.ack();
        peer.quiet();
        let counted = peer.counted;
        peer.cut();
        fill(&server, place.b, &topic, 1);
        let mut peer = server.peer(place.b);
        assert!(peer.session(key, counted).expect("it is kept").resumed);
        assert_eq!(peer.published().text().trim(), "0");
        peer.close();
    });
    server.end_beside_closes(&[("peer_eof", 4)]);
}

/// With every default, and acknowledging no sooner than it has to.
#[test]
fn large_messages_do_not_end_a_session_that_acknowledges_them() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("t");
        // Its envelope has an id, flags, codec and the name beside the payload.
        let largest = (1 << 20) - 7 - topic.len();
        for sizes in [vec![largest; 6], vec![600_000; 9]] {
            let mut peer = server.peer(place.a);
            let key = peer.new_session();
            peer.subscribe(&topic);
            let mut publisher = server.peer(place.b);
            let mut unacknowledged = 0;
            for &size in &sizes {
                publisher.publish(&topic, vec![7; size]);
                unacknowledged += size;
                if unacknowledged + 1000 > 4 << 20 {
                    // It waits for this.
                    peer.ack();
                    unacknowledged = size;
                }
                assert_eq!(peer.published().payload().len(), size);
            }
            peer.ack();
            peer.quiet();
            peer.cut();
            publisher.publish(&topic, "after");
            let mut peer = server.peer(place.b);
            let count = sizes.len() as u32;
            assert!(peer.session(key, count).expect("it is kept").resumed);
            assert_eq!(peer.published().text(), "after");
            peer.close();
            publisher.close();
        }
    });
    server.end_beside_closes(&[("peer_eof", 8)]);
}

#[test]
fn answers_that_nobody_acknowledges_end_a_connection_that_is_told_so() {
    let mut server = Server::start(&[
        "session.buffer_bytes_max=20000",
        "limits.outbox_bytes_max=20000",
        "limits.message_bytes_max=10000",
    ]);
    for shard in [0, 1] {
        let mut peer = server.peer(shard);
        let key = peer.new_session();
        let mut answered = 0;
        let told = loop {
            peer.start(&request("$sys/echo", vec![1; 4000]).id(answered + 1));
            let got = peer.read().expect("an answer, or an ERROR");
            match got.kind {
                RESPONSE => answered += 1,
                _ => break got,
            }
            assert!(answered < 20, "it is never told");
        };
        assert_eq!(
            (told.kind, told.u16(0), told.body[6]),
            (ERROR, code::SLOW_CONSUMER, 1)
        );
        assert!(answered >= 8, "told after {answered}");
        peer.ended();
        // The session is there all the same, and goes on with an acknowledgement.
        let mut peer = server.peer(1 - shard);
        assert!(peer.session(key, answered).expect("it is kept").resumed);
        peer.drain();
        peer.ack();
        let id = peer.start(&request("$sys/echo", "again"));
        assert_eq!(peer.responded(id).unwrap(), b"again");
        peer.close();
    }
    server.settle_beside_closes(&[("slow_consumer", 2)]);
    server.end();
}
