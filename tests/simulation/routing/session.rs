//! Sessions rule by rule: S1 and S2 of the catalogue.

use super::scene::Scene;
use crate::server::{limits, ms};
use ringmail::base::reason::Reason;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{
    Act, Answering, Command, Filter, Publish, SessionPlan, Traffic,
};
use ringmail::ring::sim::client::{ClientId, Ending};
use ringmail::ring::sim::{Faults, RingSize};
use std::time::Duration;

const CUTS: [Ending; 3] = [Ending::Reset, Ending::Vanish, Ending::Fin];

/// A client with a session that does not reconnect.
pub fn leaver(ack_every: u32) -> Traffic {
    Traffic {
        session: Some(SessionPlan {
            ack_every,
            ..SessionPlan::default()
        }),
        reconnect: None,
        ..Traffic::of([Act::subscribe("a")])
    }
}

/// A client with the key of another's session.
pub fn heir(key: [u8; 16], received: u32) -> Traffic {
    Traffic {
        session: Some(SessionPlan {
            resumes: Some((key, received)),
            ..SessionPlan::default()
        }),
        ..Traffic::default()
    }
}

pub fn publish(count: usize) -> Vec<Act> {
    (0..count).map(|_| Act::publish("a")).collect()
}

pub fn codes(scene: &Scene, id: ClientId) -> Vec<Code> {
    scene
        .record(id)
        .errors
        .iter()
        .map(|error| error.1)
        .collect()
}

pub fn ended(scene: &Scene, id: ClientId) -> Option<Code> {
    scene.record(id).connections.last().unwrap().refused
}

#[test]
fn a_guessed_key_is_unknown_and_harms_no_session() {
    let mut scene = Scene::quiet(1);
    let [owner, writer] = scene.enter_each([leaver(1), Traffic::default()]);
    let key = scene.record(owner).key().unwrap();
    for bit in (0..128).step_by(7) {
        let mut guess = key;
        guess[bit / 8] ^= 1 << (bit % 8);
        let [thief] = scene.enter_each([heir(guess, 0)]);
        assert_eq!(codes(&scene, thief), [Code::SessionUnknown]);
        let own = scene.record(thief).key().unwrap();
        assert!(own != guess && own != key, "a session of its own");
    }
    scene.perform(writer, publish(3));
    assert_eq!(scene.numbers(owner, writer, "a"), [0, 1, 2]);
    scene.finish();
}

/// A takeover that has to wait (here for answers from a stalled shard) does not keep its shard busy
/// meanwhile, however many clients ask for the session.
#[test]
fn a_takeover_that_waits_costs_nothing() {
    let mut scene = Scene::quiet(12);
    let [owner, first, second] = scene.enter_each([leaver(0), heir([0; 16], 0), leaver(0)]);
    let shard_of = |scene: &Scene, id| scene.record(id).connections[0].shard.unwrap();
    let (home, other) = (shard_of(&scene, owner), shard_of(&scene, first));
    assert_ne!(home, other);
    scene.end(first, Ending::Close);
    scene.end(second, Ending::Close);
    scene.settle();
    scene.world.stall(usize::from(other), true);
    scene.act(owner, [Act::subscribe("b")]);
    scene.run_for(ms(10));
    let key = scene.record(owner).key().unwrap();
    let heirs = [heir(key, 0), heir(key, 0)].map(|plan| scene.enter(plan));
    scene.run_for(ms(1000));
    let turns = scene.server.turns().0;
    scene.run_for(ms(1000));
    assert_eq!(scene.server.closed(Reason::SessionTaken), 0, "it waits");
    let turns = scene.server.turns().0 - turns;
    assert!(turns < 20, "{turns} turns while everybody waits");
    scene.world.stall(usize::from(other), false);
    scene.settle();
    assert_eq!(ended(&scene, owner), Some(Code::SessionTaken));
    // They took it over one after the other.
    let taken = heirs
        .iter()
        .filter(|&&id| ended(&scene, id) == Some(Code::SessionTaken));
    assert_eq!(taken.count(), 1);
    assert_eq!(scene.server.closed(Reason::SessionTaken), 2);
    scene.close();
    scene.rest();
}

