//! The main test: clients of every kind against a few shards under every fault; then the faults
//! stop, the clients finish, and everything must be released.

use super::coverage::Coverage;
use super::seed;
use super::server::{Server, limits, ms, request_kinds, settings};
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::ring::sim::client::{ClientId, Ending, Order, Plan};
use ringmail::ring::sim::{Faults, RingSize, World};
use std::time::Duration;

const CLIENTS: u32 = 20;

/// What the test under every fault has to reach.
pub const REACHED: &[&str] = &[
    "accept: EPROTO",
    "receive: EIO",
    "send: EIO",
    "submits_some",
    "wakes",
    "accept_paused",
    "buffers_exhausted",
    "bytes_received",
    "bytes_sent",
    "calls_deferred",
    "connections_opened",
    "connections_closed",
    "connections_established",
    "messages_received",
    "receive_paused",
    "requests",
    "requests_failed",
    "responses",
    "turns",
    "closed: bad_checksum",
    "closed: frame_timeout",
    "closed: heartbeat_timeout",
    "closed: malformed",
    "closed: too_large",
    "closed: too_many_errors",
    "closed: unexpected",
    "closed: unknown_type",
    "closed: unsupported_version",
    "code: BadChecksum",
    "code: BadName",
    "code: Internal",
    "code: Malformed",
    "code: NotSubscribed",
    "code: TooLarge",
    "code: Unexpected",
    "code: UnknownType",
    "code: UnsupportedVersion",
];

/// A ring size between ample and barely usable.
pub fn any_size(rng: &mut fastrand::Rng) -> RingSize {
    RingSize {
        buffers: 1 << rng.u32(0..7),
        buffer_bytes: 1 << rng.u32(5..13),
        completions: 1 << rng.u32(1..9),
        backlog: 1 << rng.u32(1..8),
    }
}

/// Runs a seed until the server is at rest; returns the digest of everything that happened.
pub fn run(seed: u64, faults: Faults, coverage: &Coverage) -> u64 {
    let breaks = faults.breaks > 0.0;
    let world = World::new(seed, faults);
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    if rng.bool() {
        world.set_pipe_bytes(rng.usize(1000..50_000));
    }
    if rng.u8(..4) == 0 {
        world.set_descriptors_max(rng.usize(2..12));
    }
    let mut limits = limits();
    let narrow = rng.bool();
    if narrow {
        limits.outbox_bytes_max = rng.usize(2_000..100_000);
    }
    let size = any_size(&mut rng);
    let mut server = Server::with(&world, rng.usize(2..4), size, &settings(), &limits);
    let mut good: Vec<ClientId> = Vec::new();
    for index in 0..CLIENTS {
        let start = world.now() + ms(rng.u64(..50));
        if index % 2 == 0 {
            let mut plan = Plan::well_behaved(&mut rng);
            // Deferred answers may come all at once: they need a wide outbox.
            if !narrow && rng.bool() {
                plan.request_kinds = request_kinds();
                rng.shuffle(&mut plan.request_kinds);
            }
            good.push(world.add_client(start, plan));
        } else {
            world.add_client(start, Plan::ill_behaved(&mut rng));
        }
    }
    for _ in 0..4 {
        server.run_for(ms(rng.u64(12..100)));
        server.check_ledgers();
    }
    server.check_reasons();

    world.set_faults(Faults::none());
    world.set_descriptors_max(usize::MAX);
    for id in world.clients() {
        world.order(id, Order::Heal);
    }
    server.run_for(Duration::from_secs(200));
    for id in world.clients() {
        let report = world.report(id);
        let checked = report.check_violation();
        checked.unwrap_or_else(|wrong| panic!("seed {seed}: {id:?}: {wrong}"));
        assert!(
            report.ended,
            "seed {seed}: {:?}: {report:?}",
            world.plan(id)
        );
    }
    for id in good {
        let plan = world.plan(id);
        let checked = world.report(id).check(&plan);
        checked.unwrap_or_else(|wrong| panic!("seed {seed}: {id:?}: {plan:?}: {wrong}"));
    }
    if !breaks {
        let resets = ill(&world, Ending::Reset) + ill(&world, Ending::Vanish);
        let found = server.closed(Reason::PeerReset);
        assert!(found <= resets, "seed {seed}: {found} resets, not {resets}");
    }
    assert_eq!(server.closed(Reason::Internal), 0, "seed {seed}");
    assert!(
        server.count(Counter::Opened) <= u64::from(CLIENTS),
        "seed {seed}"
    );
    let trace = world.trace();
    coverage.add_server(&server);
    for id in world.clients() {
        coverage.add_report(&world.report(id));
    }
    server.end();
    trace
}

/// How many clients might end with a reset, by plan or because they do not read to the end.
fn ill(world: &World, ending: Ending) -> u64 {
    let ends = |id: &ClientId| world.plan(*id).ending == ending || world.report(*id).reset;
    world.clients().filter(ends).count() as u64
}

#[test]
fn every_seed_converges_under_every_fault() {
    let coverage = Coverage::default();
    seed::each("every_seed_converges_under_every_fault", 500, |seed| {
        run(seed, Faults::all(), &coverage);
    });
    coverage.require(REACHED);
}

#[test]
fn every_seed_converges_when_no_connection_breaks() {
    seed::each(
        "every_seed_converges_when_no_connection_breaks",
        300,
        |seed| {
            run(seed, Faults::harmless(), &Coverage::default());
        },
    );
}

#[test]
fn a_whole_server_makes_the_same_run_from_the_same_seed() {
    for seed in 0..10 {
        assert_eq!(
            run(seed, Faults::all(), &Coverage::default()),
            run(seed, Faults::all(), &Coverage::default()),
            "seed {seed}"
        );
    }
}
