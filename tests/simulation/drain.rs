//! Drains under load: each client gets one DRAIN, every accepted request is answered, and all
//! shards end in time.

use super::coverage::Coverage;
use super::seed;
use super::server::{Server, limits, ms, request_kinds, settings};
use ringmail::base::clock::Instant;
use ringmail::base::reason::Reason;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{Act, Command, Publish, SessionPlan, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending, Plan, Reading};
use ringmail::ring::sim::{Faults, RingSize, World};
use std::time::Duration;

const DRAIN: Duration = Duration::from_millis(5000);

/// What the test with peers of every kind has to reach.
pub const REACHED: &[&str] = &["closed: drained", "code: Draining", "code: Shutdown"];

/// A client that makes requests until it receives DRAIN, or for ever.
fn asker(rng: &mut fastrand::Rng) -> Plan {
    Plan {
        checksum: rng.bool(),
        requests: u32::MAX,
        request_kinds: request_kinds(),
        depth: 1 << rng.u32(0..5),
        payload_bytes_max: 500,
        think: ms([1, 20][rng.usize(..2)]),
        // With `Stay`, the server has to end the connection.
        ending: [Ending::Close, Ending::Stay][rng.usize(..2)],
        ..Plan::default()
    }
}

fn start(seed: u64, faults: Faults) -> (Server, Vec<ClientId>) {
    let world = World::new(seed, faults);
    let mut rng = fastrand::Rng::with_seed(seed);
    let server = Server::start(&world, 2, RingSize::default());
    let clients = (0..20).map(|_| {
        let at = world.now() + ms(rng.u64(..200));
        world.add_client(at, asker(&mut rng))
    });
    let clients = clients.collect();
    (server, clients)
}

fn drain(server: &mut Server) -> Instant {
    let deadline = server.world.now() + DRAIN;
    server.drain(deadline);
    server.run(deadline + ms(50));
    assert!(
        server.has_ended(),
        "seed {}: not in time",
        server.world.seed()
    );
    deadline
}

#[test]
fn a_drain_notifies_each_client_once_and_answers_accepted_requests() {
    let name = "a_drain_notifies_each_client_once_and_answers_accepted_requests";
    seed::each(name, 200, |seed| {
        let (mut server, clients) = start(seed, Faults::harmless());
        // By then, some clients are in the handshake or have not even connected.
        server.run_for(ms(150));
        let is_established = |id: &&ClientId| server.world.report(**id).established;
        let present: Vec<ClientId> = clients.iter().filter(is_established).copied().collect();
        assert!(!present.is_empty(), "seed {seed}");
        drain(&mut server);
        let world = &server.world;
        for id in &clients {
            let report = world.report(*id);
            let checked = report.check_violation();
            checked.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
            assert!(
                report.ended && report.drains <= 1,
                "seed {seed}: {report:?}"
            );
        }
        for id in &present {
            let report = world.report(*id);
            if report.refused == Some(Code::Draining) {
                // Its ACK was still on its way: it gets an RST, and no request of it was accepted.
                assert_eq!(report.responses, 0, "seed {seed}: {report:?}");
                continue;
            }
            assert_eq!(report.drains, 1, "seed {seed}: {report:?}");
            assert_eq!(report.responses, report.requests, "seed {seed}: {report:?}");
            assert!(!report.reset, "seed {seed}: {report:?}");
            let ended = match world.plan(*id).ending {
                Ending::Close => report.close_answered,
                _ => report.close_received == Some(Code::Shutdown),
            };
            assert!(ended, "seed {seed}: {report:?}");
        }
        server.check_reasons();
        assert_eq!(server.open(), 0);
        assert_eq!(server.closed(Reason::PeerReset), 0, "seed {seed}");
        server.world.check_no_leaks();
    });
}

#[test]
fn a_drain_ends_in_time_whatever_the_peers_do() {
    let name = "a_drain_ends_in_time_whatever_the_peers_do";
    let coverage = Coverage::default();
    seed::each(name, 200, |seed| {
        let (mut server, _) = start(seed, Faults::all());
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..20 {
            let at = server.world.now() + ms(rng.u64(..200));
            let mut plan = Plan::ill_behaved(&mut rng);
            if rng.u8(..4) == 0 {
                // Requests more than it will ever read.
                plan.requests = 500;
                plan.depth = 500;
                plan.payload_bytes_max = 5000;
                plan.reading = Reading::Never;
            }
            server.world.add_client(at, plan);
        }
        server.run_for(ms(rng.u64(..300)));
        drain(&mut server);
        server.check_reasons();
        assert_eq!(server.open(), 0);
        server.world.check_no_leaks();
        coverage.add_server(&server);
        for id in server.world.clients() {
            coverage.add_report(&server.world.report(id));
        }
    });
    coverage.require(REACHED);
}

#[test]
fn a_second_drain_changes_nothing_and_an_empty_server_ends_at_once() {
    let world = World::new(1, Faults::none());
    let mut server = Server::start(&world, 3, RingSize::default());
    server.run_for(ms(10));
    server.drain(world.now() + DRAIN);
    server.drain(world.now() + DRAIN);
    server.run_for(ms(10));
    assert!(server.has_ended());
    let id = world.add_client(world.now(), Plan::default());
    server.run_for(ms(100));
    assert!(world.report(id).broken, "nobody listens any more");
    world.check_no_leaks();
}