#[test]
fn a_session_resumed_while_its_connection_is_open_is_taken_over() {
    for seed in 0..20 {
        let mut scene = Scene::quiet(seed);
        let [owner, writer] = scene.enter_each([leaver(0), Traffic::default()]);
        scene.perform(writer, publish(5));
        let key = scene.record(owner).key().unwrap();
        let [heir] = scene.enter_each([heir(key, 2)]);
        assert_eq!(
            ended(&scene, owner),
            Some(Code::SessionTaken),
            "seed {seed}"
        );
        assert_eq!(scene.numbers(heir, writer, "a"), [2, 3, 4], "seed {seed}");
        scene.perform(writer, publish(5));
        assert_eq!(scene.numbers(heir, writer, "a")[3..], [5, 6, 7, 8, 9]);
        assert_eq!(scene.server.closed(Reason::SessionTaken), 1, "seed {seed}");
        scene.close();
        scene.rest();
    }
}

#[test]
fn a_session_resumed_twice_at_once_has_one_owner() {
    for seed in 0..100 {
        let mut scene = Scene::with(seed, Faults::harmless(), RingSize::default(), limits());
        let [owner, writer] = scene.enter_each([leaver(0), Traffic::default()]);
        scene.perform(writer, publish(5));
        let key = scene.record(owner).key().unwrap();
        if seed % 2 == 0 {
            scene.end(owner, CUTS[seed as usize % 3]);
        }
        if seed % 4 == 0 {
            scene.run_for(ms(100));
        }
        let heirs = [0; 4].map(|_| scene.enter(heir(key, 0)));
        // Publications continue meanwhile.
        scene.act(writer, publish(20));
        scene.run_for(ms(3000));
        // Each client that lost the session received the error, unless it was cut off within a
        // message; one that came after another had acknowledged what it asked for got a session of
        // its own.
        let mut owners = Vec::new();
        for heir in heirs {
            let is_valid = ended(&scene, heir).is_none_or(|code| code == Code::SessionTaken);
            assert!(is_valid, "seed {seed}: {:?}", ended(&scene, heir));
            if !scene.record(heir).ended && scene.record(heir).key() == Some(key) {
                owners.push(heir);
            }
        }
        assert_eq!(owners.len(), 1, "seed {seed}");
        scene.perform(writer, publish(5));
        scene.run_for(ms(500));
        let numbers = scene.numbers(owners[0], writer, "a");
        assert_eq!(numbers, (0..30).collect::<Vec<_>>(), "seed {seed}");
        scene.close();
        scene.rest();
    }
}

#[test]
fn a_session_is_kept_for_its_linger_and_no_longer() {
    for (later, known) in [(59_000, true), (61_000, false)] {
        let mut scene = Scene::quiet(3);
        let [owner, writer] = scene.enter_each([leaver(1), Traffic::default()]);
        let key = scene.record(owner).key().unwrap();
        scene.end(owner, Ending::Reset);
        scene.perform(writer, publish(3));
        scene.run_for(ms(later));
        let [heir] = scene.enter_each([heir(key, 0)]);
        let unknown = if known {
            vec![]
        } else {
            vec![Code::SessionUnknown]
        };
        assert_eq!(codes(&scene, heir), unknown);
        let wanted: &[u32] = if known { &[0, 1, 2] } else { &[] };
        assert_eq!(scene.numbers(heir, writer, "a"), wanted);
        scene.close();
        scene.rest();
    }
}

