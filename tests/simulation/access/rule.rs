//! Access control rule by rule: A4 of the catalogue, S1 with principals, admission.

use super::guarded::{Guarded, keyring, no_keyring_yet};
use crate::server::{limits, ms};
use ringmail::auth::address::AccessList;
use ringmail::auth::tally::TallyLimits;
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::proto::envelope::SlowPolicy;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{Act, Command, Filter, Publish, SessionPlan, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending, Reading};
use ringmail::ring::sim::{Faults, RingSize};
use std::time::Duration;

fn ended(scene: &Guarded, id: ClientId) -> Option<Code> {
    scene.record(id).connections.last().unwrap().refused
}

fn codes(scene: &Guarded, id: ClientId) -> Vec<Code> {
    let record = scene.record(id);
    record.errors.iter().map(|error| error.1).collect()
}

fn large(topic: &str) -> Act {
    Act::Publish(Publish {
        bytes: 3000,
        ..Publish::of(topic)
    })
}

/// A client with a session that acknowledges nothing.
fn forgetful(acts: impl Into<Vec<Act>>) -> Traffic {
    Traffic {
        session: Some(SessionPlan {
            ack_every: 0,
            ..SessionPlan::default()
        }),
        reconnect: None,
        ..Traffic::of(acts)
    }
}

fn heir(key: [u8; 16], received: u32) -> Traffic {
    Traffic {
        session: Some(SessionPlan {
            resumes: Some((key, received)),
            ..SessionPlan::default()
        }),
        ..Traffic::default()
    }
}

/// A client stops reading until its outbox and pending queue are full; then its credential ends.
fn slow_reader_loses(how: Code, reading: Reading) {
    let mut scene = Guarded::quiet(1, limits());
    scene.world.set_pipe_bytes(2000);
    let writer = scene.token("w", "writer", 3600);
    let writer = scene.enter(&writer, Traffic::default());
    let token = scene.token("r", "reader", 20);
    let filter = Filter::with_policy("all/#", SlowPolicy::DropOldest);
    let reader = Traffic {
        reading: Reading::Eager,
        ..Traffic::of([Act::Subscribe(filter)])
    };
    let reader = scene.enter(&token, reader);
    scene.run_for(ms(100));
    scene.world.command(reader, Command::Read(Reading::Never));
    scene.perform(writer, vec![large("all/a"); 600]);
    assert!(scene.server.lent_bytes() > 500_000, "a full outbox");
    assert!(scene.record(reader).delivered.is_empty());
    match how {
        Code::Revoked => scene.revoke(&token),
        _ => scene.run_for(ms(19_900)),
    }
    let ends_at = scene.world.now();
    scene.world.command(reader, Command::Read(reading));
    scene.run_for(Duration::from_secs(60));
    let record = scene.record(reader);
    assert!(record.ended, "{:?}", record.connections);
    let last = record.delivered.iter().map(|one| one.at).max();
    // The network holds 2,000 bytes, which the slow reader takes 1.5 s to read.
    assert!(
        last.is_none_or(|at| at <= ends_at + ms(1700)),
        "ended {ends_at:?}, delivered until {last:?}"
    );
    let count = record.delivered.len();
    if how == Code::Revoked {
        assert!(count <= 1, "{count} of 600 delivered");
    }
    let reason = match how {
        Code::Revoked => Reason::Revoked,
        _ => Reason::AuthExpired,
    };
    assert_eq!(scene.server.closed(reason), 1);
    scene.finish();
}

#[test]
fn queued_messages_are_not_delivered_after_a_revocation() {
    slow_reader_loses(Code::Revoked, Reading::Eager);
}

#[test]
fn a_slow_reader_gets_nothing_after_its_credential_ends() {
    let reading = Reading::Slow {
        bytes: 400,
        every: ms(300),
    };
    slow_reader_loses(Code::Revoked, reading);
    slow_reader_loses(Code::AuthExpired, reading);
}

