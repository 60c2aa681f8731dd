//! How a shard shares its turns: however much work of one kind there is, every other kind
//! progresses in every turn. Counted in turns of a shard whose shares are so small that little work
//! fills them.

use super::super::server::{Guards, limits, ms};
use super::scene::Scene;
use ringmail::base::id::ShardId;
use ringmail::broker::Pace;
use ringmail::metrics::counter::Counter;
use ringmail::ring::sim::client::traffic::{Act, Command, Publish, SessionPlan, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending};
use ringmail::ring::sim::{Faults, RingSize};
use std::time::Duration;

/// The number of turns within which a shard answers: its own, those in which other shards do their
/// parts, and those that it happens to make between two of theirs.
const FEW: u64 = 40;

/// Two shards with shares of one percent. The network has no latency, so that no turn is spent
/// waiting for it.
pub(super) fn scene(fanout_min: usize) -> Scene {
    let mut limits = limits();
    limits.pace = Pace {
        percent: 1,
        fanout_min,
        retained_looks: 4,
        match_looks: 4,
        ..Pace::default()
    };
    let faults = Faults {
        latency: (Duration::ZERO, Duration::ZERO),
        ..Faults::none()
    };
    let (size, guards) = (RingSize::default(), Guards::default());
    Scene::of_shards(2, 1, faults, size, limits, guards)
}

/// This many clients on each shard, which do nothing yet.
pub(super) fn crowd(scene: &mut Scene, count: usize) -> [Vec<ClientId>; 2] {
    let mut crowd = [Vec::new(), Vec::new()];
    while crowd.iter().any(|some| some.len() < count) {
        let plan = Traffic {
            window: 4096,
            ..Traffic::default()
        };
        let [id] = scene.enter_each([plan]);
        let shard = scene.record(id).connections[0].shard.unwrap();
        crowd[usize::from(shard)].push(id);
    }
    crowd
}

pub(super) fn read(scene: &Scene, counter: Counter) -> u64 {
    scene.server.counters[0].read(counter)
}

/// Lets the first shard turn until `is_done`; returns how many turns that took.
pub(super) fn turns_until(scene: &mut Scene, is_done: impl Fn(&Scene) -> bool) -> u64 {
    let before = read(scene, Counter::Turns);
    while !is_done(scene) {
        scene.server.run_turns(1);
        let turns = read(scene, Counter::Turns) - before;
        assert!(turns < 20_000, "it comes to no end");
    }
    read(scene, Counter::Turns) - before
}

/// Has a client perform an act, and checks that it is answered within a few turns.
pub(super) fn is_soon_answered(scene: &mut Scene, client: ClientId, act: Act) {
    let name = format!("{act:?}");
    scene.act(client, [act]);
    let turns = turns_until(scene, |scene| scene.world.is_idle(client));
    assert!(turns <= FEW, "{name}: {turns} turns");
}

/// Checks that operations of a shard's own clients and of another shard's, which use other lanes,
/// are answered within a few turns.
pub(super) fn all_is_soon_answered(scene: &mut Scene, own: ClientId, other: ClientId) {
    for client in [other, own] {
        is_soon_answered(scene, client, Act::subscribe("s/#"));
        is_soon_answered(scene, client, Act::publish("t/x"));
        // Each shard is the home of some of these topics.
        for topic in ["t/a", "t/b", "t/c", "t/d"] {
            is_soon_answered(scene, client, Act::Publish(Publish::retained(topic)));
        }
        is_soon_answered(scene, client, Act::request("svc"));
        is_soon_answered(scene, client, Act::serve("other"));
        is_soon_answered(scene, client, Act::unsubscribe("s/#"));
    }
}

fn unconfirmed(topic: &str, count: usize) -> Vec<Act> {
    let one = Publish {
        confirmed: false,
        ..Publish::of(topic)
    };
    vec![Act::Publish(one); count]
}

