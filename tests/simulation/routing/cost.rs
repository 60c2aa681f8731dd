//! What a message and a delivery cost, counted in units of work and sends of the ring rather than
//! time: the same for few subscribers or filters as for very many.

use super::super::server::{Guards, limits};
use super::scene::Scene;
use ringmail::metrics::counter::Counter;
use ringmail::ring::sim::client::traffic::{Act, Traffic};
use ringmail::ring::sim::{Faults, RingSize};

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