#[test]
fn a_session_that_overflows_is_unknown_and_its_memory_back() {
    let mut limits = limits();
    limits.session_buffer_bytes_max = 10_000;
    let mut scene = Scene::with(4, Faults::none(), RingSize::default(), limits);
    let plans = [leaver(1), leaver(1), Traffic::default()];
    let [few, many, writer] = scene.enter_each(plans);
    let keys = [few, many].map(|id| scene.record(id).key().unwrap());
    scene.end(many, Ending::Reset);
    let large = Act::Publish(Publish {
        bytes: 3000,
        ..Publish::of("a")
    });
    scene.perform(writer, vec![large; 2]);
    scene.end(few, Ending::Reset);
    scene.perform(writer, publish(10));
    let [heir_of_few, heir_of_many] = scene.enter_each([heir(keys[0], 2), heir(keys[1], 0)]);
    assert_eq!(
        scene.numbers(heir_of_few, writer, "a"),
        (2..12).collect::<Vec<_>>()
    );
    assert_eq!(
        scene.numbers(heir_of_many, writer, "a"),
        (0..12).collect::<Vec<_>>()
    );
    scene.end(heir_of_many, Ending::Reset);
    let large = Act::Publish(Publish {
        bytes: 3000,
        ..Publish::of("a")
    });
    scene.perform(writer, vec![large; 4]);
    let [late] = scene.enter_each([heir(keys[1], 12)]);
    assert_eq!(codes(&scene, late), [Code::SessionUnknown]);
    assert!(scene.record(late).delivered.is_empty());
    scene.close();
    scene.rest();
}

#[test]
fn after_a_resume_on_any_shard_only_unacknowledged_messages_are_resent() {
    let mut elsewhere = 0;
    for seed in 0..30 {
        let mut scene = Scene::quiet(seed);
        let [owner, writer] = scene.enter_each([leaver(0), Traffic::default()]);
        // Other clients, so that its successor connects to another shard.
        scene.enter_each([Traffic::default(), Traffic::default()]);
        scene.perform(writer, publish(6));
        let record = scene.record(owner);
        scene.perform(owner, [Act::Ack(3)]);
        scene.end(owner, CUTS[seed as usize % 3]);
        scene.perform(writer, publish(2));
        let [heir] = scene.enter_each([heir(record.key().unwrap(), 4)]);
        assert_eq!(
            scene.numbers(heir, writer, "a"),
            [4, 5, 6, 7],
            "seed {seed}"
        );
        scene.perform(writer, publish(2));
        assert_eq!(scene.numbers(heir, writer, "a")[4..], [8, 9], "seed {seed}");
        let shards = [record, scene.record(heir)].map(|one| one.connections[0].shard);
        elsewhere += u32::from(shards[0] != shards[1]);
        scene.close();
        scene.rest();
    }
    assert!((5..30).contains(&elsewhere), "{elsewhere} on another shard");
}

#[test]
fn services_wills_and_groups_outlive_a_connection() {
    let mut scene = Scene::quiet(6);
    let kept = Traffic {
        answering: vec![Answering::AtOnce],
        ..Traffic::with_session([
            Act::serve("svc"),
            Act::Will(Publish::of("w")),
            Act::Subscribe(Filter::in_group("g", "one")),
        ])
    };
    let plans = [kept, Traffic::default(), Traffic::of([Act::subscribe("w")])];
    let [server, other, watcher] = scene.enter_each(plans);
    scene
        .world
        .command(server, Command::Reconnect(Some(ms(3000))));
    scene.end(server, Ending::Reset);
    scene.run_for(ms(10));
    let acts = [Act::request("svc"), Act::publish("g"), Act::publish("g")];
    scene.act(other, acts);
    scene.settle();
    scene.run_for(ms(5000));
    assert_eq!(scene.record(server).connections.len(), 2);
    assert_eq!(scene.record(other).outcomes(), [Some(Ok(server.0))]);
    assert_eq!(scene.numbers(server, other, "g"), [0, 1]);
    assert!(scene.record(watcher).delivered.is_empty());
    scene.world.command(server, Command::Reconnect(None));
    scene.end(server, Ending::Reset);
    scene.run_for(ms(59_000));
    assert!(scene.record(watcher).delivered.is_empty());
    scene.run_for(ms(2_000));
    assert_eq!(scene.record(watcher).delivered.len(), 1);
    scene.finish();
}