/// S1: publishers that do not wait.
#[test]
fn a_shard_answers_others_whatever_its_own_clients_publish() {
    const MANY: u64 = 2 * 1200;
    let mut scene = scene(1000);
    let [own, others] = crowd(&mut scene, 16);
    let (floods, rest) = own.split_at(2);
    let (calm, readers) = rest.split_at(2);
    for &reader in readers {
        scene.act(reader, [Act::subscribe("f/#")]);
    }
    scene.perform(calm[1], [Act::serve("svc"), Act::subscribe("t/#")]);
    let before = read(&scene, Counter::Publishes);
    for &flood in floods {
        scene.act(flood, unconfirmed("f/x", 1200));
    }
    all_is_soon_answered(&mut scene, calm[0], others[0]);
    let taken = read(&scene, Counter::Publishes) - before;
    assert!(taken < MANY, "the flood is over");
    scene.settle();
    assert_eq!(read(&scene, Counter::Publishes), before + MANY + 5);
    scene.finish();
}

/// S12: many local fan-outs in a row; and many from another shard, behind which only that shard's
/// messages have to wait.
#[test]
fn a_fanout_waits_only_behind_those_of_its_own_shard() {
    for flooded in [0, 1] {
        let mut scene = scene(8);
        let crowd = crowd(&mut scene, 40);
        let (readers, rest) = crowd[0].split_at(16);
        for &reader in readers {
            scene.act(reader, [Act::subscribe("f/#")]);
        }
        scene.perform(rest[1], [Act::serve("svc"), Act::subscribe("t/#")]);
        let rest = [rest, &crowd[1]];
        let floods = &rest[flooded][4..];
        for (index, &flood) in floods.iter().enumerate() {
            scene.act(flood, vec![Act::publish(&format!("f/{index}")); 48]);
        }
        scene.server.run_turns(20);
        let calm = rest[1 - flooded][2];
        is_soon_answered(&mut scene, calm, Act::publish("f/y"));
        if flooded == 0 {
            all_is_soon_answered(&mut scene, rest[0][0], calm);
        }
        let waits = |one: &&ClientId| !scene.world.is_idle(**one);
        let waiting = floods.iter().filter(waits).count();
        assert!(waiting > 8, "{waiting} still wait");
        scene.finish();
    }
}

/// S13: many connections with subscriptions end at once.
#[test]
fn the_ends_of_many_connections_are_spread_over_turns() {
    const MANY: usize = 24;
    const EACH: u64 = 40;
    let mut scene = scene(1000);
    let [own, others] = crowd(&mut scene, MANY + 3);
    let (leaving, staying) = own.split_at(MANY);
    for (index, &one) in leaving.iter().enumerate() {
        let filter = |number| Act::subscribe(&format!("e/{index}/{number}"));
        scene.act(one, (0..EACH).map(filter).collect::<Vec<_>>());
    }
    scene.perform(staying[1], [Act::serve("svc"), Act::subscribe("t/#")]);
    let ended = read(&scene, Counter::Unsubscribed);
    for &one in leaving {
        scene.end(one, Ending::Reset);
    }
    // One connection exceeds the share, and no further one is begun.
    let (mut last, mut turns) = (ended, 0);
    while turns < 6 {
        turns += turns_until(&mut scene, |scene| {
            read(scene, Counter::Unsubscribed) > last
        });
        let now = read(&scene, Counter::Unsubscribed);
        assert!(now - last <= EACH, "{} in one turn", now - last);
        last = now;
    }
    is_soon_answered(&mut scene, staying[0], Act::publish("t/x"));
    let now = read(&scene, Counter::Unsubscribed) - ended;
    assert!(now < MANY as u64 * EACH, "all have ended");
    all_is_soon_answered(&mut scene, staying[0], others[0]);
    scene.run_for(ms(100));
    let now = read(&scene, Counter::Unsubscribed) - ended;
    assert_eq!(now, MANY as u64 * EACH + 1);
    scene.finish();
}

