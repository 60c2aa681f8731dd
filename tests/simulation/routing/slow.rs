//! Subscribers that do not keep up, and peers that ask for too much: what each policy does, that
//! other clients do not notice, and that memory stays bounded.

use super::scene::Scene;
use crate::server::{limits, ms};
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::proto::envelope::SlowPolicy;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{Act, Command, Filter, Publish, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending, Reading};
use ringmail::ring::sim::{Faults, RingSize};

const MESSAGES: u32 = 400;

fn narrow(seed: u64) -> Scene {
    let mut limits = limits();
    limits.outbox_bytes_max = 20_000;
    let mut scene = Scene::with(seed, Faults::none(), RingSize::default(), limits);
    scene.world.set_pipe_bytes(4000);
    scene.terms.ample = false;
    scene
}

/// Sends 400 messages of 1,000 bytes to a reader that pauses meanwhile, then reads.
fn stalled_reader(policy: SlowPolicy, seed: u64) -> (Scene, [ClientId; 3]) {
    let mut scene = narrow(seed);
    let slow = Traffic::of([Act::Subscribe(Filter::with_policy("a/#", policy))]);
    let eager = Traffic::of([Act::subscribe("a/#")]);
    let [slow, eager, writer] = scene.enter_each([slow, eager, Traffic::default()]);
    scene.world.command(slow, Command::Read(Reading::Never));
    let acts = (0..MESSAGES).map(|number| {
        Act::Publish(Publish {
            bytes: 1000,
            ..Publish::of(["a/x", "a/y", "a/z"][number as usize % 3])
        })
    });
    scene.act(writer, acts.collect::<Vec<_>>());
    scene.run_for(ms(2000));
    let confirmed = scene
        .record(writer)
        .published
        .iter()
        .all(|one| one.confirmed_at.is_some());
    assert!(confirmed, "nobody waits for a slow reader");
    assert_eq!(scene.record(eager).delivered.len(), MESSAGES as usize);
    let lent = scene.server.lent_bytes();
    assert!(lent < 100_000, "{lent} bytes lent");
    scene.world.command(slow, Command::Read(Reading::Eager));
    scene.settle();
    (scene, [slow, eager, writer])
}

fn numbers(scene: &Scene, id: ClientId) -> Vec<u32> {
    let record = scene.record(id);
    record
        .delivered
        .iter()
        .map(|one| one.label.number)
        .collect()
}

#[test]
fn under_disconnect_a_stalled_reader_gets_an_error_and_is_closed() {
    let (scene, [slow, ..]) = stalled_reader(SlowPolicy::Disconnect, 1);
    let record = scene.record(slow);
    // It gets the error if it reads again before the flush times out.
    let refused = record.connections[0].refused;
    assert!(
        refused.is_none_or(|code| code == Code::SlowConsumer),
        "{refused:?}"
    );
    assert!(record.ended);
    assert_eq!(scene.server.closed(Reason::SlowConsumer), 1);
    let numbers = numbers(&scene, slow);
    assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>());
    scene.finish();
}

#[test]
fn under_drop_oldest_the_newest_are_left() {
    let (scene, [slow, ..]) = stalled_reader(SlowPolicy::DropOldest, 2);
    let numbers = numbers(&scene, slow);
    assert!(numbers.is_sorted() && numbers.len() < MESSAGES as usize / 2);
    assert_eq!(*numbers.last().unwrap(), MESSAGES - 1);
    let end: Vec<_> = (MESSAGES - 5..MESSAGES).collect();
    assert!(numbers.ends_with(&end), "{numbers:?}");
    assert_eq!(scene.server.closed(Reason::SlowConsumer), 0);
    scene.finish();
}

#[test]
fn under_drop_newest_the_oldest_are_left() {
    let (mut scene, [slow, _, writer]) = stalled_reader(SlowPolicy::DropNewest, 3);
    let found = numbers(&scene, slow);
    assert_eq!(found, (0..found.len() as u32).collect::<Vec<_>>());
    assert!((10..MESSAGES as usize / 2).contains(&found.len()));
    scene.perform(writer, [Act::publish("a/x")]);
    let last = *numbers(&scene, slow).last().unwrap();
    assert_eq!(last, MESSAGES, "it goes on");
    scene.finish();
}

#[test]
fn under_latest_per_key_the_last_of_each_topic_is_left() {
    let (scene, [slow, ..]) = stalled_reader(SlowPolicy::LatestPerKey, 4);
    let found = numbers(&scene, slow);
    assert!(found.len() < MESSAGES as usize / 2, "{}", found.len());
    for last in MESSAGES - 3..MESSAGES {
        assert!(found.contains(&last), "{found:?}");
    }
    scene.finish();
}

