//! Topics and filters (PROTOCOL.md, Topics and filters).
//!
//! - `+` stands for one level, a final `#` for any number, zero included
//! - at most 255 bytes and 32 levels, no U+0000–U+001F: else BAD_NAME
//! - a level may be empty, and is a level like others
//! - both wildcards stand alone in their level, `#` only at the end: else BAD_NAME
//! - a topic has no wildcards
//! - clients cannot publish under `$`: FORBIDDEN, for PUBLISH and WILL; `$` elsewhere is a
//!   character like any other
//! - a filter that begins with a wildcard does not match `$` names: tried in `service.rs`,
//!   where a client can ask for such a name

use crate::harness::{Server, each_placement};
use crate::peer::{Peer, SERVE, UNSUBSCRIBE, WILL, code, op, publish, request, subscribe};
use std::collections::BTreeSet;

/// The rule, once more and in another way than the server's: level by level from the end.
fn matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        ([rest @ .., "#"], _) => (0..=topic.len()).any(|count| matches(rest, &topic[..count])),
        ([rest @ .., wanted], [before @ .., level]) => {
            (wanted == level || *wanted == "+") && matches(rest, before)
        }
        (filter, topic) => filter.is_empty() && topic.is_empty(),
    }
}

fn split(name: &str) -> Vec<&str> {
    name.split('/').collect()
}

/// Publishes all `topics` and holds what one subscription of each filter gets to `expected`.
fn compare(
    publisher: &mut Peer,
    subscriber: &mut Peer,
    filters: &[String],
    topics: &[String],
    expected: impl Fn(&str, &str) -> bool,
) {
    let all: Vec<_> = topics.iter().map(|topic| publish(topic, "")).collect();
    for filter in filters {
        subscriber.subscribe(filter);
        for id in publisher.start_all(&all) {
            assert_eq!(publisher.answer(), (id, Ok(())));
        }
        let queued = subscriber.drain();
        let got: Vec<&str> = queued.iter().map(|got| got.name()).collect();
        let wanted: Vec<&str> = topics
            .iter()
            .map(String::as_str)
            .filter(|topic| expected(filter, topic))
            .collect();
        let sorted = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(sorted(&got), sorted(&wanted), "filter {filter:?}");
        assert_eq!(got.len(), wanted.len(), "filter {filter:?}, once each");
        subscriber.ok(&op(UNSUBSCRIBE, filter));
    }
}

