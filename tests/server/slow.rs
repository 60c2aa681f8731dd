//! Consumers that read more slowly than others publish (PROTOCOL.md, headers: SLOW_POLICY;
//! Codes: SLOW_CONSUMER).
//!
//! - disconnect: SLOW_CONSUMER, fatal
//! - drop oldest: the latest are there; drop newest: the first are there; latest per key: the
//!   latest of each topic and KEY, or each topic, is there. What comes is in order, what does not is counted
//! - a policy may be the server's default or a subscription's own; 0 is the server's
//! - it is named in the counters and in the log
//! - publisher and other subscribers notice nothing

use crate::harness::{Place, Server, each_placement};
use crate::peer::{
    ERROR, Got, KEY, Manner, Op, Peer, SLOW_POLICY, WILL, code, op, publish, subscribe,
};

const DISCONNECT: u8 = 1;
const OLDEST: u8 = 2;
const NEWEST: u8 = 3;
const LATEST: u8 = 4;

/// Messages of a trial, and their bytes: several times what the kernel holds for a peer.
const COUNT: u32 = 3000;
const BYTES: usize = 4000;

fn start(policy: &str) -> Server {
    let policy = format!("slow_consumer.policy={policy}");
    Server::start(&[
        &policy,
        "limits.outbox_bytes_max=131072",
        "limits.message_bytes_max=65536",
    ])
}

fn numbered(topic: &str, number: u32) -> Op {
    let mut payload = vec![number as u8; BYTES];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    publish(topic, payload)
}

