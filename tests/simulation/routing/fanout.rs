//! Fan-outs to many subscribers, which go by lanes and over several turns: what they cost, and that
//! they keep every order that deliveries to few keep, whatever happens in between.

use super::super::server::{Guards, limits, ms};
use super::scene::Scene;
use ringmail::broker::Pace;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{Act, Filter, Publish, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending};
use ringmail::ring::sim::{Faults, RingSize};

/// A scene in which shares are so small, and so few subscribers count as many, that much happens
/// between two slices.
fn scene(shards: usize, seed: u64) -> Scene {
    let mut limits = limits();
    limits.pace = Pace {
        percent: 1 + seed as usize % 3,
        fanout_min: 2,
        retained_looks: 2,
        match_looks: [2, 512][seed as usize / 2 % 2],
        ..Pace::default()
    };
    // Without latency, what is sent at the same time arrives at the same time.
    let faults = match seed % 2 {
        0 => Faults::none(),
        _ => Faults::harmless(),
    };
    let (size, guards) = (RingSize::default(), Guards::default());
    Scene::of_shards(shards, seed, faults, size, limits, guards)
}

fn reader(filter: &str) -> Traffic {
    Traffic::of([Act::subscribe(filter)])
}

/// S10: batches for the same subscribers share one list of them.
#[test]
fn messages_waiting_for_many_subscribers_are_charged_once() {
    const PUBLISHERS: usize = 30;
    let mut scene = scene(1, 0);
    for _ in 0..600 {
        scene.enter(reader("a"));
    }
    scene.settle();
    let writers = scene.enter_each([(); PUBLISHERS].map(|()| Traffic::default()));
    // One message per turn: each becomes a batch.
    for writer in writers {
        scene.act(writer, [Act::publish("a")]);
        scene.run_for(ms(1) / 50);
    }
    let waits = |&&one: &&ClientId| !scene.world.is_idle(one);
    let waiting = writers.iter().filter(waits).count();
    let lent = scene.server.lent_bytes();
    assert!(waiting > PUBLISHERS / 2, "{waiting} wait");
    scene.server.check_ledgers();
    // The list takes 7,200 bytes of that, sends in flight the rest.
    assert!(lent < 300_000, "{lent} bytes for {waiting} that wait");
    scene.finish();
}

