//! Topics rule by rule: who gets a PUBLISH, how often and in which order; retained messages.

use super::scene::{SHARDS, Scene};
use crate::server::{Guards, limits, ms};
use ringmail::metrics::counter::Counter;
use ringmail::proto::envelope::SlowPolicy;
use ringmail::ring::sim::client::traffic::{Act, Filter, Publish, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending};
use ringmail::ring::sim::{Faults, RingSize};
use std::collections::HashMap;
use std::time::Duration;

fn subscriber(filters: &[&str]) -> Traffic {
    Traffic::of(
        filters
            .iter()
            .map(|filter| Act::subscribe(filter))
            .collect::<Vec<_>>(),
    )
}

fn topics(scene: &Scene, id: ClientId) -> Vec<String> {
    let record = scene.record(id);
    record.delivered.into_iter().map(|one| one.topic).collect()
}

#[test]
fn a_message_reaches_every_subscriber_of_every_shard_once() {
    let mut scene = Scene::quiet(1);
    let readers = scene.enter_each([
        subscriber(&["a/b"]),
        subscriber(&["a/+", "a/#", "#", "+/b"]),
        subscriber(&["a/#"]),
        subscriber(&["b/#", "+"]),
        Traffic {
            checksum: true,
            ..subscriber(&["a/b"])
        },
    ]);
    let [writer] = scene.enter_each([Traffic::default()]);
    let shards: std::collections::BTreeSet<_> = readers
        .iter()
        .map(|&id| scene.record(id).connections[0].shard)
        .collect();
    assert_eq!(shards.len(), 3, "they stand on all shards");
    let acts = (0..20).map(|bytes| {
        Act::Publish(Publish {
            bytes: bytes * 1500,
            confirmed: bytes % 2 == 0,
            ..Publish::of("a/b")
        })
    });
    scene.perform(writer, acts.collect::<Vec<_>>());
    for (index, &reader) in readers.iter().enumerate() {
        let wanted: Vec<u32> = if index == 3 {
            vec![]
        } else {
            (0..20).collect()
        };
        assert_eq!(scene.numbers(reader, writer, "a/b"), wanted, "{index}");
    }
    scene.finish();
}

#[test]
fn nothing_is_delivered_after_the_ok_of_an_unsubscribe() {
    let mut scene = Scene::quiet(4);
    let [reader, writer] = scene.enter_each([subscriber(&["a/#", "a/b"]), Traffic::default()]);
    scene.perform(writer, [Act::publish("a/b")]);
    scene.perform(reader, [Act::unsubscribe("a/#")]);
    scene.perform(writer, [Act::publish("a/b"), Act::publish("a/c")]);
    scene.perform(reader, [Act::unsubscribe("a/b")]);
    scene.perform(writer, [Act::publish("a/b")]);
    assert_eq!(topics(&scene, reader), ["a/b", "a/b"]);
    scene.finish();
}

#[test]
fn an_operation_is_confirmed_once_every_shard_knows_of_it() {
    let member = || Filter::in_group("g", "one");
    for (seed, acts) in [
        [Act::subscribe("a"), Act::unsubscribe("a")],
        [Act::Subscribe(member()), Act::Unsubscribe(member())],
        [Act::serve("svc"), Act::Unserve(Filter::of("svc"))],
    ]
    .into_iter()
    .enumerate()
    {
        let mut scene = Scene::quiet(seed as u64);
        let [client] = scene.enter_each([Traffic::default()]);
        let own = scene.record(client).connections[0].shard.unwrap();
        let other = (usize::from(own) + 1) % SHARDS;
        for act in acts {
            scene.world.stall(other, true);
            scene.act(client, [act.clone()]);
            scene.run_for(ms(1000));
            assert!(!scene.world.is_idle(client), "{act:?}");
            scene.world.stall(other, false);
            scene.settle();
        }
        assert_eq!(scene.record(client).errors, []);
        scene.finish();
    }
}

