//! Shortages: of receive buffers, completion queue entries, descriptors, slots. Nothing is lost,
//! everything resumes, and no shard spins meanwhile.

use super::seed;
use super::server::{Server, limits, ms, settings};
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::{Ending, Opening, Order, Plan};
use ringmail::ring::sim::{Faults, RingSize, World};
use std::time::Duration;

/// Connects `clients` that make `requests` each, runs until they have ended, checks their reports.
fn serve_all(server: &mut Server, clients: u32, requests: u32, time: Duration) {
    let world = server.world.clone();
    let mut rng = fastrand::Rng::with_seed(world.seed());
    let ids: Vec<_> = (0..clients)
        .map(|_| {
            let plan = Plan {
                requests,
                depth: 8,
                payload_bytes_max: 200,
                ending: Ending::Close,
                ..Plan::default()
            };
            world.add_client(world.now() + Duration::from_micros(rng.u64(..2000)), plan)
        })
        .collect();
    server.run_for(time);
    for id in ids {
        let checked = world.report(id).check(&world.plan(id));
        checked.unwrap_or_else(|wrong| panic!("seed {}: {wrong}", world.seed()));
    }
}

#[test]
fn eight_buffers_serve_a_thousand_connections() {
    seed::each("eight_buffers_serve_a_thousand_connections", 4, |seed| {
        let size = RingSize {
            buffers: 8,
            ..RingSize::default()
        };
        let world = World::new(seed, Faults::none());
        let mut server = Server::start(&world, 1, size);
        serve_all(&mut server, 1000, 10, Duration::from_secs(60));
        assert!(
            server.count(Counter::BuffersExhausted) > 0,
            "seed {seed}: never short"
        );
        // Each turn that found no buffer was followed by one that did: no hot loop.
        let (turns, vain) = server.turns();
        let messages = server.count(Counter::MessagesReceived);
        assert!(
            turns < 2 * messages,
            "seed {seed}: {turns} turns, {messages} messages"
        );
        assert!(
            vain <= turns / 2,
            "seed {seed}: {vain} of {turns} turns in vain"
        );
        server.end();
    });
}

#[test]
fn a_tiny_completion_queue_loses_nothing() {
    seed::each("a_tiny_completion_queue_loses_nothing", 10, |seed| {
        let size = RingSize {
            completions: 2,
            ..RingSize::default()
        };
        let world = World::new(seed, Faults::none());
        let mut server = Server::start(&world, 2, size);
        serve_all(&mut server, 100, 20, Duration::from_secs(60));
        let coverage = world.coverage();
        assert!(
            coverage.contains_key("queue full"),
            "seed {seed}: {coverage:?}"
        );
        server.end();
    });
}

#[test]
fn without_descriptors_accepting_pauses_and_resumes() {
    seed::each(
        "without_descriptors_accepting_pauses_and_resumes",
        10,
        |seed| {
            let world = World::new(seed, Faults::none());
            world.set_descriptors_max(10);
            let mut server = Server::start(&world, 2, RingSize::default());
            let holders: Vec<_> = (0..10)
                .map(|_| world.add_client(world.now(), Plan::default()))
                .collect();
            server.run_for(ms(100));
            let before = server.turns().0;
            let waiting = Plan {
                requests: 5,
                ending: Ending::Close,
                ..Plan::default()
            };
            let late: Vec<_> = (0..30)
                .map(|_| world.add_client(world.now(), waiting.clone()))
                .collect();
            server.run_for(Duration::from_secs(10));
            assert!(late.iter().all(|id| !world.report(*id).established));
            assert!(server.count(Counter::AcceptPaused) > 0, "seed {seed}");
            // Ten attempts per second and shard, a few turns each.
            let turns = server.turns().0 - before;
            assert!(
                turns < 10 * 2 * 10 * 4,
                "seed {seed}: {turns} turns in ten seconds"
            );
            for id in holders {
                world.order(id, Order::Heal);
            }
            server.run_for(Duration::from_secs(20));
            for id in late {
                let checked = world.report(id).check(&waiting);
                checked.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
            }
            server.end();
        },
    );
}

#[test]
fn a_connection_beyond_the_limit_gets_an_error() {
    let world = World::new(1, Faults::none());
    let mut limits = limits();
    limits.connections_max = 5;
    let mut server = Server::with(&world, 1, RingSize::default(), &settings(), &limits);
    let first: Vec<_> = (0..5)
        .map(|_| world.add_client(world.now(), Plan::default()))
        .collect();
    server.run_for(ms(10));
    let refused = world.add_client(world.now(), Plan::default());
    server.run_for(ms(10));
    assert_eq!(
        world.report(refused).refused,
        Some(Code::TooManyConnections)
    );
    // Far more than there are slots for refusals: the rest is closed without an error.
    let silent = Plan {
        opening: Opening::Silent,
        ..Plan::default()
    };
    for _ in 0..200 {
        world.add_client(world.now(), silent.clone());
    }
    server.run_for(ms(3000));
    // One was told already; no more than 64 are at a time.
    let told = server.closed(Reason::TooManyConnections);
    assert!((2..=65).contains(&told), "{told} refusals held a slot");
    assert_eq!(server.open(), 5);
    for id in first {
        assert!(!world.report(id).ended);
        world.order(id, Order::Heal);
    }
    server.run_for(ms(3000));
    server.end();
}

#[test]
fn connections_are_spread_over_the_shards() {
    let world = World::new(7, Faults::none());
    let mut server = Server::start(&world, 3, RingSize::default());
    for index in 0..90 {
        world.add_client(world.now() + ms(index), Plan::default());
    }
    server.run_for(ms(1000));
    for counters in &server.counters {
        // Where they arrive they would not be as even.
        let open = counters.open();
        assert!((29..=31).contains(&open), "{open} open");
    }
    for id in world.clients() {
        world.order(id, Order::Heal);
    }
    server.run_for(ms(1000));
    server.end();
}
