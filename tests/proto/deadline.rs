//! Deadlines under virtual time: heartbeats, messages begun, AUTH, clocks that jump.

use super::pair::{
    CLIENT_SEQ, End, Pair, SERVER_SEQ, Seen, ack, encoded, fatal, frame, messages, ms, options,
    raw, settings, start, syn, syn_ack,
};
use ringmail::base::clock::Instant;
use ringmail::base::reason::Reason;
use ringmail::proto::error::Code;
use ringmail::proto::frame::FrameType;
use ringmail::proto::message::Message;
use ringmail::proto::option::{AUTH_JWT, FEATURE_CHECKSUM, Options};
use ringmail::proto::session::{Session, Settings};
use std::sync::Arc;
use std::time::Duration;

const PING: u8 = 1;

/// How late a PING may be: each session adds a share of its own, of a sixteenth at most,
/// and they share their wake-ups, which are up to a thirty-second apart.
fn slack(interval: Duration) -> Duration {
    interval / 16 + interval / 32
}

/// Lets `end` hear nothing from now on; returns when it wrote its first PING.
fn first_ping(end: &mut End, until: Instant) -> Option<Instant> {
    while end.armed <= until {
        let at = end.armed;
        end.tick(at);
        let sent = messages(&end.out, end.session.has_checksum());
        if sent.iter().any(|message| message.0 == PING) {
            return Some(at);
        }
    }
    None
}

#[test]
fn silence_brings_one_ping_after_the_interval_and_the_end_after_the_timeout() {
    let client = End::open_client(settings(), false);
    let server = End::open_server(settings(), true);
    for mut end in [server, client] {
        let interval = settings().heartbeat_interval;
        let at = first_ping(&mut end, start() + ms(80_000)).expect("a PING");
        assert!(at >= start() + interval && at <= start() + interval + slack(interval));
        end.silence(start() + ms(89_999));
        let checksum = end.session.has_checksum();
        assert_eq!(messages(&end.out, checksum).len(), 1, "one PING is enough");
        assert_eq!(end.seen, []);
        end.forget();
        end.silence(start() + ms(90_000));
        assert_eq!(end.seen, [Seen::Ended(Reason::HeartbeatTimeout)]);
        let sent = messages(&end.out, checksum);
        let (kind, body) = &sent[0];
        assert_eq!(body[..2], [0, 8]);
        // The server says ERROR, fatal; the client CLOSE.
        assert!((*kind, body[6]) == (4, 1) || *kind == 3);
        assert_eq!(sent.len(), 1);
    }
}

#[test]
fn a_peer_that_answers_is_pinged_each_interval_and_kept() {
    let mut end = End::open_server(settings(), false);
    let mut heard = start();
    for _ in 0..1000 {
        let until = heard + ms(89_000);
        let at = first_ping(&mut end, until).expect("a PING in each interval");
        let interval = settings().heartbeat_interval;
        assert!(at >= heard + interval && at <= heard + interval + slack(interval));
        let (_, bytes) = messages(&end.out, false).remove(0);
        heard = at + ms(1_200);
        end.receive(&raw(2, &bytes), heard);
        end.forget();
    }
    assert!(end.session.is_open());
}

#[test]
fn any_complete_message_is_life_and_a_trickle_is_not() {
    let request = raw(0x20, b"\0\0\0\x01\0\0\x01x");
    let mut patient = settings();
    patient.frame_timeout = ms(1_000_000);
    let mut end = End::open_server(patient.clone(), false);
    for second in 1..300 {
        let now = start() + ms(1_000 * second);
        end.silence(now);
        end.receive(&request, now);
    }
    assert!(end.out.is_empty(), "nobody needs a PING");
    // The same bytes, but the message is never whole: dead after the timeout.
    let mut end = End::open_server(patient, false);
    let claim = [&request[..4], &1000u32.to_be_bytes()].concat();
    end.receive(&claim, start());
    for second in 1..90 {
        let now = start() + ms(1_000 * second);
        end.silence(now);
        end.receive(b"x", now);
        assert!(end.session.is_open());
    }
    end.silence(start() + ms(90_000));
    assert_eq!(end.seen, [Seen::Ended(Reason::HeartbeatTimeout)]);
}

