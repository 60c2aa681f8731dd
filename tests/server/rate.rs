//! Addresses and rates (R4): who may come at all, how many, and how much one may send.

use crate::harness::{Server, command_at};
use crate::peer::{Peer, code, control_frame, publish, request};
use crate::wire::PATIENCE;
use ringmail::proto::error::Code;
use ringmail::proto::frame::FrameType;
use std::net::TcpListener;
use std::time::Instant;

fn turned_away(server: &Server, expected: Code) {
    let mut wire = server.connect();
    wire.send(&control_frame(1, 7, &[]));
    wire.expect_rst(expected);
}

#[test]
fn what_a_connection_sends_beyond_its_rate_is_refused_and_later_taken_again() {
    let server = Server::start(&["rate.messages_per_s=20", "rate.message_burst=5"]);
    let mut peer = server.peer(0);
    let all: Vec<_> = (0..6).map(|_| publish("a", "")).collect();
    let ids = peer.start_all(&all);
    for &id in &ids[..5] {
        assert_eq!(peer.answer(), (id, Ok(())));
    }
    assert_eq!(peer.answer(), (ids[5], Err(code::RATE_LIMITED)));
    // The pause has let the bucket fill: 250 ms are five messages.
    for _ in 0..5 {
        peer.ok(&publish("a", ""));
    }
    // Whatever is left in the bucket, it is not enough for one more than it holds.
    let again = peer.start_all(&vec![request("$sys/echo", "x"); 6]);
    let refused = again.into_iter().filter_map(|id| peer.responded(id).err());
    let refused: Vec<_> = refused.collect();
    assert!(refused.contains(&code::RATE_LIMITED), "{refused:?}");
    peer.close();
    server.end_beside_closes(&[]);
}

#[test]
fn heartbeats_do_not_count() {
    let server = Server::start(&["rate.messages_per_s=1"]);
    let mut peer = server.peer(1);
    for _ in 0..50 {
        peer.send(0x01, b"there?");
        assert_eq!(peer.read().unwrap().body, b"there?");
    }
    peer.ok(&publish("a", ""));
    peer.close();
    server.end_beside_closes(&[]);
}

#[test]
fn bytes_count_too_and_a_message_larger_than_the_bucket_goes_once() {
    let server = Server::start(&["rate.bytes_per_s=100000"]);
    let mut peer = server.peer(0);
    let ids = peer.start_all(&[
        publish("a", vec![0; 300_000]),
        publish("a", vec![0; 60_000]),
    ]);
    assert_eq!(peer.answer(), (ids[0], Ok(())));
    assert_eq!(peer.answer(), (ids[1], Err(code::RATE_LIMITED)));
    // What it owes has flowed in after the pause, and it is read again.
    peer.ok(&publish("a", vec![0; 1000]));
    peer.close();
    server.end_beside_closes(&[]);
}

#[test]
fn denied_addresses_are_turned_away_and_allowed_ones_come() {
    for (settings, comes) in [
        (&["access.deny=[\"127.0.0.0/8\"]"][..], false),
        (&["access.allow=[\"192.0.2.0/24\"]"], false),
        (&["access.allow=[\"127.0.0.1\"]"], true),
        (
            &[
                "access.allow=[\"127.0.0.0/8\"]",
                "access.deny=[\"127.0.0.1\"]",
            ],
            false,
        ),
    ] {
        let server = Server::start(settings);
        if comes {
            server.peer(0).close();
        } else {
            turned_away(&server, Code::AddressDenied);
        }
        server.end();
    }
}

/// A server of each kind of address that this host has.
fn of_each_kind(settings: &[&str], rule: impl Fn(Server)) {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        if TcpListener::bind(listen).is_err() {
            println!("skipped: this host has no {listen}");
            continue;
        }
        println!("at {listen}");
        let program = env!("CARGO_BIN_EXE_ringmail");
        rule(Server::spawn(&mut command_at(
            listen,
            program,
            &[],
            settings,
        )));
    }
}

/// One limit for all shards together.
#[test]
fn an_address_has_so_many_connections_on_all_shards_together() {
    of_each_kind(&["limits.connections_per_ip_max=4"], |server| {
        let join = || Peer::join(server.address, Default::default(), None);
        let mut peers: Vec<Peer> = (0..4).map(|_| join()).collect();
        turned_away(&server, Code::TooManyConnections);
        // One that goes makes room for one, as soon as the server has seen it go.
        peers.pop().unwrap().close();
        let end = Instant::now() + PATIENCE;
        loop {
            let mut wire = server.connect();
            wire.send(&control_frame(1, 7, &[]));
            match wire.frame().expect("a frame").kind {
                FrameType::SynAck => break,
                _ => assert!(Instant::now() < end, "no room"),
            }
        }
        for peer in peers {
            peer.close();
        }
        server.end();
    });
}

#[test]
fn an_address_connects_so_often_in_a_second() {
    of_each_kind(&["rate.connects_per_s_per_ip=2"], |server| {
        let mut refused = 0;
        for _ in 0..8 {
            let mut wire = server.connect();
            wire.send(&control_frame(1, 7, &[]));
            let frame = wire.frame().expect("a frame");
            refused += u32::from(frame.kind == FrameType::Rst);
        }
        assert!(refused >= 1, "8 connections, none refused");
        server.end();
    });
}
