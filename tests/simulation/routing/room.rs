//! Connections that go to a shard which has no free slot: with a session's key, or because it
//! has fewer of them. They are told or ended, and all that is counted for them is given back.

use super::absence::{apart, home, session};
use super::scene::{SHARDS, Scene};
use super::session::{codes, ended, heir};
use crate::server::{limits, ms};
use ringmail::base::id::ShardId;
use ringmail::base::reason::Reason;
use ringmail::broker::Limits;
use ringmail::metrics::counter::Counter;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::Traffic;
use ringmail::ring::sim::client::{Ending, Opening, Plan, Reading};
use ringmail::ring::sim::{Faults, RingSize};
use std::rc::Rc;

/// Slots of a shard: two connections, a session that waits, and those for refusals.
const SLOTS: usize = 2 + 1 + 64;

fn small(seed: u64) -> Scene {
    let limits = Limits {
        connections_max: 2,
        sessions_waiting_max: 1,
        ..limits()
    };
    Scene::with(seed, Faults::none(), RingSize::default(), limits)
}

/// Takes all slots of all shards, for a second at least: by who does not hear a refusal.
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

/// Newcomers find each shard with as many places as the others: nothing is counted that has
/// gone.
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
    // All but that of the session.
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
fn a_session_outlives_a_connection_that_finds_its_shard_full_when_it_comes() {
    let mut scene = small(2);
    let (key, there, comer) = apart(&mut scene);
    let (there, here) = (there.index(), home(&scene, comer).index());
    let let_run = |scene: &mut Scene, shard: usize, other: usize| {
        scene.world.hold_up(shard, false);
        scene.world.hold_up(other, true);
        scene.run_for(ms(20));
    };
    // Asked for, and found with room; then that is taken, and then it moves.
    scene.act(comer, [session(key)]);
    let_run(&mut scene, here, there);
    let_run(&mut scene, there, here);
    crowd(&mut scene);
    scene.world.hold_up(here, false);
    scene.run_for(ms(100));
    assert_eq!(scene.server.count(Counter::MovedIn), 1);
    assert!(scene.record(comer).over);
    scene.run_for(ms(5000));
    let [heir] = scene.enter_each([heir(key, 0)]);
    assert_eq!(codes(&scene, heir), []);
    assert_eq!(scene.server.count(Counter::SessionsResumed), 1);
    end_evenly(scene);
}

#[test]
fn a_shard_may_be_passed_more_connections_than_it_has_slots() {
    let mut scene = small(3);
    let late = ShardId(0).index();
    scene.world.hold_up(late, true);
    crowd(&mut scene);
    scene.world.hold_up(late, false);
    scene.run_for(ms(100));
    assert!(scene.server.count(Counter::HandedOver) > 0);
    assert_eq!(scene.server.open(), (SHARDS * SLOTS) as u64);
    scene.run_for(ms(5000));
    assert!(scene.server.closed(Reason::TooManyConnections) > 0);
    end_evenly(scene);
}
