//! Connections that break instead of ending: a reset at every stage, with bytes in flight in
//! both directions. Each is counted once as what it was, and gives everything back.

use crate::harness::Server;
use crate::wire::{Wire, request_bytes, syn};
use ringmail::proto::option::Options;
use std::io::Write;
use std::time::Duration;

/// Resets the connection instead of ending it.
fn reset(wire: Wire) {
    let socket = socket2::SockRef::from(&wire.stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_reset_at_any_stage_is_counted_once_and_frees_everything() {
    const EACH: u64 = 50;
    let mut server = Server::start(&[
        "limits.outbox_bytes_max=65536",
        "limits.message_bytes_max=32768",
    ]);
    for _ in 0..EACH {
        reset(server.connect());

        let mut wire = server.connect();
        wire.send(&syn(&Options::default()));
        wire.syn_ack();
        reset(wire);

        let mut wire = server.greet();
        wire.echoes();
        reset(wire);

        let mut wire = server.greet();
        wire.send(&request_bytes(1, "$sys/echo", &[1; 9000], false)[..5000]);
        reset(wire);
    }
    let stats = server.wait_for("closed", |stats| stats.connections == 1);
    // A connection reset before it is accepted may never be seen; none is anything else.
    let resets = stats.closed["peer_reset"];
    assert!((3 * EACH..=4 * EACH).contains(&resets), "{stats:?}");
    server.settle(&[("peer_reset", resets)]);
    server.end();
}

#[test]
fn a_reset_with_sends_in_flight_gives_their_memory_back() {
    let mut server = Server::start(&[
        "limits.outbox_bytes_max=262144",
        "limits.message_bytes_max=131072",
        "ring.buffers=256",
    ]);
    let others: Vec<Wire> = (0..4).map(|_| server.greet()).collect();
    let mut before = 0;
    for round in 0..5 {
        if round == 2 {
            // What pools and allocator keep for reuse is there by now.
            server.wait_for("freed", |stats| stats.connections == 5);
            before = server.resident_bytes();
        }
        let wires: Vec<Wire> = (0..20)
            .map(|_| {
                let mut wire = server.greet();
                let timeout = Some(Duration::from_millis(20));
                wire.stream.set_write_timeout(timeout).unwrap();
                let request = request_bytes(1, "$sys/echo", &[7; 65_536], false);
                // Until nothing more fits: sends of the server are stuck then.
                while wire.stream.write_all(&request).is_ok() {}
                wire
            })
            .collect();
        wires.into_iter().for_each(reset);
    }
    for mut wire in others {
        wire.echoes();
        wire.close();
    }
    server.settle(&[("peer_close", 4), ("peer_reset", 100)]);
    // Sixty leaks would be some 20 MiB.
    let grown = server.resident_bytes().saturating_sub(before);
    println!("after 60 more resets with full outboxes: {grown} bytes more resident");
    assert!(grown < 10 << 20, "{grown} bytes are kept");
    server.end();
}
