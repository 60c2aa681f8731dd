//! TLS under every fault: records across receives and sends that are cut short, late and out of
//! order. A client is owed the same with TLS as without.

use super::chaos::any_size;
use super::coverage::Coverage;
use super::seed;
use super::server::{Server, limits, ms, settings};
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::proto::ALPN;
use ringmail::ring::sim::client::{
    ClientId, Ending, Opening, Order, Plan, Reading, RequestKind, Writing,
};
use ringmail::ring::sim::{Faults, RingSize, World};
use ringmail::shard::tls::TlsSettings;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Ed25519: all its signatures have the same length, so that a seed determines the run.
struct Both {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

static BOTH: LazyLock<Both> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from(params.self_signed(&key).unwrap());
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(default_provider());
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.alpn_protocols = vec![ALPN.to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // With tickets, what a client does would depend on other clients.
    client.resumption = rustls::client::Resumption::disabled();
    Both {
        server: Arc::new(server),
        client: Arc::new(client),
    }
});

fn optional() -> TlsSettings {
    TlsSettings {
        is_required: false,
        asks_certificate: false,
        config: Arc::new(arc_swap::ArcSwap::new(BOTH.server.clone())),
    }
}

const CLIENTS: u32 = 12;

/// What the test under every fault has to reach.
pub const REACHED: &[&str] = &["tls_established"];

/// Runs a seed until the server is at rest; returns the digest of everything that happened.
fn run(seed: u64, faults: Faults, coverage: &Coverage) -> u64 {
    let world = World::new(seed, faults);
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    if rng.bool() {
        world.set_pipe_bytes(rng.usize(500..50_000));
    }
    let mut settings = settings();
    settings.handshake_timeout = ms(20_000);
    let mut limits = limits();
    if rng.bool() {
        limits.outbox_bytes_max = rng.usize(20_000..200_000);
    }
    let size = any_size(&mut rng);
    let tls = optional();
    let mut server = Server::secured(&world, 2, size, &settings, &limits, Some(&tls));
    let (mut good, mut secured): (Vec<ClientId>, u64) = (Vec::new(), 0);
    for index in 0..CLIENTS {
        let start = world.now() + ms(rng.u64(..50));
        let well = index % 3 > 0;
        let mut plan = match well {
            true => Plan::well_behaved(&mut rng),
            false => Plan::ill_behaved(&mut rng),
        };
        if rng.u8(..4) > 0 {
            plan.tls = Some(BOTH.client.clone());
            secured += 1;
        }
        if rng.bool() {
            // Longer than a TLS record.
            plan.payload_bytes_max = 40_000;
            plan.depth = plan.depth.min(2);
        }
        let client = world.add_client(start, plan);
        good.extend(well.then_some(client));
    }
    for _ in 0..4 {
        server.run_for(ms(rng.u64(12..100)));
        server.check_ledgers();
    }
    server.check_reasons();
    world.set_faults(Faults::none());
    for id in world.clients() {
        world.order(id, Order::Heal);
    }
    server.run_for(Duration::from_secs(300));
    for id in world.clients() {
        let (plan, report) = (world.plan(id), world.report(id));
        let checked = match good.contains(&id) {
            true => report.check(&plan),
            false => report.check_violation(),
        };
        checked.unwrap_or_else(|wrong| panic!("seed {seed}: {id:?}: {plan:?}: {wrong}"));
        assert!(report.ended, "seed {seed}: {plan:?}: {report:?}");
    }
    assert_eq!(server.closed(Reason::Internal), 0, "seed {seed}");
    assert_eq!(server.closed(Reason::TlsFailed), 0, "seed {seed}");
    assert!(
        server.count(Counter::TlsEstablished) <= secured,
        "seed {seed}"
    );
    let trace = world.trace();
    coverage.add_server(&server);
    server.end();
    trace
}

#[test]
fn every_seed_converges_through_tls_under_every_fault() {
    let name = "every_seed_converges_through_tls_under_every_fault";
    let coverage = Coverage::default();
    seed::each(name, 150, |seed| {
        run(seed, Faults::all(), &coverage);
    });
    coverage.require(REACHED);
}

#[test]
fn every_seed_converges_through_tls_when_no_connection_breaks() {
    let name = "every_seed_converges_through_tls_when_no_connection_breaks";
    seed::each(name, 100, |seed| {
        run(seed, Faults::harmless(), &Coverage::default());
    });
}

