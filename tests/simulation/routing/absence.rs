//! Sessions whose client is disconnected or does not acknowledge: what is kept for it, how much,
//! and for how long.

use super::scene::Scene;
use super::session::{codes, ended, heir, leaver, publish};
use crate::server::{limits, ms};
use ringmail::base::id::ShardId;
use ringmail::base::reason::Reason;
use ringmail::broker::Limits;
use ringmail::metrics::counter::Counter;
use ringmail::proto::envelope::SlowPolicy;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{Act, Filter, Publish, SessionPlan, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending};
use ringmail::ring::sim::{Faults, RingSize};

/// How many messages of `large` exceed the session buffer and the outbox of `small` together.
const COUNT: u32 = 60;
const BYTES: usize = 1000;

fn small() -> Limits {
    Limits {
        session_buffer_bytes_max: 10_000,
        outbox_bytes_max: 20_000,
        ..limits()
    }
}

fn scene(seed: u64, limits: Limits) -> Scene {
    let mut scene = Scene::with(seed, Faults::none(), RingSize::default(), limits);
    scene.terms.ample = false;
    scene
}

/// Large messages to two topics in turn.
fn large(count: u32) -> Vec<Act> {
    let act = |number| {
        Act::Publish(Publish {
            bytes: BYTES,
            ..Publish::of(["a", "b"][number as usize % 2])
        })
    };
    (0..count).map(act).collect()
}

/// A client with a session that acknowledges nothing by itself and does not reconnect.
fn silent(policy: SlowPolicy) -> Traffic {
    Traffic {
        acts: vec![Act::Subscribe(Filter::with_policy("#", policy))],
        ..leaver(0)
    }
}

fn numbers(scene: &Scene, id: ClientId) -> Vec<u32> {
    let delivered = scene.record(id).delivered;
    delivered.iter().map(|one| one.label.number).collect()
}

#[test]
fn unacknowledged_messages_hold_up_later_ones_and_none_is_lost() {
    for seed in 0..6 {
        // Messages that wait for an acknowledgement do not make it a slow consumer.
        let mut limits = small();
        limits.outbox_bytes_max = 80_000;
        let mut scene = scene(seed, limits);
        let plans = [silent(SlowPolicy::Disconnect), Traffic::default()];
        let [reader, writer] = scene.enter_each(plans);
        let key = scene.record(reader).key().unwrap();
        // It gets as much as its buffer holds, and with each acknowledgement as much again.
        scene.perform(writer, large(25));
        let mut taken = numbers(&scene, reader).len();
        assert!(
            (5..=10).contains(&taken),
            "seed {seed}: {taken} came at once"
        );
        while taken < 25 {
            scene.perform(reader, [Act::Ack(taken as u32)]);
            let more = numbers(&scene, reader).len();
            assert!(more > taken, "seed {seed}: {taken} of 25");
            taken = more;
        }
        scene.perform(reader, [Act::Ack(25)]);
        scene.end(reader, Ending::Reset);
        scene.perform(writer, large(1));
        let [heir] = scene.enter_each([heir(key, 25)]);
        assert_eq!(codes(&scene, heir), []);
        assert_eq!(numbers(&scene, reader), (0..25).collect::<Vec<_>>());
        assert_eq!(numbers(&scene, heir), [25]);
        assert_eq!(scene.server.count(Counter::SessionsOverflowed), 0);
        scene.close();
        scene.rest();
    }
}

#[test]
fn a_message_larger_than_the_buffer_comes_alone() {
    let mut scene = scene(1, small());
    let plans = [silent(SlowPolicy::Disconnect), Traffic::default()];
    let [reader, writer] = scene.enter_each(plans);
    let huge = Act::Publish(Publish {
        bytes: 15_000,
        ..Publish::of("a")
    });
    scene.perform(writer, [huge, Act::publish("a")]);
    assert_eq!(numbers(&scene, reader), [0]);
    scene.perform(reader, [Act::Ack(1)]);
    assert_eq!(numbers(&scene, reader), [0, 1]);
    scene.close();
    scene.rest();
}

/// Whether these are the ones of `COUNT` messages that the policy leaves a client with room for
/// few.
fn is_right(policy: SlowPolicy, numbers: &[u32]) -> bool {
    let few = (5..COUNT as usize / 2 + 10).contains(&numbers.len());
    let last = [COUNT - 2, COUNT - 1];
    numbers.is_sorted()
        && match policy {
            SlowPolicy::Disconnect => true,
            SlowPolicy::DropOldest => few && numbers.ends_with(&last),
            SlowPolicy::DropNewest => {
                few && *numbers == *(0..numbers.len() as u32).collect::<Vec<_>>()
            }
            SlowPolicy::LatestPerKey => numbers.ends_with(&last),
        }
}

const POLICIES: [SlowPolicy; 4] = [
    SlowPolicy::Disconnect,
    SlowPolicy::DropOldest,
    SlowPolicy::DropNewest,
    SlowPolicy::LatestPerKey,
];