/// S13: one with very many subscriptions ends: its connection breaks, it sends CLOSE, its session
/// expires.
#[test]
fn the_end_of_one_connection_is_spread_over_turns() {
    const EACH: u64 = 900;
    // Of its CLOSE, and of the lane for ends.
    const AT_ONCE: u64 = 2 * 64;
    for (ending, has_session) in [
        (Ending::Reset, false),
        (Ending::Close, false),
        (Ending::Reset, true),
    ] {
        let mut scene = scene(1000);
        let [own, others] = crowd(&mut scene, 3);
        scene.perform(own[1], [Act::serve("svc"), Act::subscribe("t/#")]);
        let leaving = loop {
            let plan = Traffic {
                session: has_session.then(SessionPlan::default),
                window: 4096,
                ..Traffic::default()
            };
            let [id] = scene.enter_each([plan]);
            if scene.record(id).connections[0].shard == Some(0) {
                break id;
            }
        };
        let filter = |number| Act::subscribe(&format!("e/{number}"));
        scene.perform(leaving, (0..EACH).map(filter).collect::<Vec<_>>());
        let ended = read(&scene, Counter::Unsubscribed);
        scene.world.command(leaving, Command::Reconnect(None));
        scene.end(leaving, ending);
        let (mut last, mut steps) = (ended, 0);
        while last < ended + EACH {
            turns_until(&mut scene, |scene| {
                read(scene, Counter::Unsubscribed) > last
            });
            let now = read(&scene, Counter::Unsubscribed);
            assert!(now - last <= AT_ONCE, "{} in one turn", now - last);
            (last, steps) = (now, steps + 1);
            if steps == 5 {
                is_soon_answered(&mut scene, own[0], Act::publish("t/x"));
                all_is_soon_answered(&mut scene, own[0], others[0]);
                last = read(&scene, Counter::Unsubscribed);
            }
        }
        scene.finish();
    }
}

/// Other threads have very much to say.
#[test]
fn commands_are_taken_some_a_turn() {
    let mut scene = scene(1000);
    let [own, others] = crowd(&mut scene, 2);
    scene.server.fill_mailbox(ShardId(0));
    for _ in 0..20 {
        let before = scene.server.work_spent();
        scene.server.run_turns(1);
        let units = scene.server.work_spent() - before;
        assert!(units <= 400, "{units} units in one turn");
    }
    for client in [own[0], others[0]] {
        is_soon_answered(&mut scene, client, Act::subscribe("q"));
    }
    scene.finish();
}

/// Many connections with wills end at once.
#[test]
fn the_wills_of_many_are_spread_over_turns() {
    const MANY: u64 = 40;
    let mut scene = scene(1000);
    let [own, _] = crowd(&mut scene, MANY as usize);
    for &one in &own {
        scene.perform(one, [Act::Will(Publish::of("w"))]);
    }
    for &one in &own {
        scene.end(one, Ending::Reset);
    }
    let (mut published, mut turns) = (0, 0);
    while published < MANY {
        turns += turns_until(&mut scene, |scene| read(scene, Counter::Wills) > published);
        let now = read(&scene, Counter::Wills);
        assert!(now - published <= 3, "{} in one turn", now - published);
        published = now;
    }
    assert!(turns >= MANY / 3, "{turns} turns");
    scene.finish();
}

/// A client that has sent CLOSE gets the answers it waits for, and then its own CLOSE, however long
/// its subscriptions take to be removed; and no will is published, whatever breaks meanwhile.
#[test]
fn a_close_that_takes_several_turns_is_a_close() {
    const EACH: usize = 900;
    for (breaks, has_session) in [(false, false), (true, false), (true, true)] {
        let mut scene = scene(1000);
        let [own, _] = crowd(&mut scene, 2);
        scene.perform(own[0], [Act::subscribe("w")]);
        let plan = Traffic {
            session: has_session.then(SessionPlan::default),
            window: 4096,
            ..Traffic::default()
        };
        let [leaving] = scene.enter_each([plan]);
        let filters = (0..EACH).map(|number| Act::subscribe(&format!("e/{number}")));
        scene.perform(leaving, filters.collect::<Vec<_>>());
        scene.perform(leaving, [Act::Will(Publish::of("w"))]);
        scene.world.command(leaving, Command::Reconnect(None));
        // Its answer takes as long as the other shard.
        let other = 1 - usize::from(scene.record(leaving).connections[0].shard.unwrap());
        scene.world.stall(other, true);
        scene.act(leaving, [Act::subscribe("x")]);
        scene.run_for(ms(1));
        scene.end(leaving, Ending::Close);
        scene.run_for(ms(5));
        if breaks {
            scene.end(leaving, Ending::Reset);
            scene.run_for(ms(1));
        }
        scene.world.stall(other, false);
        scene.run_for(ms(200));
        let record = scene.record(leaving);
        let connection = record.connections.last().unwrap();
        assert_eq!(connection.close_answered, !breaks, "{connection:?}");
        assert!(scene.record(own[0]).delivered.is_empty(), "its will");
        assert_eq!(scene.server.sessions(), 0);
        scene.finish();
    }
}

