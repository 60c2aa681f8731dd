//! Memory that clients make a shard hold: it is charged once, to the connections that hold it up,
//! and reclaimed from these when there is too much of it.

use super::super::server::{Guards, limits, ms};
use super::scene::Scene;
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::proto::envelope::SlowPolicy;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{Act, Command, Filter, Publish, Traffic};
use ringmail::ring::sim::client::{ClientId, Reading, Writing};
use ringmail::ring::sim::{Faults, RingSize};

const MIB: usize = 1 << 20;

/// A scene with this many shards, each of which may hold `bytes_max`.
fn scene(shards: usize, bytes_max: usize) -> Scene {
    let mut limits = limits();
    limits.outbox_bytes_shard_max = bytes_max;
    let (size, guards) = (RingSize::default(), Guards::default());
    let mut scene = Scene::of_shards(shards, 1, Faults::none(), size, limits, guards);
    scene.world.set_pipe_bytes(20_000);
    scene.terms.ample = false;
    scene
}

/// A client that reads nothing from now on.
fn deaf(scene: &mut Scene, plan: Traffic) -> ClientId {
    let [id] = scene.enter_each([plan]);
    scene.world.command(id, Command::Read(Reading::Never));
    id
}

fn large(topic: &str, bytes: usize) -> Act {
    Act::Publish(Publish {
        bytes,
        ..Publish::of(topic)
    })
}

/// Checks that uninvolved clients can subscribe and publish, and are answered.
fn others_are_served(scene: &mut Scene) {
    let acts = [Act::subscribe("other"), large("other", 20_000)];
    let other = scene.enter(Traffic::of(acts));
    scene.run_for(ms(1000));
    let record = scene.record(other);
    assert_eq!(record.errors, [], "who holds nothing is refused");
    assert!(!record.ended, "who holds nothing is closed");
    assert_eq!(record.delivered.len(), 1);
}

/// Lets all clients read again: they get what waits, and all memory is released.
fn heal(scene: Scene) {
    for &id in &scene.clients {
        scene.world.command(id, Command::Heal);
    }
    scene.finish();
}

/// S5: a client that does not read sends a short SUBSCRIBE that matches many retained messages.
#[test]
fn a_replay_to_a_client_that_does_not_read_holds_one_outbox() {
    const TOPICS: u32 = 40;
    for (bytes, kept) in [(20_000, false), (20_000, true), (1000, false), (1000, true)] {
        let mut scene = scene(2, 8 * MIB);
        let [writer] = scene.enter_each([Traffic::default()]);
        let retained = |number| {
            Act::Publish(Publish {
                bytes,
                ..Publish::retained(&format!("r/{number:02}"))
            })
        };
        scene.perform(writer, (0..TOPICS).map(retained).collect::<Vec<_>>());
        let at_rest = scene.server.lent_bytes();
        let plan = match kept {
            true => Traffic::with_session([]),
            false => Traffic::default(),
        };
        let reader = deaf(&mut scene, plan);
        scene.act(reader, vec![Act::subscribe("r/#"); 15]);
        scene.run_for(ms(1000));
        let held = scene.server.lent_bytes() - at_rest;
        assert!(held < 300_000, "{held} bytes for {bytes}, {kept}");
        // Neither its other operations nor other clients' replays wait for that.
        let other = scene.enter(Traffic::of([Act::subscribe("r/#")]));
        scene.run_for(ms(1000));
        assert_eq!(scene.record(other).delivered.len(), TOPICS as usize);
        others_are_served(&mut scene);
        scene.world.command(reader, Command::Read(Reading::Eager));
        scene.settle();
        // Then come the messages that waited for its session's acknowledgements.
        scene.run_for(ms(5000));
        let brought = scene.record(reader).delivered.len();
        assert_eq!(brought, 15 * TOPICS as usize, "{bytes}, {kept}");
        heal(scene);
    }
}

