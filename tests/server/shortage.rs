//! Too little of something: descriptors, receive buffers, room in the completion queue. The
//! server waits instead of spinning, and loses nothing.

use crate::harness::{Server, get, stats_over};
use crate::wire::{Wire, request_bytes, syn};
use ringmail::proto::option::Options;
use std::time::{Duration, Instant};

#[test]
fn without_descriptors_accepting_pauses_and_resumes() {
    const CLIENTS: usize = 120;
    let mut server = Server::start_after("ulimit -n 80", &["limits.handshake_timeout_ms=60000"]);
    let mut observer = server.greet();
    let mut wires: Vec<Wire> = (0..CLIENTS).map(|_| server.connect()).collect();
    for wire in &mut wires {
        wire.send(&syn(&Options::default()));
    }
    let end = Instant::now() + Duration::from_secs(30);
    while stats_over(&mut observer).total["accept_paused"] < 3 {
        assert!(Instant::now() < end, "it never ran out of descriptors");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        server.log().contains("accepting pauses"),
        "{}",
        server.log()
    );
    // It waits: a shard that spins would use a whole core, 100 ticks a second.
    let before = server.cpu_ticks();
    std::thread::sleep(Duration::from_millis(1500));
    let used = server.cpu_ticks() - before;
    println!("CPU while out of descriptors: {used} ticks in 1.5 s");
    assert!(used < 75, "{used} ticks: it spins");
    observer.echoes();

    // Room comes back; everybody who waited is served.
    wires.drain(..CLIENTS * 2 / 3);
    for wire in &mut wires {
        let ack = wire.syn_ack().ack;
        wire.send(&ack);
        wire.echoes();
    }
    for wire in wires {
        wire.close();
    }
    observer.close();
    server.wait_for("closed", |stats| stats.connections == 1);
    server.end();
}

/// Just then somebody asks how it is.
#[test]
fn without_descriptors_health_and_metrics_are_told() {
    const CLIENTS: usize = 120;
    let settings = [
        "limits.handshake_timeout_ms=60000",
        "server.admin=127.0.0.1:0",
    ];
    let mut server = Server::start_after("ulimit -n 80", &settings);
    let admin = server.admin();
    let mut observer = server.greet();
    let wires: Vec<Wire> = (0..CLIENTS).map(|_| server.connect()).collect();
    let end = Instant::now() + Duration::from_secs(30);
    while stats_over(&mut observer).total["accept_paused"] < 3 {
        assert!(Instant::now() < end, "it never ran out of descriptors");
        std::thread::sleep(Duration::from_millis(20));
    }
    // More often than there are descriptors kept.
    for _ in 0..20 {
        for path in ["/livez", "/readyz", "/metrics", "/status"] {
            let (status, body) = get(admin, path);
            assert_eq!(status, 200, "{path}: {body}");
            let is_told = body.contains("process_open_fds") && body.contains("process_max_fds");
            assert!(path != "/metrics" || is_told, "{body}");
        }
    }
    drop(wires);
    observer.close();
    server.wait_for("closed", |stats| stats.connections == 1);
    server.end();
}

/// `connections` peers that all ask before any reads.
fn ask_all_at_once(server: &Server, connections: u32, requests: u32, bytes: usize) {
    let mut wires: Vec<Wire> = (0..connections).map(|_| server.greet()).collect();
    let payload = |peer: u32, id: u32| -> Vec<u8> {
        let seed = peer * 7919 + id;
        (0..bytes as u32).map(|i| (i ^ seed) as u8).collect()
    };
    for (peer, wire) in wires.iter_mut().enumerate() {
        let requests: Vec<u8> = (0..requests)
            .flat_map(|id| request_bytes(id, "$sys/echo", &payload(peer as u32, id), false))
            .collect();
        wire.send(&requests);
    }
    for (peer, mut wire) in wires.into_iter().enumerate() {
        for id in 0..requests {
            let (answered, echoed) = wire.response();
            assert_eq!(answered, id);
            assert!(
                echoed.unwrap() == payload(peer as u32, id),
                "peer {peer}, {id}"
            );
        }
        wire.close();
    }
}

#[test]
fn eight_receive_buffers_are_enough_for_a_thousand_connections() {
    let mut server = Server::start(&["ring.buffers=8", "ring.buffer_bytes=512"]);
    ask_all_at_once(&server, 1000, 4, 3000);
    let stats = server.settle(&[("peer_close", 1000)]);
    assert!(stats.total["buffers_exhausted"] > 0, "they never ran out");
    server.end();
}

#[test]
fn one_receive_buffer_is_enough() {
    let mut server = Server::start(&["ring.buffers=1", "ring.buffer_bytes=256"]);
    ask_all_at_once(&server, 50, 4, 3000);
    server.settle(&[("peer_close", 50)]);
    server.end();
}

#[test]
fn a_completion_queue_of_eight_loses_nothing() {
    let mut server = Server::start(&[
        "ring.entries=8",
        "ring.completions=8",
        "ring.completions_per_turn=3",
    ]);
    ask_all_at_once(&server, 300, 8, 700);
    server.settle(&[("peer_close", 300)]);
    server.end();
}