#[test]
fn the_interval_in_force_is_the_one_agreed_on() {
    let hello = Options {
        heartbeat_ms: Some(200),
        ..Options::default()
    };
    let mut pair = Pair::new(1, settings(), settings(), &hello);
    pair.run(start() + ms(150));
    assert!(pair.server.session.is_open() && pair.client.session.is_open());
    pair.cut = true;
    for end in [&mut pair.client, &mut pair.server] {
        let at = first_ping(end, start() + ms(10_000)).expect("a PING");
        assert!(at <= start() + ms(150 + 200) + slack(ms(200)));
    }
}

/// When a session of the initial number `seq` sends its PINGs, if each is answered at once.
fn pings(seq: u32, interval: Duration, count: usize) -> Vec<Instant> {
    let settings = Settings {
        heartbeat_interval: interval,
        heartbeat_timeout: interval * 3,
        ..settings()
    };
    let mut end = End::new(Session::accept(Arc::new(settings), seq, start()));
    end.receive(&syn(false), start());
    let acknowledgement = seq.wrapping_add(1).to_be_bytes();
    let number = CLIENT_SEQ.wrapping_add(1);
    end.receive(&frame(FrameType::Ack, number, &acknowledgement), start());
    let mut all = Vec::new();
    let mut heard = start();
    for _ in 0..count {
        end.forget();
        heard = first_ping(&mut end, heard + interval * 2).expect("a PING");
        all.push(heard);
        end.receive(&raw(2, b""), heard);
    }
    all
}

#[test]
fn sessions_that_began_together_drift_apart_and_none_asks_early_or_long_after() {
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..100 {
        let interval = ms(random.u64(100..120_000));
        let (one, other) = (random.u32(..), random.u32(..));
        let times = [one, other].map(|seq| pings(seq, interval, 64));
        for times in &times {
            let mut heard = start();
            for &at in times {
                assert!(at >= heard + interval, "round {round}: early");
                assert!(at <= heard + interval + slack(interval), "round {round}");
                heard = at;
            }
        }
        // The number's last two bytes make the difference; a small one takes longer than
        // this to show behind the shared wake-ups.
        if (one as u16).abs_diff(other as u16) >= 0x1000 {
            assert_ne!(times[0][63], times[1][63], "round {round}: {interval:?}");
        }
    }
}

#[test]
fn a_heartbeat_close_to_its_timeout_still_comes_before_it() {
    for (interval, timeout) in [(1_000, 1_100), (30_000, 34_000), (60_000, 64_000)] {
        for seq in [0, 0x7F, 0xFF] {
            let settings = Settings {
                heartbeat_interval: ms(interval),
                heartbeat_timeout: ms(timeout),
                ..settings()
            };
            let shared = Arc::new(settings);
            let mut out = Vec::new();
            let hello = Options::default();
            let session = Session::connect(shared, &hello, seq, start(), &mut out);
            let mut end = End::new(session);
            let acknowledgement = seq.wrapping_add(1).to_be_bytes();
            end.receive(&frame(FrameType::SynAck, 1, &acknowledgement), start());
            end.forget();
            let at = first_ping(&mut end, start() + ms(timeout)).expect("a PING");
            assert!(at < start() + ms(timeout), "{interval} {seq}");
            end.silence(start() + ms(timeout) - Duration::from_nanos(1));
            assert!(end.session.is_open());
            end.silence(start() + ms(timeout));
            assert_eq!(end.seen, [Seen::Ended(Reason::HeartbeatTimeout)]);
        }
    }
}

#[test]
fn a_client_asks_before_it_gives_up_whatever_interval_it_is_granted() {
    for granted in [1, 45_000, 45_001, 89_999, 90_000, 600_000, u32::MAX] {
        let mut end = End::client(settings(), &Options::default());
        let granting = Options {
            heartbeat_ms: Some(granted),
            ..Options::default()
        };
        let mut payload = CLIENT_SEQ.wrapping_add(1).to_be_bytes().to_vec();
        payload.extend(options(&granting));
        end.receive(&frame(FrameType::SynAck, SERVER_SEQ, &payload), start());
        end.forget();
        let at = first_ping(&mut end, start() + ms(90_000)).expect("a PING");
        let interval = ms(u64::from(granted.clamp(100, 45_000)));
        assert!(at >= start() + interval && at <= start() + interval + slack(interval));
        end.silence(start() + ms(89_999));
        assert!(end.session.is_open(), "{granted}");
        end.silence(start() + ms(90_000));
        assert_eq!(end.seen, [Seen::Ended(Reason::HeartbeatTimeout)]);
    }
}

