//! The budget of errors (PROTOCOL.md §3: "After ten non-fatal ERRORs within one second the
//! next is fatal").
//!
//! - whatever they are about; sessions' and operations' errors count alike
//! - who is shut out leaves nothing behind, and its will is published

use crate::harness::{Server, each_placement};
use crate::peer::{
    ERROR, Op, Peer, SERVE, SESSION, UNSERVE, UNSUBSCRIBE, WILL, op, publish, subscribe,
};

/// Mistakes of every kind.
fn mistakes() -> [Op; 8] {
    [
        subscribe("a/#/b"),
        op(UNSUBSCRIBE, "never"),
        op(UNSERVE, "never"),
        publish("$sys/x", "x"),
        publish("a/+", "x"),
        op(SERVE, "$sys/x"),
        op(WILL, "$sys/x"),
        op(WILL, "a/#"),
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
    for mistake in mistakes() {
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
