//! The main trial: loads drawn from seeds on two to five shards, under faults; then the faults
//! end, the clients finish, and everything that was promised must have been kept.

use super::super::seed;
use super::super::server::{Guards, limits, ms};
use super::judge::Evidence;
use super::load::{self, Measure};
use super::scene::Scene;
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::ring::sim::client::traffic::{Act, Command, Delivered, Traffic};
use ringmail::ring::sim::{Faults, RingSize};
use ringmail::shard::Pace;

/// How little there is of everything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Ample,
    /// Outboxes, session buffers and lingers too small for what comes.
    Narrow,
    /// Of everything enough, and half of the messages are traced: more spans than there is
    /// room for.
    Traced,
}

fn any_size(rng: &mut fastrand::Rng) -> RingSize {
    RingSize {
        buffers: 1 << rng.u32(2..8),
        buffer_bytes: 1 << rng.u32(6..13),
        completions: 1 << rng.u32(2..10),
        backlog: 4096,
    }
}

/// What is retained comes in slices, though there is little of it; so does in every other run
/// what goes to a few.
fn any_pace(rng: &mut fastrand::Rng) -> Pace {
    let mut pace = Pace {
        retained_looks: rng.usize(1..4),
        ..Pace::default()
    };
    if rng.bool() {
        (pace.percent, pace.fanout_min) = (rng.usize(1..4), rng.usize(1..6));
    }
    pace
}

/// Runs a seed until all clients have closed: what they have seen.
fn trial(seed: u64, faults: Faults, room: Room) -> (Scene, Evidence) {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut limits = limits();
    limits.session_linger = ms(5000);
    limits.pace = any_pace(&mut rng);
    if room == Room::Narrow {
        limits.outbox_bytes_max = rng.usize(4_000..60_000);
        limits.session_buffer_bytes_max = rng.usize(500..30_000);
        limits.session_linger = ms(pick_linger(&mut rng));
    }
    let guards = Guards {
        trace: (room == Room::Traced).then_some((0.5, 64)),
        ..Guards::default()
    };
    let (shards, size) = (rng.usize(2..=5), any_size(&mut rng));
    let mut scene = Scene::of_shards(shards, seed, faults, size, limits, guards);
    scene.ample = room != Room::Narrow;
    if rng.bool() {
        scene.world.set_pipe_bytes(rng.usize(2000..50_000));
    }
    let measure = Measure {
        clients: rng.usize(4..14),
        cuts: rng.u8(..4) > 0,
        slow: rng.bool(),
    };
    for plan in load::any(&mut rng, measure) {
        scene.enter_later(ms(rng.u64(..50)), plan);
    }
    scene.run_for(ms(rng.u64(100..700)));
    scene.server.check_reasons();

    scene.world.set_faults(Faults::none());
    for &id in &scene.clients {
        scene.world.command(id, Command::Heal);
    }
    scene.settle();
    let late: Vec<_> = (0..6)
        .map(|_| scene.enter(Traffic::of([Act::subscribe("r/#")])))
        .collect();
    scene.settle();
    scene.outlast();
    let evidence = scene.close();
    evidence.judge();
    let retained = evidence.check_retained(&late);
    retained.unwrap_or_else(|breach| panic!("seed {seed}: {breach}"));
    (scene, evidence)
}

fn pick_linger(rng: &mut fastrand::Rng) -> u64 {
    [20, 100, 5000][rng.usize(..3)]
}

fn run(seed: u64, faults: Faults, room: Room) -> u64 {
    let (scene, _) = trial(seed, faults, room);
    let server = &scene.server;
    assert_eq!(server.closed(Reason::Internal), 0, "seed {seed}");
    if room != Room::Narrow {
        assert_eq!(server.closed(Reason::SlowConsumer), 0, "seed {seed}");
    }
    let connections = scene
        .clients
        .iter()
        .map(|&id| scene.record(id).connections.len());
    let connections: usize = connections.sum();
    let opened = server.count(Counter::Opened);
    assert!(opened <= connections as u64, "seed {seed}: {opened} opened");
    let trace = scene.world.trace();
    scene.rest();
    trace
}

#[test]
fn every_promise_of_routing_is_kept_under_every_fault() {
    let name = "every_promise_of_routing_is_kept_under_every_fault";
    seed::each(name, 180, |seed| {
        run(seed, Faults::all(), Room::Ample);
    });
}

#[test]
fn every_promise_of_routing_is_kept_when_only_clients_break_off() {
    let name = "every_promise_of_routing_is_kept_when_only_clients_break_off";
    seed::each(name, 150, |seed| {
        run(seed, Faults::harmless(), Room::Ample);
    });
}

/// What is sent at one time comes at one time: most of what races does so here.
#[test]
fn every_promise_of_routing_is_kept_when_all_comes_at_once() {
    let name = "every_promise_of_routing_is_kept_when_all_comes_at_once";
    seed::each(name, 100, |seed| {
        run(seed, Faults::none(), Room::Ample);
    });
}

#[test]
fn every_promise_of_routing_is_kept_with_too_little_room() {
    let name = "every_promise_of_routing_is_kept_with_too_little_room";
    seed::each(name, 150, |seed| {
        run(seed, Faults::harmless(), Room::Narrow);
    });
}

#[test]
fn every_promise_of_routing_is_kept_of_messages_that_are_traced() {
    let name = "every_promise_of_routing_is_kept_of_messages_that_are_traced";
    seed::each(name, 60, |seed| {
        run(seed, Faults::all(), Room::Traced);
    });
}

#[test]
fn routing_makes_the_same_run_from_the_same_seed() {
    for seed in 0..8 {
        let run = || run(seed, Faults::all(), Room::Ample);
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn a_judge_sees_a_message_lost_doubled_moved_or_changed() {
    // A run in which much was delivered, and nothing broke.
    let trials = (0..).map(|seed| trial(seed, Faults::none(), Room::Ample).1);
    let much = |evidence: &Evidence| evidence.witnesses[0].record.delivered.len() > 100;
    let evidence = trials.take(20).find(much).expect("one of twenty");
    assert!(evidence.check().is_ok());
    let tampered = |change: &dyn Fn(&mut Vec<Delivered>)| {
        let mut evidence = evidence.clone();
        // The first watches everything and is owed all that came after its OK.
        change(&mut evidence.witnesses[0].record.delivered);
        evidence.check().is_err()
    };
    let delivered = &evidence.witnesses[0].record.delivered;
    let (mut lost, mut doubled) = (0, 0);
    for (place, one) in delivered.iter().enumerate() {
        lost += u32::from(tampered(&|delivered| drop(delivered.remove(place))));
        doubled += u32::from(tampered(&|delivered| delivered.push(one.clone())));
        assert!(tampered(&|delivered| delivered[place].digest ^= 1));
    }
    // Of what was not confirmed, or was retained, not everybody is owed each once.
    let count = delivered.len() as u32;
    assert!(
        count > 50 && lost > count / 2,
        "{lost} of {count} lost seen"
    );
    assert!(doubled > count / 2, "{doubled} of {count} doubled seen");
    assert!(tampered(&|delivered| delivered.reverse()));
}
