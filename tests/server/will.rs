//! WILL (PROTOCOL.md §2: "the PUBLISH the server makes if the connection ends without CLOSE").
//!
//! - FIN, RST and a mistake of its own are ends without CLOSE; a CLOSE is not
//! - it is a PUBLISH like any other: codec, headers and payload as given, once

use crate::harness::{Server, each_placement};
use crate::peer::{HEADERS, Peer, WILL, op};

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
