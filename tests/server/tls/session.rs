//! Sessions move from connection to connection and from shard to shard with their TLS, and
//! the end of a server is told in TLS.

use super::authority::{Authority, Habit, VERSIONS};
use crate::harness::{Server, each_placement};
use crate::peer::{DRAIN, Manner, SERVE, code, op, publish};

/// A server for clients of each version of TLS.
fn servers() -> impl Iterator<Item = Server> {
    let authority = Authority::new();
    VERSIONS.into_iter().map(move |version| {
        let client = authority.client_with(Habit {
            version: Some(version),
            ..Habit::default()
        });
        authority.server(&[]).secured(&client)
    })
}

#[test]
fn a_session_is_resumed_on_any_shard() {
    for server in servers() {
        each_placement(|place| {
            let topic = place.name("t");
            let mut other = server.peer(place.a);
            let mut old = server.peer(place.a);
            let key = old.new_session();
            old.subscribe(&topic);
            for number in 0..20 {
                other.publish(&topic, format!("{number}"));
            }
            for number in 0..7 {
                assert_eq!(old.published().text(), number.to_string());
            }
            old.cut();
            other.publish(&topic, "20");
            let mut new = server.peer(place.b);
            assert!(new.session(key, 7).unwrap().resumed);
            for number in 7..=20 {
                assert_eq!(new.published().text(), number.to_string());
            }
            new.ok(&publish(&topic, "its own"));
            assert_eq!(new.published().text(), "its own");
            new.close();
            other.close();
        });
        server.end_beside_closes(&[("peer_eof", 4)]);
    }
}

#[test]
fn a_session_is_taken_over_and_the_old_connection_told() {
    for server in servers() {
        each_placement(|place| {
            let topic = place.name("t");
            let mut other = server.peer(place.a);
            let mut old = server.peer(place.a);
            let key = old.new_session();
            old.subscribe(&topic);
            // So much that some of it is on its way when it is taken over.
            let large = "x".repeat(50_000);
            for _ in 0..10 {
                other.publish(&topic, &large);
            }
            let mut new = server.peer(place.b);
            assert!(new.session(key, 0).unwrap().resumed);
            for _ in 0..10 {
                assert_eq!(new.published().text(), large);
            }
            old.fatal(code::SESSION_TAKEN);
            other.publish(&topic, "to the new one");
            assert_eq!(new.published().text(), "to the new one");
            new.close();
            other.close();
        });
        server.end_beside_closes(&[("session_taken", 4)]);
    }
}

/// What a cancelled send left of a record goes on from another slot, in order.
#[test]
fn a_takeover_in_the_midst_of_a_record_breaks_none() {
    const COUNT: usize = 120;
    let settings = [
        "limits.outbox_bytes_max=16777216",
        "session.buffer_bytes_max=16777216",
    ];
    let authority = Authority::new();
    let server = authority.server(&settings);
    each_placement(|place| {
        let topic = place.name("t");
        let mut other = server.peer(place.a);
        let mut old = server.peer_with(place.a, Manner::NARROW);
        let key = old.new_session();
        old.subscribe(&topic);
        // More than the kernel holds for who does not read.
        let large = "x".repeat(100_000);
        for _ in 0..COUNT {
            other.publish(&topic, &large);
        }
        let mut new = server.peer(place.b);
        assert!(new.session(key, 0).unwrap().resumed);
        std::thread::scope(|scope| {
            // At once: the server waits for a second only for who takes nothing.
            scope.spawn(|| old.fatal(code::SESSION_TAKEN));
            for _ in 0..COUNT {
                assert_eq!(new.published().text(), large);
            }
        });
        new.close();
        other.close();
    });
    server.end_beside_closes(&[("session_taken", 4)]);
}

#[test]
fn a_drain_tells_each_and_ends_with_close_notify() {
    for mut server in servers() {
        let mut peers: Vec<_> = [0, 1].map(|shard| server.peer(shard)).into();
        for peer in &mut peers {
            peer.ok(&op(SERVE, "works"));
        }
        server.terminate();
        for mut peer in peers {
            let got = peer.read().expect("a DRAIN");
            assert_eq!(got.kind, DRAIN, "{got:?}");
            peer.closed();
        }
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    }
}
