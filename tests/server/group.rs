//! GROUP (PROTOCOL.md, Operations: "GROUP").
//!
//! - of all members of (filter, group), one gets each message, whichever shards they are on
//! - the same group of another filter, another group, and no group are others
//! - every member gets a share; one that does not read is passed over and nothing is lost
//! - what a member had not been sent another gets when it ends

use crate::harness::{Server, each_placement};
use crate::peer::{Got, Manner, Peer, publish, subscribe};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Reads from all members until `count` messages came, and that there are no more; what each got.
fn gather(members: &mut [Peer], count: usize) -> Vec<Vec<Got>> {
    let mut got = vec![Vec::new(); members.len()];
    let end = Instant::now() + crate::wire::PATIENCE;
    while got.iter().map(Vec::len).sum::<usize>() < count {
        for (member, got) in members.iter_mut().zip(&mut got) {
            while let Some(next) = member.glance(Duration::from_millis(1)) {
                got.push(next);
            }
        }
        let sums: Vec<usize> = got.iter().map(Vec::len).collect();
        assert!(Instant::now() < end, "{sums:?} of {count} came");
    }
    members.iter_mut().for_each(Peer::quiet);
    got
}

/// Each of the numbers below `count` came once.
fn once_each(got: &[Vec<Got>], count: usize) {
    let numbers: Vec<usize> = got
        .iter()
        .flatten()
        .map(|got| got.text().parse().unwrap())
        .collect();
    assert_eq!(numbers.len(), count);
    let distinct: BTreeSet<usize> = numbers.into_iter().collect();
    assert_eq!(distinct, (0..count).collect());
}

fn publish_numbers(publisher: &mut Peer, topic: &str, count: usize) {
    for number in 0..count {
        publisher.publish(topic, number.to_string());
    }
}

#[test]
fn one_member_gets_each_message_and_every_member_some() {
    const COUNT: usize = 400;
    let server = Server::start(&[]);
    for shards in [[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 1, 1]] {
        for publishing in [0, 1] {
            let mut members = shards.map(|shard| server.peer(shard));
            for member in &mut members {
                member.ok(&subscribe("work/+").group("workers"));
            }
            let mut publisher = server.peer(publishing);
            publish_numbers(&mut publisher, "work/x", COUNT);
            let got = gather(&mut members, COUNT);
            once_each(&got, COUNT);
            let sums: Vec<usize> = got.iter().map(Vec::len).collect();
            println!("shares on shards {shards:?}, published on {publishing}: {sums:?}");
            // A quarter each would be a hundred.
            assert!(sums.iter().all(|&sum| sum >= 20), "{sums:?}");
            members.into_iter().for_each(Peer::close);
            publisher.close();
        }
    }
    server.end_beside_closes(&[]);
}