#[test]
fn a_filter_subscribed_twice_is_one_subscription() {
    let mut scene = Scene::quiet(5);
    let [reader, writer] = scene.enter_each([subscriber(&["a", "a"]), Traffic::default()]);
    scene.perform(writer, [Act::publish("a")]);
    scene.perform(reader, [Act::unsubscribe("a")]);
    scene.perform(writer, [Act::publish("a")]);
    assert_eq!(scene.numbers(reader, writer, "a"), [0]);
    scene.perform(reader, [Act::unsubscribe("a")]);
    assert_eq!(scene.record(reader).errors.len(), 1, "it is gone already");
    scene.finish();
}

#[test]
fn the_last_retained_message_is_found_on_every_shard_until_it_is_cleared() {
    let mut scene = Scene::quiet(6);
    let clear = |topic: &str| {
        Act::Publish(Publish {
            empty: true,
            ..Publish::retained(topic)
        })
    };
    let [writer] = scene.enter_each([Traffic::of([
        Act::Publish(Publish::retained("r/a")),
        Act::Publish(Publish::retained("r/a")),
        Act::publish("r/a"),
        Act::Publish(Publish::retained("r/b")),
        clear("r/b"),
        Act::Publish(Publish::retained("r/c/d")),
    ])]);
    let late = || subscriber(&["r/#"]);
    for reader in scene.enter_each([late(), late(), late()]) {
        assert_eq!(scene.numbers(reader, writer, "r/a"), [1]);
        assert_eq!(scene.numbers(reader, writer, "r/c/d"), [5]);
        assert_eq!(scene.record(reader).delivered.len(), 2);
    }
    scene.perform(writer, [clear("r/a"), clear("r/c/d")]);
    let [reader] = scene.enter_each([late()]);
    assert!(scene.record(reader).delivered.is_empty());
    scene.finish();
}

/// Between two slices the shard does its other work: each slice is a turn of its own.
#[test]
fn many_retained_messages_are_delivered_over_many_turns() {
    const TOPICS: u32 = 600;
    let mut limits = limits();
    (limits.pace.retained_looks, limits.pace.percent) = (4, 1);
    let mut scene = Scene::with(6, Faults::none(), RingSize::default(), limits);
    let topic = |number| format!("r/{number}");
    let acts = (0..TOPICS).map(|number| Act::Publish(Publish::retained(&topic(number))));
    let plans = [Traffic::of(acts.collect::<Vec<_>>()), Traffic::default()];
    let [writer, reader] = scene.enter_each(plans);
    let mut turns_of = |filter| {
        let before = scene.server.count(Counter::Turns);
        scene.perform(reader, [Act::subscribe(filter)]);
        scene.server.count(Counter::Turns) - before
    };
    let (none, all) = (turns_of("s/#"), turns_of("r/#"));
    assert!(all >= none + u64::from(TOPICS / 16) - 5, "{none}, {all}");
    for number in 0..TOPICS {
        assert_eq!(
            scene.numbers(reader, writer, &topic(number)),
            [number],
            "{number}"
        );
    }
    scene.finish();
}

#[test]
fn a_message_that_has_expired_is_not_delivered() {
    let mut scene = Scene::quiet(7);
    scene.world.set_pipe_bytes(2000);
    let policy = Filter::with_policy("a", SlowPolicy::DropOldest);
    let reader = Traffic::of([Act::Subscribe(policy)]);
    let [reader, writer] = scene.enter_each([reader, Traffic::default()]);
    let never = ringmail::ring::sim::client::Reading::Never;
    let read = ringmail::ring::sim::client::traffic::Command::Read;
    scene.world.command(reader, read(never));
    let message = |expires_ms| {
        Act::Publish(Publish {
            expires_ms,
            bytes: 60_000,
            ..Publish::of("a")
        })
    };
    // The pipe and the outbox are full when the expiring messages come.
    let mut acts: Vec<_> = (0..6).map(|_| message(None)).collect();
    acts.extend((0..3).map(|_| message(Some(100))));
    acts.push(message(None));
    scene.act(writer, acts);
    scene.run_for(ms(1000));
    let eager = ringmail::ring::sim::client::Reading::Eager;
    scene.world.command(reader, read(eager));
    scene.settle();
    let numbers = scene.numbers(reader, writer, "a");
    assert!(numbers.contains(&9) && numbers.contains(&0), "{numbers:?}");
    assert!(
        !numbers.contains(&7) && !numbers.contains(&8),
        "{numbers:?}"
    );
    scene.finish();
}

