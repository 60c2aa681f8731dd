//! What is charged is what is held: the account of each kind of memory that clients can make a
//! server hold, against the resident memory of its process, and zero when they have gone.
//!
//! Each case makes the server hold some 24 MB in its own way, on a server of its own: what an
//! allocator keeps of one would hide what the next takes. Bounds are those of the promise:
//! resident growth at most 1.3 times what is charged and a constant, the charge at most 1.1 times
//! the growth; the constant is what a shard's buffers, pools and the allocator may take beside.

use crate::harness::{Server, get};
use crate::peer::{Manner, PUBLISH, Peer, SERVE, op, publish, request, subscribe};
use crate::wire::PATIENCE;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// Of the two shards together.
const BESIDE: u64 = 2 * 16 * MIB;
/// What a case makes the server hold at least.
const HELD_MIN: u64 = 20 * MIB;
/// A payload that is shared by reference, and one that is copied.
const LARGE: usize = 100_000;
const SMALL: usize = 4_000;

const ROOM: &[&str] = &[
    "server.admin=127.0.0.1:0",
    "limits.message_bytes_max=1048576",
    "limits.outbox_bytes_max=67108864",
    "limits.outbox_bytes_shard_max=268435456",
    "limits.requests_open_max=1000",
    "session.buffer_bytes_max=67108864",
    "slow_consumer.policy=drop-oldest",
];

/// Bytes charged to clients on both shards, as the gauge had it last.
fn charged(server: &Server) -> u64 {
    let (status, metrics) = get(server.admin(), "/metrics");
    assert_eq!(status, 200);
    let gauge = metrics
        .lines()
        .filter(|line| line.starts_with("ringmail_memory_lent_bytes{"));
    let values = gauge.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.sum::<f64>() as u64
}

/// The charge, once it is as wanted and does not move any more.
fn settled(server: &Server, wanted: impl Fn(u64) -> bool) -> u64 {
    let end = Instant::now() + PATIENCE;
    let mut before = charged(server);
    loop {
        // The gauges are brought up to date once a second.
        std::thread::sleep(Duration::from_millis(1100));
        let now = charged(server);
        if now == before && wanted(now) {
            return now;
        }
        assert!(Instant::now() < end, "{now} bytes are charged");
        before = now;
    }
}

/// Has clients make a server hold memory, and compares.
fn compare(case: &str, hold: impl FnOnce(&Server) -> Vec<Peer>) {
    let mut server = Server::start(ROOM);
    server.stats();
    let before = server.resident_bytes();
    let peers = hold(&server);
    let charged_bytes = settled(&server, |charged| charged >= HELD_MIN);
    let grown = server.resident_bytes().saturating_sub(before);
    println!("{case}: {charged_bytes} bytes charged, {grown} more resident");
    assert!(
        grown <= charged_bytes * 13 / 10 + BESIDE,
        "{case}: {grown} bytes more are resident, {charged_bytes} charged"
    );
    assert!(
        charged_bytes <= grown * 11 / 10 + MIB,
        "{case}: {charged_bytes} bytes are charged, {grown} more resident"
    );
    drop(peers);
    server.wait_for("closed", |stats| stats.connections == 1);
    // A session that waits for its client keeps what waits for it.
    settled(&server, |charged| (charged == 0) == (case != "away"));
    server.end();
}

/// Bytes that the start has told as the most that clients make it take.
fn budget(server: &Server) -> u64 {
    let log = server.log();
    let line = log.lines().find(|line| line.contains("memory budget: "));
    let (_, sum) = line
        .expect("a budget")
        .rsplit_once(") = ")
        .expect("its sum");
    let mib: f64 = sum.split(' ').next().unwrap().parse().unwrap();
    (mib * MIB as f64) as u64
}

/// Far more is published than there is room for, to readers that take nothing.
#[test]
fn what_a_server_takes_is_within_the_budget_it_tells() {
    const READERS: u16 = 20;
    let server = Server::start(&[
        "limits.message_bytes_max=262144",
        "limits.connections_max=100",
        "limits.sessions_waiting_max=100",
        "limits.outbox_bytes_max=8388608",
        "limits.outbox_bytes_shard_max=16777216",
        "ring.buffers=256",
        "slow_consumer.policy=drop-oldest",
    ]);
    let (before, budget) = (server.resident_bytes(), budget(&server));
    let topic = |number: u16| format!("t/{number}");
    let readers: Vec<Peer> = (0..READERS)
        .map(|number| deaf(&server, number % 2, &topic(number)))
        .collect();
    let mut publishers = [server.peer(0), server.peer(1)];
    for round in 0..60 {
        for number in 0..READERS {
            let publisher = &mut publishers[usize::from(round + number) % 2];
            publisher.publish(&topic(number), [round as u8; LARGE]);
        }
    }
    let grown = server.peak_bytes().saturating_sub(before);
    println!("at most {grown} bytes more were resident, {budget} may be");
    assert!(grown > budget / 4, "{grown} of {budget}: it was not full");
    assert!(grown <= budget, "{grown} bytes more, {budget} may be");
    readers.into_iter().chain(publishers).for_each(Peer::reset);
    server.end();
}

fn deaf(server: &Server, shard: u16, filter: &str) -> Peer {
    let mut peer = server.peer_with(shard, Manner::NARROW);
    peer.ok(&subscribe(filter));
    peer
}

#[test]
fn messages_that_wait_for_one_reader_each() {
    compare("copied", |server| {
        let mut peers: Vec<Peer> = (0..4)
            .map(|number| deaf(server, number % 2, &format!("t/{number}")))
            .collect();
        let mut publisher = server.peer(0);
        for number in 0..10_000_u32 {
            publisher.publish(&format!("t/{}", number % 4), [number as u8; SMALL]);
        }
        peers.push(publisher);
        peers
    });
}

#[test]
fn messages_that_wait_for_many() {
    compare("shared", |server| {
        let mut peers: Vec<Peer> = (0..40)
            .map(|number| deaf(server, number % 2, "t"))
            .collect();
        let mut publisher = server.peer(0);
        // What the kernel takes for one is not charged; the others' copies are the same bytes.
        for number in 0..280_u32 {
            publisher.publish("t", [number as u8; LARGE]);
        }
        peers.push(publisher);
        peers
    });
}

#[test]
fn messages_of_which_only_a_part_has_come() {
    compare("received in part", |server| {
        (0..30_u16)
            .map(|number| {
                let mut peer = server.peer(number % 2);
                let whole = peer.framed(PUBLISH, &publish("t", vec![7; 1_000_000]).body());
                peer.write(&whole[..900_000]);
                peer
            })
            .collect()
    });
}

#[test]
fn requests_that_nobody_answers() {
    compare("requests", |server| {
        let mut serves = server.peer_with(0, Manner::NARROW);
        serves.ok(&op(SERVE, "s"));
        let mut peers: Vec<Peer> = (0..4).map(|number| server.peer(number % 2)).collect();
        for number in 0..280 {
            peers[number % 4].start(&request("s", [number as u8; LARGE]));
        }
        peers.push(serves);
        peers
    });
}

#[test]
fn messages_for_sessions_that_are_away() {
    compare("away", |server| {
        let mut publisher = server.peer(0);
        for number in 0..4_u16 {
            let mut peer = server.peer(number % 2);
            peer.new_session();
            peer.ok(&subscribe(format!("t/{number}")));
            peer.shut();
        }
        for number in 0..7_000_u32 {
            publisher.publish(&format!("t/{}", number % 4), [number as u8; SMALL]);
        }
        vec![publisher]
    });
}
