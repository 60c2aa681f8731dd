//! EXPIRES_MS (PROTOCOL.md §2, headers: "drop undelivered after").
//!
//! - a message that waits for a slow reader longer than that is dropped, and only that one
//! - a retained message is not delivered after it

use crate::harness::{Server, each_placement};
use crate::peer::{EXPIRES_MS, Manner, Op, publish};
use std::time::Duration;

fn expiring(topic: &str, payload: impl AsRef<[u8]>, after_ms: u32) -> Op {
    publish(topic, payload).header(EXPIRES_MS, after_ms.to_be_bytes())
}

#[test]
fn a_message_that_waits_too_long_for_a_slow_reader_is_dropped() {
    let server = Server::start(&["limits.outbox_bytes_max=67108864"]);
    each_placement(|place| {
        let topic = place.name("t");
        let mut slow = server.peer_with(place.b, Manner::NARROW);
        slow.subscribe(&topic);
        let mut publisher = server.peer(place.a);
        // More than the kernel takes for a peer that does not read.
        const BACKLOG: usize = 200;
        for _ in 0..BACKLOG {
            publisher.publish(&topic, vec![b'.'; 60_000]);
        }
        publisher.ok(&expiring(&topic, "expired", 50));
        publisher.ok(&expiring(&topic, "in time", 120_000));
        std::thread::sleep(Duration::from_millis(300));
        publisher.publish(&topic, "last");
        for _ in 0..BACKLOG {
            assert_eq!(slow.published().payload().len(), 60_000);
        }
        assert_eq!(slow.published().text(), "in time");
        assert_eq!(slow.published().text(), "last");
        slow.quiet();
        publisher.close();
        slow.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn a_retained_message_is_not_delivered_when_its_time_is_over() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let (short, long) = (place.name("short"), place.name("long"));
        let mut publisher = server.peer(place.a);
        publisher.ok(&expiring(&long, "long", 120_000).retain());
        publisher.ok(&expiring(&short, "short", 50).retain());
        std::thread::sleep(Duration::from_millis(300));
        let mut subscriber = server.peer(place.b);
        subscriber.subscribe(&place.name("+"));
        assert_eq!(subscriber.published().text(), "long");
        subscriber.quiet();
        publisher.close();
        subscriber.close();
    });
    server.end_beside_closes(&[]);
}