#[test]
fn plus_is_one_level_and_a_final_hash_any_number() {
    const TABLE: &[(&str, &[&str], &[&str])] = &[
        ("a", &["a"], &["b", "a/b", "A", "aa"]),
        ("a/b", &["a/b"], &["a", "a/b/c", "a/c", "b/a"]),
        ("+", &["a", "b"], &["a/b"]),
        ("+/b", &["a/b", "b/b"], &["b", "a/c", "a/b/b"]),
        ("a/+", &["a/b", "a/$x"], &["a", "a/b/c"]),
        ("a/+/c", &["a/b/c", "a/c/c"], &["a/c", "a/b/c/c", "a/b/b/c"]),
        ("+/+", &["a/b"], &["a", "a/b/c"]),
        ("#", &["a", "a/b", "a/b/c/d/e"], &[]),
        ("a/#", &["a", "a/b", "a/b/c"], &["b", "aa", "b/a"]),
        ("a/b/#", &["a/b", "a/b/c", "a/b/c/d"], &["a", "a/c/b"]),
        ("+/#", &["a", "a/b", "a/b/c"], &[]),
        ("+/b/#", &["a/b", "c/b/x/y"], &["a", "b", "a/c/b"]),
        ("a/+/#", &["a/b", "a/b/c"], &["a", "b/a"]),
        ("/", &["/"], &["a", "/a", "//"]),
        ("/a", &["/a"], &["a", "a/", "//a"]),
        ("+", &["a"], &["/", "/a", "a/"]),
        ("+/+", &["/", "/a", "a/", "a/b"], &["a", "//"]),
        ("/+", &["/", "/a"], &["a", "a/", "a/a"]),
        ("a/+/b", &["a//b", "a/x/b"], &["a/b"]),
        ("a/#", &["a", "a/", "a//", "a//b"], &["/a", "/"]),
        ("/#", &["/", "//", "/a", "/a/b"], &["a", "a/"]),
        ("a//#", &["a/", "a//", "a//b"], &["a", "a/b"]),
    ];
    for (filter, yes, no) in TABLE {
        assert!(
            yes.iter()
                .all(|topic| matches(&split(filter), &split(topic)))
        );
        assert!(
            !no.iter()
                .any(|topic| matches(&split(filter), &split(topic)))
        );
    }
    let server = Server::start(&[]);
    each_placement(|place| {
        let mut subscriber = server.peer(place.b);
        let mut publisher = server.peer(place.a);
        for (filter, yes, no) in TABLE {
            let topics: Vec<String> = yes.iter().chain(*no).map(|t| t.to_string()).collect();
            let expected = |_: &str, topic: &str| yes.contains(&topic);
            let filters = [filter.to_string()];
            compare(&mut publisher, &mut subscriber, &filters, &topics, expected);
        }
        publisher.close();
        subscriber.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn names_that_are_none_are_refused() {
    let deep = vec!["a"; 33].join("/");
    let hollow = "/".repeat(32);
    let both = ["", "a\0b", "a/\u{1f}", "\n", &deep, &hollow];
    let topics = ["+", "#", "a/+", "a/#", "a/+/b"];
    let filters = [
        "#/a", "#/", "a/#/b", "a#", "a/b#", "+a", "a/b+", "a/+b/c", "##", "++", "a/##",
    ];
    let mut cases = Vec::new();
    cases.extend(both.iter().chain(&topics).map(|name| publish(name, "x")));
    cases.extend(both.iter().chain(&filters).map(subscribe));
    cases.extend(both.iter().chain(&filters).map(|name| op(SERVE, name)));
    // An empty name withdraws a will.
    cases.extend(both[1..].iter().chain(&topics).map(|name| op(WILL, name)));
    let server = Server::start(&[]);
    // Ten mistakes in a second are forgiven, more are not.
    for (cases, shard) in cases.chunks(9).zip([0, 1].into_iter().cycle()) {
        let mut peer = server.peer(shard);
        for case in cases {
            assert_eq!(
                peer.refused(case),
                code::BAD_NAME,
                "{:?}",
                case.body().escape_ascii().to_string()
            );
        }
        peer.close();
    }
    let mut peer = server.peer(0);
    for name in both.iter().chain(&topics) {
        let id = peer.start(&request(name, "x"));
        assert_eq!(peer.responded(id), Err(code::BAD_NAME), "{name:?}");
    }
    peer.close();
    server.end_beside_closes(&[]);
}

#[test]
fn names_may_have_255_bytes_and_32_levels() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let mut subscriber = server.peer(place.b);
        let mut publisher = server.peer(place.a);
        let levels = vec!["a"; 32].join("/");
        let wild = vec!["+"; 32].join("/");
        let tail = format!("{}/#", vec!["a"; 31].join("/"));
        let long = "é".repeat(127) + "x";
        assert_eq!(long.len(), 255);
        let hollow = "/".repeat(31);
        let odd = " a\u{7f}\"\\%/~ *.>/💡".to_owned();
        for (filter, topic) in [
            (&levels, &levels),
            (&wild, &levels),
            (&tail, &levels),
            (&long, &long),
            (&odd, &odd),
            (&hollow, &hollow),
            (&wild, &hollow),
        ] {
            subscriber.subscribe(filter);
            publisher.publish(topic, "x");
            assert_eq!(subscriber.published().name(), topic);
            subscriber.ok(&op(UNSUBSCRIBE, filter));
        }
        subscriber.quiet();
        publisher.close();
        subscriber.close();
    });
    server.end_beside_closes(&[]);
}

#[test]
fn clients_cannot_publish_under_a_dollar() {
    let server = Server::start(&[]);
    each_placement(|place| {
        let mut watcher = server.peer(place.b);
        for filter in ["#", "$sys/#", "$own/+", "+/x"] {
            watcher.subscribe(filter);
        }
        let mut peer = server.peer(place.a);
        for topic in ["$sys/x", "$own/x", "$", "$a"] {
            assert_eq!(peer.refused(&publish(topic, "x")), code::FORBIDDEN);
            assert_eq!(peer.refused(&op(WILL, topic)), code::FORBIDDEN);
        }
        // Only the beginning counts.
        peer.publish("a/$sys/x$", "x");
        assert_eq!(watcher.published().name(), "a/$sys/x$");
        watcher.quiet();
        peer.cut();
        watcher.quiet();
        watcher.close();
    });
    server.end_beside_closes(&[("peer_eof", 4)]);
}