/// Which client loses its connection.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Writer,
    Reader,
    Both,
}

/// S2: cuts the connection after `turns` turns; false if everything was done by then.
fn cut_after(turns: usize, victim: Victim, cut: Ending, seed: u64) -> bool {
    let mut scene = Scene::quiet(seed);
    let reader = Traffic {
        session: Some(SessionPlan {
            ack_every: 1,
            ..SessionPlan::default()
        }),
        ..Traffic::with_session([Act::subscribe("a")])
    };
    let writer = Traffic {
        window: 2,
        ..Traffic::with_session([])
    };
    let [reader, writer] = scene.enter_each([reader, writer]);
    scene.act(writer, publish(4));
    scene.server.run_turns(turns);
    let busy = !scene.world.is_idle(writer) || scene.record(reader).delivered.len() < 4;
    let victims = match victim {
        Victim::Writer => vec![writer],
        Victim::Reader => vec![reader],
        Victim::Both => vec![reader, writer],
    };
    for victim in victims {
        scene.end(victim, cut);
    }
    scene.settle();
    scene.perform(writer, publish(2));
    let numbers = scene.numbers(reader, writer, "a");
    let wanted: Vec<u32> = (0..6).collect();
    assert_eq!(
        numbers, wanted,
        "seed {seed}: {victim:?} {cut:?} after {turns}"
    );
    let evidence = scene.close();
    evidence.judge();
    scene.rest();
    busy
}

#[test]
fn a_cut_at_any_step_loses_nothing_confirmed_and_doubles_nothing() {
    for victim in [Victim::Writer, Victim::Reader, Victim::Both] {
        for cut in CUTS {
            let mut turns = 0;
            while cut_after(turns, victim, cut, turns as u64 % 7) {
                turns += 1;
                assert!(turns < 2000, "it never ends");
            }
            assert!(turns > 10, "{turns} steps tried");
        }
    }
}

#[test]
fn a_second_session_on_a_connection_is_refused_or_kept_apart() {
    let mut scene = Scene::quiet(8);
    let [owner, writer] = scene.enter_each([leaver(1), Traffic::default()]);
    let mut session = vec![b'M', b'C', 1, 0x0A, 0, 0, 0, 20];
    session.extend_from_slice(&[0; 20]);
    scene.act(owner, [Act::Raw(session)]);
    scene.run_for(ms(200));
    let refused = ended(&scene, owner);
    assert_eq!(
        refused,
        Some(Code::Unexpected),
        "a session is asked for once"
    );
    scene.perform(writer, publish(1));
    scene.run_for(Duration::from_secs(1));
    scene.close();
    scene.rest();
}

/// What stands already takes no other place: a client at its limit that has not had the OK of its
/// last SUBSCRIBE or SERVE repeats it after a resume.
#[test]
fn what_stands_is_confirmed_again_though_there_is_no_room_for_more() {
    let mut limits = limits();
    limits.subscriptions_max = 3;
    let mut scene = Scene::with(9, Faults::none(), RingSize::default(), limits);
    let member = || Act::Subscribe(Filter::in_group("g", "one"));
    let [client] = scene.enter_each([Traffic::of([
        Act::subscribe("a/#"),
        member(),
        Act::serve("svc"),
    ])]);
    let again = [Act::subscribe("a/#"), member(), Act::serve("svc")];
    scene.perform(client, again);
    assert_eq!(scene.record(client).errors, [], "all three stand");
    let more = [
        Act::subscribe("b"),
        Act::Subscribe(Filter::in_group("g", "two")),
        Act::serve("svc/b"),
        Act::subscribe("svc"),
    ];
    scene.perform(client, more);
    let errors = scene.record(client).errors;
    assert!(errors.iter().all(|one| one.1 == Code::TooManySubscriptions));
    assert_eq!(errors.len(), 4);
    scene.finish();
}