#[test]
fn a_pair_that_says_nothing_stays_together_for_a_day() {
    for seed in 0..20 {
        let hello = Options {
            heartbeat_ms: Some(fastrand::Rng::with_seed(seed).u32(0..60_000)),
            features: Some(FEATURE_CHECKSUM),
            ..Options::default()
        };
        let mut pair = Pair::new(seed, settings(), settings(), &hello);
        for hour in 1..=24 {
            pair.run(start() + Duration::from_secs(3_600 * hour));
            assert!(pair.client.session.is_open() && pair.server.session.is_open());
            // Thousands of PONGs an hour, which the bench would look through again and again.
            pair.client.seen = pair.client.seen_but_pongs();
        }
        // The wire is cut: both notice by themselves.
        pair.cut = true;
        let cut = pair.now;
        pair.run(cut + ms(89_000));
        pair.run(cut + ms(90_000) + ms(60_000));
        let wanted = [Seen::Established, Seen::Ended(Reason::HeartbeatTimeout)];
        assert_eq!(pair.server.seen, wanted, "seed {seed}");
        assert_eq!(pair.client.seen_but_pongs(), wanted, "seed {seed}");
    }
}

#[test]
fn a_process_that_slept_for_an_hour_asks_before_it_gives_up() {
    let hour = Duration::from_secs(3_600);
    for pinged in [false, true] {
        let mut end = End::open_server(settings(), false);
        end.forget();
        let awake = start() + hour;
        if pinged {
            // It had its PING before we fell asleep, and has not answered in all the time.
            first_ping(&mut end, start() + ms(60_000)).expect("a PING");
            end.tick(awake);
            assert_eq!(end.seen, [Seen::Ended(Reason::HeartbeatTimeout)]);
            continue;
        }
        end.tick(awake);
        assert_eq!(
            (messages(&end.out, false).len(), &end.seen[..]),
            (1, &[][..])
        );
        // And then it has what is left of the usual time to answer.
        end.silence(awake + ms(59_999));
        assert!(end.session.is_open());
        end.silence(awake + ms(60_000));
        assert_eq!(end.seen, [Seen::Ended(Reason::HeartbeatTimeout)]);
    }
    // Its answer keeps it.
    let mut end = End::open_server(settings(), false);
    end.tick(start() + hour);
    end.receive(&raw(2, b""), start() + hour + ms(50));
    end.silence(start() + hour + ms(80_000));
    assert!(end.session.is_open());
}

#[test]
fn a_message_must_be_whole_within_the_frame_timeout_of_its_first_byte() {
    let mut end = End::open_server(settings(), false);
    let first = start() + ms(5_000);
    let bytes = raw(0x20, &[0; 500]);
    for (count, byte) in bytes.chunks(1).take(100).enumerate() {
        let now = first + ms(100 * count as u64);
        end.silence(now);
        end.receive(byte, now);
        assert!(end.session.is_open());
    }
    end.silence(first + ms(9_999));
    assert!(end.session.is_open());
    end.silence(first + ms(10_000));
    assert_eq!(end.seen, [Seen::Ended(Reason::FrameTimeout)]);
    assert_eq!(fatal(&end.out, false), Code::FrameTimeout.to_wire());
}

#[test]
fn each_message_has_the_frame_timeout_for_itself() {
    let ping = raw(PING, b"");
    let mut end = End::open_server(settings(), false);
    let (head, tail) = ping.split_at(5);
    end.receive(head, start());
    for count in 1..20 {
        // The end of one and the beginning of the next, in one segment.
        let now = start() + ms(9_000 * count);
        end.silence(now);
        end.receive(&[tail, head].concat(), now);
        assert!(end.session.is_open());
    }
    let last = start() + ms(9_000 * 19);
    end.receive(tail, last + ms(1));
    end.silence(last + ms(15_000));
    assert!(end.session.is_open(), "nothing is begun");
}