/// S8: many clients subscribe to many retained topics.
#[test]
fn replays_are_served_first_come_first_served() {
    const TOPICS: u64 = 1600;
    const READERS: usize = 12;
    let mut scene = scene(1000);
    let [own, others] = crowd(&mut scene, READERS + 3);
    let (readers, rest) = own.split_at(READERS);
    let retained = |number| Act::Publish(Publish::retained(&format!("r/{number}")));
    scene.perform(rest[0], (0..TOPICS).map(retained).collect::<Vec<_>>());
    scene.perform(rest[1], [Act::serve("svc"), Act::subscribe("t/#")]);
    for &reader in readers {
        scene.act(reader, [Act::subscribe("r/#")]);
    }
    all_is_soon_answered(&mut scene, rest[0], others[0]);
    let is_done = |scene: &Scene, reader: &ClientId| scene.world.is_idle(*reader);
    let first = turns_until(&mut scene, |scene| {
        readers.iter().any(|one| is_done(scene, one))
    });
    let done = |scene: &Scene| readers.iter().filter(|one| is_done(scene, one)).count();
    assert_eq!(done(&scene), 1, "after {first} turns");
    let mut rest = 0;
    for count in 1..=READERS {
        rest += turns_until(&mut scene, |scene| done(scene) >= count);
        let first = readers
            .iter()
            .take_while(|one| is_done(&scene, one))
            .count();
        assert_eq!(first, done(&scene), "one has overtaken another");
    }
    // A share of 20 units a turn is 16 messages, however many replays are served of it.
    let others = (READERS as u64 - 1) * TOPICS / 16;
    assert!(
        (others / 2..2 * others).contains(&rest),
        "{rest} turns for the others"
    );
    scene.finish();
}

/// More clients than a turn has time for, each with one operation at a time.
#[test]
fn who_comes_too_late_for_a_turn_is_heard_first_in_the_next() {
    let mut scene = scene(1000);
    let [own, _] = crowd(&mut scene, 64);
    let (readers, writers) = own.split_at(4);
    for &reader in readers {
        scene.perform(reader, [Act::subscribe("f/#")]);
    }
    for &writer in writers {
        let one_by_one = [Act::publish("f/x"), Act::AwaitAnswers];
        scene.act(
            writer,
            std::iter::repeat_n(one_by_one, 200)
                .flatten()
                .collect::<Vec<_>>(),
        );
    }
    scene.server.run_turns(400);
    let confirmed = writers.iter().map(|&writer| {
        let published = scene.record(writer).published;
        let confirmed = published.iter().filter(|one| one.confirmed_at.is_some());
        confirmed.count()
    });
    let confirmed: Vec<usize> = confirmed.collect();
    let (least, most) = (confirmed.iter().min(), confirmed.iter().max());
    let (least, most) = (*least.unwrap(), *most.unwrap());
    assert!(least > 4 && most < 200, "{least} to {most}");
    assert!(
        most <= least + least / 2,
        "{least} to {most}: {confirmed:?}"
    );
    scene.finish();
}

/// S6: operations that wait for an answer from a shard that makes no turn.
#[test]
fn a_connection_owed_many_answers_is_not_read_until_some_are_sent() {
    const WILLS: u64 = 3000;
    const OPEN_MAX: u64 = 256;
    let mut scene = scene(1000);
    let [own, _] = crowd(&mut scene, 2);
    scene.world.stall(1, true);
    let before = read(&scene, Counter::MessagesReceived);
    let mut acts = vec![Act::subscribe("a/#")];
    acts.resize(WILLS as usize + 1, Act::Will(Publish::of("w")));
    scene.act(own[0], acts);
    scene.run_for(ms(100));
    let read_count = read(&scene, Counter::MessagesReceived) - before;
    assert_eq!(read_count, OPEN_MAX);
    scene.server.check_ledgers();
    is_soon_answered(&mut scene, own[1], Act::request("$sys/echo"));
    assert!(!scene.world.is_idle(own[0]));
    scene.world.stall(1, false);
    scene.settle();
    let read_count = read(&scene, Counter::MessagesReceived) - before;
    assert_eq!(read_count, 1 + WILLS + 1);
    scene.finish();
}