#[test]
fn the_policy_decides_when_a_client_never_acknowledges() {
    for policy in POLICIES {
        let mut scene = scene(2, small());
        let [reader, writer] = scene.enter_each([silent(policy), Traffic::default()]);
        scene.perform(writer, large(COUNT));
        let code = ended(&scene, reader);
        let slow = policy == SlowPolicy::Disconnect;
        assert_eq!(code, slow.then_some(Code::SlowConsumer), "{policy:?}");
        assert_eq!(scene.server.closed(Reason::SlowConsumer), u64::from(slow));
        if !slow {
            // It acknowledges after all, until it gets nothing more.
            let mut taken = 0;
            while taken < numbers(&scene, reader).len() {
                taken = numbers(&scene, reader).len();
                scene.perform(reader, [Act::Ack(taken as u32)]);
            }
        }
        let found = numbers(&scene, reader);
        assert!(is_right(policy, &found), "{policy:?}: {found:?}");
        scene.close();
        scene.rest();
    }
}

#[test]
fn the_policy_decides_while_a_client_is_away() {
    for policy in POLICIES {
        let mut scene = scene(3, small());
        let [reader, writer] = scene.enter_each([silent(policy), Traffic::default()]);
        let key = scene.record(reader).key().unwrap();
        scene.end(reader, Ending::Reset);
        scene.run_for(ms(100));
        scene.perform(writer, large(COUNT));
        let acknowledging = Traffic {
            session: Some(SessionPlan {
                ack_every: 1,
                resumes: Some((key, 0)),
                ..SessionPlan::default()
            }),
            ..Traffic::default()
        };
        let [heir] = scene.enter_each([acknowledging]);
        let over = policy == SlowPolicy::Disconnect;
        let wanted: &[Code] = if over { &[Code::SessionUnknown] } else { &[] };
        assert_eq!(codes(&scene, heir), wanted, "{policy:?}");
        let overflowed = scene.server.count(Counter::SessionsOverflowed);
        assert_eq!(overflowed, u64::from(over), "{policy:?}");
        let found = numbers(&scene, heir);
        assert!(is_right(policy, &found), "{policy:?}: {found:?}");
        assert_eq!(found.is_empty(), over, "{policy:?}");
        scene.close();
        scene.rest();
    }
}

#[test]
fn messages_that_expire_while_a_client_is_away_are_not_resent() {
    let expiring = |expires_ms| {
        Act::Publish(Publish {
            expires_ms,
            ..Publish::of("a")
        })
    };
    let acts = [expiring(Some(500)), expiring(None), expiring(Some(60_000))];
    let mut scene = scene(4, limits());
    let [reader, writer] = scene.enter_each([leaver(0), Traffic::default()]);
    let key = scene.record(reader).key().unwrap();
    // Three messages that were sent and not acknowledged, and three that were never sent.
    scene.perform(writer, acts.clone());
    assert_eq!(numbers(&scene, reader), [0, 1, 2]);
    scene.end(reader, Ending::Reset);
    scene.perform(writer, acts);
    scene.run_for(ms(1000));
    let [heir] = scene.enter_each([heir(key, 0)]);
    assert_eq!(numbers(&scene, heir), [1, 2, 4, 5]);
    assert_eq!(scene.server.count(Counter::DeliveriesExpired), 2);
    // The messages behind them have moved up: the client has counted four.
    scene.perform(heir, [Act::Ack(4)]);
    assert_eq!(ended(&scene, heir), None);
    scene.perform(writer, publish(1));
    assert_eq!(numbers(&scene, heir), [1, 2, 4, 5, 6]);
    scene.close();
    scene.rest();
}

#[test]
fn beyond_the_limit_the_longest_waiting_session_ends() {
    let limits = Limits {
        sessions_waiting_max: 2,
        ..limits()
    };
    let mut scene = Scene::with(5, Faults::none(), RingSize::default(), limits);
    // One shard has the watcher, the others have three and two of the clients that disconnect.
    let [watcher] = scene.enter_each([Traffic::of([Act::subscribe("w/#")])]);
    let will = |name: &str| Traffic {
        acts: vec![Act::Will(Publish::of(name))],
        ..leaver(0)
    };
    let mut by_shard: Vec<Vec<ClientId>> = vec![Vec::new(); 3];
    for number in 0..12 {
        let [id] = scene.enter_each([will(&format!("w/{number}"))]);
        let shard = scene.record(id).connections[0].shard;
        by_shard[usize::from(shard.unwrap())].push(id);
    }
    for ids in &by_shard {
        assert!(ids.len() > 2);
        for &id in ids {
            scene.end(id, Ending::Reset);
            scene.run_for(ms(100));
        }
    }
    let ended: usize = by_shard.iter().map(|ids| ids.len() - 2).sum();
    assert_eq!(scene.record(watcher).delivered.len(), ended);
    for ids in by_shard {
        let rest = ids.len() - 2;
        for (place, id) in ids.into_iter().enumerate() {
            let [heir] = scene.enter_each([heir(scene.record(id).key().unwrap(), 0)]);
            let unknown = codes(&scene, heir) == [Code::SessionUnknown];
            assert_eq!(unknown, place < rest, "{place} of those that left");
            // Its slot is free for the next.
            scene.end(heir, Ending::Close);
        }
    }
    scene.close();
    scene.rest();
}

