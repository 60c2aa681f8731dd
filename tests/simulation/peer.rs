//! Peers that stop halfway, trickle bytes, send nothing, or vanish.

use super::server::{Server, ms, settings};
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::proto::envelope::Envelope;
use ringmail::proto::error::Code;
use ringmail::proto::frame::{Frame, FrameType};
use ringmail::proto::message::{Message, MessageType};
use ringmail::ring::sim::client::{ClientId, Ending, Opening, Order, Plan, Writing};
use ringmail::ring::sim::{Faults, RingSize, World};
use std::time::Duration;

fn syn() -> Vec<u8> {
    let mut bytes = Vec::new();
    let frame = Frame {
        kind: FrameType::Syn,
        seq: 7,
        payload: &[4, 3, b'a', b'b', b'c'],
    };
    frame.encode(&mut bytes);
    bytes
}

fn request() -> Vec<u8> {
    let envelope = Envelope {
        id: 1,
        name: "$sys/echo",
        payload: b"hello",
        ..Envelope::default()
    };
    let mut bytes = Vec::new();
    Message::Envelope(MessageType::Request, envelope).encode(false, &mut bytes);
    bytes
}

fn world() -> (World, Server) {
    let world = World::new(11, Faults::none());
    let server = Server::start(&world, 2, RingSize::default());
    (world, server)
}

#[test]
fn every_prefix_of_a_frame_and_a_message_then_fin_frees_its_slot() {
    let (world, mut server) = world();
    let (syn, request) = (syn(), request());
    for end in 0..=syn.len() {
        let plan = Plan {
            opening: Opening::Raw(syn[..end].to_vec()),
            ending: Ending::Fin,
            ..Plan::default()
        };
        world.add_client(world.now(), plan);
    }
    for end in 1..request.len() {
        let plan = Plan {
            tail: request[..end].to_vec(),
            ending: Ending::Fin,
            ..Plan::default()
        };
        world.add_client(world.now(), plan);
    }
    server.run_for(ms(500));
    let peers = (syn.len() + request.len()) as u64;
    assert_eq!(server.closed(Reason::PeerEof), peers);
    assert_eq!(server.count(Counter::Requests), 0, "nothing was whole");
    assert!(world.clients_ended());
    server.end();
}

#[test]
fn a_message_split_at_any_byte_is_one_message() {
    let (world, mut server) = world();
    let request = request();
    let mut ids = Vec::new();
    for split in 1..request.len() {
        let plan = Plan {
            tail: request[..split].to_vec(),
            ..Plan::default()
        };
        ids.push((split, world.add_client(world.now(), plan)));
    }
    server.run_for(ms(100));
    for &(split, id) in &ids {
        world.order(id, Order::Raw(request[split..].to_vec()));
    }
    server.run_for(ms(100));
    assert_eq!(server.count(Counter::Requests), ids.len() as u64);
    for (_, id) in ids {
        world.order(id, Order::End(Ending::Reset));
    }
    server.run_for(ms(100));
    server.end();
}

/// Runs one client until it ends, and returns how long that took.
fn lifetime(server: &mut Server, plan: Plan) -> (ClientId, Duration) {
    let world = server.world.clone();
    let begun = world.now();
    let id = world.add_client(begun, plan);
    while !world.report(id).ended {
        assert!(world.now().since(begun) < Duration::from_secs(600));
        server.run_for(ms(10));
    }
    (id, world.now().since(begun))
}

fn within(took: Duration, ms_min: u64, ms_max: u64) {
    assert!((ms(ms_min)..ms(ms_max)).contains(&took), "{took:?}");
}

#[test]
fn a_trickled_handshake_or_message_times_out() {
    let (world, mut server) = world();
    let trickle = Writing::Trickle {
        bytes: 1,
        every: ms(100),
    };
    let (id, took) = lifetime(
        &mut server,
        Plan {
            client_id: Some("a".repeat(60)),
            writing: trickle,
            ..Plan::default()
        },
    );
    within(took, 2000, 2100);
    assert_eq!(world.report(id).refused, Some(Code::HandshakeTimeout));

    // Complete messages before it do not extend the deadline.
    let (id, took) = lifetime(
        &mut server,
        Plan {
            client_id: Some("b".to_owned()),
            writing: Writing::Trickle {
                bytes: 20,
                every: ms(100),
            },
            tail: vec![b'M', b'C', 1, 0x20, 0, 0, 0x10, 0, 0, 0, 0, 1],
            ..Plan::default()
        },
    );
    assert_eq!(world.report(id).refused, Some(Code::FrameTimeout));
    within(took, 10_000, 11_000);
    assert_eq!(server.closed(Reason::FrameTimeout), 1);
    assert_eq!(server.closed(Reason::HandshakeTimeout), 1);
    server.end();
}

