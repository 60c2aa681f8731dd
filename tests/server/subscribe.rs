//! SUBSCRIBE and UNSUBSCRIBE (PROTOCOL.md §2, Operations and Codes).
//!
//! - once confirmed, a subscription is in force on every shard; once taken back, on none
//! - UNSUBSCRIBE of nothing is NOT_SUBSCRIBED
//! - `limits.subscriptions_max` bounds them: TOO_MANY_SUBSCRIPTIONS, not fatal
//! - they end with their connection

use crate::harness::{Server, each_placement};
use crate::peer::{UNSUBSCRIBE, code, op, publish, subscribe};

#[test]
fn a_confirmed_subscription_is_in_force_on_every_shard_until_it_is_taken_back() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let mut subscriber = server.peer(place.b);
        let mut publisher = server.peer(place.a);
        for round in 0..50 {
            let topic = place.name(&format!("round-{}", round % 3));
            subscriber.subscribe(&topic);
            publisher.publish(&topic, format!("seen {round}"));
            assert_eq!(subscriber.published().text(), format!("seen {round}"));
            subscriber.ok(&op(UNSUBSCRIBE, &topic));
            publisher.publish(&topic, format!("unseen {round}"));
            subscriber.quiet();
        }
        publisher.close();
        subscriber.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn unsubscribe_of_nothing_is_told_so() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let (plain, grouped) = (place.name("plain"), place.name("grouped"));
        let mut other = server.peer(place.a);
        other.subscribe(&plain);
        let mut peer = server.peer(place.b);
        peer.ok(&subscribe(&grouped).group("g"));
        for nothing in [
            // Another connection's, another spelling of what it covers, another group.
            op(UNSUBSCRIBE, &plain),
            op(UNSUBSCRIBE, "#"),
            op(UNSUBSCRIBE, &grouped),
            op(UNSUBSCRIBE, &grouped).group("h"),
            op(UNSUBSCRIBE, &grouped).group("gg"),
        ] {
            assert_eq!(peer.refused(&nothing), code::NOT_SUBSCRIBED);
        }
        peer.ok(&op(UNSUBSCRIBE, &grouped).group("g"));
        let twice = op(UNSUBSCRIBE, &grouped).group("g");
        assert_eq!(peer.refused(&twice), code::NOT_SUBSCRIBED);
        peer.publish(&plain, "the other's is untouched");
        assert_eq!(other.published().text(), "the other's is untouched");
        peer.close();
        other.close();
    });
    server.end_beside_closes(&[]);
}

/// The limit is each connection's own, and what a connection had is given back at its end.
#[test]
fn subscriptions_end_with_their_connection() {
    let server = Server::start(&["limits.subscriptions_max=200"]);
    let filters: Vec<_> = (0..200).map(|i| subscribe(format!("many/{i}/+"))).collect();
    for round in 0..6 {
        let mut peer = server.peer(round % 2);
        for id in peer.start_all(&filters) {
            assert_eq!(peer.answer(), (id, Ok(())));
        }
        let refused = peer.refused(&subscribe("one/more"));
        assert_eq!(refused, code::TOO_MANY_SUBSCRIPTIONS);
        let mut publisher = server.peer((round / 2) % 2);
        publisher.ok(&publish("many/199/x", "there"));
        assert_eq!(peer.published().text(), "there");
        match round % 3 {
            0 => peer.close(),
            1 => peer.cut(),
            _ => peer.reset(),
        }
        // Nobody is there: still OK.
        publisher.publish("many/199/x", "nobody");
        publisher.close();
    }
    server.end_beside_closes(&[("peer_eof", 2), ("peer_reset", 2)]);
}