#[test]
fn time_in_which_the_process_was_stopped_does_not_count_as_linger() {
    for (later, known) in [(50_000, true), (70_000, false)] {
        let mut scene = scene(6, limits());
        let [reader] = scene.enter_each([leaver(0)]);
        let key = scene.record(reader).key().unwrap();
        scene.end(reader, Ending::Reset);
        scene.run_for(ms(5000));
        for _ in 0..3 {
            scene.world.suspend(ms(1_000_000));
            scene.run_for(ms(1000));
        }
        scene.run_for(ms(later - 8000));
        let [heir] = scene.enter_each([heir(key, 0)]);
        let wanted: &[Code] = if known { &[] } else { &[Code::SessionUnknown] };
        assert_eq!(codes(&scene, heir), wanted, "after {later} ms");
        scene.close();
        scene.rest();
    }
}

/// A session, and a client with its key that is connected to another shard.
pub fn apart(scene: &mut Scene) -> ([u8; 16], ShardId, ClientId) {
    let [owner] = scene.enter_each([leaver(0)]);
    let (key, home) = (scene.record(owner).key().unwrap(), home(scene, owner));
    scene.end(owner, Ending::Reset);
    scene.run_for(ms(100));
    loop {
        let [comer] = scene.enter_each([Traffic::default()]);
        if self::home(scene, comer) != home {
            return (key, home, comer);
        }
    }
}

pub fn home(scene: &Scene, id: ClientId) -> ShardId {
    ShardId(scene.record(id).connections[0].shard.unwrap())
}

pub fn session(key: [u8; 16]) -> Act {
    let mut message = vec![b'M', b'C', 1, 0x0A, 0, 0, 0, 20];
    message.extend_from_slice(&key);
    message.extend_from_slice(&[0; 4]);
    Act::Raw(message)
}

#[test]
fn a_session_is_resumed_though_its_shard_takes_no_commands_for_a_while() {
    let mut scene = scene(7, limits());
    let (key, home, comer) = apart(&mut scene);
    // As many commands as take many turns.
    scene.server.fill_mailbox(home);
    scene.act(comer, [session(key)]);
    scene.run_for(ms(2000));
    assert_eq!(scene.server.count(Counter::SessionsResumed), 1);
    assert_eq!(scene.server.count(Counter::MovedIn), 1);
    scene.close();
    scene.rest();
}

#[test]
fn a_session_whose_shard_has_ended_is_unknown() {
    let mut scene = scene(8, limits());
    let (key, home, comer) = apart(&mut scene);
    scene.server.drain_shard(home, scene.world.now() + ms(100));
    scene.run_for(ms(1000));
    scene.act(comer, [session(key)]);
    scene.run_for(ms(1000));
    assert_eq!(scene.server.count(Counter::SessionsResumed), 0);
    assert_eq!(codes(&scene, comer), [Code::SessionUnknown]);
    assert_eq!(ended(&scene, comer), None, "it goes on");
}

#[test]
fn on_a_full_server_a_returning_client_gets_a_slot_and_a_new_one_does_not() {
    let limits = Limits {
        connections_max: 3,
        ..limits()
    };
    let mut scene = scene(9, limits);
    let owners: Vec<_> = (0..9).map(|_| scene.enter_each([leaver(0)])[0]).collect();
    assert_eq!(scene.server.open(), 9);
    // As far as the server knows, all their connections are established.
    let strangers = [
        scene.enter(Traffic::of([Act::publish("a")])),
        scene.enter(leaver(0)),
        // Sends nothing.
        scene.enter(Traffic::default()),
        // Tries a key that no session has.
        scene.enter(heir([0x5A; 16], 0)),
    ];
    let heirs: Vec<_> = owners
        .iter()
        .map(|&owner| scene.enter(heir(scene.record(owner).key().unwrap(), 0)))
        .collect();
    scene.run_for(ms(6000));
    for stranger in strangers {
        assert_eq!(ended(&scene, stranger), Some(Code::TooManyConnections));
    }
    for (owner, heir) in owners.iter().zip(heirs) {
        assert_eq!(ended(&scene, *owner), Some(Code::SessionTaken));
        assert_eq!(scene.record(heir).key(), scene.record(*owner).key());
        scene.perform(heir, [Act::publish("a")]);
        assert_eq!(ended(&scene, heir), None);
    }
    assert_eq!(scene.server.open(), 9);
    assert_eq!(scene.server.closed(Reason::TooManyConnections), 4);
    scene.close();
    scene.rest();
}