/// S7: large messages to many slow readers.
#[test]
fn a_large_message_is_charged_once_however_many_it_waits_for() {
    const READERS: usize = 60;
    const MESSAGES: usize = 6;
    const BYTES: usize = 300_000;
    for shards in [1, 3] {
        let mut scene = scene(shards, 8 * MIB);
        let filter = || Filter::with_policy("big", SlowPolicy::DropOldest);
        for _ in 0..READERS {
            deaf(&mut scene, Traffic::of([Act::Subscribe(filter())]));
        }
        let at_rest = scene.server.lent_bytes();
        let acts = vec![large("big", BYTES); MESSAGES];
        let [writer] = scene.enter_each([Traffic::of(acts)]);
        let record = scene.record(writer);
        assert!(record.errors.is_empty() && !record.ended);
        let held = scene.server.lent_bytes() - at_rest;
        // Three messages wait for each reader, and a reader's references to them are small.
        assert!(held >= 3 * BYTES, "{held} bytes");
        assert!(held < MESSAGES * BYTES + READERS * 8192, "{held} bytes");
        others_are_served(&mut scene);
        assert_eq!(scene.server.closed(Reason::Overloaded), 0);
        heal(scene);
    }
}

/// S9: the memory that filters take on each shard.
#[test]
fn a_filter_is_charged_for_its_memory_on_each_shard_that_knows_it() {
    let deep = |number: usize| {
        let levels = (0..31).map(|level| format!("{:x}", number * 31 + level * 7919));
        Act::subscribe(&format!("{}/+", levels.collect::<Vec<_>>().join("/")))
    };
    let charged = |shards| {
        let mut scene = scene(shards, 64 * MIB);
        let at_rest = scene.server.lent_bytes();
        let [one] = scene.enter_each([Traffic::of((0..100).map(deep).collect::<Vec<_>>())]);
        let charged = scene.server.lent_bytes() - at_rest;
        assert_eq!(scene.record(one).errors, []);
        heal(scene);
        charged / 100
    };
    let (one, three) = (charged(1), charged(3));
    assert!((32 * 56..32 * 90).contains(&one), "{one} bytes a filter");
    assert!((2 * one + one / 2..4 * one).contains(&three), "{three}");

    // Once filters use three quarters of the memory, no more are accepted.
    let mut scene = scene(3, MIB);
    let deaf = deaf(&mut scene, Traffic::default());
    let [greedy, other] = scene.enter_each([Traffic::default(), Traffic::default()]);
    scene.perform(greedy, (0..420).map(deep).collect::<Vec<_>>());
    let refused: Vec<_> = scene
        .record(greedy)
        .errors
        .iter()
        .map(|one| one.1)
        .collect();
    assert!((20..200).contains(&refused.len()), "{}", refused.len());
    assert!(refused.iter().all(|&code| code == Code::Overloaded));
    scene.perform(other, [Act::publish("x"), large("x", 20_000)]);
    assert_eq!(scene.record(other).errors, []);
    assert_eq!(scene.server.closed(Reason::SlowConsumer), 0, "{deaf:?}");
    heal(scene);
}