#[test]
fn a_reader_that_keeps_up_gets_the_error() {
    let mut scene = Guarded::quiet(2, limits());
    let token = scene.token("r", "reader", 3600);
    let writer = scene.token("w", "writer", 3600);
    let reader = scene.enter(&token, Traffic::of([Act::subscribe("all/#")]));
    let writer = scene.enter(&writer, Traffic::default());
    scene.run_for(ms(100));
    scene.act(writer, vec![large("all/a"); 50]);
    scene.revoke(&token);
    scene.run_for(ms(100));
    assert_eq!(ended(&scene, reader), Some(Code::Revoked));
    let short = scene.token("r", "reader", 3);
    let reader = scene.enter(&short, Traffic::of([Act::subscribe("all/#")]));
    scene.run_for(ms(5000));
    assert_eq!(ended(&scene, reader), Some(Code::AuthExpired));
    scene.finish();
}

/// The revocation comes at any moment while the connection moves to the session's shard.
#[test]
fn a_connection_moving_between_shards_is_revoked() {
    let mut resumed = 0;
    for turns in 0..150 {
        let mut scene = Guarded::quiet(turns, limits());
        let token = scene.token("a", "device", 3600);
        let other = scene.token("a", "device", 3600);
        let owner = scene.enter(&token, forgetful([Act::subscribe("all/#")]));
        scene.run_for(ms(50));
        for _ in 0..2 {
            scene.enter(&token, Traffic::default());
            scene.run_for(ms(50));
        }
        let key = scene.record(owner).key().unwrap();
        scene.end(owner, Ending::Reset);
        scene.run_for(ms(50));
        let heir = scene.enter(&other, heir(key, 0));
        scene.server.run_turns(turns as usize);
        scene.revoke(&other);
        scene.run_for(ms(1000));
        let record = scene.record(heir);
        assert!(
            record.ended,
            "after {turns} turns: {:?}",
            record.connections
        );
        let membership = record.memberships.first();
        resumed += u32::from(membership.is_some_and(|one| one.resumed > 0 || one.key == Some(key)));
        scene.finish();
    }
    assert!(resumed > 5, "{resumed} resumed before");
}

#[test]
fn a_session_belongs_to_one_principal() {
    for seed in 0..20 {
        let mut scene = Guarded::quiet(seed, limits());
        let owner_token = scene.token("a", "device", 3600);
        let owner = scene.enter(&owner_token, forgetful([Act::subscribe("all/#")]));
        scene.run_for(ms(50));
        let key = scene.record(owner).key().unwrap();
        if seed % 2 == 0 {
            scene.end(owner, Ending::Reset);
            scene.run_for(ms(50));
        }
        // Another principal, and the same one with rights that do not cover its subscription.
        for (principal, role) in [("b", "device"), ("a", "narrow")] {
            let other = scene.token(principal, role, 3600);
            let other = scene.enter(&other, heir(key, 0));
            scene.run_for(ms(50));
            let told = codes(&scene, other);
            assert_eq!(told, [Code::SessionUnknown], "seed {seed}: {principal}");
            if principal == "b" {
                // It stays where it is, wherever the session is.
                assert_eq!(scene.server.count(Counter::MovedOut), 0, "seed {seed}");
            }
        }
        let heir = scene.enter(&owner_token, heir(key, 0));
        scene.run_for(ms(50));
        assert_eq!(codes(&scene, heir), [], "seed {seed}");
        scene.finish();
    }
}