fn number(got: &Got) -> u32 {
    let payload = got.payload();
    assert!(payload[4..].iter().all(|&byte| byte == payload[3]));
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

/// A subscriber that does not read yet, and one that reads.
struct Trial {
    topic: String,
    slow: Peer,
    fast: Peer,
    publisher: Peer,
}

impl Trial {
    fn begin(server: &Server, place: Place, policy: Option<u8>) -> Trial {
        let topic = place.name("t");
        let mut slow = server.peer_with(place.b, Manner::NARROW);
        let wanted = subscribe(place.name("#"));
        slow.ok(&match policy {
            Some(policy) => wanted.header(SLOW_POLICY, [policy]),
            None => wanted,
        });
        let mut fast = server.peer(place.b);
        fast.subscribe(&place.name("#"));
        let publisher = server.peer(place.a);
        Trial {
            topic,
            slow,
            fast,
            publisher,
        }
    }

    /// Publishes all, confirmed one by one, while the fast one reads, and misses nothing.
    fn flood(&mut self, message: impl Fn(u32) -> Op) {
        for number in 0..COUNT {
            self.publisher.ok(&message(number));
            assert_eq!(self::number(&self.fast.published()), number);
        }
    }

    /// What the slow one gets of it when it reads at last. Behind it comes a message that
    /// finds room again.
    fn read_at_last(&mut self) -> Vec<Got> {
        let mut got = self.slow.drain();
        let end = publish(&self.topic, "end").header(KEY, "the end's own");
        self.publisher.ok(&end);
        assert_eq!(self.fast.published().text(), "end");
        loop {
            let next = self.slow.published();
            if next.payload() == b"end" {
                break;
            }
            got.push(next);
        }
        self.slow.quiet();
        got
    }

    fn end(self) {
        for peer in [self.slow, self.fast, self.publisher] {
            peer.close();
        }
    }
}

fn rises(numbers: &[u32]) {
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

/// What each policy but disconnect promises of what came.
fn check(policy: u8, got: &[Got]) {
    let numbers: Vec<u32> = got.iter().map(number).collect();
    assert!(numbers.len() < COUNT as usize, "the slow one was not slow");
    rises(&numbers);
    match policy {
        OLDEST => assert_eq!(numbers.last(), Some(&(COUNT - 1)), "the latest is there"),
        _ => {
            let missing = (0..).zip(&numbers).position(|(i, &number)| i != number);
            // Several hundreds fit into kernel and outbox before the first is dropped.
            let first = missing.unwrap_or(numbers.len());
            assert!(first > 20, "the first {first} are there");
        }
    }
}

#[test]
fn drop_oldest_keeps_the_latest_and_drop_newest_the_first_as_the_servers_policy_or_ones_own() {
    // The server's policy, the subscription's, what counts, and the counter.
    let cases = [
        ("drop-oldest", None, OLDEST, "slow_dropped_oldest"),
        ("drop-newest", Some(0), NEWEST, "slow_dropped_newest"),
        ("disconnect", Some(OLDEST), OLDEST, "slow_dropped_oldest"),
        ("drop-oldest", Some(NEWEST), NEWEST, "slow_dropped_newest"),
    ];
    for (i, (default, own, policy, counter)) in cases.into_iter().enumerate() {
        let mut server = start(default);
        let mut missing = 0;
        each_placement(|place| {
            // Each case on two placements: same and other shard.
            if usize::from(place.b) != i % 2 {
                return;
            }
            let mut trial = Trial::begin(&server, place, own);
            let topic = trial.topic.clone();
            trial.flood(|number| numbered(&topic, number));
            let got = trial.read_at_last();
            check(policy, &got);
            missing += u64::from(COUNT) - got.len() as u64;
            trial.end();
        });
        let stats = server.settle_beside_closes(&[]);
        for name in [
            "slow_dropped_oldest",
            "slow_dropped_newest",
            "slow_replaced",
        ] {
            let expected = if name == counter { missing } else { 0 };
            assert_eq!(stats.total[name], expected, "{name}");
        }
        let policy = counter.replace("slow_dropped_", "drop-");
        assert_eq!(told(&server, &policy), 2, "log:\n{}", server.log());
        server.end();
    }
}

/// How often the log says that this policy began to act.
pub fn told(server: &Server, policy: &str) -> usize {
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("slow consumer"));
    lines.filter(|line| line.contains(policy)).count()
}

#[test]
fn latest_per_key_keeps_the_latest_of_each_topic_and_key() {
    const KEYS: u32 = 7;
    /// What makes the seven differ.
    #[derive(Clone, Copy)]
    enum By {
        Key,
        Topic,
        /// All topics have the same KEY.
        TopicOfOneKey,
        /// A KEY reads like another's topic, and one is empty where another has none.
        Likeness,
    }
    for (default, own, by) in [
        ("latest-per-key", None, By::Key),
        ("disconnect", Some(LATEST), By::Topic),
        ("disconnect", Some(LATEST), By::TopicOfOneKey),
        ("disconnect", Some(LATEST), By::Likeness),
    ] {
        let mut server = start(default);
        let mut missing = 0;
        each_placement(|place| {
            let mut trial = Trial::begin(&server, place, own);
            let topic = trial.topic.clone();
            trial.flood(|number| {
                let of = |key: u32| place.name(&format!("{key}"));
                match (by, number % KEYS) {
                    (By::Key, key) => numbered(&topic, number).header(KEY, [b'k', key as u8]),
                    (By::Topic, key) => numbered(&of(key), number),
                    (By::TopicOfOneKey, key) => numbered(&of(key), number).header(KEY, b"k"),
                    (By::Likeness, key @ (0 | 2 | 4)) => numbered(&of(key), number),
                    (By::Likeness, 6) => numbered(&of(4), number).header(KEY, b""),
                    (By::Likeness, key) => {
                        numbered(&of(key), number).header(KEY, of(key - 1).as_bytes())
                    }
                }
            });
            let got = trial.read_at_last();
            assert!(got.len() < COUNT as usize, "the slow one was not slow");
            for key in 0..KEYS {
                let of_key = got.iter().map(number).filter(|number| number % KEYS == key);
                let numbers: Vec<u32> = of_key.collect();
                rises(&numbers);
                let latest = (COUNT - KEYS..COUNT).find(|number| number % KEYS == key);
                assert_eq!(numbers.last().copied(), latest, "key {key}");
            }
            missing += u64::from(COUNT) - got.len() as u64;
            trial.end();
        });
        let stats = server.settle_beside_closes(&[]);
        assert_eq!(stats.total["slow_replaced"], missing, "{stats:#?}");
        server.end();
    }
}

#[test]
fn under_disconnect_a_slow_consumer_is_told_and_ended_and_nobody_else() {
    for (default, own) in [("disconnect", None), ("drop-newest", Some(DISCONNECT))] {
        let server = start(default);
        let mut ended = 0;
        each_placement(|place| {
            let mut trial = Trial::begin(&server, place, own);
            let topic = trial.topic.clone();
            let will = format!("wills/{}{}", place.a, place.b);
            trial.slow.ok(&op(WILL, &will).payload("too slow"));
            let mut watcher = server.peer(place.a);
            watcher.subscribe(&will);
            let mut next = 0;
            while told(&server, "disconnect") == ended {
                assert!(next < 40_000, "never too slow");
                trial.publisher.ok(&numbered(&topic, next));
                assert_eq!(number(&trial.fast.published()), next);
                next += 1;
            }
            ended += 1;
            let mut expected = 0;
            loop {
                let got = trial.slow.read().expect("an ERROR before the end");
                if got.kind == ERROR {
                    assert_eq!((got.u16(0), got.body[6]), (code::SLOW_CONSUMER, 1));
                    break;
                }
                assert_eq!(number(&got), expected, "no gap before the end");
                expected += 1;
            }
            trial.slow.ended();
            // An end without CLOSE, as others see it too; and the others go on.
            assert_eq!(watcher.published().text(), "too slow");
            trial.publisher.publish(&topic, "end");
            assert_eq!(trial.fast.published().text(), "end");
            for peer in [trial.fast, trial.publisher, watcher] {
                peer.close();
            }
        });
        server.end_beside_closes(&[("slow_consumer", 4)]);
    }
}
