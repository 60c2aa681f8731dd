//! Resuming a session, on the same shard and on another (PROTOCOL.md, Sessions).
//!
//! - every counted message beyond the client's count is sent again, in order, as it was; and
//!   what came meanwhile behind it; nothing is lost and nothing comes twice
//! - subscriptions, services, groups and the will are kept, also beyond a second cut
//! - however the connection ended, unless by CLOSE
//! - last_publish_id is the last confirmed; a PUBLISH repeated with an id not above it is
//!   confirmed again and not delivered twice

use crate::harness::{Server, each_placement};
use crate::peer::{
    ACK, EXPIRES_MS, Got, Manner, PUBLISH, Peer, RESPONSE, TIMEOUT_MS, UNSUBSCRIBE, WILL, code, op,
    publish, request, subscribe,
};
use std::time::Duration;

#[test]
fn what_was_not_taken_comes_again_in_order_and_then_what_was_missed() {
    let server = Server::start(&[]);
    for (publishing, manner) in [(0, Manner::default()), (1, Manner::SUMMED)] {
        each_placement(|place| {
            let topic = place.name("t");
            let mut publisher = server.peer(publishing);
            let mut sent = Vec::new();
            let mut send = |from: u32, to: u32| {
                for number in from..to {
                    let op = publish(&topic, vec![number as u8; number as usize * 100])
                        .header(EXPIRES_MS, 60_000u32.to_be_bytes())
                        .codec(1)
                        .id(number + 1);
                    publisher.ok(&op);
                    sent.push(op.body());
                }
                sent.clone()
            };
            let mut peer = server.peer_with(place.a, manner);
            let key = peer.new_session();
            peer.subscribe(&topic);
            send(0, 20);
            for _ in 0..10 {
                peer.published();
            }
            // It has taken ten and acknowledged five: its count at the resume is what holds.
            peer.send(ACK, &5u32.to_be_bytes());
            peer.cut();
            send(20, 30);
            // Framed otherwise than before.
            let mut peer = server.peer(place.b);
            let granted = peer.session(key, 10).unwrap();
            assert_eq!((granted.key, granted.resumed), (key, true));
            let sent = send(30, 40);
            for body in &sent[10..] {
                assert!(peer.published().body == *body);
            }
            peer.quiet();
            peer.close();
            publisher.close();
        });
    }
    server.end_beside_closes(&[("peer_eof", 8)]);
}

/// In one turn the connection is reset, an answer comes for it, and a request of its times out.
#[test]
fn what_is_answered_as_its_connection_breaks_comes_once_to_who_resumes() {
    let server = Server::start(&[]);
    let mut service = server.peer(0);
    service.serve("answers");
    service.serve("mute");
    let mut peer = server.peer(0);
    let key = peer.new_session();
    let answered = peer.start(&request("answers", ""));
    let asked = service.requested();
    let timeout = 1000u32.to_be_bytes();
    let mute = peer.start(&request("mute", "").header(TIMEOUT_MS, timeout));
    service.requested();
    // All of it waits for the process.
    server.signal(libc::SIGSTOP);
    peer.reset();
    service.respond(&asked, "a");
    std::thread::sleep(Duration::from_millis(1500));
    server.signal(libc::SIGCONT);
    let mut peer = server.peer(1);
    assert!(peer.session(key, 0).unwrap().resumed);
    let mut answers = [peer.next(), peer.next()];
    // On a loaded machine the time may be over before the process stops.
    answers.sort_by_key(Got::id);
    assert_eq!(answers.each_ref().map(Got::id), [answered, mute]);
    assert_eq!(answers[0].result(), Ok(&b"a"[..]));
    assert_eq!(answers[1].result(), Err(code::REQUEST_TIMEOUT));
    peer.quiet();
    peer.close();
    service.close();
    server.end_beside_closes(&[("peer_reset", 1)]);
}

#[test]
fn a_session_outlives_every_end_but_close() {
    let server = Server::start(&[]);
    for how in ["FIN", "RST", "garbage"] {
        each_placement(|place| {
            let topic = place.name("t");
            let mut watcher = server.peer(place.b);
            watcher.subscribe(&place.name("will"));
            let mut peer = server.peer(place.a);
            let key = peer.new_session();
            peer.subscribe(&topic);
            peer.ok(&op(WILL, place.name("will")).payload("gone"));
            match how {
                "FIN" => peer.cut(),
                "RST" => peer.reset(),
                _ => {
                    peer.write(b"no message");
                    peer.fatal(0x0001);
                }
            }
            watcher.publish(&topic, "missed");
            let mut peer = server.peer(place.b);
            assert!(peer.session(key, 0).unwrap().resumed, "{how}");
            assert_eq!(peer.published().text(), "missed");
            // The will has not been published, and is still to be withdrawn.
            watcher.quiet();
            peer.ok(&op(WILL, ""));
            peer.close();
            watcher.quiet();
            watcher.close();
        });
    }
    server.end_beside_closes(&[("malformed", 4), ("peer_eof", 4), ("peer_reset", 4)]);
}

