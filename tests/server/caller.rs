//! What a requester can rely on when the other side does not answer as it should
//! (PROTOCOL.md, Operations: "REQUEST").
//!
//! - exactly one RESPONSE: a second answer, an answer to somebody else's request and a late
//!   one are dropped; those that came too late are counted
//! - REQUEST_TIMEOUT after TIMEOUT_MS, or after `limits.request_timeout_ms` without it
//! - SERVICE_GONE when the answering connection ends, however it ends
//! - TOO_LARGE when request or answer is larger than who shall have it, or the server, accepts
//! - `limits.requests_open_max` bounds what is unanswered: TOO_MANY_REQUESTS, not fatal
//! - a requester that ends leaves no trace at the responder; one that says CLOSE, or ends its
//!   side, while it waits for an answer is ended when the answers have come or failed

use crate::harness::{Server, each_placement};
use crate::peer::{CLOSE, Manner, Peer, RESPONSE, TIMEOUT_MS, code, op, request};

#[test]
fn a_request_that_nobody_answers_in_time_fails_and_the_late_answer_is_dropped_and_counted() {
    let mut server = Server::start(&[]);
    each_placement(|place| {
        let service = place.name("s");
        let mut responder = server.peer(place.b);
        responder.serve(&service);
        let mut requester = server.peer(place.a);
        let impatient = request(&service, "?").header(TIMEOUT_MS, 60u32.to_be_bytes());
        let patient = request(&service, "!").header(TIMEOUT_MS, 20_000u32.to_be_bytes());
        let late = requester.start(&impatient);
        let open = requester.start(&patient);
        let got = [responder.requested(), responder.requested()];
        assert_eq!(requester.responded(late), Err(code::REQUEST_TIMEOUT));
        for got in &got {
            responder.respond(got, "at last");
        }
        assert_eq!(requester.responded(open).unwrap(), b"at last");
        responder.quiet();
        requester.quiet();
        requester.close();
        responder.close();
    });
    let stats = server.wait_for("counted", |stats| stats.total["answers_late"] == 4);
    assert_eq!(stats.total["responses_unasked"], 0);
    server.end_beside_closes(&[]);
}

#[test]
fn without_timeout_ms_the_servers_default_holds() {
    let server = Server::start(&["limits.request_timeout_ms=150"]);
    each_placement(|place| {
        let service = place.name("s");
        let mut responder = server.peer(place.b);
        responder.serve(&service);
        let mut requester = server.peer(place.a);
        let ids: Vec<u32> = (0..20)
            .map(|_| requester.start(&request(&service, "?")))
            .collect();
        let mut failed: Vec<u32> = ids
            .iter()
            .map(|_| {
                let got = requester.next();
                assert_eq!(got.result(), Err(code::REQUEST_TIMEOUT));
                got.id()
            })
            .collect();
        failed.sort_unstable();
        assert_eq!(failed, ids, "each once");
        requester.quiet();
        requester.close();
        responder.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn another_server_takes_over_from_one_that_ended() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let service = place.name("s");
        let mut first = server.peer(place.b);
        first.serve(&service);
        let mut second = server.peer(place.a);
        second.serve(&service);
        first.cut();
        let mut requester = server.peer(place.a);
        for _ in 0..20 {
            let id = requester.start(&request(&service, "?"));
            let got = second.requested();
            second.respond(&got, "second");
            assert_eq!(requester.responded(id).unwrap(), b"second");
        }
        requester.close();
        second.close();
    });
    server.end_beside_closes(&[("peer_eof", 4)]);
}

#[test]
fn answers_nobody_waits_for_reach_nobody() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let service = place.name("s");
        let mut responder = server.peer(place.b);
        responder.serve(&service);
        let mut strangers = [server.peer(place.a), server.peer(place.b)];
        let mut requester = server.peer(place.a);
        let id = requester.start(&request(&service, "?"));
        let got = responder.requested();
        // Whoever guesses the id is not the one who was asked.
        for stranger in &mut strangers {
            for guess in [got.id(), id, 0, 1, u32::MAX] {
                stranger.start(&op(RESPONSE, "").id(guess).payload("forged"));
            }
            stranger.quiet();
        }
        for guess in [got.id().wrapping_add(1), got.id() ^ 0x8000_0000] {
            responder.start(&op(RESPONSE, "").id(guess).payload("to nothing"));
        }
        responder.respond(&got, "the answer");
        responder.respond(&got, "once more");
        responder.quiet();
        assert_eq!(requester.responded(id).unwrap(), b"the answer");
        requester.quiet();
        requester.close();
        responder.close();
        strangers.into_iter().for_each(Peer::close);
    });
    server.end_beside_closes(&[]);
}

