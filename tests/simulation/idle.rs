//! A very large number of idle connections: what they cost, that none is lost, and that their
//! heartbeats spread out although all began at one instant, as after a restart of the server.
//!
//! `RINGMAIL_IDLE=n` sets another number of connections (`scripts/simulate --idle n`).

use super::seed;
use super::server::{Server, limits, ms, settings};
use ringmail::metrics::counter::Counter;
use ringmail::ring::sim::client::Plan;
use ringmail::ring::sim::{Faults, RingSize, World};
use std::rc::Rc;
use std::time::Duration;

/// Fifteen intervals. With each PING, connections that began together drift apart by up to a
/// thirty-second of the interval or more: after fifteen, they are spread over half of it.
///
/// The small number is the stricter test: all 1,000 are established within one tick of the timer,
/// and without jitter one second has all their PINGs, 30 times the mean. With 100,000, accepting
/// alone spreads the handshakes over some seconds: 3.4 times the mean in the first minutes.
const DRIFT: Duration = Duration::from_secs(450);

/// What idle connections cost in ten minutes, after they have drifted apart.
struct Cost {
    /// PINGs per connection.
    pings: f64,
    /// Simulated events per PING.
    events: f64,
    turns: u64,
    /// PINGs in the busiest second, divided by the mean.
    peak: f64,
}

fn idle(connections: u32) -> Cost {
    let world = World::new(9, Faults::none());
    let mut limits = limits();
    limits.connections_max = connections;
    let mut server = Server::with(&world, 2, RingSize::default(), &settings(), &limits);
    let plan = Rc::new(Plan::default());
    for _ in 0..connections {
        world.add_client(world.now(), plan.clone());
    }
    server.run_for(DRIFT);
    assert_eq!(server.count(Counter::Established), u64::from(connections));

    let (received, events, turns) = (
        server.count(Counter::MessagesReceived),
        world.events(),
        server.turns().0,
    );
    let (mut last, mut peak) = (received, 0);
    for _ in 0..600 {
        server.run_for(ms(1000));
        let now = server.count(Counter::MessagesReceived);
        peak = peak.max(now - last);
        last = now;
    }
    // An idle peer sends nothing but a PONG for each PING.
    let pongs = server.count(Counter::MessagesReceived) - received;
    assert_eq!(server.open(), u64::from(connections), "none is lost");
    for shard in 0..2 {
        assert_eq!(world.buffers_lent(shard), 0, "idle ones hold no buffer");
    }
    Cost {
        pings: pongs as f64 / f64::from(connections),
        events: (world.events() - events) as f64 / pongs as f64,
        turns: server.turns().0 - turns,
        peak: peak as f64 / (pongs as f64 / 600.0),
    }
}

#[test]
fn what_an_idle_connection_costs_does_not_grow_with_their_number() {
    let few = idle(1_000);
    let many = idle(seed::number("RINGMAIL_IDLE").unwrap_or(100_000) as u32);
    for cost in [&few, &many] {
        // An interval of 30 s, lengthened by at most a sixteenth and half a second.
        assert!(
            (19.0..=20.0).contains(&cost.pings),
            "{} PINGs each",
            cost.pings
        );
        assert!(
            cost.peak < 3.0,
            "the busiest second has {} of a mean one",
            cost.peak
        );
    }
    let growth = many.events / few.events;
    assert!(
        growth < 1.05,
        "{growth} times the events for each heartbeat"
    );
    println!(
        "{} turns for the few, {} for the many",
        few.turns, many.turns
    );
}