/// Publishers send retained and other messages on the same topics, and among them some that are
/// refused at once; readers come and go.
#[test]
fn order_is_kept_though_some_messages_are_refused() {
    for seed in 0..12 {
        let mut scene = scene([3, 5][seed as usize / 2 % 2], seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let readers = [
            "r/#", "r/+", "r/#", "r/0", "r/#", "r/1", "+/0", "q", "q", "q",
        ];
        scene.enter_each(readers.map(reader));
        // Sometimes many messages at a time, sometimes few.
        for _ in 0..6 {
            let comes_and_goes = [
                Act::subscribe("q"),
                Act::AwaitAnswers,
                Act::unsubscribe("q"),
                Act::AwaitAnswers,
            ];
            scene.enter(Traffic::of(vec![comes_and_goes; 20].concat()));
        }
        for _ in 0..5 {
            let window = [4, 64][rng.usize(..2)];
            let (mut refusals, mut stands) = (0, false);
            let acts = (0..70).map(|number| match rng.u8(..16) {
                0 if refusals < 8 => {
                    refusals += 1;
                    Act::publish(["r/+", "$sys/x", "#"][number % 3])
                }
                1 if stands => {
                    stands = false;
                    Act::unsubscribe("r/1")
                }
                1 | 2 => {
                    stands = true;
                    Act::subscribe("r/1")
                }
                _ => Act::Publish(Publish {
                    retain: rng.bool(),
                    empty: rng.u8(..8) == 0,
                    confirmed: rng.u8(..4) > 0,
                    ..Publish::of(["r/0", "q", "r/1", "q"][number % 4])
                }),
            });
            let plan = Traffic {
                window,
                ..Traffic::of(acts.collect::<Vec<_>>())
            };
            scene.enter(plan);
        }
        scene.settle();
        let late = scene.enter_each([(); 5].map(|()| {
            let acts = [Act::subscribe("r/#"), Act::subscribe("q")];
            Traffic::of(acts)
        }));
        let evidence = scene.close();
        evidence.judge();
        let retained = evidence.check_retained(&late);
        retained.unwrap_or_else(|breach| panic!("seed {seed}: {breach}"));
        scene.rest();
    }
}

/// The first message goes to many subscribers and waits; when the second comes, there are few.
#[test]
fn a_retained_message_does_not_overtake_earlier_ones() {
    let mut scene = scene(1, 0);
    for _ in 0..300 {
        scene.enter(reader("f/#"));
    }
    let [stays, leaves] = scene.enter_each([reader("q"), reader("q")]);
    let writers = scene.enter_each([(); 8].map(|()| Traffic::default()));
    for (index, &writer) in writers[2..].iter().enumerate() {
        let before = Publish::retained(&format!("f/{index}"));
        scene.act(writer, [Act::Publish(before)]);
    }
    scene.server.run_turns(15);
    let retained = Act::Publish(Publish::retained("q"));
    scene.act(writers[0], [retained.clone()]);
    scene.server.run_turns(25);
    scene.act(leaves, [Act::unsubscribe("q")]);
    while !scene.world.is_idle(leaves) {
        scene.server.run_turns(1);
    }
    assert!(!scene.world.is_idle(writers[0]), "it is delivered");
    scene.act(writers[1], [retained]);
    scene.settle();
    let delivered = scene.record(stays).delivered;
    let makers: Vec<_> = delivered.iter().map(|one| one.label.sender).collect();
    assert_eq!(makers, writers[..2]);
    scene.finish();
}

/// Many publishers send more at once than a batch holds, so that one publisher's messages of one
/// turn are in two batches; then come operations that are answered at once.
#[test]
fn answers_come_in_order_where_a_batch_is_full() {
    const WRITERS: usize = 14;
    for seed in 0..6 {
        let mut scene = scene(1, 2 * seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        scene.enter_each([(); 6].map(|()| reader("a")));
        let writers: [ClientId; WRITERS] = scene.enter_each([(); WRITERS].map(|()| Traffic {
            window: 128,
            ..Traffic::default()
        }));
        for writer in writers {
            let mut acts = vec![Act::publish("a"); 56];
            for _ in 0..6 {
                acts.insert(rng.usize(10..acts.len()), Act::publish("#"));
            }
            scene.act(writer, acts);
        }
        scene.settle();
        for writer in writers {
            let errors = scene.record(writer).errors;
            let bad = errors.iter().filter(|one| one.1 == Code::BadName);
            assert_eq!(bad.count(), 6, "seed {seed}");
        }
        scene.finish();
    }
}

/// A member of a group gets the same message in another way as well: as a plain subscriber, or by a
/// replay of retained messages.
#[test]
fn a_member_gets_a_message_once_that_reaches_it_in_another_way_too() {
    for seed in 0..8 {
        let mut scene = scene(3, seed);
        let mut readers = Vec::new();
        for place in 0..9 {
            let mut plan = reader("a/#");
            if place >= 6 {
                let member = Filter::in_group("a/+", "g");
                plan.acts.push(Act::Subscribe(member));
            }
            readers.extend(scene.enter_each([plan]));
        }
        let writers = scene.enter_each([(); 3].map(|()| Traffic::default()));
        // A few messages in a row on one topic go out together.
        let topic = |number: u32| ["a/x", "a/y"][number as usize / 5 % 2];
        for writer in writers {
            let acts = (0..40).map(|number| Act::publish(topic(number)));
            scene.act(writer, acts.collect::<Vec<_>>());
        }
        scene.settle();
        scene.run_for(ms(1000));
        for &reader in &readers {
            for (writer, name) in writers.iter().flat_map(|&one| [(one, "a/x"), (one, "a/y")]) {
                let all = (0..40).filter(|&number| topic(number) == name);
                let had = scene.numbers(reader, writer, name);
                assert_eq!(had, all.collect::<Vec<_>>(), "seed {seed}");
            }
        }
        scene.finish();
    }
}

#[test]
fn a_member_gets_a_message_once_that_catches_up_with_its_replay() {
    for seed in [0, 6] {
        let mut scene = scene(1, seed);
        let [writer] = scene.enter_each([Traffic::default()]);
        let retained = |number| Act::Publish(Publish::retained(&format!("r/{number:04}")));
        scene.perform(writer, (0..1200).map(retained).collect::<Vec<_>>());
        scene.enter_each([reader("r/0000"), reader("r/0000")]);
        let member = Act::Subscribe(Filter::in_group("r/0000", "g"));
        let [member] = scene.enter_each([Traffic::of([member])]);
        scene.act(member, [Act::subscribe("r/#")]);
        while scene.record(member).delivered.len() < 10 {
            scene.server.run_turns(1);
        }
        scene.act(writer, vec![retained(0); 5]);
        scene.settle();
        let sent_at = scene.record(writer).published[1204].sent_at;
        let replayed_at = scene.record(member).subscriptions[1].confirmed_at.unwrap();
        assert!(
            replayed_at.since(sent_at) > ms(1) / 8,
            "the replay was over"
        );
        let numbers = scene.numbers(member, writer, "r/0000");
        assert_eq!(numbers, [0, 1200, 1201, 1202, 1203, 1204], "seed {seed}");
        scene.finish();
    }
}

/// What happens during a fan-out to many.
#[derive(Clone, Copy, Debug)]
enum Midst {
    PublisherGoes(Ending),
    ReaderGoes(Ending),
    Unsubscribes,
    Subscribes,
}

#[test]
fn events_during_a_fanout_break_no_promise() {
    let all = [
        Midst::PublisherGoes(Ending::Reset),
        Midst::PublisherGoes(Ending::Fin),
        Midst::PublisherGoes(Ending::Close),
        Midst::ReaderGoes(Ending::Reset),
        Midst::ReaderGoes(Ending::Close),
        Midst::Unsubscribes,
        Midst::Subscribes,
    ];
    for (index, midst) in all.into_iter().enumerate() {
        for kept in [false, true] {
            for turns in [6, 25] {
                let seed = 2 * index as u64;
                println!("{midst:?}, kept: {kept}, {turns} turns");
                in_the_midst(midst, kept, turns, seed);
            }
        }
    }
}

fn in_the_midst(midst: Midst, kept: bool, turns: usize, seed: u64) {
    let mut scene = scene(3, seed);
    let plan = |acts: &[Act]| match kept {
        true => Traffic::with_session(acts),
        false => Traffic::of(acts),
    };
    let acts = [Act::subscribe("a/#"), Act::subscribe("a/x")];
    let readers: [ClientId; 12] = scene.enter_each([(); 12].map(|()| plan(&acts)));
    let writers = scene.enter_each([(); 3].map(|()| plan(&[])));
    let topics = ["a/x", "a/x", "a/y"];
    for writer in writers {
        let acts = (0..60).map(|number| Act::publish(topics[number % 3]));
        scene.act(writer, acts.collect::<Vec<_>>());
    }
    // Bytes take some turns to arrive.
    scene.run_for(ms(1) / 16);
    scene.server.run_turns(turns);
    let waits = |&one: &ClientId| !scene.world.is_idle(one);
    assert!(writers.iter().all(waits), "{midst:?}: it is over");
    match midst {
        Midst::PublisherGoes(ending) => scene.end(writers[0], ending),
        Midst::ReaderGoes(ending) => readers[..4].iter().for_each(|&one| scene.end(one, ending)),
        Midst::Unsubscribes => readers[..4].iter().for_each(|&one| {
            scene.act(one, [Act::unsubscribe("a/x"), Act::unsubscribe("a/#")]);
        }),
        Midst::Subscribes => {
            scene.enter_each([(); 3].map(|()| plan(&acts)));
        }
    }
    scene.finish();
}