#[test]
fn subscriptions_groups_services_and_the_will_are_kept() {
    let server = Server::start(&["session.linger_ms=2000"]);
    let mut watchers = Vec::new();
    each_placement(|place| {
        let name = |rest: &str| place.name(rest);
        let mut other = server.peer(place.a);
        other.subscribe(&name("will"));
        let mut peer = server.peer(place.a);
        let key = peer.new_session();
        peer.subscribe(&name("plain"));
        peer.subscribe(&name("wild/#"));
        peer.ok(&subscribe(name("grouped")).group("g"));
        peer.serve(&name("service/+"));
        peer.ok(&op(WILL, name("will")).payload("gone"));
        // Twice, each time to the other shard and back.
        let mut counted = 0;
        for shard in [place.b, place.a] {
            peer.cut();
            peer = server.peer(shard);
            assert!(peer.session(key, counted).unwrap().resumed);
            for topic in ["plain", "wild", "wild/x/y", "grouped"] {
                other.publish(&name(topic), topic);
                assert_eq!(peer.published().text(), topic);
            }
            let id = other.start(&request(name("service/x"), "?"));
            let got = peer.requested();
            peer.respond(&got, "!");
            assert_eq!(other.responded(id).unwrap(), b"!");
            // It is the same subscription: it can be taken back, once.
            peer.ok(&op(UNSUBSCRIBE, name("plain")));
            let twice = peer.refused(&op(UNSUBSCRIBE, name("plain")));
            assert_eq!(twice, code::NOT_SUBSCRIBED);
            peer.subscribe(&name("plain"));
            peer.quiet();
            counted = peer.counted;
        }
        other.quiet();
        peer.cut();
        watchers.push(other);
    });
    // The lingers of all four pass at once.
    for mut watcher in watchers {
        assert_eq!(watcher.published().text(), "gone");
        watcher.quiet();
        watcher.close();
    }
    server.end_beside_closes(&[("peer_eof", 12)]);
}

#[test]
fn a_response_that_came_meanwhile_is_not_lost() {
    let mut server = Server::start(&[]);
    for how in ["FIN", "RST"] {
        each_placement(|place| {
            let service = place.name("s");
            let mut responder = server.peer(place.b);
            responder.serve(&service);
            let mut peer = server.peer(place.a);
            let key = peer.new_session();
            let id = peer.start(&request(&service, "?"));
            let got = responder.requested();
            match how {
                // Not waited for: with its side ended, the old connection may stand until
                // the answer has come.
                "FIN" => peer.shut(),
                _ => peer.reset(),
            }
            responder.start(&op(RESPONSE, "").id(got.id()).payload("meanwhile"));
            responder.quiet();
            let mut peer = server.peer(place.b);
            assert!(peer.session(key, 0).unwrap().resumed);
            assert_eq!(peer.responded(id).unwrap(), b"meanwhile", "{how}");
            peer.quiet();
            peer.close();
            responder.close();
        });
    }
    server.wait_for("closed", |stats| stats.connections == 1);
    server.end();
}

#[test]
fn a_publish_repeated_after_a_resume_is_confirmed_and_not_delivered_twice() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("t");
        let mut subscriber = server.peer(place.b);
        subscriber.subscribe(&topic);
        let mut peer = server.peer(place.a);
        let key = peer.new_session();
        for id in [3, 4, 10] {
            peer.ok(&publish(&topic, id.to_string()).id(id));
        }
        peer.cut();
        let mut last = 10;
        for shard in [place.b, place.a] {
            let mut peer = server.peer(shard);
            let granted = peer.session(key, 0).unwrap();
            assert_eq!((granted.resumed, granted.last_publish_id), (true, last));
            // As if the OKs had been lost; ids need not follow each other.
            for id in [4, 10, last, last + 5] {
                peer.ok(&publish(&topic, id.to_string()).id(id));
            }
            peer.start(&publish(&topic, "without id").id(0));
            last += 5;
            peer.cut();
        }
        for text in ["3", "4", "10", "15", "without id", "20", "without id"] {
            assert_eq!(subscriber.published().text(), text);
        }
        subscriber.quiet();
        // Ids of another session, or of none, mean nothing here.
        let mut peer = server.peer(place.a);
        for _ in 0..2 {
            peer.ok(&publish(&topic, "no session").id(1));
            assert_eq!(subscriber.published().text(), "no session");
        }
        assert_eq!(peer.session([0; 16], 0).unwrap().last_publish_id, 0);
        peer.close();
        subscriber.close();
    });
    server.end_beside_closes(&[("peer_eof", 12)]);
}