#[test]
fn groups_are_told_apart_by_filter_and_name_and_do_not_touch_plain_subscribers() {
    const COUNT: usize = 30;
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("x");
        let long = "g".repeat(64);
        let mut pairs = Vec::new();
        for (filter, group) in [
            (topic.as_str(), "g"),
            (&topic, "h"),
            (&topic, "G"),
            (&topic, &long),
            (&place.name("+"), "g"),
            (&place.name("#"), "g"),
        ] {
            let mut pair = [server.peer(place.a), server.peer(place.b)];
            for member in &mut pair {
                member.ok(&subscribe(filter).group(group));
            }
            pairs.push(pair);
        }
        let mut plain = [server.peer(place.a), server.peer(place.b)];
        plain.iter_mut().for_each(|peer| peer.subscribe(&topic));
        let mut publisher = server.peer(place.a);
        publish_numbers(&mut publisher, &topic, COUNT);
        for mut pair in pairs {
            once_each(&gather(&mut pair, COUNT), COUNT);
            pair.into_iter().for_each(Peer::close);
        }
        for mut peer in plain {
            for number in 0..COUNT {
                assert_eq!(peer.published().text(), number.to_string());
            }
            peer.quiet();
            peer.close();
        }
        publisher.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn a_member_alone_gets_everything_in_order() {
    const COUNT: usize = 200;
    let server = Server::start(&[]);
    each_placement(|place| {
        let topic = place.name("x");
        let mut member = server.peer(place.b);
        member.ok(&subscribe(&topic).group("alone"));
        let mut publisher = server.peer(place.a);
        publish_numbers(&mut publisher, &topic, COUNT);
        for number in 0..COUNT {
            assert_eq!(member.published().text(), number.to_string());
        }
        member.quiet();
        publisher.close();
        member.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn a_member_that_does_not_read_is_passed_over_and_nothing_is_lost() {
    const COUNT: usize = 1500;
    let server = Server::start(&[
        "limits.outbox_bytes_max=262144",
        "limits.message_bytes_max=131072",
    ]);
    each_placement(|place| {
        let topic = place.name("x");
        let mut stalled = server.peer_with(place.b, Manner::NARROW);
        let mut reading = [server.peer(place.a), server.peer(place.b)];
        for member in reading.iter_mut().chain([&mut stalled]) {
            member.ok(&subscribe(&topic).group("g"));
        }
        let mut publisher = server.peer(place.a);
        let mut got = Vec::new();
        // Their numbers, and more bytes than the stalled one's share of pipe and outbox holds.
        for number in 0..COUNT {
            let payload = format!("{number:>16000}");
            publisher.ok(&publish(&topic, payload));
            for member in &mut reading {
                got.extend(member.drain());
            }
        }
        println!(
            "{} of {COUNT} were read while one member did not",
            got.len()
        );
        while got.len() < COUNT {
            got.push(stalled.published());
        }
        let numbers: BTreeSet<usize> = got
            .iter()
            .map(|got| got.text().trim().parse().unwrap())
            .collect();
        assert_eq!((got.len(), numbers.len()), (COUNT, COUNT), "each once");
        // It is a member again now.
        let mut all: Vec<Peer> = reading.into_iter().chain([stalled]).collect();
        // As soon as the server has looked at what the kernel still held for it.
        loop {
            publish_numbers(&mut publisher, &topic, 100);
            let got = gather(&mut all, 100);
            once_each(&got, 100);
            if !got[2].is_empty() {
                break;
            }
        }
        all.into_iter().for_each(Peer::close);
        publisher.close();
    });
    server.end_beside_closes(&[]);
}

/// What its own machine has taken in is all that may be lost with a program that hangs.
#[test]
fn what_waits_for_a_member_that_hangs_another_gets_when_it_ends() {
    const COUNT: usize = 3000;
    const PAYLOAD_BYTES: usize = 500;
    // A narrow window, and what the kernel keeps beside it.
    const LOST_MAX: usize = 65_536 / PAYLOAD_BYTES;
    let server = Server::start(&["slow_consumer.policy=drop-oldest"]);
    each_placement(|place| {
        let topic = place.name("x");
        let mut hung = server.peer_with(place.b, Manner::NARROW);
        let mut reading = server.peer(place.a);
        for member in [&mut hung, &mut reading] {
            member.ok(&subscribe(&topic).group("g"));
        }
        let mut publisher = server.peer(place.a);
        let mut got = Vec::new();
        for first in (0..COUNT).step_by(100) {
            let ops: Vec<_> = (first..first + 100)
                .map(|number| publish(&topic, format!("{number:>PAYLOAD_BYTES$}")))
                .collect();
            let ids = publisher.start_all(&ops);
            for id in ids {
                assert_eq!(publisher.answer(), (id, Ok(())));
            }
            got.extend(reading.drain());
        }
        println!("{} of {COUNT} were read before the other ended", got.len());
        hung.reset();
        let end = Instant::now() + crate::wire::PATIENCE;
        while got.len() + LOST_MAX < COUNT {
            assert!(Instant::now() < end, "{} of {COUNT} came", got.len());
            got.extend(reading.glance(Duration::from_millis(10)));
        }
        got.extend(reading.drain());
        let numbers: BTreeSet<usize> = got
            .iter()
            .map(|got| got.text().trim().parse().unwrap())
            .collect();
        assert_eq!(numbers.len(), got.len(), "each once");
        publisher.close();
        reading.close();
    });
    server.end_beside_closes(&[("peer_reset", 4)]);
}