/// The largest holder loses its messages first; holders of little keep theirs, and publishers wait.
#[test]
fn when_memory_runs_out_its_largest_holders_lose_it() {
    for policy in [SlowPolicy::Disconnect, SlowPolicy::DropNewest] {
        let mut scene = scene(1, 2 * MIB);
        let little = deaf(&mut scene, Traffic::of([Act::subscribe("little")]));
        // Each has messages of its own, and no policy applies before the shard's memory runs out.
        let holders: Vec<_> = (0..8)
            .map(|number| {
                let filter = Filter::with_policy(&format!("much/{number}"), policy);
                deaf(&mut scene, Traffic::of([Act::Subscribe(filter)]))
            })
            .collect();
        let [writer] = scene.enter_each([Traffic::default()]);
        let mut acts = vec![large("little", 40_000)];
        acts.extend((0..24).map(|n| large(&format!("much/{}", n % 8), 100_000 + n)));
        scene.perform(writer, acts);
        let record = scene.record(writer);
        assert!(record.errors.is_empty() && !record.ended);
        scene.run_for(ms(1000));
        let held = scene.server.lent_bytes();
        assert!(held <= 2 * MIB, "{held} bytes");
        others_are_served(&mut scene);
        // Only then does it see what has become of its connection.
        scene.world.command(little, Command::Read(Reading::Eager));
        scene.run_for(ms(100));
        assert!(!scene.record(little).ended);
        assert_eq!(scene.record(little).delivered.len(), 1);
        let closed = scene.server.closed(Reason::SlowConsumer);
        let dropped = scene.server.count(Counter::SlowDroppedNewest);
        match policy {
            SlowPolicy::Disconnect => assert!((1..8).contains(&closed), "{closed}"),
            _ => assert!(dropped > 0, "{closed}"),
        }
        assert_eq!(scene.server.closed(Reason::Overloaded), 0);
        let _ = holders;
        heal(scene);
    }
}

/// Neither a reader that makes progress, however much waits for it, nor who only sends, nor who
/// holds little.
#[test]
fn when_memory_runs_out_who_makes_progress_is_left_alone() {
    const STEADY: usize = 80;
    let mut scene = scene(1, 2 * MIB);
    let steady = Filter::with_policy("steady", SlowPolicy::DropNewest);
    let steady = Traffic {
        reading: Reading::Slow {
            bytes: 4000,
            every: ms(4),
        },
        ..Traffic::of([Act::Subscribe(steady)])
    };
    let [steady, writer] = scene.enter_each([steady, Traffic::default()]);
    let little = deaf(&mut scene, Traffic::of([Act::subscribe("little")]));
    for number in 0..8 {
        let filter = format!("much/{number}");
        deaf(&mut scene, Traffic::of([Act::subscribe(&filter)]));
    }
    let sender = scene.enter(Traffic {
        writing: Writing::Trickle {
            bytes: 1000,
            every: ms(5),
        },
        ..Traffic::of([large("sent", 300_000)])
    });
    scene.run_for(ms(500));
    let mut acts = vec![large("little", 40_000)];
    acts.extend((0..STEADY).map(|_| large("steady", 10_000)));
    acts.extend((0..24).map(|n| large(&format!("much/{}", n % 8), 100_000)));
    scene.act(writer, acts);
    scene.run_for(ms(1500));
    scene.world.command(little, Command::Read(Reading::Eager));
    scene.run_for(ms(100));
    assert!(scene.server.closed(Reason::SlowConsumer) > 0);
    assert_eq!(scene.server.closed(Reason::Overloaded), 0);
    assert_eq!(scene.record(little).delivered.len(), 1);
    for id in [steady, little, sender, writer] {
        assert!(!scene.record(id).ended, "{id:?}");
    }
    assert_eq!(scene.record(steady).delivered.len(), STEADY);
    heal(scene);
}

/// As long as a reader holds one that has been replaced, it takes of the room for retained ones.
#[test]
fn a_replaced_retained_message_counts_until_its_readers_have_it() {
    let mut scene = scene(1, 8 * MIB);
    let [writer] = scene.enter_each([Traffic::default()]);
    for _ in 0..12 {
        let message = Publish {
            bytes: 300_000,
            ..Publish::retained("r")
        };
        scene.act(writer, [Act::Publish(message)]);
        scene.run_for(ms(50));
        scene.enter(Traffic::of([
            Act::Read(Reading::Never),
            Act::subscribe("r"),
        ]));
        scene.run_for(ms(50));
    }
    let errors = scene.record(writer).errors;
    assert!((4..8).contains(&errors.len()), "{errors:?}");
    assert!(errors.iter().all(|one| one.1 == Code::Overloaded));
    heal(scene);
}
