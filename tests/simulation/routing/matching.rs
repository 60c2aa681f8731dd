//! Publications whose match is more than a turn's work, because it visits very many filters or goes
//! to very many groups. It is spread over turns, delays no other client, and reaches every
//! subscriber once, whatever changes meanwhile. And input from more connections than one turn
//! reads.

use super::lane::{all_is_soon_answered, crowd, is_soon_answered, read, scene, turns_until};
use super::scene::Scene;
use ringmail::metrics::counter::Counter;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{Act, Filter, Publish};
use ringmail::ring::sim::client::{ClientId, Ending};

/// Levels of the filters: they have 2^(LEVELS + 1) nodes.
const LEVELS: u32 = 9;
/// Approximate number of nodes that a lane visits in one of these turns.
const NODES_PER_TURN: u64 = 40;

/// Filters that `topic` visits all of, and matches none of.
fn wild() -> Vec<Act> {
    let filter = |bits: u32| {
        let level = |at| ["a", "+"][(bits >> at & 1) as usize];
        let levels: Vec<_> = (0..LEVELS).map(level).collect();
        Act::subscribe(&format!("{}/z", levels.join("/")))
    };
    (0..1 << LEVELS).map(filter).collect()
}

fn topic(end: u32) -> String {
    "a/".repeat(LEVELS as usize) + &format!("y{end}")
}

fn waits(scene: &Scene, client: ClientId) -> bool {
    !scene.world.is_idle(client)
}

/// S4: publications that match no subscriber, each on a topic that has not been matched before.
#[test]
fn a_match_that_visits_very_many_filters_delays_no_other_client() {
    const TOPICS: u32 = 24;
    let mut scene = scene(1000);
    let [own, others] = crowd(&mut scene, 7);
    scene.perform(own[0], wild());
    scene.perform(own[1], [Act::subscribe("#")]);
    scene.perform(own[2], [Act::serve("svc"), Act::subscribe("t/#")]);
    let before = read(&scene, Counter::Turns);
    for (number, &writer) in (0..).zip(&own[4..7]) {
        let topics = (0..TOPICS / 3).map(|end| Act::publish(&topic(3 * end + number)));
        scene.act(writer, topics.collect::<Vec<_>>());
    }
    scene.server.run_turns(20);
    all_is_soon_answered(&mut scene, own[3], others[0]);
    assert!(waits(&scene, own[4]), "it is over");
    turns_until(&mut scene, |scene| {
        own[4..].iter().all(|one| !waits(scene, *one))
    });
    let turns = read(&scene, Counter::Turns) - before;
    let least = u64::from(TOPICS) * (1 << LEVELS) / NODES_PER_TURN;
    assert!(turns >= least, "{turns} turns");
    for end in 0..TOPICS {
        let writer = own[4 + end as usize % 3];
        assert_eq!(scene.numbers(own[1], writer, &topic(end)).len(), 1, "{end}");
    }
    scene.finish();
}

/// S4 for services: requests whose names visit very many filters. They reach the one server there
/// is, on another shard, or none.
#[test]
fn a_request_that_visits_very_many_services_delays_no_other_client() {
    const REQUESTS: u32 = 12;
    let mut scene = scene(1000);
    let [own, others] = crowd(&mut scene, 8);
    let serve = |act| match act {
        Act::Subscribe(filter) => Act::Serve(filter),
        other => other,
    };
    scene.perform(own[0], wild().into_iter().map(serve).collect::<Vec<_>>());
    scene.perform(own[2], [Act::serve("svc"), Act::subscribe("t/#")]);
    scene.perform(others[1], [Act::serve(&topic(0))]);
    let askers = [own[4], own[5], own[6]];
    let before = read(&scene, Counter::Turns);
    for asker in askers {
        let requests = (0..REQUESTS).map(|end| Act::request(&topic(end % 2)));
        scene.act(asker, requests.collect::<Vec<_>>());
    }
    let leaver = own[7];
    scene.act(leaver, [Act::request(&topic(0))]);
    scene.server.run_turns(20);
    // Nobody waits for this answer any more.
    scene.end(leaver, Ending::Reset);
    all_is_soon_answered(&mut scene, own[3], others[0]);
    for one in askers {
        assert!(waits(&scene, one), "it is over");
    }
    turns_until(&mut scene, |scene| {
        !askers.iter().any(|one| waits(scene, *one))
    });
    let turns = read(&scene, Counter::Turns) - before;
    let least = 3 * u64::from(REQUESTS) * (1 << LEVELS) / NODES_PER_TURN;
    assert!(turns >= least, "{turns} turns");
    for asker in askers {
        for (end, one) in scene.record(asker).requested.iter().enumerate() {
            let failed = one.answer.and_then(|answer| answer.failed);
            let expected = (end % 2 == 1).then_some(Code::NoService);
            assert_eq!(failed, expected, "{one:?}");
        }
    }
    scene.finish();
}

/// The result of a match is kept until the subscriptions change.
#[test]
fn a_match_is_reused_while_no_subscription_changes() {
    let mut scene = scene(1000);
    let [own, _] = crowd(&mut scene, 3);
    scene.perform(own[0], wild());
    let mut turns_of = |act| {
        scene.act(own[1], [act]);
        turns_until(&mut scene, |scene| !waits(scene, own[1]))
    };
    let first = turns_of(Act::publish(&topic(0)));
    let second = turns_of(Act::publish(&topic(0)));
    turns_of(Act::subscribe("b"));
    let third = turns_of(Act::publish(&topic(0)));
    assert!(
        first > 3 * second && third > 3 * second,
        "{first}, {second}, {third}"
    );
    scene.finish();
}