#[test]
fn a_message_trickled_beyond_its_deadline_is_refused_though_bytes_keep_coming() {
    let (world, mut server) = world();
    let id = world.add_client(world.now(), Plan::default());
    server.run_for(ms(100));
    let begun = world.now();
    world.order(id, Order::Raw(vec![b'M', b'C', 1, 0x20, 0, 0, 1, 0]));
    while !world.report(id).ended {
        world.order(id, Order::Raw(vec![0]));
        server.run_for(ms(100));
        assert!(
            world.now().since(begun) < ms(20_000),
            "it may trickle for ever"
        );
    }
    assert_eq!(world.report(id).refused, Some(Code::FrameTimeout));
    within(world.now().since(begun), 10_000, 10_400);
    server.end();
}

/// However many deadlines pass at one instant, a turn handles some of them, and others' input
/// between.
#[test]
fn deadlines_that_pass_at_once_are_spread_over_turns() {
    const CLIENTS: u64 = 3000;
    const TIMERS_PER_TURN: u64 = 128;
    let (world, mut server) = world();
    let silent = Plan {
        opening: Opening::Silent,
        ..Plan::default()
    };
    for _ in 0..CLIENTS {
        world.add_client(world.now(), silent.clone());
    }
    server.run_for(ms(1900));
    // Each is sent a reason.
    let all_sends = || world.sends(0) + world.sends(1);
    let mut sends = all_sends();
    while server.closed(Reason::HandshakeTimeout) < CLIENTS {
        server.run_turns(1);
        let now = all_sends();
        assert!(now - sends <= TIMERS_PER_TURN, "{}", now - sends);
        sends = now;
    }
    server.end();
}

#[test]
fn thousands_of_silent_or_half_open_connections_are_closed_in_time() {
    let (world, mut server) = world();
    for index in 0..4000 {
        let opening = if index % 2 == 0 {
            Opening::Silent
        } else {
            Opening::SynOnly
        };
        let plan = Plan {
            opening,
            ..Plan::default()
        };
        world.add_client(world.now() + Duration::from_micros(index * 10), plan);
    }
    server.run_for(ms(1900));
    assert_eq!(server.open(), 4000);
    server.run_for(ms(200));
    let good = Plan {
        requests: 10,
        ending: Ending::Close,
        ..Plan::default()
    };
    let id = world.add_client(world.now(), good.clone());
    server.run_for(ms(1200));
    assert_eq!(server.closed(Reason::HandshakeTimeout), 4000);
    world.report(id).check(&good).unwrap();
    server.end();
}

#[test]
fn a_peer_that_vanished_is_found_and_one_that_answers_is_kept() {
    let (world, mut server) = world();
    let asks = |requests| Plan {
        requests,
        ..Plan::default()
    };
    let gone: Vec<_> = (0..20)
        .map(|n| world.add_client(world.now(), asks(n)))
        .collect();
    let kept: Vec<_> = (0..20)
        .map(|n| world.add_client(world.now(), asks(n)))
        .collect();
    server.run_for(ms(1000));
    for id in gone {
        world.order(id, Order::End(Ending::Vanish));
    }
    server.run_for(ms(88_000));
    assert_eq!(server.open(), 40, "not before its time");
    server.run_for(ms(5_000));
    assert_eq!(server.closed(Reason::HeartbeatTimeout), 20);
    server.run_for(Duration::from_secs(3600));
    assert_eq!(server.open(), 20, "no false close in an hour");
    for id in kept {
        let report = world.report(id);
        assert!(!report.ended && report.pings_received > 100, "{report:?}");
        world.order(id, Order::Heal);
    }
    server.run_for(ms(5_000));
    server.end();
}

#[test]
fn a_peer_that_reads_nothing_is_closed_once_its_flush_stalls() {
    let world = World::new(12, Faults::none());
    world.set_pipe_bytes(2000);
    let mut settings = settings();
    settings.heartbeat_timeout = ms(2000);
    settings.heartbeat_interval = ms(500);
    let limits = super::server::limits();
    let mut server = Server::with(&world, 1, RingSize::default(), &settings, &limits);
    let plan = Plan {
        requests: 200,
        depth: 200,
        payload_bytes_max: 1000,
        ..Plan::default()
    };
    let id = world.add_client(world.now(), plan);
    // It reads its SYN-ACK and the first answers, then nothing more.
    server.run_for(ms(1));
    world.order(id, Order::End(Ending::Vanish));
    server.run_for(ms(10_000));
    assert_eq!(server.open(), 0);
    assert!(world.report(id).established);
    server.end();
}