#[test]
fn publish_ids_rise_through_the_end_of_their_range_and_a_refused_one_is_not_taken() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("t");
        let mut subscriber = server.peer(place.b);
        subscriber.subscribe(&topic);
        let mut peer = server.peer(place.a);
        let key = peer.new_session();
        for id in [0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF, 1, 2] {
            peer.ok(&publish(&topic, id.to_string()).id(id));
            assert_eq!(subscriber.published().text(), id.to_string());
        }
        peer.cut();
        let mut peer = server.peer(place.b);
        assert_eq!(peer.session(key, 0).unwrap().last_publish_id, 2);
        // As if their OKs had been lost.
        for id in [0xFFFF_FFFE, 0xFFFF_FFFF, 1, 2] {
            peer.ok(&publish(&topic, "repeated").id(id));
        }
        // 3 is refused while 4 and 5 are on their way.
        let bad = publish(format!("{topic}/+"), "bad").id(3);
        peer.start_all(&[bad, publish(&topic, "4").id(4), publish(&topic, "5").id(5)]);
        assert_eq!(peer.answer(), (3, Err(code::BAD_NAME)));
        assert_eq!([peer.answer(), peer.answer()], [(4, Ok(())), (5, Ok(()))]);
        peer.cut();
        let mut peer = server.peer(place.a);
        assert_eq!(peer.session(key, 0).unwrap().last_publish_id, 5);
        for _ in 0..2 {
            // Once it is taken it is a repetition like others.
            peer.ok(&publish(&topic, "3").id(3));
        }
        peer.ok(&publish(&topic, "6").id(6));
        peer.cut();
        let mut peer = server.peer(place.a);
        assert_eq!(peer.session(key, 0).unwrap().last_publish_id, 6);
        for text in ["4", "5", "3", "6"] {
            assert_eq!(subscriber.published().text(), text);
        }
        subscriber.quiet();
        subscriber.close();
        peer.close();
    });
    server.end_beside_closes(&[("peer_eof", 12)]);
}

const SMALL: Manner = Manner {
    message_max: Some(1000),
    receive_bytes: None,
    checksum: false,
    codec: None,
};

/// What a client gets that accepts a thousand bytes, or did when it left, or does when it
/// comes back.
#[test]
fn what_is_larger_than_a_client_accepts_is_not_kept_for_it_nor_sent_again() {
    let mut server = Server::start(&[]);
    for [before, after] in [
        [SMALL, SMALL],
        [SMALL, Manner::default()],
        [Manner::default(), SMALL],
    ] {
        each_placement(|place| {
            let (topic, own, asked) = (place.name("t"), place.name("own"), place.name("asked"));
            let mut other = server.peer(place.a);
            other.serve(&asked);
            let mut peer = server.peer_with(place.b, before);
            let key = peer.new_session();
            peer.subscribe(&topic);
            peer.serve(&own);
            let question = peer.start(&request(&asked, "?"));
            let got = other.requested();
            if before.message_max.is_none() {
                other.publish(&topic, vec![1; 5000]);
                other.publish(&topic, "sent");
                peer.published();
                peer.published();
            }
            // A FIN would wait for its question's answer.
            peer.reset();
            // The other and who asks. It is away; the OKs say that all has got to it.
            server.wait_for("reset", |stats| stats.connections == 2);
            other.respond(&got, vec![3; 5000]);
            let request = other.start(&request(&own, vec![4; 5000]));
            other.publish(&topic, "before");
            other.publish(&topic, vec![2; 5000]);
            other.publish(&topic, "after");
            let mut answer = peer_answer(before, &mut other, request);
            for _ in 0..2 {
                let mut peer = server.peer_with(place.a, after);
                assert!(peer.session(key, 0).unwrap().resumed);
                let came = peer.drain();
                let wanted = match before.message_max {
                    Some(_) => vec!["before", "after"],
                    None => vec!["sent", "before", "after"],
                };
                let texts: Vec<_> = came.iter().filter(|got| got.kind == PUBLISH).collect();
                let texts: Vec<_> = texts.iter().map(|got| got.text()).collect();
                assert_eq!(texts, wanted);
                let answers: Vec<_> = came.iter().filter(|got| got.kind == RESPONSE).collect();
                assert_eq!(answers.len(), 1);
                assert_eq!(answers[0].id(), question);
                assert_eq!(answers[0].result(), Err(code::TOO_LARGE));
                assert_eq!(came.len(), texts.len() + 1);
                answer = answer.or_else(|| Some(other.responded(request)));
                assert_eq!(answer, Some(Err(code::TOO_LARGE)));
                peer.cut();
            }
            let mut peer = server.peer(place.b);
            assert!(peer.session(key, 0).unwrap().resumed);
            peer.close();
            other.close();
        });
    }
    server.end_beside_closes(&[("peer_eof", 24), ("peer_reset", 12)]);
}

/// The answer to a request that is too large for a client that has left: at once where it had
/// said so.
fn peer_answer(before: Manner, other: &mut Peer, request: u32) -> Option<Result<Vec<u8>, u16>> {
    before.message_max.map(|_| other.responded(request))
}
