//! Services by connections (PROTOCOL.md, Operations: "REQUEST"; Topics and filters).
//!
//! - a REQUEST reaches a connection that sent SERVE for its name, on whichever shard, under an
//!   id of the server's own; the RESPONSE comes back under the requester's
//! - flags but for that, codec, name, headers and payload are untouched both ways; FAILED and
//!   its payload too
//! - SERVE takes a filter; one that begins with a wildcard does not serve `$` names
//! - UNSERVE takes one server of several out
//! - UNSERVE of nothing is NOT_SUBSCRIBED
//! - services are no topics, and topics no services

use crate::harness::{Server, each_placement};
use crate::peer::{
    FAILED, Manner, PUBLISH, Peer, RESPONSE, SERVE, UNSERVE, UNSUBSCRIBE, code, op, request,
};

#[test]
fn a_request_and_its_response_pass_untouched_under_ids_of_each_side() {
    let server = Server::start(&[]);
    for (asking, answering) in [
        (Manner::default(), Manner::default()),
        (Manner::SUMMED, Manner::default()),
        (Manner::default(), Manner::SUMMED),
    ] {
        each_placement(|place| {
            let service = place.name("scale/prüfen");
            let mut responder = server.peer_with(place.b, answering);
            responder.serve(&service);
            let mut requester = server.peer_with(place.a, asking);
            for (codec, bytes) in [(0, 0), (1, 10), (2, 5000), (0, 200_000)] {
                let payload = vec![bytes as u8; bytes];
                let asked = request(&service, &payload)
                    .codec(codec)
                    .header(1, [3; 25])
                    .header(2, 25_000u32.to_be_bytes())
                    .header(0x77, "mine")
                    .id(0xFEED_0000 + u32::from(codec));
                requester.start(&asked);
                let got = responder.requested();
                assert_eq!(got.content(), &asked.body()[4..], "{got:?}");
                let answer = op(RESPONSE, "")
                    .codec(codec)
                    .header(0x78, "theirs")
                    .header(8, [1; 8])
                    .payload(payload);
                responder.start(&answer.clone().id(got.id()));
                let back = requester.next();
                let expected = answer.id(asked.id.unwrap());
                assert_eq!((back.kind, &back.body), (RESPONSE, &expected.body()));
            }
            requester.quiet();
            responder.quiet();
            requester.close();
            responder.close();
        });
    }
    server.end_beside_closes(&[]);
}

#[test]
fn a_failure_of_the_responders_own_is_brought_back_as_it_is() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let service = place.name("s");
        let mut responder = server.peer(place.b);
        responder.serve(&service);
        let mut requester = server.peer(place.a);
        for failure in [&b"\x10\x00out of paper"[..], b"\xff\xff"] {
            let id = requester.start(&request(&service, "?"));
            let got = responder.requested();
            let answer = op(RESPONSE, "")
                .flag(FAILED)
                .header(0x50, "x")
                .payload(failure);
            responder.start(&answer.clone().id(got.id()));
            assert_eq!(requester.next().body, answer.id(id).body());
        }
        requester.close();
        responder.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn answers_may_come_in_any_order_and_ids_need_not_be_distinct() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let service = place.name("s");
        let mut responder = server.peer(place.b);
        responder.serve(&service);
        let mut requesters = [server.peer(place.a), server.peer(place.b)];
        for requester in &mut requesters {
            for text in ["first", "second", "third"] {
                requester.start(&request(&service, text).id(5));
            }
        }
        let mut asked: Vec<_> = (0..6).map(|_| responder.requested()).collect();
        let mut ids: Vec<u32> = asked.iter().map(|got| got.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 6, "the server's own ids tell them apart");
        asked.reverse();
        for got in &asked {
            responder.respond(got, got.payload());
        }
        for requester in &mut requesters {
            let mut texts: Vec<Vec<u8>> = (0..3).map(|_| requester.responded(5).unwrap()).collect();
            texts.sort();
            assert_eq!(texts, [&b"first"[..], b"second", b"third"]);
            requester.quiet();
        }
        responder.close();
        requesters.into_iter().for_each(Peer::close);
    });
    server.end_beside_closes(&[]);
}