/// The message is small and the only one: it waits behind a send in flight, not on a pending queue.
#[test]
fn a_message_that_expires_behind_a_send_in_flight_is_not_delivered() {
    for (seed, kept) in [(1, false), (2, true)] {
        let mut scene = Scene::quiet(seed);
        scene.world.set_pipe_bytes(2000);
        let reader = match kept {
            true => Traffic::with_session([Act::subscribe("a")]),
            false => subscriber(&["a"]),
        };
        let [reader, writer] = scene.enter_each([reader, Traffic::default()]);
        let read = ringmail::ring::sim::client::traffic::Command::Read;
        let never = ringmail::ring::sim::client::Reading::Never;
        scene.world.command(reader, read(never));
        let message = |bytes, expires_ms| {
            Act::Publish(Publish {
                bytes,
                expires_ms,
                ..Publish::of("a")
            })
        };
        // Part of it is sent, the rest in flight.
        scene.act(writer, [message(3000, None)]);
        scene.run_for(ms(10));
        let acts = [
            message(10, Some(100)),
            message(10, Some(5000)),
            message(10, None),
            message(10, Some(100)),
        ];
        scene.act(writer, acts);
        scene.run_for(ms(1000));
        let eager = ringmail::ring::sim::client::Reading::Eager;
        scene.world.command(reader, read(eager));
        scene.settle();
        assert_eq!(scene.numbers(reader, writer, "a"), [0, 2, 3], "seed {seed}");
        assert_eq!(scene.server.count(Counter::DeliveriesExpired), 2);
        scene.finish();
    }
}

/// A publication ends a session, whose will is published during that publication's delivery: a
/// client that has received the will still gets the publication exactly once.
#[test]
fn a_will_published_during_a_delivery_duplicates_nothing() {
    let mut limits = limits();
    limits.outbox_bytes_max = 20_000;
    limits.session_buffer_bytes_max = 16_000;
    let mut scene = Scene::with(11, Faults::none(), RingSize::default(), limits);
    scene.world.set_pipe_bytes(2000);
    scene.terms.ample = false;
    // In the order in which filters match, the slow client's is between the reader's two.
    let slow = Traffic {
        reconnect: None,
        ..Traffic::with_session([Act::subscribe("a/#"), Act::Will(Publish::of("w"))])
    };
    let reader = || subscriber(&["a/b", "a/+", "w"]);
    // A reader on each shard.
    let plans = [Traffic::default(), slow, Traffic::default()];
    let [writer, slow, _] = scene.enter_each(plans);
    let readers = scene.enter_each([reader(), reader(), reader()]);
    let never = ringmail::ring::sim::client::Reading::Never;
    let read = ringmail::ring::sim::client::traffic::Command::Read;
    scene.world.command(slow, read(never));
    let message = Act::Publish(Publish {
        bytes: 3000,
        ..Publish::of("a/b")
    });
    scene.perform(writer, vec![message; 40]);
    // The session ends with its transport, which has a second to flush.
    scene.run_for(ms(5000));
    let all: Vec<u32> = (0..40).collect();
    for reader in readers {
        assert_eq!(scene.numbers(reader, writer, "a/b"), all);
        assert_eq!(scene.numbers(reader, slow, "w").len(), 1);
    }
    let eager = ringmail::ring::sim::client::Reading::Eager;
    scene.world.command(slow, read(eager));
    scene.close();
    scene.rest();
}

#[test]
fn a_will_is_published_unless_close_was_sent() {
    for (ending, wanted) in [
        (Ending::Close, 0),
        (Ending::Reset, 1),
        (Ending::Fin, 1),
        (Ending::Vanish, 1),
    ] {
        let mut scene = Scene::quiet(8);
        let will = Act::Will(Publish::of("w"));
        let plan = || Traffic::of([Act::Will(Publish::of("w")), will.clone()]);
        let [reader, mortal] = scene.enter_each([subscriber(&["w"]), plan()]);
        scene.end(mortal, ending);
        scene.outlast();
        let received = scene.numbers(reader, mortal, "w");
        assert_eq!(received, [1].repeat(wanted), "{ending:?}");
        scene.finish();
    }
}