/// Messages that wait in a session were delivered to it under rights that the client's next
/// credential lacks.
#[test]
fn a_resumed_session_delivers_only_what_the_new_credential_allows() {
    let mut scene = Guarded::quiet(3, limits());
    let wide = scene.token("a", "reader", 3600);
    let narrow = scene.token("a", "narrow", 3600);
    let writer = scene.token("w", "writer", 3600);
    let writer = scene.enter(&writer, Traffic::default());
    let owner = scene.enter(&wide, forgetful([Act::subscribe("of/#")]));
    scene.run_for(ms(50));
    scene.perform(writer, vec![large("of/b/x"); 3]);
    assert_eq!(scene.record(owner).delivered.len(), 3);
    scene.perform(owner, [Act::unsubscribe("of/#"), Act::subscribe("all/a")]);
    scene.perform(writer, vec![large("all/a"); 3]);
    let key = scene.record(owner).key().unwrap();
    scene.end(owner, Ending::Reset);
    scene.run_for(ms(50));
    let thin = scene.enter(&narrow, heir(key, 0));
    scene.run_for(ms(50));
    scene.judge();
    assert_eq!(codes(&scene, thin), [Code::SessionUnknown]);
    // It gets what follows the messages that its rights do not cover.
    let last = scene.enter(&narrow, heir(key, 3));
    scene.run_for(ms(50));
    assert_eq!(codes(&scene, last), []);
    assert_eq!(scene.record(last).delivered.len(), 3);
    scene.finish();
}

/// AUTH again with fewer rights, while messages beyond them wait on the pending queue; then the
/// connection breaks.
#[test]
fn pending_messages_beyond_narrowed_rights_are_dropped() {
    let mut scene = Guarded::quiet(4, limits());
    scene.world.set_pipe_bytes(2000);
    let wide = scene.token("a", "reader", 3600);
    let narrow = scene.token("a", "narrow", 3600);
    let writer = scene.token("w", "writer", 3600);
    let writer = scene.enter(&writer, Traffic::default());
    let filter = |name| Act::Subscribe(Filter::with_policy(name, SlowPolicy::DropOldest));
    let owner = scene.enter(&wide, forgetful([filter("of/#"), filter("all/a")]));
    scene.run_for(ms(50));
    scene.world.command(owner, Command::Read(Reading::Never));
    let both = (0..60).flat_map(|_| [large("of/b/x"), large("all/a")]);
    scene.perform(writer, both.collect::<Vec<_>>());
    scene.perform(owner, [Act::Auth(narrow.clone())]);
    scene.world.command(owner, Command::Read(Reading::Eager));
    scene.run_for(ms(500));
    let record = scene.record(owner);
    assert_eq!(record.grants.len(), 2);
    assert!(record.delivered.iter().any(|one| one.grant == Some(1)));
    scene.judge();
    scene.finish();
}

/// A flood of connections that admission refuses does not displace a waiting session.
#[test]
fn refused_connections_displace_no_waiting_session() {
    let mut limits = limits();
    limits.connections_max = 4;
    let list = AccessList::new(
        &[] as &[&str],
        &["10.0.0.8/29", "10.0.0.16/28", "10.0.0.32/27"],
    )
    .unwrap();
    let (faults, size) = (Faults::none(), RingSize::default());
    let mut scene = Guarded::with(5, faults, size, limits, list, TallyLimits::default());
    let token = scene.token("a", "device", 3600);
    let owners: Vec<_> = (0..8)
        .map(|_| {
            let owner = scene.enter(&token, forgetful([Act::subscribe("all/#")]));
            scene.run_for(ms(20));
            owner
        })
        .collect();
    for &owner in &owners {
        scene.end(owner, Ending::Reset);
    }
    scene.run_for(ms(50));
    assert_eq!(scene.server.sessions(), 8);
    while scene.clients.len() < 60 {
        let reading = Reading::Never;
        let plan = Traffic {
            reading,
            ..Traffic::default()
        };
        let flooder = scene.enter(&token, plan);
        assert!(flooder.0 < 60);
    }
    scene.run_for(ms(500));
    assert_eq!(scene.server.sessions(), 8, "sessions ended for the flood");
    scene.run_for(ms(100_000));
    scene.finish();
}

