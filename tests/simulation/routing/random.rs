//! The main test: loads drawn from seeds on one to five shards, under faults; then the faults stop,
//! the clients finish, and every promise must have been kept.

use super::super::coverage::Coverage;
use super::super::seed;
use super::super::server::ms;
use super::judge::Evidence;
use super::load;
use super::scene::Scene;
use super::swarm::{Room, Swarm};
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::ring::sim::Faults;
use ringmail::ring::sim::client::traffic::{Act, Command, Delivered, Traffic};
use ringmail::ring::sim::client::{Opening, Plan};
use ringmail::shard::{Query, State};
use std::rc::Rc;
use std::time::Duration;

/// How many steps the run has; between two of them the harness may intervene.
const STEPS: u32 = 8;
/// Longer than a silent or vanished connection keeps its slot.
const PLACES_FREE: Duration = Duration::from_secs(100);

/// Prints what a seed's run was made of if it fails.
struct Said<'a>(&'a Swarm);

impl Drop for Said<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}", self.0);
        }
    }
}

fn any_swarm(seed: u64, faults: Faults, room: Room) -> (Swarm, fastrand::Rng) {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let swarm = Swarm::any(&mut rng, faults, room);
    (swarm, rng)
}

/// Runs a seed until all clients have closed; returns what they have seen.
fn trial(seed: u64, swarm: &Swarm, mut rng: fastrand::Rng) -> (Scene, Evidence) {
    let rng = &mut rng;
    let features = swarm.measure.features;
    let (faults, limits) = (swarm.faults.clone(), swarm.limits.clone());
    let (size, guards) = (swarm.size, swarm.guards());
    let mut scene = Scene::of_shards(swarm.shards, seed, faults, size, limits, guards);
    scene.ample = swarm.room != Room::Narrow;
    scene.crowded = features.strangers;
    if let Some(bytes) = swarm.pipe_bytes {
        scene.world.set_pipe_bytes(bytes);
    }
    for plan in load::any(rng, swarm.measure) {
        scene.enter_later(ms(rng.u64(..50)), plan);
    }
    if features.strangers {
        let silent = Rc::new(Plan {
            opening: Opening::Silent,
            ..Plan::default()
        });
        for _ in 0..rng.usize(10..100) {
            // After the other clients, so that these keep their slots.
            let at = scene.world.now() + ms(rng.u64(100..300));
            scene.world.add_client(at, silent.clone());
        }
    }
    for _ in 0..STEPS {
        scene.run_for(swarm.time / STEPS);
        scene.server.check_ledgers();
        if features.kicks && rng.u8(..4) == 0 {
            kick(&mut scene, rng);
        }
    }
    scene.server.check_reasons();

    scene.world.set_faults(Faults::none());
    for &id in &scene.clients {
        scene.world.command(id, Command::Heal);
    }
    scene.settle();
    if features.strangers {
        scene.run_for(PLACES_FREE);
        scene.settle();
    }
    let late: Vec<_> = (0..6)
        .map(|_| scene.enter(Traffic::of([Act::subscribe("r/#")])))
        .collect();
    scene.settle();
    for &id in &late {
        let stands = scene.record(id).subscriptions;
        let stands = stands.iter().any(|one| one.confirmed_at.is_some());
        assert!(
            stands,
            "seed {seed}: {id:?} found no place, though many are free"
        );
    }
    scene.outlast();
    let evidence = scene.close();
    evidence.judge();
    let retained = evidence.check_retained(&late);
    retained.unwrap_or_else(|breach| panic!("seed {seed}: {breach}"));
    (scene, evidence)
}

/// Ends a random connection, as an operator would.
fn kick(scene: &mut Scene, rng: &mut fastrand::Rng) {
    let replies = scene.server.list(&Query {
        most: 64,
        ..Query::default()
    });
    scene.run_for(ms(5));
    let rows = replies.try_iter().flat_map(|(_, seen)| seen.rows);
    let open: Vec<_> = rows.filter(|row| row.state == State::Open).collect();
    if let Some(row) = rng.choice(open) {
        scene.server.kick(row.shard, row.key);
    }
}

