//! How operations are answered (PROTOCOL.md, Operations: "OK or ERROR").
//!
//! - each SUBSCRIBE, UNSUBSCRIBE, SERVE, UNSERVE, WILL and PUBLISH is answered by OK(id)
//! - or by ERROR(id, fatal 0), and the connection goes on
//! - a PUBLISH whose id is 0 is not answered
//! - answers to one connection's operations come in order, whatever each has to wait for
//! - an operation in the segment of the handshake's ACK is an operation like any other
//! - before the handshake is done, and behind a CLOSE, there are no operations

use crate::harness::{Server, each_placement};
use crate::peer::{
    CLOSE, GROUP, Manner, PUBLISH, Peer, REQUEST, SERVE, SUBSCRIBE, UNSERVE, UNSUBSCRIBE, WILL,
    code, control_frame, op, publish, subscribe,
};

#[test]
fn each_operation_is_answered_by_ok_with_its_id() {
    let server = Server::start(&[]);
    for manner in [Manner::default(), Manner::SUMMED] {
        for shard in [0, 1] {
            let mut peer = server.peer_with(shard, manner);
            let ids = [1, 2, 0x0102_0304, u32::MAX, 77, 77, 5, 6, 7];
            let ops = [
                subscribe("a/b"),
                subscribe("a/+").header(GROUP, "one"),
                op(UNSUBSCRIBE, "a/b"),
                op(UNSUBSCRIBE, "a/+").header(GROUP, "one"),
                op(SERVE, "s/+"),
                op(UNSERVE, "s/+"),
                op(WILL, "w").payload("gone"),
                op(WILL, ""),
                publish("a/b", "x"),
            ];
            for (op, id) in ops.into_iter().zip(ids) {
                assert_eq!(peer.ok(&op.id(id)), id);
            }
            peer.close();
        }
    }
    server.end_beside_closes(&[]);
}

#[test]
fn an_operation_that_is_refused_leaves_the_connection_as_it_was() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("t");
        let mut subscriber = server.peer(place.b);
        subscriber.subscribe(&topic);
        for kind in [SUBSCRIBE, UNSUBSCRIBE, SERVE, UNSERVE, WILL, PUBLISH] {
            let wrong = op(kind, "a/#/b").id(0xFFFF_FF00 + u32::from(kind));
            assert_eq!(subscriber.refused(&wrong), code::BAD_NAME, "{kind:#04x}");
        }
        assert_eq!(
            subscriber.refused(&op(UNSUBSCRIBE, "never")),
            code::NOT_SUBSCRIBED
        );
        let mut publisher = server.peer(place.a);
        assert_eq!(publisher.refused(&publish("$sys/x", "x")), code::FORBIDDEN);
        publisher.publish(&topic, "still there");
        assert_eq!(subscriber.published().text(), "still there");
        subscriber.quiet();
        publisher.close();
        subscriber.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn a_publish_with_id_0_is_delivered_and_not_answered() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("t");
        let mut subscriber = server.peer(place.b);
        subscriber.subscribe(&topic);
        let mut publisher = server.peer(place.a);
        for text in ["1", "2", "3"] {
            publisher.start(&publish(&topic, text).id(0));
        }
        // Had it answered, `drain` would fail on the OK.
        publisher.quiet();
        for text in ["1", "2", "3"] {
            let got = subscriber.published();
            assert_eq!((got.id(), got.text()), (0, text));
        }
        publisher.close();
        subscriber.close();
    });
    server.end_beside_closes(&[]);
}

