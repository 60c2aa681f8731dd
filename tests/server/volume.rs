//! Much at once: many messages in one segment, large ones, more than the reader takes. Nothing is lost or reordered, and memory stays bounded.

use crate::harness::Server;
use crate::wire::{Wire, request_bytes};
use ringmail::proto::error::Code;
use ringmail::proto::option::Options;
use std::io::Write;
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::Duration;

#[test]
fn a_thousand_requests_in_one_segment_are_answered_in_order() {
    let mut server = Server::start(&[]);
    let mut wire = server.greet();
    let requests: Vec<u8> = (0..1000)
        .flat_map(|id| request_bytes(id, "$sys/echo", &id.to_le_bytes(), false))
        .collect();
    assert!(requests.len() < 65_536, "one segment of loopback");
    wire.send(&requests);
    for id in 0..1000u32 {
        assert_eq!(wire.response(), (id, Ok(id.to_le_bytes().to_vec())));
    }
    wire.close();
    server.settle(&[("peer_close", 1)]);
    server.end();
}

#[test]
fn the_largest_message_comes_back_and_one_byte_more_does_not() {
    let mut server = Server::start(&[]);
    for checksum in [0, 1] {
        let asked = Options {
            features: Some(checksum),
            ..Options::default()
        };
        let (mut wire, _) = Wire::greet_with(server.address, &asked);
        // A CRC does not count.
        let around = 7 + "$sys/echo".len();
        let mut payload: Vec<u8> = (0..(1 << 20) - around as u32)
            .map(|i| (i % 251) as u8)
            .collect();
        for _ in 0..3 {
            assert!(wire.request("$sys/echo", &payload).unwrap() == payload);
        }
        payload.push(0);
        let bytes = request_bytes(1, "$sys/echo", &payload, checksum == 1);
        wire.send_anyway(&bytes);
        wire.expect_fatal(Code::TooLarge);
    }
    server.settle(&[("too_large", 2)]);
    server.end();
}

const PAYLOAD_BYTES: usize = 65_536;

fn payload(id: u32) -> Vec<u8> {
    (0..PAYLOAD_BYTES as u32)
        .map(|i| (i.wrapping_mul(31) ^ id) as u8)
        .collect()
}

/// Asks for `count` large echoes without reading an answer, and then ends its side.
fn asking(stream: &TcpStream, count: u32) -> JoinHandle<()> {
    let mut stream = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        for id in 0..count {
            let request = request_bytes(id, "$sys/echo", &payload(id), false);
            stream.write_all(&request).unwrap();
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    })
}

fn expect_echoes(wire: &mut Wire, count: u32) {
    for id in 0..count {
        let (answered, echoed) = wire.response();
        assert_eq!(answered, id);
        assert!(
            echoed.unwrap() == payload(id),
            "echo {id} is not its request"
        );
    }
    wire.expect_end();
}

#[test]
fn a_slow_reader_loses_nothing_and_costs_bounded_memory() {
    const ECHOES: u32 = 1000; // 64 MiB
    let mut server = Server::start(&[
        "limits.outbox_bytes_max=262144",
        "limits.message_bytes_max=131072",
    ]);
    server.stats();
    let before = server.resident_bytes();
    let mut wire = server.greet();
    let asking = asking(&wire.stream, ECHOES);
    // Until the server has stopped taking more in.
    let mut received = 0;
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = server.stats().total["bytes_received"];
        if now < received + 4096 {
            break;
        }
        received = now;
    }
    let total = u64::from(ECHOES) * PAYLOAD_BYTES as u64;
    assert!(received < total, "everything was taken in: no backpressure");
    let grown = server.resident_bytes().saturating_sub(before);
    println!("after {received} of {total} bytes: {grown} bytes more resident");
    assert!(grown < total / 4, "{grown} bytes for one slow reader");
    expect_echoes(&mut wire, ECHOES);
    asking.join().unwrap();
    drop(wire);
    let stats = server.settle(&[("peer_eof", 1)]);
    assert!(stats.total["receive_paused"] > 0, "it never had to wait");
    server.end();
}