#[test]
fn a_seed_makes_the_same_run_through_tls() {
    for seed in 0..5 {
        let runs = [0, 1].map(|_| run(seed, Faults::all(), &Coverage::default()));
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}

/// One byte at a time in both directions, in each receive and each send.
#[test]
fn records_come_and_go_byte_by_byte() {
    let faults = Faults {
        short_receive: 1.0,
        short_send: 1.0,
        ..Faults::none()
    };
    let world = World::new(5, faults);
    world.set_pipe_bytes(7);
    let size = RingSize {
        buffer_bytes: 1,
        ..RingSize::default()
    };
    let mut settings = settings();
    settings.handshake_timeout = ms(60_000);
    let tls = optional();
    let mut server = Server::secured(&world, 1, size, &settings, &limits(), Some(&tls));
    let plan = Plan {
        tls: Some(BOTH.client.clone()),
        requests: 5,
        request_kinds: vec![RequestKind::echo()],
        payload_bytes_max: 2000,
        reading: Reading::Slow {
            bytes: 5,
            every: Duration::from_micros(20),
        },
        writing: Writing::Trickle {
            bytes: 1,
            every: Duration::from_micros(20),
        },
        ending: Ending::Close,
        ..Plan::default()
    };
    let client = world.add_client(world.now(), plan.clone());
    server.run_for(Duration::from_secs(60));
    world.report(client).check(&plan).unwrap();
    assert_eq!(server.count(Counter::TlsEstablished), 1);
    assert_eq!(server.closed(Reason::PeerClose), 1);
    server.end();
}

/// Many ClientHellos at one instant: each gets its turn, and established clients are served.
#[test]
fn a_flood_of_handshakes_is_served_in_turn() {
    let world = World::new(9, Faults::none());
    let tls = optional();
    let ring = RingSize {
        buffers: 512,
        ..RingSize::default()
    };
    let mut server = Server::secured(&world, 1, ring, &settings(), &limits(), Some(&tls));
    let plain_plan = Plan {
        requests: 200,
        ending: Ending::Close,
        ..Plan::default()
    };
    let plain = world.add_client(world.now(), plain_plan.clone());
    const MANY: u64 = 300;
    let plan = Plan {
        tls: Some(BOTH.client.clone()),
        requests: 1,
        ending: Ending::Close,
        ..Plan::default()
    };
    let many: Vec<_> = (0..MANY)
        .map(|_| world.add_client(world.now() + ms(1), plan.clone()))
        .collect();
    server.run_for(ms(1500));
    world.report(plain).check(&plain_plan).unwrap();
    for client in many {
        world.report(client).check(&plan).unwrap();
    }
    assert_eq!(server.count(Counter::TlsEstablished), MANY);
    server.end();
}

/// Records of a few bytes cost as much as messages: whoever sends many has its share of the turn.
#[test]
fn a_flood_of_small_records_is_opened_over_turns() {
    const RECORD_BYTES: usize = 32;
    const RECORDS_PER_TURN: u64 = 40;
    let faults = Faults {
        latency: (Duration::ZERO, Duration::ZERO),
        ..Faults::none()
    };
    let world = World::new(6, faults);
    let mut limits = limits();
    limits.pace.percent = 1;
    let tls = optional();
    let size = RingSize::default();
    let mut server = Server::secured(&world, 1, size, &settings(), &limits, Some(&tls));
    let mut client = ClientConfig::clone(&BOTH.client);
    client.max_fragment_size = Some(RECORD_BYTES);
    let flood = Plan {
        tls: Some(Arc::new(client)),
        requests: 4,
        depth: 4,
        payload_bytes_max: 40_000,
        ending: Ending::Close,
        ..Plan::default()
    };
    // What was sent before the end of a stream is answered, too.
    let until_end = Plan {
        ending: Ending::Fin,
        ends_when_sent: true,
        ..flood.clone()
    };
    let floods = [flood, until_end];
    let floods = floods.map(|plan| (world.add_client(world.now(), plan.clone()), plan));
    while server.count(Counter::TlsEstablished) < 2 {
        server.run_turns(1);
        server.check_ledgers();
    }
    let plan = Plan {
        requests: 20,
        ending: Ending::Close,
        ..Plan::default()
    };
    let calm = world.add_client(world.now(), plan.clone());
    let before = (
        server.count(Counter::Turns),
        server.count(Counter::BytesReceived),
    );
    while !world.report(calm).ended {
        server.run_turns(1);
        server.check_ledgers();
    }
    let calm_turns = server.count(Counter::Turns) - before.0;
    let over = floods
        .iter()
        .filter(|one| world.report(one.0).ended)
        .count();
    while !floods.iter().all(|one| world.report(one.0).ended) {
        server.run_turns(1);
        server.check_ledgers();
    }
    let turns = server.count(Counter::Turns) - before.0;
    let records = (server.count(Counter::BytesReceived) - before.1) / RECORD_BYTES as u64;
    println!("{calm_turns} of {turns} turns, {records} records, {over} over");
    assert!(calm_turns < 100 && over == 0, "{calm_turns} turns");
    assert!(turns >= records / RECORDS_PER_TURN, "{turns} turns");
    server.run_for(ms(100));
    for (one, plan) in floods {
        world.report(one).check(&plan).unwrap();
    }
    world.report(calm).check(&plan).unwrap();
    server.end();
}

/// Sends this many ClientHellos at one instant to a server that allows each handshake a tenth of a
/// second, over a network with this latency; returns how many completed, and the bytes sent for
/// all of them.
fn storm(hellos: u64, latency: Duration) -> (u64, u64) {
    let faults = Faults {
        latency: (latency, latency),
        ..Faults::none()
    };
    let world = World::new(4, faults);
    let ring = RingSize {
        buffers: 2048,
        ..RingSize::default()
    };
    let mut settings = settings();
    settings.handshake_timeout = ms(100);
    let tls = optional();
    let mut server = Server::secured(&world, 1, ring, &settings, &limits(), Some(&tls));
    let plan = Plan {
        tls: Some(BOTH.client.clone()),
        ..Plan::default()
    };
    for _ in 0..hellos {
        world.add_client(world.now() + ms(1), plan.clone());
    }
    server.run_for(ms(400));
    let counted = [Counter::TlsEstablished, Counter::BytesSent].map(|one| server.count(one));
    for id in world.clients() {
        world.order(id, Order::Heal);
    }
    server.run_for(ms(3000));
    server.end();
    (counted[0], counted[1])
}

/// S11: more ClientHellos than there is time for. No work is spent on handshakes that will not
/// complete.
#[test]
fn of_too_many_handshakes_those_begun_are_finished() {
    // With the longer one, what is begun in the last fifth of the time cannot complete.
    for latency in [ms(1) / 5, ms(10)] {
        let (one, bytes_each) = storm(1, latency);
        let (established, bytes) = storm(1000, latency);
        assert_eq!(one, 1);
        assert!((100..500).contains(&established), "{established}");
        let most = established * bytes_each * 11 / 10;
        assert!(
            bytes <= most,
            "{established}: {bytes} bytes, {bytes_each} each"
        );
    }
}

/// A ClientHello that is begun and abandoned: its slot, its chunk and its place in the queue are
/// released.
#[test]
fn an_abandoned_hello_is_closed_in_time() {
    let world = World::new(3, Faults::none());
    let tls = optional();
    let size = RingSize::default();
    let mut server = Server::secured(&world, 2, size, &settings(), &limits(), Some(&tls));
    for length in 1..100 {
        let mut hello = vec![0x16, 3, 1, 1, 0, 1, 0, 0, 0xfc, 3, 3];
        hello.resize(length.max(11), 7);
        hello.truncate(length);
        let plan = Plan {
            opening: Opening::Raw(hello),
            ending: Ending::Stay,
            ..Plan::default()
        };
        world.add_client(world.now(), plan);
    }
    server.run_for(ms(5000));
    assert_eq!(server.closed(Reason::HandshakeTimeout), 99);
    server.check_reasons();
    server.end();
}

/// Readers slower than the answers to their requests: with TLS they are lent hardly more memory
/// than without, including records. A record is decrypted as a whole, so some of its content has to
/// wait.
#[test]
fn slow_readers_are_lent_no_more_than_without_tls() {
    const BUDGET: usize = 4 << 20;
    let mut lent = Vec::new();
    for tls in [None, Some(BOTH.client.clone())] {
        let world = World::new(21, Faults::none());
        world.set_pipe_bytes(4000);
        let mut limits = limits();
        limits.outbox_bytes_shard_max = BUDGET;
        let (size, settings) = (RingSize::default(), settings());
        let mut server = Server::secured(&world, 1, size, &settings, &limits, Some(&optional()));
        let is_secured = tls.is_some();
        let plan = Plan {
            tls,
            requests: 400,
            depth: 400,
            payload_bytes_max: 3000,
            reading: Reading::Slow {
                bytes: 1000,
                every: ms(20),
            },
            ending: Ending::Close,
            ..Plan::default()
        };
        for _ in 0..200 {
            world.add_client(world.now(), plan.clone());
        }
        let mut most = 0;
        for _ in 0..100 {
            server.run_for(ms(20));
            most = most.max(server.lent_bytes());
        }
        println!("most {most}");
        lent.push(most);
        assert_eq!(server.count(Counter::TlsEstablished) > 0, is_secured);
        assert!(most > BUDGET / 2, "nobody was slow: {most}");
        for id in world.clients() {
            world.order(id, Order::Heal);
        }
        server.run_for(Duration::from_secs(60));
        for id in world.clients() {
            world.report(id).check_violation().unwrap();
        }
        server.end();
    }
    assert!(lent[1] <= lent[0] + lent[0] / 4, "{lent:?}");
}