/// A client subscribes and unsubscribes all the time, before and behind the walk's position.
#[test]
fn a_match_ends_though_a_client_subscribes_all_the_time() {
    let mut scene = scene(1000);
    let [own, others] = crowd(&mut scene, 4);
    scene.perform(own[0], wild());
    for reader in [own[1], others[1]] {
        scene.perform(reader, [Act::subscribe("+/a/#")]);
    }
    for (number, &one) in [own[2], others[2]].iter().enumerate() {
        let acts = (0..2400).flat_map(|turn| {
            let filters = ["+/+/#", "a/a/a/a/+/#", "+/+/+/+/+/a/+/#"];
            let filter = filters[(turn + number) % 3];
            [Act::subscribe(filter), Act::unsubscribe(filter)]
        });
        scene.act(one, acts.collect::<Vec<_>>());
    }
    scene.server.run_turns(10);
    is_soon_answered(&mut scene, own[1], Act::publish("q"));
    scene.act(own[3], vec![Act::publish(&topic(0)); 3]);
    let turns = turns_until(&mut scene, |scene| !waits(scene, own[3]));
    assert!(turns < 400 && waits(&scene, own[2]), "{turns} turns");
    scene.settle();
    for reader in [own[1], others[1]] {
        assert_eq!(scene.numbers(reader, own[3], &topic(0)), [0, 1, 2]);
    }
    scene.finish();
}

/// A client that subscribes while a retained message is being matched gets it as a retained
/// message, and not a second time.
#[test]
fn a_client_that_subscribes_during_a_match_gets_the_retained_message_once() {
    for seed in 0..12 {
        let mut scene = scene([4, 1000][seed % 2]);
        let [own, others] = crowd(&mut scene, 6);
        scene.perform(own[0], wild());
        scene.perform(own[1], [Act::subscribe("a/#")]);
        scene.act(own[2], [Act::Publish(Publish::retained(&topic(0)))]);
        scene.server.run_turns(8 + 3 * seed);
        assert!(waits(&scene, own[2]), "it is delivered");
        for late in [own[3], own[4], others[3]] {
            scene.act(late, ["#", "+/+/#"].map(Act::subscribe));
        }
        scene.settle();
        for reader in [own[1], own[3], own[4], others[3]] {
            let all = scene.record(reader).delivered;
            let live = all.iter().filter(|one| one.topic == topic(0)).count();
            // Once for each of its two filters.
            let most = if reader == own[1] { 1 } else { 2 };
            assert!((1..=most).contains(&live), "seed {seed}: {live} times");
        }
        scene.finish();
    }
}

/// Choosing members is work, too: with very many groups, a few at a time.
#[test]
fn a_message_to_very_many_groups_reaches_each_member_once() {
    const GROUPS: usize = 600;
    let mut scene = scene(8);
    let [own, others] = crowd(&mut scene, 8);
    let members = [own[0], own[1], others[0]];
    for (number, &member) in members.iter().enumerate() {
        let join = |group| Act::Subscribe(Filter::in_group("g", &format!("{number}-{group}")));
        scene.perform(member, (0..GROUPS / 3).map(join).collect::<Vec<_>>());
    }
    // A connection that is a plain subscriber as well as a member gets it once.
    scene.perform(own[1], [Act::subscribe("+")]);
    scene.perform(own[3], [Act::serve("svc"), Act::subscribe("t/#")]);
    let before = read(&scene, Counter::Turns);
    scene.act(own[4], vec![Act::publish("g"); 20]);
    scene.act(own[5], vec![Act::publish("g"); 20]);
    scene.server.run_turns(20);
    all_is_soon_answered(&mut scene, own[2], others[2]);
    assert!(waits(&scene, own[4]), "it is over");
    scene.settle();
    let turns = read(&scene, Counter::Turns) - before;
    assert!(
        turns >= 40 * GROUPS as u64 / NODES_PER_TURN,
        "{turns} turns"
    );
    for member in members {
        for writer in [own[4], own[5]] {
            assert_eq!(
                scene.numbers(member, writer, "g"),
                (0..20).collect::<Vec<_>>()
            );
        }
    }
    scene.finish();
}

/// More connections flood than one turn reads: they take turns.
#[test]
fn a_turn_reads_a_bounded_amount_however_many_have_sent() {
    const EACH: u64 = 1500;
    /// Units of both input shares, and a little for the connection that exceeds them.
    const MOST: u64 = 2 * 81 + 64;
    let mut scene = scene(1000);
    let [own, others] = crowd(&mut scene, 84);
    let (calm, floods) = own.split_at(4);
    scene.perform(calm[1], [Act::serve("svc"), Act::subscribe("t/#")]);
    for &flood in floods {
        scene.act(flood, vec![Act::publish("q"); EACH as usize]);
    }
    let (mut last, mut turn) = (0, 0);
    for _ in 0..60 {
        scene.server.run_turns(1);
        let now = (
            read(&scene, Counter::Turns),
            read(&scene, Counter::MessagesReceived),
        );
        if turn > 0 {
            let (turns, read_count) = (now.0 - turn, now.1 - last);
            assert!(
                read_count <= turns * MOST,
                "{read_count} messages in {turns} turns"
            );
        }
        (turn, last) = now;
    }
    let confirmed = floods.iter().map(|flood| {
        let published = scene.record(*flood).published;
        published
            .iter()
            .filter(|one| one.confirmed_at.is_some())
            .count() as u64
    });
    let confirmed: Vec<u64> = confirmed.collect();
    let (least, most) = (confirmed.iter().min(), confirmed.iter().max());
    assert!(
        least > Some(&0) && most < Some(&EACH),
        "{least:?} to {most:?}"
    );
    all_is_soon_answered(&mut scene, calm[0], others[0]);
    assert!(waits(&scene, floods[0]), "the flood is over");
    scene.finish();
}