#[test]
fn a_peer_that_has_ended_its_side_still_gets_every_answer() {
    // Small bounds, so that requests wait unhandled when the end of the stream comes.
    let mut server = Server::start(&[
        "limits.outbox_bytes_max=140000",
        "limits.message_bytes_max=70000",
    ]);
    let wires: Vec<(Wire, JoinHandle<()>)> = (0..8)
        .map(|_| {
            let wire = server.greet();
            let asking = asking(&wire.stream, 64);
            (wire, asking)
        })
        .collect();
    for (mut wire, asking) in wires {
        expect_echoes(&mut wire, 64);
        asking.join().unwrap();
    }
    // The same with small messages, all of them in the server before the first answer is read.
    for count in [65u32, 1000, 2000, 4000] {
        let mut wire = server.greet();
        let requests: Vec<u8> = (0..count)
            .flat_map(|id| request_bytes(id, "$sys/echo", &[id as u8; 64], false))
            .collect();
        wire.send(&requests);
        wire.shut();
        for id in 0..count {
            assert_eq!(wire.response(), (id, Ok(vec![id as u8; 64])));
        }
        wire.expect_end();
    }
    server.settle(&[("peer_eof", 12)]);
    server.end();
}

/// Nobody's memory but its own for what comes back: the smallest receive buffer there is.
fn deaf(server: &Server) -> Wire {
    let mut wire = server.greet_on(0);
    let socket = socket2::SockRef::from(&wire.stream);
    socket.set_recv_buffer_size(4096).unwrap();
    wire.may_be_reset = true;
    wire
}

const BUDGET: &[&str] = &[
    "limits.message_bytes_max=131072",
    "limits.outbox_bytes_max=262144",
    "limits.outbox_bytes_shard_max=262144",
    "ring.buffers=256",
];

#[test]
fn many_that_send_and_do_not_read_stay_within_the_shards_budget() {
    let mut server = Server::start(BUDGET);
    server.stats();
    let before = server.resident_bytes();
    let requests = request_bytes(1, "$sys/echo", &[3; 3000], false).repeat(50);
    let mut stuck = 0;
    let wires: Vec<Wire> = (0..24)
        .map(|_| {
            let mut wire = deaf(&server);
            let timeout = Some(Duration::from_millis(100));
            wire.stream.set_write_timeout(timeout).unwrap();
            // Until it takes no more, or has said that it is overloaded and drops the rest.
            let full = (0..200).find(|_| wire.stream.write_all(&requests).is_err());
            stuck += usize::from(full.is_some());
            wire
        })
        .collect();
    let grown = server.resident_bytes().saturating_sub(before);
    println!("24 deaf senders, {stuck} stuck: {grown} bytes more resident");
    // Each by itself: an outbox of 256 KiB and a turn's input of up to a megabyte.
    assert!(grown < 8 << 20, "{grown} bytes");
    drop(wires);
    let stats = server.wait_for("closed", |stats| stats.connections == 1);
    let strange = |reason: &&String| {
        !matches!(
            &reason[..],
            "overloaded" | "slow_consumer" | "peer_close" | "peer_eof" | "peer_reset"
        )
    };
    assert_eq!(stats.closed.keys().find(strange), None, "{stats:?}");
    server.end();
}

#[test]
fn a_large_message_waits_until_those_who_hold_the_memory_have_lost_it() {
    let mut server = Server::start(BUDGET);
    // Large answers to small requests: all of the memory is in outboxes.
    let asked = request_bytes(1, "$sys/stats", b"", false).repeat(1500);
    let wires: Vec<Wire> = (0..16)
        .map(|_| {
            let mut wire = deaf(&server);
            wire.send(&asked);
            wire
        })
        .collect();
    server.wait_for("stalled", |stats| stats.total["receive_paused"] >= 16);
    // Who holds nothing is served, at once or when there is memory again, and never closed.
    for shard in [0, 1] {
        let mut wire = server.greet_on(shard);
        wire.echoes();
        assert!(wire.request("$sys/echo", &[4; PAYLOAD_BYTES]).is_ok());
        wire.close();
    }
    drop(wires);
    let stats = server.wait_for("closed", |stats| stats.connections == 1);
    let lost = ["slow_consumer", "overloaded"].map(|why| stats.closed.get(why).unwrap_or(&0));
    assert!((1..=16).contains(&(lost[0] + lost[1])), "{stats:?}");
    server.end();
}

#[test]
fn a_shard_that_spins_before_it_sleeps_serves_the_same() {
    let mut server = Server::start(&["ring.busy_poll_us=200"]);
    let mut wires: Vec<Wire> = (0..8).map(|_| server.greet()).collect();
    for round in 0..500u32 {
        for wire in &mut wires {
            wire.ask(round, "$sys/echo", &round.to_be_bytes());
        }
        for wire in &mut wires {
            assert_eq!(wire.response(), (round, Ok(round.to_be_bytes().to_vec())));
        }
        if round % 50 == 0 {
            std::thread::sleep(Duration::from_millis(5)); // long enough to fall asleep
        }
    }
    for wire in wires {
        wire.close();
    }
    server.settle(&[("peer_close", 8)]);
    server.end();
}