#[test]
fn a_will_withdrawn_is_not_published_and_a_retained_one_is_retained() {
    let mut scene = Scene::quiet(9);
    let plans = [
        subscriber(&["w/#"]),
        Traffic::of([Act::Will(Publish::of("w/a")), Act::WithdrawWill]),
        Traffic::of([Act::Will(Publish::retained("w/b"))]),
    ];
    let [reader, none, retained] = scene.enter_each(plans);
    scene.end(none, Ending::Reset);
    scene.end(retained, Ending::Reset);
    scene.settle();
    assert_eq!(topics(&scene, reader), ["w/b"]);
    let [late] = scene.enter_each([subscriber(&["w/#"])]);
    assert_eq!(topics(&scene, late), ["w/b"]);
    scene.finish();
}

/// R10: two clients publish at the same time on two shards.
#[test]
fn the_last_live_value_is_the_retained_one_on_every_shard() {
    for seed in 0..24 {
        let mut scene = Scene::of_shards(
            2 + seed as usize % 4,
            seed,
            // Without any, what is sent at one time comes at one time.
            if seed / 4 % 2 == 0 {
                Faults::none()
            } else {
                Faults::harmless()
            },
            RingSize::default(),
            limits(),
            Guards::default(),
        );
        let mut rng = fastrand::Rng::with_seed(seed);
        scene.enter_each([(); 5].map(|()| subscriber(&["r/#"])));
        for _ in 0..6 {
            // All publish on the same topics in the same order, so that usually two of them compete
            // for the last message.
            let acts = (0..60).map(|number| {
                Act::Publish(Publish {
                    retain: rng.u8(..4) > 0,
                    empty: rng.u8(..6) == 0,
                    confirmed: rng.bool(),
                    ..Publish::of(&format!("r/{}", number / 2))
                })
            });
            let plan = Traffic {
                window: 32,
                ..Traffic::of(acts.collect::<Vec<_>>())
            };
            scene.enter(plan);
        }
        scene.settle();
        let late = scene.enter_each([(); 5].map(|()| subscriber(&["r/#"])));
        let evidence = scene.close();
        evidence.judge();
        let retained = evidence.check_retained(&late);
        retained.unwrap_or_else(|breach| panic!("seed {seed}: {breach}"));
        scene.rest();
    }
}

/// R7: a client subscribes while retained messages and live ones interleave.
#[test]
fn nothing_is_missing_after_the_ok_of_a_subscribe() {
    for seed in 0..24 {
        let mut scene = Scene::of_shards(
            2 + seed as usize % 4,
            seed,
            // Without any, what is sent at one time comes at one time.
            if seed / 4 % 2 == 0 {
                Faults::none()
            } else {
                Faults::harmless()
            },
            RingSize::default(),
            limits(),
            Guards::default(),
        );
        let mut rng = fastrand::Rng::with_seed(seed);
        for (index, topic) in ["r/a", "r/b", "r/a", "r/b"].into_iter().enumerate() {
            let acts = (0..400).map(|number| {
                Act::Publish(Publish {
                    retain: number % 3 == 0,
                    confirmed: index < 2,
                    ..Publish::of(topic)
                })
            });
            let acts = acts.chain([Act::Publish(Publish {
                confirmed: true,
                ..Publish::of(topic)
            })]);
            let plan = Traffic {
                window: 4,
                think: Duration::from_micros(10),
                ..Traffic::of(acts.collect::<Vec<_>>())
            };
            scene.enter(plan);
        }
        let readers: Vec<_> = (0..40)
            .map(|_| {
                let after = Duration::from_micros(rng.u64(..4000));
                scene.enter_later(after, subscriber(&["r/#"]))
            })
            .collect();
        scene.settle();
        // Nobody is slow, so that no OK overtakes what is retained: that is not excepted here.
        for reader in readers {
            let record = scene.record(reader);
            let mut last = HashMap::new();
            for one in &record.delivered[record.subscriptions[0].received_before..] {
                let (sender, number) = (one.label.sender, one.label.number);
                if let Some(before) = last.insert(sender, number) {
                    assert_eq!(number, before + 1, "seed {seed}: to {reader:?}: {one:?}");
                }
            }
        }
        scene.finish();
    }
}
