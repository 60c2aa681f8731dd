//! A session resumed while its connection still stands (PROTOCOL.md, Sessions: "takes it
//! over").
//!
//! - the old connection gets SESSION_TAKEN and closes; the new one has all that was the
//!   session's, and the will is not published
//! - of several that resume at once one is the owner in the end, and nothing is lost or
//!   comes twice to it

use crate::harness::{Server, each_placement};
use crate::peer::{ERROR, PING, PONG, PUBLISH, Peer, SESSION_OK, WILL, code, op, publish, request};
use crate::wire::PATIENCE;
use std::time::Instant;

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

/// One of those who want the session, and what it was sent.
struct Contender {
    peer: Peer,
    texts: Vec<String>,
}

impl Contender {
    /// Reads until `done` says so; false when it has lost the session and was ended.
    fn read_until(&mut self, done: u8) -> bool {
        while let Some(got) = self.peer.read() {
            match got.kind {
                kind if kind == done => return true,
                PUBLISH => self.texts.push(got.text().to_owned()),
                ERROR => {
                    assert_eq!(
                        (got.u16(0), got.body[6]),
                        (code::SESSION_TAKEN, 1),
                        "{got:?}"
                    );
                    self.peer.ended();
                    return false;
                }
                other => panic!("{other:#04x}: {got:?}"),
            }
        }
        panic!("ended without a word");
    }

    fn is_owner(&mut self) -> bool {
        self.peer.send(PING, b"");
        self.read_until(PONG)
    }
}

#[test]
fn of_many_that_resume_at_once_one_is_the_owner() {
    const ROUNDS: u32 = 12;
    let mut server = Server::start(&[]);
    for round in 0..ROUNDS {
        let topic = format!("round-{round}");
        let mut other = server.peer(0);
        let mut first = server.peer(round as u16 % 2);
        let key = first.new_session();
        first.subscribe(&topic);
        other.publish(&topic, "before");
        // Its connection has ended, is ending, or stands.
        let standing = match round % 3 {
            0 => {
                first.cut();
                None
            }
            1 => {
                first.reset();
                None
            }
            _ => Some(first),
        };
        let peers = (0..6).map(|i| server.peer(i % 2));
        let mut contenders: Vec<Contender> = peers
            .map(|peer| Contender {
                peer,
                texts: Vec::new(),
            })
            .collect();
        for contender in &mut contenders {
            contender.peer.start_session(key, 0);
        }
        other.publish(&topic, "during");
        // Each has had it, or was told that another has.
        contenders.retain_mut(|contender| contender.read_until(SESSION_OK));
        if let Some(mut first) = standing {
            first.fatal(code::SESSION_TAKEN);
        }
        let end = Instant::now() + PATIENCE;
        while contenders.len() > 1 {
            assert!(Instant::now() < end, "{} owners", contenders.len());
            contenders.retain_mut(Contender::is_owner);
        }
        let mut owner = contenders.pop().expect("an owner");
        other.publish(&topic, "after");
        assert!(owner.is_owner());
        assert_eq!(owner.texts, ["before", "during", "after"], "round {round}");
        owner.peer.close();
        other.close();
    }
    server.wait_for("closed", |stats| stats.connections == 1);
    server.end();
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
