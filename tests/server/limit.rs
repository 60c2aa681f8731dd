//! Bounds on connections: beyond them a newcomer is told so, and serving resumes when there
//! is room; and limits that differ by shard.

use crate::harness::Server;
use crate::wire::{Wire, request_bytes, syn};
use ringmail::proto::error::Code;
use ringmail::proto::frame::FrameType;
use ringmail::proto::option::Options;

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