/// A service that answers on its next connection what it was asked on an earlier one answers
/// nobody: neither who asked then nor who asks now.
#[test]
fn an_answer_on_another_connection_than_was_asked_reaches_nobody() {
    let mut server = Server::start(&[]);
    each_placement(|place| {
        let service = place.name("s");
        let mut requester = server.peer(place.a);
        let mut old = Vec::new();
        for _ in 0..20 {
            let mut responder = server.peer(place.b);
            responder.serve(&service);
            let id = requester.start(&request(&service, "?"));
            let got = responder.requested();
            for old in &old {
                responder.respond(old, "an old answer");
            }
            responder.quiet();
            requester.quiet();
            responder.respond(&got, "the answer");
            assert_eq!(requester.responded(id).unwrap(), b"the answer");
            requester.start(&request(&service, "?"));
            old.push(responder.requested());
            responder.cut();
            assert_eq!(requester.next().result(), Err(code::SERVICE_GONE));
        }
        requester.close();
    });
    let late = server.wait_for("counted", |stats| stats.total["answers_late"] > 0);
    assert_eq!(late.total["answers_late"], 4 * 190);
    server.end_beside_closes(&[("peer_eof", 80)]);
}

#[test]
fn what_is_larger_than_its_receiver_or_the_server_accepts_is_told_so() {
    const SMALL: u32 = 2000;
    let server = Server::start(&["limits.message_bytes_max=10000"]);
    let small = Manner {
        message_max: Some(SMALL),
        ..Manner::default()
    };
    each_placement(|place| {
        let service = place.name("s");
        // The request, for a responder who takes no more.
        let mut responder = server.peer_with(place.b, small);
        responder.serve(&service);
        let mut requester = server.peer(place.a);
        let id = requester.start(&request(&service, [0; 3000]));
        assert_eq!(requester.responded(id), Err(code::TOO_LARGE));
        responder.quiet();
        responder.close();
        // The answer, for a requester who takes no more; then for the server.
        let mut responder = server.peer(place.b);
        responder.serve(&service);
        let mut modest = server.peer_with(place.a, small);
        let id = modest.start(&request(&service, "?"));
        let got = responder.requested();
        responder.respond(&got, [0; 3000]);
        assert_eq!(modest.responded(id), Err(code::TOO_LARGE));
        modest.close();
        let ids = [(); 3].map(|()| requester.start(&request(&service, "?")));
        let got = [(); 3].map(|()| responder.requested());
        responder.respond(&got[1], [0; 10_001]);
        responder.fatal(code::TOO_LARGE);
        assert_eq!(requester.responded(ids[1]), Err(code::TOO_LARGE));
        let mut gone = [(); 2].map(|()| {
            let got = requester.next();
            assert_eq!(got.result(), Err(code::SERVICE_GONE));
            got.id()
        });
        gone.sort_unstable();
        assert_eq!(gone, [ids[0], ids[2]]);
        requester.quiet();
        requester.close();
    });
    server.end_beside_closes(&[("too_large", 4)]);
}

#[test]
fn requests_beyond_the_limit_fail_one_by_one() {
    let server = Server::start(&["limits.requests_open_max=4"]);
    each_placement(|place| {
        let service = place.name("s");
        let mut responder = server.peer(place.b);
        responder.serve(&service);
        let mut requester = server.peer(place.a);
        for id in 1..=4 {
            requester.start(&request(&service, "?").id(id));
        }
        let mut open: Vec<_> = (0..4).map(|_| responder.requested()).collect();
        // Failed requests are answers: they do not spend the budget of errors.
        for id in 5..25 {
            requester.start(&request(&service, "?").id(id));
            assert_eq!(requester.responded(id), Err(code::TOO_MANY_REQUESTS));
        }
        for id in 25..30 {
            let answered = open.pop().unwrap();
            responder.respond(&answered, "done");
            assert_eq!(requester.next().result(), Ok(&b"done"[..]));
            requester.start(&request(&service, "?").id(id));
            open.push(responder.requested());
        }
        // The limit is each connection's own.
        let mut other = server.peer(place.a);
        let id = other.start(&request(&service, "?"));
        let got = responder.requested();
        responder.respond(&got, "of course");
        assert_eq!(other.responded(id).unwrap(), b"of course");
        for got in &open {
            responder.respond(got, "all of it");
            assert_eq!(requester.next().result(), Ok(&b"all of it"[..]));
        }
        for peer in [requester, other, responder] {
            peer.close();
        }
    });
    server.end_beside_closes(&[]);
}

#[test]
fn a_requester_that_ends_does_not_disturb_the_responder() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let service = place.name("s");
        let mut responder = server.peer(place.b);
        responder.serve(&service);
        for ending in ["CLOSE", "FIN", "RST"] {
            let mut requester = server.peer(place.a);
            for _ in 0..5 {
                requester.start(&request(&service, "?"));
            }
            let open: Vec<_> = (0..5).map(|_| responder.requested()).collect();
            let mut left = Some(requester);
            match ending {
                "CLOSE" => left.as_mut().unwrap().send(CLOSE, &[0, 0]),
                "FIN" => left.as_mut().unwrap().shut(),
                _ => left.take().unwrap().reset(),
            }
            for got in &open {
                responder.respond(got, "to whom?");
            }
            responder.quiet();
            match ending {
                "CLOSE" => left.unwrap().closed(),
                "FIN" => left.unwrap().cut(),
                _ => {}
            }
        }
        let mut next = server.peer(place.a);
        let id = next.start(&request(&service, "?"));
        let got = responder.requested();
        responder.respond(&got, "there");
        assert_eq!(next.responded(id).unwrap(), b"there");
        next.quiet();
        next.close();
        responder.close();
    });
    server.end_beside_closes(&[("peer_eof", 4), ("peer_reset", 4)]);
}