/// In the outbox as on the pending queue: behind a send in flight, behind little, behind more than
/// an outbox holds, and where it could have left the pending queue in time.
#[test]
fn a_message_that_expires_before_it_is_sent_is_not_delivered() {
    let slow = Reading::Slow {
        bytes: 4000,
        every: ms(20),
    };
    for (ahead, expires_ms, reading) in [
        (10, 500, Reading::Never),
        (20, 500, Reading::Never),
        (300, 500, Reading::Never),
        (100, 150, slow),
    ] {
        let mut scene = Scene::quiet(9);
        scene.world.set_pipe_bytes(4000);
        let plans = [Traffic::of([Act::subscribe("a")]), Traffic::default()];
        let [reader, writer] = scene.enter_each(plans);
        scene.world.command(reader, Command::Read(reading));
        let message = |bytes, expires_ms| {
            Act::Publish(Publish {
                bytes,
                expires_ms,
                ..Publish::of("a")
            })
        };
        let mut acts = vec![message(1000, None); ahead];
        // Until nothing more can be sent.
        acts.push(Act::Pause(ms(50)));
        let last = [None, Some(expires_ms), None, Some(60_000)];
        acts.extend(last.map(|expires_ms| message(0, expires_ms)));
        scene.act(writer, acts);
        scene.run_for(ms(1000));
        scene.world.command(reader, Command::Read(Reading::Eager));
        scene.settle();
        let mut expected: Vec<_> = (0..ahead as u32 + 4).collect();
        expected.remove(ahead + 1);
        assert_eq!(numbers(&scene, reader), expected, "behind {ahead}");
        let expired = scene.server.count(Counter::DeliveriesExpired);
        assert_eq!(expired, 1, "behind {ahead}");
        scene.finish();
    }
}

#[test]
fn slow_readers_by_the_hundred_do_not_delay_another() {
    let mut scene = narrow(5);
    let policies = [
        SlowPolicy::Disconnect,
        SlowPolicy::DropOldest,
        SlowPolicy::DropNewest,
        SlowPolicy::LatestPerKey,
    ];
    for index in 0..300 {
        let policy = policies[index % 4];
        let filter = Filter::with_policy("a/#", policy);
        scene.enter(Traffic {
            reading: Reading::Slow {
                bytes: 50,
                every: ms(20),
            },
            ..Traffic::of([Act::Subscribe(filter)])
        });
    }
    let eager = scene.enter(Traffic::of([Act::subscribe("a/#")]));
    scene.run_for(ms(3000));
    for &id in scene.clients.iter().step_by(3).take(100) {
        scene.world.command(id, Command::Read(Reading::Never));
    }
    scene.world.command(eager, Command::Read(Reading::Eager));
    let message = Act::Publish(Publish {
        bytes: 500,
        ..Publish::of("a/x")
    });
    let writer = scene.enter(Traffic {
        think: ms(1),
        ..Traffic::of(vec![message; 1000])
    });
    let mut most = 0;
    for _ in 0..60 {
        scene.run_for(ms(50));
        most = most.max(scene.server.lent_bytes());
    }
    // Each may have a full outbox, in chunks of 64 KiB.
    assert!(most < 300 * (20_000 + 65_536), "{most} bytes lent");
    let numbers = scene.numbers(eager, writer, "a/x");
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    for &id in &scene.clients {
        scene.world.command(id, Command::Heal);
    }
    scene.finish();
}

#[test]
fn the_eleventh_error_of_a_second_is_fatal() {
    let mut scene = Scene::quiet(6);
    let wrong = vec![Act::unsubscribe("never"); 10];
    let mut paced = wrong.clone();
    paced.push(Act::Pause(ms(1100)));
    paced.extend(wrong.clone());
    let [good, bad] = scene.enter_each([Traffic::of(paced), Traffic::of(wrong)]);
    assert_eq!(scene.record(good).errors.len(), 20);
    assert_eq!(scene.record(bad).errors.len(), 10);
    scene.act(bad, [Act::unsubscribe("never")]);
    scene.run_for(ms(100));
    let last = scene.record(bad).connections[0].clone();
    assert_eq!(last.refused, Some(Code::NotSubscribed));
    assert_eq!(scene.server.closed(Reason::TooManyErrors), 1);
    assert!(!scene.record(good).ended);
    scene.close();
    scene.rest();
}

#[test]
fn subscriptions_are_bounded_for_each_connection() {
    let mut limits = limits();
    limits.subscriptions_max = 100;
    let mut scene = Scene::with(7, Faults::none(), RingSize::default(), limits);
    let acts: Vec<_> = (0..105)
        .map(|index| Act::subscribe(&format!("a/{index}")))
        .collect();
    let [greedy] = scene.enter_each([Traffic::of(acts)]);
    let record = scene.record(greedy);
    let refused: Vec<_> = record.errors.iter().map(|one| one.1).collect();
    assert_eq!(refused, [Code::TooManySubscriptions; 5]);
    scene.perform(greedy, [Act::unsubscribe("a/1"), Act::subscribe("a/104")]);
    assert_eq!(scene.record(greedy).errors.len(), 5, "there is room again");
    scene.finish();
}

#[test]
fn subscribing_and_leaving_for_ever_leaves_nothing_behind() {
    let mut scene = Scene::quiet(8);
    let churn = |seed: u64| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut acts = Vec::new();
        for round in 0..400 {
            let name = format!("c/{}/{}", rng.u8(..20), ["+", "x", "y/#"][rng.usize(..3)]);
            let group = ["one", "two"][rng.usize(..2)];
            acts.extend(match round % 3 {
                0 => [Act::subscribe(&name), Act::unsubscribe(&name)],
                1 => [
                    Act::Subscribe(Filter::in_group(&name, group)),
                    Act::Unsubscribe(Filter::in_group(&name, group)),
                ],
                _ => [Act::serve(&name), Act::Unserve(Filter::of(&name))],
            });
        }
        Traffic::of(acts)
    };
    let churners: Vec<_> = (0..6).map(|seed| scene.enter(churn(seed))).collect();
    // One client ends in the middle of it.
    scene.run_for(ms(5));
    scene.end(churners[0], Ending::Reset);
    scene.settle();
    assert_eq!(scene.server.subscriptions(), 0);
    scene.finish();
}