/// Operations that wait for the other shard, that do not, and that fail at once, sent in one
/// piece: the answers come in the order of the operations. Nine errors stay below the budget.
#[test]
fn answers_come_in_the_order_of_the_operations() {
    let server = Server::start(&[]);
    for shard in [0, 1] {
        let mut other = server.peer(1 - shard);
        other.subscribe("ordered/#");
        let mut peer = server.peer(shard);
        let mut ops = Vec::new();
        let mut expected = Vec::new();
        for round in 0..300u32 {
            let filter = format!("round/{}", round % 7);
            let (op, result) = match round % 8 {
                0 => (subscribe(&filter), Ok(())),
                1 => (op(SERVE, format!("service/{round}")), Ok(())),
                2 => (publish("nobody", "x"), Ok(())),
                3 => (publish("ordered/x", round.to_string()), Ok(())),
                4 => (op(WILL, "ordered/will").payload("x"), Ok(())),
                5 => (op(UNSERVE, format!("service/{}", round - 4)), Ok(())),
                6 if round % 40 == 6 => (op(UNSUBSCRIBE, "never"), Err(code::NOT_SUBSCRIBED)),
                _ => (publish("ordered/y", vec![0; 3000]), Ok(())),
            };
            ops.push(op);
            expected.push(result);
        }
        let ids = peer.start_all(&ops);
        for (id, result) in ids.into_iter().zip(expected) {
            assert_eq!(peer.answer(), (id, result));
        }
        peer.ok(&op(WILL, ""));
        peer.close();
        let topics = ["ordered/x", "ordered/y"];
        assert!(other.drain().iter().all(|got| topics.contains(&got.name())));
        other.close();
    }
    server.end_beside_closes(&[]);
}

#[test]
fn an_operation_in_the_segment_of_the_ack_is_done() {
    let server = Server::start(&[]);
    let mut subscribers = [0, 1].map(|shard| server.peer(shard));
    for subscriber in &mut subscribers {
        subscriber.subscribe("early");
    }
    let mut wire = server.connect();
    wire.send(&control_frame(1, crate::wire::SEQ, b""));
    let acknowledged = wire.syn_ack();
    let mut bytes = acknowledged.ack;
    bytes.extend(b"MC\x01\x10\0\0\0\x0e\0\0\0\x09\0\0\x05earlyhi");
    wire.send(&bytes);
    let heard = wire.message().expect("an OK");
    assert_eq!(heard.body, [0, 0, 0, 9]);
    wire.close();
    for mut subscriber in subscribers {
        assert_eq!(subscriber.published().text(), "hi");
        subscriber.close();
    }
    server.end_beside_closes(&[]);
}

#[test]
fn before_the_handshake_is_done_there_are_no_operations() {
    let mut server = Server::start(&[]);
    let mut watcher = server.peer(0);
    watcher.subscribe("#");
    let mut refused = 0;
    for kind in [
        SUBSCRIBE,
        UNSUBSCRIBE,
        SERVE,
        UNSERVE,
        WILL,
        PUBLISH,
        REQUEST,
    ] {
        for greeted in [false, true] {
            let mut wire = server.connect();
            if greeted {
                wire.send(&control_frame(1, crate::wire::SEQ, b""));
                wire.syn_ack();
            }
            let mut bytes = vec![b'M', b'C', 1, kind, 0, 0, 0, 107];
            bytes.extend(op(kind, "x").payload([b'.'; 99]).body());
            wire.send(&bytes);
            let told = wire.frame().expect("an RST, not the end");
            assert_eq!(told.kind as u8, 4, "{told:?}");
            wire.expect_end();
            refused += 1;
        }
    }
    watcher.quiet();
    watcher.close();
    let stats = server.wait_for("closed", |stats| stats.connections == 1);
    let ended: u64 = stats.closed.values().sum();
    assert_eq!(ended - stats.closed["peer_close"], refused, "{stats:?}");
    server.end();
}

#[test]
fn what_is_published_behind_a_close_is_not_delivered() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("t");
        let mut subscriber = server.peer(place.b);
        subscriber.subscribe(&topic);
        let mut publisher = server.peer(place.a);
        let mut bytes = publisher.framed(PUBLISH, &publish(&topic, "before").body());
        bytes.extend(publisher.framed(CLOSE, &[0, 0]));
        bytes.extend(publisher.framed(PUBLISH, &publish(&topic, "behind").id(9).body()));
        publisher.write(&bytes);
        let got = publisher.read().expect("a CLOSE");
        assert_eq!(got.kind, CLOSE, "{got:?}");
        publisher.ended();
        assert_eq!(subscriber.published().text(), "before");
        let mut fence: Peer = server.peer(place.a);
        fence.publish(&topic, "fence");
        assert_eq!(subscriber.published().text(), "fence");
        fence.close();
        subscriber.close();
    });
    server.end_beside_closes(&[]);
}