fn run(seed: u64, swarm: &Swarm, rng: fastrand::Rng, coverage: &Coverage) -> u64 {
    let _said = Said(swarm);
    let (scene, evidence) = trial(seed, swarm, rng);
    let server = &scene.server;
    assert_eq!(server.closed(Reason::Internal), 0, "seed {seed}");
    if swarm.room != Room::Narrow {
        assert_eq!(server.closed(Reason::SlowConsumer), 0, "seed {seed}");
    }
    let connections = evidence.witnesses.iter();
    let connections: usize = connections.map(|one| one.record.connections.len()).sum();
    let strangers = scene.world.clients().count() - scene.clients.len();
    let opened = server.count(Counter::Opened) as usize;
    assert!(
        opened <= connections + strangers,
        "seed {seed}: {opened} opened"
    );
    coverage.add_server(server);
    evidence
        .witnesses
        .iter()
        .for_each(|one| coverage.add_record(&one.record));
    for feature in swarm.measure.features.on() {
        coverage.add(format!("with {feature}"), 1);
    }
    let trace = scene.world.trace();
    scene.rest();
    trace
}

/// What each of these tests has to reach, whatever its faults.
const REACHED: &[&str] = &[
    "closed: peer_close",
    "closed: peer_eof",
    "closed: peer_reset",
    "closed: kicked",
    "closed: handshake_timeout",
    "code: NoService",
    "code: RequestTimeout",
    "code: Application(4660)",
    "connections_handed_over",
    "connections_moved_in",
    "deliveries_expired",
    "mesh_entries",
    "requests_forwarded",
    "answers_late",
    "sessions_resumed",
    "sessions_ended",
    "translated_to_json",
    "translated_to_protobuf",
    "wills",
];

fn each(name: &str, count: u64, faults: &Faults, room: Room, also: &[&str]) {
    let coverage = Coverage::default();
    seed::each(name, count, |seed| {
        let (swarm, rng) = any_swarm(seed, faults.clone(), room);
        run(seed, &swarm, rng, &coverage);
    });
    coverage.require(&[REACHED, also].concat());
}

#[test]
fn every_promise_of_routing_is_kept_under_every_fault() {
    let name = "every_promise_of_routing_is_kept_under_every_fault";
    let also = [
        "accept_aborts",
        "breaks",
        "multishot_ends",
        "late",
        "late_cancel",
        "no_buffers",
        "reset_discards",
        "short_receive",
        "short_send",
        "code: ServiceGone",
        "closed: too_many_connections",
    ];
    each(name, 180, &Faults::all(), Room::Ample, &also);
}

#[test]
fn every_promise_of_routing_is_kept_when_only_clients_disconnect() {
    let name = "every_promise_of_routing_is_kept_when_only_clients_disconnect";
    each(name, 150, &Faults::harmless(), Room::Ample, &[]);
}

/// Without latency, what is sent at the same time arrives at the same time: most races happen here.
#[test]
fn every_promise_of_routing_is_kept_without_latency() {
    let name = "every_promise_of_routing_is_kept_without_latency";
    each(name, 100, &Faults::none(), Room::Ample, &[]);
}

#[test]
fn every_promise_of_routing_is_kept_with_too_little_room() {
    let name = "every_promise_of_routing_is_kept_with_too_little_room";
    let also = [
        "closed: slow_consumer",
        "sessions_overflowed",
        "slow_dropped_oldest",
        "slow_dropped_newest",
        "slow_replaced",
    ];
    each(name, 150, &Faults::harmless(), Room::Narrow, &also);
}

#[test]
fn every_promise_of_routing_is_kept_for_traced_messages() {
    let name = "every_promise_of_routing_is_kept_for_traced_messages";
    each(name, 60, &Faults::all(), Room::Traced, &["spans_dropped"]);
}

#[test]
fn routing_makes_the_same_run_from_the_same_seed() {
    for seed in 0..8 {
        let run = || {
            let (swarm, rng) = any_swarm(seed, Faults::all(), Room::Ample);
            run(seed, &swarm, rng, &Coverage::default())
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn the_judge_detects_a_lost_doubled_moved_or_changed_message() {
    // A run with many deliveries and no broken connection.
    let trials = (0..).map(|seed| {
        let (mut swarm, rng) = any_swarm(seed, Faults::none(), Room::Ample);
        swarm.measure.features.kicks = false;
        trial(seed, &swarm, rng).1
    });
    let much = |evidence: &Evidence| evidence.witnesses[0].record.delivered.len() > 100;
    let evidence = trials.take(20).find(much).expect("one of twenty");
    assert!(evidence.check().is_ok());
    let tampered = |change: &dyn Fn(&mut Vec<Delivered>)| {
        let mut evidence = evidence.clone();
        // The first client subscribes to everything and is owed every message after its OK.
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
    // Unconfirmed and retained messages need not be delivered exactly once.
    let count = delivered.len() as u32;
    assert!(
        count > 50 && lost > count / 2,
        "{lost} of {count} lost seen"
    );
    assert!(doubled > count / 2, "{doubled} of {count} doubled seen");
    assert!(tampered(&|delivered| delivered.reverse()));
}
