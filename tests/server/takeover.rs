//! A session resumed while its connection still stands (PROTOCOL.md, Sessions: "takes it
//! over").
//!
//! - the old connection gets SESSION_TAKEN and closes; the new one has all that was the
//!   session's, and the will is not published
//! - nothing is lost or comes twice, however often that happens

use crate::harness::{Server, each_placement};
use crate::peer::{WILL, code, op, publish, request};

#[test]
fn the_old_connection_is_told_and_the_new_one_goes_on() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let (topic, service) = (place.name("t"), place.name("s"));
        let mut other = server.peer(place.a);
        other.subscribe(&place.name("will"));
        let mut old = server.peer(place.a);
        let key = old.new_session();
        old.subscribe(&topic);
        old.serve(&service);
        old.ok(&op(WILL, place.name("will")));
        old.ok(&publish(&topic, "taken").id(41));
        assert_eq!(old.published().text(), "taken");
        other.publish(&topic, "not taken");
        let mut new = server.peer(place.b);
        let granted = new.session(key, 1).unwrap();
        assert_eq!((granted.resumed, granted.last_publish_id), (true, 41));
        assert_eq!(new.published().text(), "not taken");
        old.fatal(code::SESSION_TAKEN);
        other.publish(&topic, "to the new one");
        assert_eq!(new.published().text(), "to the new one");
        let id = other.start(&request(&service, "?"));
        let got = new.requested();
        new.respond(&got, "!");
        assert_eq!(other.responded(id).unwrap(), b"!");
        new.quiet();
        other.quiet();
        new.close();
        other.quiet();
        other.close();
    });
    server.end_beside_closes(&[("session_taken", 4)]);
}

/// Each takes over from the one before, while a publisher goes on: in the end nothing is
/// missing and nothing came twice.
#[test]
fn a_chain_of_takeovers_under_traffic_loses_nothing() {
    const COUNT: u32 = 400;
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("t");
        let mut peer = server.peer(place.a);
        let key = peer.new_session();
        peer.subscribe(&topic);
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                let mut publisher = server.peer(place.b);
                let ops: Vec<_> = (1..=COUNT)
                    .map(|id| publish(&topic, [0; 700]).id(id))
                    .collect();
                for burst in ops.chunks(20) {
                    for id in publisher.start_all(burst) {
                        assert_eq!(publisher.answer(), (id, Ok(())));
                    }
                }
                publisher.close();
            });
            let mut taken = 0;
            let mut shard = place.b;
            while taken < COUNT {
                for _ in 0..20.min(COUNT - taken) {
                    taken += 1;
                    assert_eq!(peer.published().id(), taken);
                }
                let mut next = server.peer(shard);
                shard = place.a + place.b - shard;
                assert!(next.session(key, taken).unwrap().resumed);
                peer.fatal(code::SESSION_TAKEN);
                peer = next;
            }
            publishing.join().unwrap();
        });
        peer.quiet();
        peer.close();
    });
    server.end_beside_closes(&[("session_taken", 80)]);
}