/// Publishers a long round trip away publish until they read DRAIN, or for ever; other clients only
/// subscribe, with a session that acknowledges nothing or without a session.
#[test]
fn messages_confirmed_during_a_drain_reach_idle_subscribers() {
    let name = "messages_confirmed_during_a_drain_reach_idle_subscribers";
    seed::each(name, 60, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let far = ms(rng.u64(25..150));
        let faults = Faults {
            latency: (far, far + ms(20)),
            ..Faults::none()
        };
        let world = World::new(seed, faults);
        let mut limits = limits();
        if seed % 3 > 0 {
            // Every fan-out takes several turns of its lane.
            (limits.pace.percent, limits.pace.fanout_min) = (1, 1);
        }
        let mut server = Server::with(&world, 2, RingSize::default(), &settings(), &limits);
        let listener = |kept: bool| Traffic {
            session: kept.then_some(SessionPlan {
                ack_every: 0,
                ..SessionPlan::default()
            }),
            ..Traffic::of([Act::subscribe("t/#")])
        };
        let listeners: Vec<_> = (0..4)
            .map(|n| world.add_traffic(world.now(), listener(n % 2 == 0)))
            .collect();
        server.run_for(ms(2000));
        // Few enough messages to end before the deadline, or more than there is time for.
        let pause = rng.u64(5..60);
        let count = [2600 / pause, 2000][seed as usize % 2];
        let acts = (0..count).flat_map(|_| [Act::publish("t/a"), Act::Pause(ms(pause))]);
        let acts: Vec<Act> = acts.collect();
        let writers: Vec<_> = (0..2)
            .map(|_| world.add_traffic(world.now(), Traffic::of(acts.clone())))
            .collect();
        server.run_for(ms(1500 + rng.u64(..500)));
        let begun = world.now();
        drain(&mut server);
        let mut late = 0;
        for &writer in &writers {
            let published = world.record(writer).published;
            for (number, one) in published.iter().enumerate() {
                let Some(confirmed_at) = one.confirmed_at else {
                    continue;
                };
                late += u32::from(confirmed_at > begun + 2 * far);
                for &listener in &listeners {
                    let had = world.record(listener).numbers(writer, "t/a");
                    let problem = "confirmed, and never delivered";
                    assert!(
                        had.contains(&(number as u32)),
                        "seed {seed}: {number} {problem}"
                    );
                }
            }
        }
        assert!(
            late > 0,
            "seed {seed}: nothing was confirmed during the drain"
        );
        for &listener in &listeners {
            let connection = world.record(listener).connections.remove(0);
            assert_eq!(
                connection.close_received,
                Some(Code::Shutdown),
                "seed {seed}"
            );
            assert_eq!(connection.drains, 1, "seed {seed}");
        }
        server.check_reasons();
        server.world.check_no_leaks();
    });
}

#[test]
fn a_session_whose_client_is_away_does_not_hold_up_a_drain() {
    let world = World::new(2, Faults::none());
    let mut server = Server::start(&world, 2, RingSize::default());
    let away = Traffic {
        reconnect: None,
        ..Traffic::with_session([Act::subscribe("t/#")])
    };
    let away = world.add_traffic(world.now(), away);
    server.run_for(ms(100));
    world.command(away, Command::End(Ending::Reset));
    server.run_for(ms(100));
    assert_eq!(server.sessions(), 1);
    server.drain(world.now() + DRAIN);
    server.run_for(DRAIN / 5);
    assert!(server.has_ended(), "it lingers");
    world.check_no_leaks();
}

/// A session whose buffer is full waits for its client to acknowledge. In a drain that is in vain:
/// nobody is heard any more, and the session ends with the server.
#[test]
fn messages_that_wait_for_an_acknowledgement_are_delivered_by_a_drain() {
    for ack_every in [0, 5] {
        let world = World::new(ack_every, Faults::none());
        let mut limits = limits();
        limits.session_buffer_bytes_max = 10_000;
        let mut server = Server::with(&world, 2, RingSize::default(), &settings(), &limits);
        let session = Some(SessionPlan {
            ack_every: ack_every as u32,
            ..SessionPlan::default()
        });
        let listener = Traffic {
            session,
            ..Traffic::of([Act::subscribe("t/#")])
        };
        let listener = world.add_traffic(world.now(), listener);
        server.run_for(ms(100));
        let large = Act::Publish(Publish {
            bytes: 3000,
            ..Publish::of("t/a")
        });
        let writer = world.add_traffic(world.now(), Traffic::of(vec![large; 9]));
        server.run_for(ms(100));
        let published = world.record(writer).published;
        assert!(published.iter().all(|one| one.confirmed_at.is_some()));
        assert!(world.record(listener).delivered.len() < 9, "none waits");
        drain(&mut server);
        let had = world.record(listener).numbers(writer, "t/a");
        assert_eq!(had, (0..9).collect::<Vec<_>>(), "ACK after {ack_every}");
        server.check_reasons();
        server.world.check_no_leaks();
    }
}
