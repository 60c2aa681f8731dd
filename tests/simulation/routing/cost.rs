//! What a message and a delivery cost, counted in units of work and sends of the ring rather than
//! time: the same for few subscribers or filters as for very many. And that all work is counted:
//! in a simulation what is not takes no time, so no other test would see it.

use super::super::server::{Guards, limits};
use super::scene::Scene;
use ringmail::broker::{Demand, Schemas};
use ringmail::codec::Descriptors;
use ringmail::metrics::counter::Counter;
use ringmail::proto::envelope::Codec;
use ringmail::ring::sim::client::Ending;
use ringmail::ring::sim::client::traffic::{Act, Filter, Publish, Traffic};
use ringmail::ring::sim::{Faults, RingSize};
use std::sync::Arc;

const SHARDS: usize = 2;
/// The most filters that one client subscribes to.
const FILTERS_EACH: usize = 1000;

/// What exists while messages are counted.
#[derive(Clone, Copy, Debug)]
struct Load {
    subscribers: usize,
    /// How many subscriptions match none of the messages: each differs from their topic in another
    /// level.
    others: usize,
    messages: usize,
}

/// What both shards spent.
#[derive(Debug)]
struct Cost {
    units_per_message: f64,
    units_per_delivery: f64,
    sends_per_delivery: f64,
}

fn filter(number: usize) -> Act {
    let last = number / 2;
    let name = match number % 2 {
        0 => format!("a/{last}/c"),
        _ => format!("{last}/+/c"),
    };
    Act::subscribe(&name)
}

fn cost(load: Load) -> Cost {
    let (size, guards) = (RingSize::default(), Guards::default());
    let faults = Faults::none();
    let mut scene = Scene::of_shards(SHARDS, 1, faults, size, limits(), guards);
    for _ in 0..load.subscribers {
        scene.enter(Traffic::of([Act::subscribe("a/b/c")]));
    }
    let numbers: Vec<usize> = (0..load.others).collect();
    for some in numbers.chunks(FILTERS_EACH) {
        let acts: Vec<Act> = some.iter().map(|&number| filter(number)).collect();
        scene.enter(Traffic::of(acts));
    }
    scene.settle();
    let plan = Traffic {
        window: 16,
        ..Traffic::default()
    };
    let [writer] = scene.enter_each([plan]);
    let read = |scene: &Scene| {
        let sends: u64 = (0..SHARDS).map(|shard| scene.world.sends(shard)).sum();
        let deliveries = scene.server.count(Counter::Deliveries);
        [scene.server.work_spent() as u64, sends, deliveries]
    };
    let before = read(&scene);
    scene.perform(writer, vec![Act::publish("a/b/c"); load.messages]);
    let after = read(&scene);
    let [units, sends, deliveries] = [0, 1, 2].map(|n| after[n] - before[n]);
    assert_eq!(deliveries, (load.messages * load.subscribers) as u64);
    let (units, deliveries) = (units as f64, deliveries as f64);
    Cost {
        units_per_message: units / load.messages as f64,
        units_per_delivery: units / deliveries,
        sends_per_delivery: sends as f64 / deliveries,
    }
}

fn is_flat(few: f64, many: f64) -> bool {
    many <= few * 1.15
}

#[test]
fn a_delivery_costs_the_same_whether_there_are_fifty_subscribers_or_ten_thousand() {
    let load = |subscribers: usize| Load {
        subscribers,
        others: 0,
        messages: 320.min(320_000 / subscribers),
    };
    let few = cost(load(50));
    for many in [255, 257, 600, 10_000] {
        let more = cost(load(many));
        let is_flat = is_flat(few.units_per_delivery, more.units_per_delivery)
            && is_flat(few.sends_per_delivery, more.sends_per_delivery);
        assert!(is_flat, "to 50: {few:?}; to {many}: {more:?}");
    }
    // Even with a single subscriber, the shared part of the cost is small.
    let one = cost(load(1));
    let least = one.units_per_delivery >= few.units_per_delivery;
    assert!(least && one.units_per_message < 16.0, "{one:?}, {few:?}");
}

#[test]
fn a_message_costs_the_same_whether_there_is_one_filter_or_a_hundred_thousand() {
    let load = |others| Load {
        subscribers: 4,
        others,
        messages: 200,
    };
    let few = cost(load(0));
    for many in [1000, 100_000] {
        let more = cost(load(many));
        let is_flat = is_flat(few.units_per_message, more.units_per_message);
        assert!(is_flat, "alone: {few:?}; beside {many}: {more:?}");
    }
}