/// A session ends when the credential it was opened with is revoked, whatever its connection is
/// doing; a valid credential of the same principal begins a new session.
#[test]
fn a_session_ends_with_the_credential_that_opened_it() {
    let stands = |_: &Guarded, _| {};
    let breaks = |scene: &Guarded, owner| scene.end(owner, Ending::Reset);
    // Its connection lingers: it was sent a fatal error and does not read it.
    let lingers = |scene: &Guarded, owner| {
        scene.world.command(owner, Command::Read(Reading::Never));
        scene.act(owner, [Act::Raw(vec![0; 64])]);
    };
    type Put<'a> = &'a dyn Fn(&Guarded, ClientId);
    let states: [(&str, Put<'_>); 3] = [
        ("stands", &stands),
        ("breaks", &breaks),
        ("lingers", &lingers),
    ];
    for (state, put) in states {
        for turns in 0..10 {
            let mut scene = Guarded::quiet(turns, limits());
            let token = scene.token("a", "device", 3600);
            let kept = forgetful([Act::subscribe("all/#"), Act::serve("of/a/it")]);
            let owner = scene.enter(&token, kept);
            scene.run_for(ms(50));
            let key = scene.record(owner).key().unwrap();
            assert_eq!(scene.server.sessions(), 1);
            put(&scene, owner);
            scene.server.run_turns(turns as usize);
            scene.revoke(&token);
            scene.run_for(ms(100));
            let what = format!("it {state}, {turns} turns");
            assert_eq!(scene.server.sessions(), 0, "{what}");
            assert_eq!(scene.server.subscriptions(), 0, "{what}");
            if state == "stands" {
                assert_eq!(ended(&scene, owner), Some(Code::Revoked), "{what}");
            }
            let other = scene.token("a", "device", 3600);
            let heir = scene.enter(&other, heir(key, 0));
            scene.run_for(ms(50));
            assert_eq!(codes(&scene, heir), [Code::SessionUnknown], "{what}");
            scene.finish();
        }
    }
}

/// A token that the server cannot verify yet is neither accepted nor rejected: an established
/// client that renews with one has to reconnect, and does.
#[test]
fn a_token_that_cannot_be_verified_yet_is_accepted_later() {
    let (faults, size, list) = (Faults::none(), RingSize::default(), AccessList::default());
    let tally = TallyLimits {
        auth_failures_per_min: 1,
        ..TallyLimits::default()
    };
    let mut scene = Guarded::with(8, faults, size, limits(), list, tally);
    scene.put_keyring(no_keyring_yet());
    let token = scene.token("a", "device", 3600);
    let once = || Traffic {
        reconnect: None,
        ..Traffic::default()
    };
    for _ in 0..5 {
        let early = scene.enter(&token, once());
        scene.run_for(ms(50));
        assert_eq!(ended(&scene, early), Some(Code::Unavailable));
        assert!(scene.record(early).grants.is_empty());
    }
    assert_eq!(scene.server.closed(Reason::Unavailable), 5);
    scene.put_keyring(keyring());
    let late = scene.enter(&token, once());
    scene.run_for(ms(50));
    assert_eq!(scene.record(late).grants.len(), 1);
    scene.finish();
}

/// A session outlives its expired credential, so that the client can return with a new one.
#[test]
fn a_session_outlives_a_credential_that_expires() {
    let mut scene = Guarded::quiet(6, limits());
    let short = scene.token("a", "device", 3);
    let owner = scene.enter(&short, forgetful([Act::subscribe("all/#")]));
    scene.run_for(ms(9_000));
    assert_eq!(ended(&scene, owner), Some(Code::AuthExpired));
    let key = scene.record(owner).key().unwrap();
    let fresh = scene.token("a", "device", 3600);
    let heir = scene.enter(&fresh, heir(key, 0));
    scene.run_for(ms(50));
    assert_eq!(codes(&scene, heir), []);
    scene.finish();
}
