//! CLOSE: from either side, crossing, with messages still on the way; and what a session
//! does once it is over.

use super::pair::{End, Pair, Seen, encoded, messages, ms, raw, rst, settings, start};
use ringmail::base::clock::Instant;
use ringmail::base::reason::Reason;
use ringmail::proto::error::{Code, Refusal};
use ringmail::proto::message::Message;
use ringmail::proto::option::{FEATURE_CHECKSUM, Options};
use ringmail::proto::session::Event;

fn close(code: Code, reason: &str, checksum: bool) -> Vec<u8> {
    encoded(&Message::Close { code, reason }, checksum)
}

fn established(seed: u64) -> Pair {
    let hello = Options {
        features: Some(FEATURE_CHECKSUM),
        ..Options::default()
    };
    let mut pair = Pair::new(seed, settings(), settings(), &hello);
    pair.run(start() + ms(1_000));
    pair.client.forget();
    pair.server.forget();
    pair
}

#[test]
fn close_from_either_side_ends_both() {
    for seed in 0..50 {
        for from_client in [true, false] {
            let mut pair = established(seed);
            let (from, _) = ends(&mut pair, from_client);
            from.session.close(Code::Normal, "done", &mut from.out);
            assert!(!from.session.is_open() && !from.session.is_ended());
            pair.run(start() + ms(2_000));
            let (from, to) = ends(&mut pair, from_client);
            let told = Seen::PeerClosed(Code::Normal, "done".to_owned());
            assert_eq!(to.seen, [told]);
            assert_eq!(from.seen, [Seen::Ended(Reason::Shutdown)]);
            assert!(from.session.is_ended() && to.session.is_ended());
        }
    }
}

fn ends(pair: &mut Pair, from_client: bool) -> (&mut End, &mut End) {
    if from_client {
        (&mut pair.client, &mut pair.server)
    } else {
        (&mut pair.server, &mut pair.client)
    }
}

#[test]
fn closes_that_cross_end_both_and_nothing_more_is_said() {
    for seed in 0..50 {
        let mut pair = established(seed);
        let (client, server) = (&mut pair.client, &mut pair.server);
        client.session.close(Code::Normal, "bye", &mut client.out);
        server
            .session
            .close(Code::Draining, "drain", &mut server.out);
        pair.run(start() + ms(2_000));
        for end in [&pair.client, &pair.server] {
            assert_eq!(end.seen, [Seen::Ended(Reason::Shutdown)]);
            assert!(end.session.is_ended() && end.out.is_empty());
        }
    }
}

#[test]
fn who_is_told_close_may_still_answer_and_then_closes() {
    let mut end = End::open_server(settings(), false);
    end.slow_to_finish = true;
    end.receive(&close(Code::Application(0x1001), "enough", false), start());
    let told = Seen::PeerClosed(Code::Application(0x1001), "enough".to_owned());
    assert_eq!(end.seen, [told]);
    assert!(end.session.is_peer_closing() && end.session.is_established());
    assert!(end.out.is_empty(), "the answers come first");
    end.session.send(&Message::Ok { id: 7 }, &mut end.out);
    // What the peer says after its CLOSE is dropped.
    end.receive(&raw(0x20, b"\0\0\0\x01\0\0\x01x"), start());
    end.receive(&raw(1, b""), start());
    end.receive(&close(Code::Normal, "", false), start());
    end.session.finish(&mut end.out);
    let kinds: Vec<u8> = messages(&end.out, false).iter().map(|m| m.0).collect();
    assert_eq!(kinds, [5, 3]);
    assert_eq!(end.seen.len(), 1);
    assert!(end.session.is_ended());
}

#[test]
fn who_has_said_close_says_nothing_more_and_hands_nothing_out() {
    let mut end = End::open_server(settings(), false);
    end.session.close(Code::Shutdown, "", &mut end.out);
    end.forget();
    end.receive(&raw(1, b"ping"), start());
    end.receive(&raw(0x20, b"\0\0\0\x01\0\0\x01x"), start());
    end.session.send(&Message::Ok { id: 7 }, &mut end.out);
    end.session.close(Code::Shutdown, "", &mut end.out);
    let event = end
        .session
        .error(Code::Forbidden, 1, "no", start(), &mut end.out);
    assert_eq!(event, Event::Handled);
    assert_eq!((&end.seen[..], &end.out[..]), (&[][..], &[][..]));
    assert_eq!(end.session.timeout(), Instant::NEVER);
    // Even what is wrong is not answered, but it ends the wait.
    end.receive(b"X", start());
    assert_eq!(end.seen, [Seen::Ended(Reason::Malformed)]);
    assert!(end.out.is_empty());
}

#[test]
fn close_before_the_handshake_is_over_is_an_rst() {
    let mut end = End::server(settings());
    end.session.close(Code::Draining, "draining", &mut end.out);
    assert_eq!(rst(&end.out), (0, Code::Draining.to_wire()));
    assert!(end.session.is_ended());
}

#[test]
fn a_close_that_answers_a_close_is_the_end() {
    let mut end = End::open_server(settings(), false);
    end.slow_to_finish = true;
    end.receive(&close(Code::Normal, "", false), start());
    end.session.close(Code::Shutdown, "stop", &mut end.out);
    assert_eq!(end.out, close(Code::Shutdown, "stop", false));
    assert!(end.session.is_ended());
    end.session.finish(&mut end.out);
    assert_eq!(end.out, close(Code::Shutdown, "stop", false));
}

#[test]
fn after_the_end_nothing_is_written_and_nothing_is_said_twice() {
    let refusal = Refusal::new(Code::Revoked, "revoked");
    for link_phase in [true, false] {
        let mut end = if link_phase {
            End::server(settings())
        } else {
            End::open_server(settings(), false)
        };
        let event = end.session.refuse(&refusal, &mut end.out);
        assert_eq!(event, Event::Ended(Reason::Revoked));
        assert_eq!(end.out[2], if link_phase { 4 } else { 1 });
        end.forget();
        let again = end.session.refuse(&refusal, &mut end.out);
        assert_eq!(again, Event::Handled);
        end.receive(&raw(1, b""), start());
        end.receive(&[], start());
        end.session.send(&Message::Ok { id: 1 }, &mut end.out);
        end.session.close(Code::Normal, "", &mut end.out);
        end.session.finish(&mut end.out);
        let event = end.session.handle_timeout(Instant::NEVER, &mut end.out);
        assert_eq!(event, Event::Handled);
        assert_eq!((&end.seen[..], &end.out[..]), (&[][..], &[][..]));
        assert_eq!(end.session.timeout(), Instant::NEVER);
    }
}

#[test]
fn a_long_reason_is_cut() {
    let mut end = End::open_server(settings(), false);
    let refusal = Refusal::with(Code::Internal, "é".repeat(400));
    end.session.refuse(&refusal, &mut end.out);
    let sent = messages(&end.out, false);
    assert_eq!(sent[0].1[7..], *"é".repeat(128).as_bytes());
    let mut end = End::server(settings());
    end.session.refuse(&refusal, &mut end.out);
    assert_eq!(end.out.len(), 13 + 2 + 256);
    rst(&end.out);
}