/// A client's acts that make others' work, the one that makes it, and what that has to count at
/// least.
struct Work {
    what: &'static str,
    others: Vec<Traffic>,
    act: Act,
    units_min: usize,
}

/// Filters of nine levels, each matched in two ways by a topic that none of them matches.
fn wild() -> Vec<Act> {
    let filter = |bits: u32| {
        let levels = (0..9).map(|at| ["a", "+"][(bits >> at & 1) as usize]);
        let levels: Vec<_> = levels.collect();
        Act::subscribe(&format!("{}/z", levels.join("/")))
    };
    (0..512).map(filter).collect()
}

/// A PUBLISH of four thousand values in as many bytes: a packed field of small numbers.
fn many_values() -> Act {
    let payload = [&[0x42, 0xA0, 0x1F][..], &[2; 4000]].concat();
    let mut message = vec![b'M', b'C', 1, 0x10];
    message.extend_from_slice(&(10 + payload.len() as u32).to_be_bytes());
    message.extend_from_slice(&[0, 0, 0, 0, 0, Codec::Protobuf as u8, 3]);
    message.extend_from_slice(b"s/a");
    message.extend(payload);
    Act::Raw(message)
}

fn all_work() -> [Work; 8] {
    let of = |count, act: fn(usize) -> Act| Traffic::of((0..count).map(act).collect::<Vec<_>>());
    let retained = || of(2000, |n| Act::Publish(Publish::retained(&format!("r/{n}"))));
    let reader = || Traffic::of([Act::subscribe("a/b")]);
    let reading = Publish {
        bytes: 1500,
        ..Publish::in_codec("s/a", Codec::Json)
    };
    [
        Work {
            what: "a delivery to few",
            others: vec![reader(); 200],
            act: Act::publish("a/b"),
            units_min: 200,
        },
        Work {
            what: "a delivery to many",
            others: vec![reader(); 800],
            act: Act::publish("a/b"),
            units_min: 800,
        },
        Work {
            what: "nodes of a trie",
            others: vec![Traffic::of(wild())],
            act: Act::publish(&("a/".repeat(9) + "y")),
            // Those until it is seen to be long, and then all.
            units_min: 512 + 1023,
        },
        Work {
            what: "groups",
            others: vec![of(200, |n| {
                Act::Subscribe(Filter::in_group("a/b", &n.to_string()))
            })],
            act: Act::publish("a/b"),
            units_min: 200,
        },
        Work {
            what: "retained messages that do not match",
            others: vec![retained()],
            act: Act::subscribe("+/+/z"),
            units_min: 2000 / 4,
        },
        Work {
            what: "retained messages",
            others: vec![retained()],
            act: Act::subscribe("r/#"),
            units_min: 2000,
        },
        Work {
            what: "a payload with a schema",
            others: Vec::new(),
            act: Act::Publish(reading),
            units_min: 1500 / 8,
        },
        Work {
            what: "its values",
            others: Vec::new(),
            act: many_values(),
            units_min: 4000,
        },
    ]
}

fn schemas() -> Schemas {
    let site = include_bytes!("../../schema/site.binpb");
    let schema = Descriptors::decode(site).unwrap().schema("site.Reading");
    let topics = vec![("s/#".to_owned(), schema.unwrap())];
    Schemas::new(topics, Arc::<Demand>::default(), 1 << 20)
}

fn busy(others: Vec<Traffic>) -> Scene {
    let (size, faults) = (RingSize::default(), Faults::none());
    let guards = Guards {
        schemas: Some(Arc::new(schemas)),
        ..Guards::default()
    };
    let mut scene = Scene::of_shards(SHARDS, 1, faults, size, limits(), guards);
    for plan in others {
        scene.enter(plan);
    }
    scene.settle();
    scene
}

#[test]
fn all_work_is_counted() {
    for work in all_work() {
        let mut scene = busy(work.others);
        let [one] = scene.enter_each([Traffic::default()]);
        let before = scene.server.work_spent();
        scene.perform(one, [work.act]);
        let units = scene.server.work_spent() - before;
        let (what, least) = (work.what, work.units_min);
        assert!(units >= least, "{what}: {units} units, at least {least}");
        scene.finish();
    }
    // Each subscription that ends, on its own shard and where its filter is known.
    let filters = (0..500).map(|n| Act::subscribe(&format!("e/{n}")));
    let mut scene = busy(Vec::new());
    let [one] = scene.enter_each([Traffic::of(filters.collect::<Vec<_>>())]);
    let before = scene.server.work_spent();
    scene.end(one, Ending::Reset);
    scene.settle();
    let units = scene.server.work_spent() - before;
    assert!(units >= 2 * 4 * 500, "{units} units for 500 subscriptions");
    scene.finish();
}