#[test]
fn time_in_which_the_owner_did_not_read_does_not_count() {
    let mut end = End::open_server(settings(), false);
    end.session.restart_frame_clock(start() + ms(1));
    assert!(
        end.session.timeout() > start() + ms(20_000),
        "nothing begun"
    );
    end.receive(b"MC", start());
    end.session.restart_frame_clock(start() + ms(8_000));
    assert_eq!(end.session.timeout(), start() + ms(18_000));
}

#[test]
fn auth_must_come_in_time() {
    let asking = Settings {
        auth_methods: AUTH_JWT,
        ..settings()
    };
    let mut end = End::open_server(asking.clone(), false);
    // Neither PING nor half an AUTH stops the clock.
    end.receive(&raw(PING, b""), start() + ms(4_000));
    end.receive(&raw(6, b"\x01token")[..9], start() + ms(4_500));
    end.forget();
    end.silence(start() + ms(4_999));
    assert!(end.session.is_open());
    end.silence(start() + ms(5_000));
    assert_eq!(end.seen, [Seen::Ended(Reason::AuthRequired)]);
    assert_eq!(fatal(&end.out, false), Code::AuthRequired.to_wire());
    // In time it stops it.
    let mut end = End::open_server(asking, false);
    end.receive(&raw(6, b"\x01token"), start() + ms(4_999));
    end.session.authenticate();
    end.silence(start() + ms(29_999));
    assert!(end.session.is_open());
}

#[test]
fn the_earliest_deadline_decides() {
    let asking = Settings {
        auth_methods: AUTH_JWT,
        ..settings()
    };
    let mut end = End::open_server(asking, false);
    assert_eq!(end.session.timeout(), start() + ms(5_000));
    end.receive(b"MC", start() + ms(1));
    assert_eq!(end.session.timeout(), start() + ms(5_000));
    end.session.authenticate();
    assert_eq!(end.session.timeout(), start() + ms(10_001));
    end.receive(&raw(PING, b"")[2..], start() + ms(2));
    assert!(end.session.timeout() >= start() + ms(30_002));
}

#[test]
fn a_peer_that_said_close_is_not_pinged_but_waited_for() {
    let mut end = End::open_server(settings(), false);
    end.slow_to_finish = true;
    let close = Message::Close {
        code: Code::Normal,
        reason: "",
    };
    end.receive(&encoded(&close, false), start());
    assert_eq!(first_ping(&mut end, start() + ms(89_999)), None);
    assert!(end.session.is_peer_closing());
    end.silence(start() + ms(90_000));
    assert!(end.session.is_ended());
}

#[test]
fn a_deadline_asked_for_too_early_does_nothing() {
    let mut end = End::open_server(settings(), false);
    end.session
        .handle_timeout(start() + ms(29_000), &mut end.out);
    let mut fresh = End::server(settings());
    fresh
        .session
        .handle_timeout(start() + ms(1_999), &mut fresh.out);
    assert!(end.out.is_empty() && fresh.out.is_empty());
    assert!(end.session.is_open() && !fresh.session.is_ended());
}

#[test]
fn a_slow_handshake_does_not_hasten_the_first_heartbeat() {
    let end_of = start() + ms(1_900);
    let mut server = End::server(settings());
    server.receive(&syn(false), start() + ms(900));
    server.receive(&ack(), end_of);
    let mut client = End::client(settings(), &Options::default());
    client.receive(&syn_ack(false), end_of);
    for end in [&mut server, &mut client] {
        end.forget();
        let at = first_ping(end, start() + ms(80_000)).expect("a PING");
        assert!(at >= end_of + settings().heartbeat_interval);
    }
}

#[test]
fn a_timeout_too_short_for_any_heartbeat_still_grants_one() {
    let mut hasty = settings();
    hasty.heartbeat_timeout = ms(120);
    let hello = Options {
        heartbeat_ms: Some(50),
        ..Options::default()
    };
    let mut pair = Pair::new(1, hasty, settings(), &hello);
    pair.run(start() + ms(60_000));
    assert_eq!(pair.server.seen[0], Seen::Established);
}