#[test]
fn a_service_may_be_a_filter() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let mut responder = server.peer(place.b);
        responder.serve(&place.name("one/+"));
        responder.serve(&place.name("all/#"));
        let mut requester = server.peer(place.a);
        for rest in ["one/x", "one/y", "all", "all/x", "all/x/y"] {
            let id = requester.start(&request(place.name(rest), "?"));
            let got = responder.requested();
            assert_eq!(got.name(), place.name(rest));
            responder.respond(&got, rest);
            assert_eq!(requester.responded(id).unwrap(), rest.as_bytes());
        }
        for rest in ["one", "one/x/y", "other"] {
            let id = requester.start(&request(place.name(rest), "?"));
            assert_eq!(requester.responded(id), Err(code::NO_SERVICE), "{rest}");
        }
        responder.quiet();
        requester.close();
        responder.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn names_of_the_servers_own_are_not_served_by_clients() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let mut responder = server.peer(place.b);
        for service in ["$sys/echo", "$own", "$sys/#", "$own/+"] {
            assert_eq!(responder.refused(&op(SERVE, service)), code::FORBIDDEN);
        }
        for filter in ["#", "+", "+/echo", "+/#"] {
            responder.serve(filter);
        }
        let mut requester = server.peer(place.a);
        let id = requester.start(&request("$sys/echo", "built in"));
        assert_eq!(requester.responded(id).unwrap(), b"built in");
        for name in ["$sys/none", "$own", "$own/echo"] {
            let id = requester.start(&request(name, "?"));
            assert_eq!(requester.responded(id), Err(code::NO_SERVICE), "{name}");
        }
        responder.quiet();
        let id = requester.start(&request("own/$sys", "?"));
        let got = responder.requested();
        responder.respond(&got, "a client's");
        assert_eq!(requester.responded(id).unwrap(), b"a client's");
        requester.close();
        responder.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn unserve_takes_one_server_out() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let service = place.name("s");
        let mut staying = server.peer(place.a);
        let mut leaving = server.peer(place.b);
        let mut requester = server.peer(place.a);
        for responder in [&mut staying, &mut leaving] {
            responder.serve(&service);
        }
        leaving.ok(&op(UNSERVE, &service));
        for _ in 0..30 {
            let id = requester.start(&request(&service, "?"));
            let got = staying.requested();
            staying.respond(&got, "!");
            assert_eq!(requester.responded(id).unwrap(), b"!");
        }
        leaving.quiet();
        assert_eq!(
            leaving.refused(&op(UNSERVE, &service)),
            code::NOT_SUBSCRIBED
        );
        assert_eq!(leaving.refused(&op(UNSERVE, "#")), code::NOT_SUBSCRIBED);
        staying.ok(&op(UNSERVE, &service));
        let id = requester.start(&request(&service, "?"));
        assert_eq!(requester.responded(id), Err(code::NO_SERVICE));
        for peer in [staying, leaving, requester] {
            peer.close();
        }
    });
    server.end_beside_closes(&[]);
}

#[test]
fn services_are_no_topics_and_topics_no_services() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let name = place.name("both");
        let mut responder = server.peer(place.b);
        responder.serve(&name);
        let mut subscriber = server.peer(place.b);
        subscriber.subscribe(&name);
        let mut peer = server.peer(place.a);
        peer.publish(&name, "published");
        responder.quiet();
        let id = peer.start(&request(&name, "asked"));
        let got = responder.requested();
        responder.respond(&got, "answered");
        assert_eq!(peer.responded(id).unwrap(), b"answered");
        let queued = subscriber.drain();
        assert_eq!(queued.len(), 1, "{queued:?}");
        assert_eq!((queued[0].kind, queued[0].text()), (PUBLISH, "published"));
        assert_eq!(
            responder.refused(&op(UNSUBSCRIBE, &name)),
            code::NOT_SUBSCRIBED
        );
        assert_eq!(
            subscriber.refused(&op(UNSERVE, &name)),
            code::NOT_SUBSCRIBED
        );
        for peer in [peer, responder, subscriber] {
            peer.close();
        }
    });
    server.end_beside_closes(&[]);
}

#[test]
fn a_connection_may_ask_itself() {
    let server = Server::start(&[]);
    for shard in [0, 1] {
        let mut peer = server.peer(shard);
        peer.serve("mirror");
        let id = peer.start(&request("mirror", "who?"));
        let got = peer.requested();
        peer.respond(&got, "me");
        assert_eq!(peer.responded(id).unwrap(), b"me");
        peer.quiet();
        peer.close();
    }
    server.end_beside_closes(&[]);
}
