//! Bounds on connections: beyond them a newcomer is told so, and serving resumes when there
//! is room; and limits that differ by shard.

use crate::harness::Server;
use crate::peer::{ERROR, Manner, Peer, WILL, code, op, request, subscribe};
use crate::wire::{PATIENCE, Wire, request_bytes, syn};
use ringmail::proto::error::Code;
use ringmail::proto::frame::FrameType;
use ringmail::proto::option::Options;
use std::time::Instant;

/// Tries until there is room again; how often it was refused.
fn greet_when_there_is_room(server: &Server) -> (Wire, u64) {
    for refused in 0..2000 {
        let mut wire = server.connect();
        wire.may_be_reset = true; // beyond the refusals nobody reads what we sent
        wire.send_anyway(&syn(&Options::default()));
        match wire.frame() {
            Some(told) if told.kind == FrameType::SynAck => {
                let ack =
                    crate::wire::ack(crate::wire::SEQ.wrapping_add(1), told.seq.wrapping_add(1));
                wire.send(&ack);
                wire.may_be_reset = false;
                return (wire, refused);
            }
            Some(told) => assert_eq!(told.payload[..2], [2, 2], "{told:?}"),
            None => {}
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("no room came back");
}

#[test]
fn a_connection_too_many_is_told_so_and_serving_resumes() {
    let mut server = Server::start(&["limits.connections_max=4"]);
    let mut held: Vec<Wire> = (0..8).map(|_| server.greet()).collect();
    for _ in 0..20 {
        server.connect().expect_rst(Code::TooManyConnections);
    }
    for wire in &mut held {
        wire.echoes(); // those within the bound notice nothing
    }
    held.pop().unwrap().close();
    let (wire, refused) = greet_when_there_is_room(&server);
    held.push(wire);
    for wire in held {
        wire.close();
    }
    server.settle(&[("peer_close", 9), ("too_many_connections", 20 + refused)]);
    server.end();
}

#[test]
fn refusals_are_bounded_too() {
    const CROWD: usize = 400;
    let mut server = Server::start(&["limits.connections_max=1"]);
    let held: Vec<Wire> = (0..2).map(|_| server.greet()).collect();
    // Nobody in the crowd ends its side: each refusal lingers, and these are bounded.
    let mut crowd: Vec<Wire> = (0..CROWD).map(|_| server.connect()).collect();
    let mut told = 0;
    for wire in &mut crowd {
        if let Some(frame) = wire.frame() {
            assert_eq!(frame.payload[..2], [2, 2], "{frame:?}");
            told += 1;
        }
        wire.expect_end();
    }
    assert!(told >= 64, "only {told} were told why");
    assert!(told < CROWD as u64, "all {told} refusals held a slot");
    for wire in held {
        wire.close();
    }
    let (wire, refused) = greet_when_there_is_room(&server);
    wire.close();
    drop(crowd);
    let stats = server.wait_for("closed", |stats| stats.connections == 1);
    let counted = stats.closed["too_many_connections"];
    assert!((told..=told + refused).contains(&counted), "{stats:?}");
    server.end();
}

#[test]
fn a_shard_may_have_limits_of_its_own() {
    let mut server = Server::start(&["shard.1.limits.message_bytes_max=2048"]);
    let payload = vec![1; 4096];
    let mut seen = [0; 2];
    // All at once, so that both shards get some.
    let wires: Vec<_> = (0..4)
        .map(|_| Wire::greet_with(server.address, &Options::default()))
        .collect();
    for (mut wire, options) in wires {
        let granted = Options::parse(&options).unwrap();
        let shard = granted.shard.unwrap();
        seen[usize::from(shard)] += 1;
        if shard == 1 {
            assert_eq!(granted.message_max, Some(2048));
            wire.send_anyway(&request_bytes(1, "$sys/echo", &payload, false));
            wire.expect_fatal(Code::TooLarge);
        } else {
            assert_eq!(granted.message_max, Some(1 << 20));
            assert!(wire.request("$sys/echo", &payload).unwrap() == payload);
            wire.close();
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    server.settle(&[("peer_close", seen[0]), ("too_large", seen[1])]);
    server.end();
}

fn join(server: &Server) -> Peer {
    Peer::join(server.address, Manner::default(), None)
}

/// Connections, as one of them is told: others may find no room.
fn connections(peer: &mut Peer) -> u64 {
    let id = peer.start(&request("$sys/stats", ""));
    let stats: serde_json::Value = serde_json::from_slice(&peer.responded(id).unwrap()).unwrap();
    stats["connections"].as_u64().unwrap()
}

fn wait_for_connections(peer: &mut Peer, count: u64) {
    let end = Instant::now() + PATIENCE;
    while connections(peer) != count {
        assert!(Instant::now() < end, "never {count} connections");
    }
}

#[test]
fn strangers_end_no_session_and_who_comes_back_finds_room() {
    let server = Server::start(&[
        "limits.connections_max=4",
        "limits.handshake_timeout_ms=60000",
        "limits.auth_timeout_ms=60000",
    ]);
    let mut watcher = server.peer(0);
    watcher.subscribe("will/#");
    let keys: Vec<[u8; 16]> = (0..6)
        .map(|number| {
            let mut peer = server.peer(number % 2);
            let key = peer.new_session();
            peer.ok(&op(WILL, format!("will/{number}")).payload("gone"));
            peer.cut();
            key
        })
        .collect();
    wait_for_connections(&mut watcher, 1);
    // Strangers that say nothing, and some that do, until these are told that it is full.
    let silent: Vec<Wire> = (0..30).map(|_| server.connect()).collect();
    let mut spoken = Vec::new();
    loop {
        let mut stranger = join(&server);
        stranger.start(&subscribe("x"));
        let got = stranger.read().expect("OK or ERROR");
        if got.kind == ERROR {
            let told = (got.u16(0), got.body[6]);
            assert_eq!(told, (code::TOO_MANY_CONNECTIONS, 1), "{got:?}");
            break stranger.ended();
        }
        spoken.push(stranger);
    }
    let mut peers: Vec<Peer> = keys
        .into_iter()
        .map(|key| {
            let mut peer = join(&server);
            assert!(peer.session(key, 0).expect("it is kept").resumed);
            peer.ok(&op(WILL, ""));
            peer
        })
        .collect();
    // Who has a session with nobody here is a stranger.
    let mut stranger = join(&server);
    assert_eq!(stranger.session([0x5A; 16], 0), Err(code::SESSION_UNKNOWN));
    stranger.start_session([0; 16], 0);
    stranger.fatal(code::TOO_MANY_CONNECTIONS);
    peers.iter_mut().for_each(Peer::quiet);
    peers.into_iter().chain(spoken).for_each(Peer::close);
    drop(silent);
    wait_for_connections(&mut watcher, 1);
    watcher.quiet();
    watcher.close();
    server.end();
}

#[test]
fn a_made_up_key_moves_no_connection() {
    let mut server = Server::start(&["limits.connections_max=8"]);
    let mut peers: Vec<Peer> = (0..14).map(|number| server.peer(number % 2)).collect();
    let before = server.stats();
    for peer in &mut peers {
        for home in [0, 1, 2, u16::MAX] {
            let mut key = [0x5A; 16];
            key[..2].copy_from_slice(&home.to_be_bytes());
            assert_eq!(peer.session(key, 0), Err(code::SESSION_UNKNOWN));
        }
        peer.quiet();
    }
    let stats = server.stats();
    assert_eq!(stats.total["connections_moved_in"], 0, "{stats:?}");
    assert_eq!(stats.connections, before.connections);
    peers.into_iter().for_each(Peer::close);
    server.settle_beside_closes(&[]);
    server.end();
}
