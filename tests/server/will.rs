//! WILL (PROTOCOL.md §2: "the PUBLISH the server makes if the connection ends without CLOSE;
//! an empty name withdraws it").
//!
//! - FIN, RST, a heartbeat that stays out and a mistake of its own are ends without CLOSE
//! - a CLOSE is not; nor is there a will before it is confirmed, or after it is withdrawn
//! - a later will replaces the earlier
//! - it is a PUBLISH like any other: codec, headers and payload as given, once, RETAIN kept

use crate::harness::{Server, each_placement};
use crate::peer::{HEADERS, Manner, Peer, RETAIN, WILL, code, op, publish};
use crate::wire::PATIENCE;
use std::time::{Duration, Instant};

/// Ends the connection as `how` says, and waits for what the server has to say to that.
fn end(mut peer: Peer, how: &str) {
    match how {
        "FIN" => peer.cut(),
        "RST" => peer.reset(),
        _ => {
            peer.write(b"no message");
            peer.fatal(0x0001);
        }
    }
}

#[test]
fn an_end_without_close_publishes_the_will() {
    let server = Server::start(&[]);
    for how in ["FIN", "RST", "garbage"] {
        each_placement(|place| {
            let topic = place.name("gone");
            let mut watcher = server.peer(place.b);
            watcher.subscribe(&place.name("+"));
            let mut peer = server.peer(place.a);
            let will = op(WILL, &topic).payload("unexpectedly");
            let will = will.codec(1).header(0x44, "h");
            peer.ok(&will);
            end(peer, how);
            let got = watcher.published();
            assert_eq!((got.name(), got.text()), (&topic[..], "unexpectedly"));
            assert_eq!((got.codec(), got.flags()), (1, HEADERS), "{how}");
            assert_eq!(got.content(), &will.body()[4..]);
            watcher.quiet();
            watcher.close();
        });
    }
    server.end_beside_closes(&[("malformed", 4), ("peer_eof", 4), ("peer_reset", 4)]);
}

#[test]
fn a_heartbeat_that_stays_out_publishes_the_will() {
    let server = Server::start(&["heartbeat.interval_ms=300", "heartbeat.timeout_ms=1200"]);
    let mut pairs = Vec::new();
    each_placement(|place| {
        let topic = place.name("gone");
        let mut watcher = server.peer(place.b);
        watcher.subscribe(&topic);
        let mut silent = server.peer(place.a);
        silent.ok(&op(WILL, &topic).payload("silence"));
        pairs.push((silent, watcher));
    });
    let end = Instant::now() + PATIENCE;
    let mut told = [0; 4];
    while told != [1; 4] {
        assert!(Instant::now() < end, "wills published: {told:?}");
        // The watchers are heard of meanwhile, and so stay.
        for ((_, watcher), told) in pairs.iter_mut().zip(&mut told) {
            let queued = watcher.drain();
            assert!(queued.iter().all(|got| got.text() == "silence"));
            *told += queued.len();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for (mut silent, watcher) in pairs {
        silent.fatal(code::HEARTBEAT_TIMEOUT);
        watcher.close();
    }
    server.end_beside_closes(&[("heartbeat_timeout", 4)]);
}

#[test]
fn a_close_publishes_no_will() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let mut watcher = server.peer(place.b);
        watcher.subscribe(&place.name("#"));
        for round in 0..10 {
            let mut peer = server.peer(place.a);
            peer.ok(&op(WILL, place.name("gone")).payload("x"));
            if round % 2 == 0 {
                peer.close();
            } else {
                // CLOSE, and then not waiting for the answer.
                peer.send(crate::peer::CLOSE, &[0x10, 0x01]);
                peer.cut();
            }
        }
        let mut fence = server.peer(place.a);
        fence.publish(&place.name("gone"), "fence");
        assert_eq!(watcher.published().text(), "fence");
        watcher.quiet();
        fence.close();
        watcher.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn a_later_will_replaces_and_an_empty_name_withdraws() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let mut watcher = server.peer(place.b);
        watcher.subscribe(&place.name("#"));
        let mut peer = server.peer(place.a);
        peer.ok(&op(WILL, place.name("first")).payload("1"));
        peer.ok(&op(WILL, place.name("second")).payload("2"));
        peer.cut();
        let got = watcher.published();
        assert_eq!((got.name(), got.text()), (&place.name("second")[..], "2"));
        let mut peer = server.peer(place.a);
        peer.ok(&op(WILL, place.name("third")));
        peer.ok(&op(WILL, ""));
        peer.cut();
        let mut peer = server.peer(place.a);
        peer.ok(&op(WILL, "")); // nothing to withdraw is no error
        peer.ok(&op(WILL, place.name("fourth")).payload("withdrawn"));
        peer.ok(&op(WILL, ""));
        peer.ok(&op(WILL, place.name("fourth")).payload("made again"));
        peer.cut();
        assert_eq!(watcher.published().text(), "made again");
        watcher.quiet();
        watcher.close();
    });
    server.end_beside_closes(&[("peer_eof", 12)]);
}

#[test]
fn a_retained_will_waits_for_later_subscribers() {
    let server = Server::start(&[]);
    for (manner, how) in [(Manner::default(), "FIN"), (Manner::SUMMED, "RST")] {
        each_placement(|place| {
            let topic = place.name("state");
            let mut watcher = server.peer(place.b);
            watcher.subscribe(&topic);
            let mut peer = server.peer_with(place.a, manner);
            peer.ok(&op(WILL, &topic).retain().payload("offline"));
            end(peer, how);
            assert_eq!(watcher.published().flags(), RETAIN);
            for shard in [0, 1] {
                let mut late = server.peer_with(shard, manner);
                late.subscribe(&topic);
                let got = late.published();
                assert_eq!((got.text(), got.flags()), ("offline", RETAIN));
                late.quiet();
                late.close();
            }
            watcher.ok(&publish(&topic, "").retain());
            watcher.close();
        });
    }
    server.end_beside_closes(&[("peer_eof", 4), ("peer_reset", 4)]);
}

/// Each connection's will is its own: a hundred that end at once leave a hundred wills.
#[test]
fn many_ends_at_once_publish_each_will_once() {
    const COUNT: usize = 100;
    let server = Server::start(&[]);
    let mut watchers = [server.peer(0), server.peer(1)];
    watchers
        .iter_mut()
        .for_each(|watcher| watcher.subscribe("wills/#"));
    let mut peers: Vec<Peer> = (0..COUNT).map(|i| server.peer(i as u16 % 2)).collect();
    for (i, peer) in peers.iter_mut().enumerate() {
        peer.ok(&op(WILL, format!("wills/{i}")).payload(vec![b'w'; i * 100]));
    }
    peers.into_iter().for_each(Peer::reset);
    for mut watcher in watchers {
        let mut names: Vec<String> = (0..COUNT)
            .map(|_| {
                let got = watcher.published();
                let number: usize = got.name()[6..].parse().unwrap();
                assert_eq!(got.payload().len(), number * 100);
                got.name().to_owned()
            })
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), COUNT);
        watcher.quiet();
        watcher.close();
    }
    server.end_beside_closes(&[("peer_reset", COUNT as u64)]);
}
