//! The budget of errors (PROTOCOL.md §3: "After ten non-fatal ERRORs within one second the
//! next is fatal").
//!
//! - whatever they are about; sessions' and operations' errors count alike
//! - spread over time they are not fatal
//! - who is shut out leaves nothing behind, and its will is published

use crate::harness::{Server, each_placement};
use crate::peer::{
    ERROR, Op, Peer, SERVE, SESSION, UNSERVE, UNSUBSCRIBE, WILL, code, op, publish, subscribe,
};

/// Mistakes of every kind, with the codes they are answered by.
fn mistakes() -> [(Op, u16); 8] {
    [
        (subscribe("a/#/b"), code::BAD_NAME),
        (op(UNSUBSCRIBE, "never"), code::NOT_SUBSCRIBED),
        (op(UNSERVE, "never"), code::NOT_SUBSCRIBED),
        (publish("$sys/x", "x"), code::FORBIDDEN),
        (publish("a/+", "x"), code::BAD_NAME),
        (op(SERVE, "$sys/x"), code::FORBIDDEN),
        (op(WILL, "$sys/x"), code::FORBIDDEN),
        (op(WILL, "a/#"), code::BAD_NAME),
    ]
}

/// Sends twelve mistakes in one piece, of which eleven are answered.
fn shut_out(peer: &mut Peer, mistakes: &[(u8, Vec<u8>)]) {
    let mut bytes = Vec::new();
    for (kind, body) in mistakes.iter().cycle().take(12) {
        bytes.extend(peer.framed(*kind, body));
    }
    peer.write(&bytes);
    for i in 0..11 {
        let got = peer.read().expect("an ERROR");
        let fatal = u8::from(i == 10);
        assert_eq!((got.kind, got.body[6]), (ERROR, fatal), "{i}: {got:?}");
    }
    peer.ended();
}

#[test]
fn the_eleventh_error_in_a_second_is_fatal_whatever_they_are_about() {
    let server = Server::start(&[]);
    let mut operations = Vec::new();
    for (mistake, _) in mistakes() {
        operations.push((mistake.kind, mistake.id(99).body()));
    }
    each_placement(|place| {
        let topic = place.name("t");
        let mut other = server.peer(place.b);
        other.subscribe(&place.name("will"));
        let mut peer = server.peer(place.a);
        peer.subscribe(&topic);
        peer.ok(&op(WILL, place.name("will")).payload("shut out"));
        shut_out(&mut peer, &operations);
        assert_eq!(other.published().text(), "shut out");
        other.publish(&topic, "to nobody");
        other.quiet();
        // Guessing keys is a mistake like the others.
        let mut guesser = server.peer(place.a);
        let mut mixed = vec![(SESSION, vec![0x77; 20])];
        mixed.extend_from_slice(&operations[..2]);
        shut_out(&mut guesser, &mixed);
        other.close();
    });
    server.end_beside_closes(&[("too_many_errors", 8)]);
}

#[test]
fn each_error_names_what_was_wrong_and_few_at_a_time_are_forgiven() {
    let server = Server::start(&[]);
    for shard in [0, 1] {
        let mut peer = server.peer(shard);
        for _ in 0..2 {
            for (mistake, code) in mistakes() {
                assert_eq!(peer.refused(&mistake), code);
            }
            // Eight, and eight in another second.
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
        peer.close();
    }
    server.end_beside_closes(&[]);
}
