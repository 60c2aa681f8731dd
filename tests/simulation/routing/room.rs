//! Connections that move to a shard without a free slot: to resume a session there, or because that
//! shard has fewer connections. They get an error or are ended, and everything counted for them is
//! released.

use super::absence::{apart, home, session};
use super::scene::{SHARDS, Scene};
use super::session::{codes, ended, heir};
use crate::server::{limits, ms};
use ringmail::base::id::ShardId;
use ringmail::base::reason::Reason;
use ringmail::broker::Limits;
use ringmail::metrics::counter::Counter;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{Act, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending, Opening, Plan, Reading};
use ringmail::ring::sim::{Faults, RingSize};
use std::rc::Rc;

/// Slots of a shard: two connections, a waiting session, and those for refusals.
const SLOTS: usize = 2 + 1 + 64;

fn small(seed: u64) -> Scene {
    let limits = Limits {
        connections_max: 2,
        sessions_waiting_max: 1,
        ..limits()
    };
    Scene::with(seed, Faults::none(), RingSize::default(), limits)
}

/// Takes all slots of all shards for at least a second, with clients that do not read their
/// refusal.
fn crowd(scene: &mut Scene) {
    let silent = Rc::new(Plan {
        opening: Opening::Silent,
        reading: Reading::Never,
        ..Plan::default()
    });
    for _ in 0..2 * SHARDS * SLOTS {
        scene.world.add_client(scene.world.now(), silent.clone());
    }
    scene.run_for(ms(20));
}

/// A client asks for a session; its shard, of `here` and `there`, has asked the session's, and is
/// stalled before it hears that the session is there.
fn ask_and_be_told(scene: &mut Scene, comer: ClientId, key: [u8; 16], shards: (usize, usize)) {
    let (here, there) = shards;
    scene.act(comer, [session(key)]);
    for (runs, waits) in [(here, there), (there, here)] {
        scene.world.stall(runs, false);
        scene.world.stall(waits, true);
        scene.run_for(ms(20));
    }
}

/// New connections spread evenly over the shards: nothing that has ended is still counted.
fn end_evenly(mut scene: Scene) {
    for &id in &scene.clients {
        scene.end(id, Ending::Close);
    }
    scene.outlast();
    let mut counts = [0; SHARDS];
    for _ in 0..2 * SHARDS {
        let [id] = scene.enter_each([Traffic::default()]);
        counts[home(&scene, id).index()] += 1;
    }
    assert_eq!(counts, [2; SHARDS]);
    scene.close();
    scene.rest();
}

#[test]
fn a_session_on_a_full_shard_is_unknown_until_there_is_room() {
    let mut scene = small(1);
    let (key, _, comer) = apart(&mut scene);
    crowd(&mut scene);
    // All slots but the session's.
    assert_eq!(scene.server.open(), (SHARDS * SLOTS) as u64 - 1);
    scene.act(comer, [session(key)]);
    scene.run_for(ms(100));
    assert_eq!(codes(&scene, comer), [Code::SessionUnknown]);
    assert_eq!(ended(&scene, comer), None, "it goes on");
    assert_eq!(scene.server.count(Counter::MovedOut), 0);
    scene.run_for(ms(5000));
    scene.act(comer, [session(key)]);
    scene.run_for(ms(100));
    assert_eq!(scene.server.count(Counter::SessionsResumed), 1);
    end_evenly(scene);
}

#[test]
fn a_session_outlives_a_connection_that_finds_its_shard_full_on_arrival() {
    let mut scene = small(2);
    let (key, there, comer) = apart(&mut scene);
    let (there, here) = (there.index(), home(&scene, comer).index());
    // Its shard asks whether the session's shard has room, and it has; then the slot is taken, and
    // only then the connection moves.
    ask_and_be_told(&mut scene, comer, key, (here, there));
    crowd(&mut scene);
    scene.world.stall(here, false);
    scene.run_for(ms(100));
    assert_eq!(scene.server.count(Counter::MovedIn), 1);
    assert!(scene.record(comer).ended);
    scene.run_for(ms(5000));
    let [heir] = scene.enter_each([heir(key, 0)]);
    assert_eq!(codes(&scene, heir), []);
    assert_eq!(scene.server.count(Counter::SessionsResumed), 1);
    end_evenly(scene);
}

/// When the connection arrives the session has ended, and its shard has as many connections as it
/// may have.
#[test]
fn a_connection_that_moves_to_a_full_shard_for_nothing_may_not_stay() {
    let mut scene = small(4);
    let (key, there, comer) = apart(&mut scene);
    let (there, here) = (there.index(), home(&scene, comer).index());
    while scene.server.open() < 2 * SHARDS as u64 {
        scene.enter_each([Traffic::default()]);
    }
    ask_and_be_told(&mut scene, comer, key, (here, there));
    scene.run_for(scene.linger + ms(1000));
    scene.world.stall(here, false);
    scene.run_for(ms(100));
    assert_eq!(scene.server.count(Counter::MovedIn), 1);
    assert_eq!(codes(&scene, comer), [Code::SessionUnknown]);
    scene.act(comer, [Act::publish("a")]);
    scene.run_for(ms(100));
    assert_eq!(ended(&scene, comer), Some(Code::TooManyConnections));
    end_evenly(scene);
}

#[test]
fn a_shard_may_be_passed_more_connections_than_it_has_slots() {
    let mut scene = small(3);
    let late = ShardId(0).index();
    scene.world.stall(late, true);
    crowd(&mut scene);
    scene.world.stall(late, false);
    scene.run_for(ms(100));
    assert!(scene.server.count(Counter::HandedOver) > 0);
    assert_eq!(scene.server.open(), (SHARDS * SLOTS) as u64);
    scene.run_for(ms(5000));
    assert!(scene.server.closed(Reason::TooManyConnections) > 0);
    end_evenly(scene);
}
