//! The router against a naive model: a list of subscriptions, matched one by one with
//! `proto::name::matches`.

use super::*;
use crate::proto::envelope::{Codec, SlowPolicy};
use crate::proto::name::{check_filter, check_topic, matches};
use fastrand::Rng;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const OWN: ShardId = ShardId(0);
const OTHER: ShardId = ShardId(1);
const FAR: ShardId = ShardId(70);

fn connection(slot: u32) -> Key {
    Key {
        slot,
        generation: slot % 3,
    }
}

fn subscription(slot: u32) -> Subscription {
    Subscription {
        connection: connection(slot),
        policy: None,
        codec: Codec::Bytes,
    }
}

fn idle(_: Key) -> u32 {
    0
}

const fn tell(total: u32, ready: u32) -> Change {
    Change::Tell(Count { total, ready })
}

pub(super) fn found(router: &Router, topic: &str) -> Matches {
    let mut matches = Matches::new();
    assert!(router.find(topic, &mut matches, usize::MAX));
    matches
}

fn local(router: &Router, topic: &str) -> Vec<u32> {
    let local = found(router, topic).local;
    local.iter().map(|member| member.connection.slot).collect()
}

/// Checks that nothing is left behind.
pub(super) fn assert_nothing_is_left(router: &Router) {
    let (topic_nodes, topic_memory) = router.topics.check_invariants();
    let (service_nodes, service_memory) = router.services.check_invariants();
    assert_eq!((topic_nodes, service_nodes), (1, 1), "the roots");
    assert_eq!(router.topics.len() + router.services.len(), 0);
    assert_eq!(router.groups.len(), 0);
    // The root's page, and at most one empty page each of nodes and of values.
    assert!(topic_memory <= 768 && service_memory <= 768);
}

#[test]
fn wildcards_match_as_the_protocol_says() {
    let mut router = Router::new(OWN);
    let filters = [
        "#", "+", "a/#", "a/+", "+/b", "a/b", "+/#", "a/+/#", "$sys/#", "a",
    ];
    for (slot, filter) in (0..).zip(filters) {
        router.subscribe(filter, None, subscription(slot));
    }
    for topic in [
        "a",
        "b",
        "a/b",
        "a/b/c",
        "c/b",
        "$sys",
        "$sys/time",
        "$sys/b",
        "a/$b",
    ] {
        let wanted: BTreeSet<u32> = (0..)
            .zip(filters)
            .filter(|(_, filter)| matches(filter, topic))
            .map(|(slot, _)| slot)
            .collect();
        let found: BTreeSet<u32> = local(&router, topic).into_iter().collect();
        assert_eq!(found, wanted, "{topic}");
    }
}

#[test]
fn a_filter_given_twice_replaces_the_first_and_changes_nothing_for_others() {
    let mut router = Router::new(OWN);
    let first = router.subscribe("a/+", None, subscription(1));
    assert_eq!((first.change, first.new), (tell(1, 1), true));
    let json = Subscription {
        codec: Codec::Json,
        policy: Some(SlowPolicy::DropOldest),
        ..subscription(1)
    };
    let second = router.subscribe("a/+", None, json);
    assert_eq!((second.change, second.new), (Change::None, false));
    assert_eq!(second.filter, first.filter);
    assert_eq!(found(&router, "a/b").local, [json]);
    let third = router.subscribe("a/+", None, subscription(2));
    assert_eq!((third.change, third.new), (Change::None, true));

    let none = router.unsubscribe("a/+", None, connection(3));
    assert_eq!(none, None);
    let other_filter = router.unsubscribe("a/b", None, connection(1));
    assert_eq!(other_filter, None);
    let other_group = router.unsubscribe("a/+", Some(b"g"), connection(1));
    assert_eq!(other_group, None);
    let left = router.unsubscribe("a/+", None, connection(1));
    assert_eq!(left, Some((Change::None, None)));
    let last = router.unsubscribe_id(third.filter, None, connection(2));
    assert_eq!(last, Some((tell(0, 0), None)));
    assert_nothing_is_left(&router);
}

#[test]
fn a_filter_reads_back_from_its_id() {
    let mut router = Router::new(OWN);
    let long = "x/".repeat(20) + &"y".repeat(100);
    for filter in [
        "#",
        "+",
        "a",
        "a/b/c",
        "+/b/#",
        "a/+/+/ü",
        &long,
        &format!("{long}/#"),
    ] {
        let id = router.subscribe(filter, None, subscription(1)).filter;
        let mut text = String::new();
        router.filter_name(id, &mut text);
        assert_eq!(text, filter);
        let id = router.serve(filter, connection(1)).filter;
        text.clear();
        router.service_name(id, &mut text);
        assert_eq!(text, filter);
    }
}

#[test]
fn other_shards_are_bits_near_and_far() {
    let mut router = Router::new(OWN);
    let some = Count { total: 1, ready: 1 };
    let none = Count::default();
    for shard in [OTHER, FAR] {
        router.note(shard, "a/+", None, some);
        router.note(shard, "a/+", None, some);
    }
    router.note(FAR, "a/#", None, some);
    router.note(OTHER, "x", None, none);
    let matches = found(&router, "a/b");
    assert!(matches.elsewhere.shards.iter().eq([OTHER, FAR]) && matches.local.is_empty());
    router.note(FAR, "a/+", None, none);
    assert!(
        found(&router, "a/b")
            .elsewhere
            .shards
            .iter()
            .eq([OTHER, FAR])
    );
    router.note(FAR, "a/#", None, none);
    assert!(found(&router, "a/b").elsewhere.shards.iter().eq([OTHER]));
    router.note(OTHER, "a/+", None, none);
    assert_nothing_is_left(&router);
}

/// So that whoever publishes knows about how much that makes elsewhere.
#[test]
fn others_are_told_about_how_many_subscribe_to_a_filter() {
    let mut router = Router::new(OWN);
    let mut told = Vec::new();
    let mut note = |count: u32, change| {
        if let Change::Tell(Count { total, .. }) = change {
            told.push((count, total));
        }
    };
    for count in 1..=100 {
        note(
            count,
            router.subscribe("t", None, subscription(count)).change,
        );
    }
    for count in (0..100).rev() {
        let left = router.unsubscribe("t", None, connection(count + 1));
        note(count, left.unwrap().0);
    }
    let up = [(1, 1), (16, 16), (32, 32), (64, 64)];
    let down = [(31, 16), (7, 1), (0, 0)];
    assert_eq!(told, [&up[..], &down].concat());

    let note = |router: &mut Router, shard, filter, total| {
        let ready = total;
        router.note(shard, filter, None, Count { total, ready });
    };
    note(&mut router, OTHER, "t/+", 64);
    note(&mut router, OTHER, "t/+", 32);
    note(&mut router, OTHER, "t/x", 1);
    note(&mut router, FAR, "t/+", 16);
    let elsewhere = found(&router, "t/x").elsewhere;
    let counts = [OTHER, FAR].map(|shard| elsewhere.subscribers_at(shard));
    assert_eq!(counts, [2 + 32, 2 + 16]);
    for (shard, filter) in [(OTHER, "t/+"), (OTHER, "t/x"), (FAR, "t/+")] {
        note(&mut router, shard, filter, 0);
    }
    assert_nothing_is_left(&router);
}

#[test]
fn a_group_reports_each_change_of_its_members() {
    let mut router = Router::new(OWN);
    let joined = router.subscribe("a/+", Some(b"g"), subscription(1));
    let group = joined.group.unwrap();
    assert_eq!((joined.change, joined.new), (tell(1, 1), true));
    let again = router.subscribe("a/+", Some(b"g"), subscription(1));
    assert_eq!((again.change, again.new), (Change::None, false));
    assert_eq!(again.group, Some(group));
    let second = router.subscribe("a/+", Some(b"g"), subscription(2));
    assert_eq!((second.change, second.group), (tell(2, 2), Some(group)));
    let other = router.subscribe("a/+", Some(b"h"), subscription(1));
    assert_ne!(other.group, Some(group));
    assert_eq!(router.group_name(group), Some(("a/+", &b"g"[..])));

    let stall =
        |router: &mut Router, slot, stalled| router.set_stalled(group, connection(slot), stalled);
    assert_eq!(stall(&mut router, 1, true), tell(2, 1));
    assert_eq!(stall(&mut router, 1, true), Change::None);
    assert_eq!(stall(&mut router, 3, true), Change::None);
    assert_eq!(stall(&mut router, 2, true), tell(2, 0));
    assert_eq!(stall(&mut router, 1, false), tell(2, 1));

    // A plain subscription to the same filter is independent of the group.
    router.subscribe("a/+", None, subscription(1));
    let left = router.unsubscribe("a/+", Some(b"g"), connection(2));
    assert_eq!(left, Some((tell(1, 1), Some(group))));
    let left = router.unsubscribe("a/+", Some(b"g"), connection(1));
    assert_eq!(left, Some((tell(0, 0), Some(group))));
    assert_eq!(router.group_name(group), None, "the number is past");
    assert_eq!(router.unsubscribe("a/+", Some(b"g"), connection(1)), None);
    let joined = router.subscribe("a/+", Some(b"g"), subscription(1));
    assert_ne!(joined.group, Some(group), "and not given again");

    for name in [Some(&b"g"[..]), Some(b"h"), None] {
        assert!(router.unsubscribe("a/+", name, connection(1)).is_some());
    }
    assert_nothing_is_left(&router);
}

#[test]
fn groups_are_found_in_the_order_of_their_names() {
    let mut router = Router::new(OWN);
    for (slot, name) in (0..).zip([&b"m"[..], b"a", b"z", b"aa", b""]) {
        router.subscribe("t", Some(name), subscription(slot));
    }
    let groups = found(&router, "t").groups;
    let names = groups.iter().map(|key| router.group_name(*key).unwrap().1);
    assert!(names.eq([&b""[..], b"a", b"aa", b"m", b"z"]));
}

#[test]
fn a_group_known_only_from_others_is_found_and_forgotten() {
    let mut router = Router::new(OWN);
    let theirs = connection(9);
    let count = Count { total: 2, ready: 0 };
    router.note(OTHER, "t", Some((b"g", theirs)), count);
    let matches = found(&router, "t");
    assert!(matches.elsewhere.shards.is_empty() && matches.local.is_empty());
    let mut rng = Rng::with_seed(1);
    let choice = router.choose(matches.groups[0], &mut rng, idle);
    let there = Choice::Remote {
        shard: OTHER,
        group: theirs,
    };
    assert_eq!(choice, Some(there));
    assert_eq!(router.choose_local(matches.groups[0], &mut rng, idle), None);
    router.note(OTHER, "t", Some((b"other", theirs)), Count::default());
    router.note(OTHER, "t", Some((b"g", theirs)), Count::default());
    assert_nothing_is_left(&router);
    assert_eq!(router.choose(matches.groups[0], &mut rng, idle), None);
}

/// How often each local connection, and each other shard, was chosen.
fn tally(count: u32, mut choose: impl FnMut() -> Option<Choice>) -> BTreeMap<(bool, u32), u32> {
    let mut tally = BTreeMap::new();
    for _ in 0..count {
        let chosen = match choose().unwrap() {
            Choice::Local(member) => (true, member.connection.slot),
            Choice::Remote { shard, .. } => (false, u32::from(shard.0)),
        };
        *tally.entry(chosen).or_default() += 1;
    }
    tally
}

#[test]
fn each_ready_member_of_all_shards_has_the_same_chance() {
    let mut router = Router::new(OWN);
    let mut group = None;
    for slot in 1..=4 {
        group = router.subscribe("t", Some(b"g"), subscription(slot)).group;
    }
    let group = group.unwrap();
    router.set_stalled(group, connection(2), true);
    let counts = [(OTHER, 10, 5), (FAR, 7, 2), (ShardId(2), 3, 0)];
    for (shard, total, ready) in counts {
        let count = Count { total, ready };
        router.note(shard, "t", Some((b"g", connection(0))), count);
    }
    let mut rng = Rng::with_seed(7);
    let tally = tally(100_000, || router.choose(group, &mut rng, idle));
    // Ten ready members in all, three of them here.
    let expected = [
        (true, 1, 1),
        (true, 3, 1),
        (true, 4, 1),
        (false, 1, 5),
        (false, 70, 2),
    ];
    assert_eq!(tally.len(), expected.len(), "{tally:?}");
    for (here, number, share) in expected {
        let hits = tally[&(here, number)];
        assert!(hits.abs_diff(share * 10_000) < 500, "{number}: {hits}");
    }
}

#[test]
fn when_no_member_is_ready_all_are_chosen_from() {
    let mut router = Router::new(OWN);
    let group = router.subscribe("t", Some(b"g"), subscription(1)).group;
    let group = group.unwrap();
    router.set_stalled(group, connection(1), true);
    let count = Count { total: 3, ready: 0 };
    router.note(OTHER, "t", Some((b"g", connection(0))), count);
    let mut rng = Rng::with_seed(7);
    let shares = tally(40_000, || router.choose(group, &mut rng, idle));
    assert!(shares[&(true, 1)].abs_diff(10_000) < 500, "{shares:?}");
    assert_eq!(shares.len(), 2);
    // A single ready member gets everything.
    router.set_stalled(group, connection(1), false);
    let shares = tally(100, || router.choose(group, &mut rng, idle));
    assert_eq!(shares, BTreeMap::from([((true, 1), 100)]));
}

#[test]
fn of_two_candidates_the_one_with_less_in_flight_is_chosen() {
    let mut router = Router::new(OWN);
    let mut group = None;
    for slot in 0..10 {
        group = router.subscribe("t", Some(b"g"), subscription(slot)).group;
    }
    let mut rng = Rng::with_seed(7);
    let load = |connection: Key| connection.slot;
    let tally = tally(45_000, || router.choose(group.unwrap(), &mut rng, load));
    // Of 45 pairs, member n is the lighter one in 9 − n.
    for slot in 0..10 {
        let hits = tally.get(&(true, slot)).copied().unwrap_or_default();
        assert!(hits.abs_diff((9 - slot) * 1000) < 300, "{slot}: {hits}");
    }
}

/// The server chosen for a request by a search in steps of so many nodes.
fn find_server(router: &Router, service: &str, rng: &mut Rng, nodes_max: usize) -> Option<Choice> {
    let mut search = ServerSearch::default();
    while !router.seek_server(service, &mut search, rng, nodes_max).1 {}
    router.found_server(&search, rng, idle)
}

#[test]
fn services_are_found_over_all_filters_and_shards() {
    let mut router = Router::new(OWN);
    let mut rng = Rng::with_seed(7);
    assert_eq!(find_server(&router, "a/b", &mut rng, 1), None);
    let served = router.serve("a/b", connection(1));
    assert_eq!((served.change, served.new), (tell(1, 1), true));
    let again = router.serve("a/b", connection(1));
    assert_eq!((again.change, again.new), (Change::None, false));
    router.serve("a/+", connection(2));
    router.serve("#", connection(3));
    router.note_servers(OTHER, "a/b", connection(0), Count { total: 9, ready: 5 });
    router.note_servers(FAR, "+/b", connection(0), Count { total: 2, ready: 2 });
    router.note_servers(FAR, "+/x", connection(0), Count { total: 2, ready: 2 });
    let expected = [
        (true, 1, 1),
        (true, 2, 1),
        (true, 3, 1),
        (false, 1, 5),
        (false, 70, 2),
    ];
    for nodes_max in [1, usize::MAX] {
        let shares = tally(100_000, || find_server(&router, "a/b", &mut rng, nodes_max));
        assert_eq!(shares.len(), expected.len(), "{shares:?}");
        for (here, number, share) in expected {
            let hits = shares[&(here, number)];
            assert!(hits.abs_diff(share * 10_000) < 500, "{number}: {hits}");
        }
    }
    // Names starting with `$` are reserved.
    assert_eq!(find_server(&router, "$sys/echo", &mut rng, 1), None);
    // What is found for topics is not found for services.
    assert!(found(&router, "a/b").is_empty());

    let group = served.group.unwrap();
    let chosen = router.choose_local_server(group, &mut rng, idle);
    assert_eq!(chosen, Some(subscription(1)));
    assert_eq!(router.set_stalled(group, connection(1), true), tell(1, 0));
    assert_eq!(router.unserve("a/b", connection(2)), None);
    let ended = router.unserve("a/b", connection(1));
    assert_eq!(ended, Some((tell(0, 0), Some(group))));
    let chosen = router.choose_local_server(group, &mut rng, idle);
    assert_eq!(chosen, None);
    router.unserve("a/+", connection(2)).unwrap();
    router.unserve("#", connection(3)).unwrap();
    for (shard, filter) in [(OTHER, "a/b"), (FAR, "+/b"), (FAR, "+/x"), (FAR, "no")] {
        router.note_servers(shard, filter, connection(0), Count::default());
    }
    assert_nothing_is_left(&router);
}

#[test]
fn memory_is_released_when_all_have_left() {
    let mut router = Router::new(OWN);
    let filter = |n: u32| match n % 4 {
        0 => format!("site/{}/device/{n}", n / 100),
        1 => format!("site/{}/+/{n}", n / 100),
        2 => format!("site/{n}/#"),
        _ => format!("+/{n}"),
    };
    for round in 0..2 {
        for n in 0..20_000 {
            router.subscribe(&filter(n), None, subscription(n % 50));
            router.serve(&filter(n), connection(n % 50));
            router.subscribe(&filter(n / 2), Some(b"g"), subscription(n));
        }
        assert_eq!(router.filter_count(), 20_000);
        let (nodes, capacity) = router.topics.check_invariants();
        assert!(capacity < (nodes + router.topics.len()) * 5 / 4);
        for n in 0..20_000 {
            // From both ends.
            let n = if round == 0 { n } else { 19_999 - n };
            router
                .unsubscribe(&filter(n), None, connection(n % 50))
                .unwrap();
            router.unserve(&filter(n), connection(n % 50)).unwrap();
            router
                .unsubscribe(&filter(n / 2), Some(b"g"), connection(n))
                .unwrap();
        }
        assert_nothing_is_left(&router);
    }
}

#[test]
fn a_hundred_thousand_subscribers_of_one_filter_come_and_go() {
    let mut router = Router::new(OWN);
    for slot in 0..100_000 {
        let change = router.subscribe("t", None, subscription(slot)).change;
        let count: u32 = slot + 1;
        let is_told = slot == 0 || count >= 16 && count.is_power_of_two();
        assert_eq!(change != Change::None, is_told, "{count}");
    }
    assert_eq!(local(&router, "t").len(), 100_000);
    for slot in (0..100_000).rev().step_by(2).chain((0..100_000).step_by(2)) {
        assert!(router.unsubscribe("t", None, connection(slot)).is_some());
    }
    assert_nothing_is_left(&router);
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Subscribe(String, Option<u8>, u32),
    Unsubscribe(String, Option<u8>, u32),
    Note(String, Option<u8>, u16, u32),
    Stall(String, u8, u32, bool),
}

pub(super) fn name(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    let level = prop::sample::select(levels);
    let name = prop::collection::vec(level, 1..5).prop_map(|levels| levels.join("/"));
    name.prop_filter("a name is not empty", |name| !name.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let levels = name(&["a", "b", "+", "$c", "a level of more than 22 bytes", ""]);
    (levels, 0u8..4).prop_map(|(levels, end)| match end {
        0 => format!("{levels}/#"),
        1 if levels == "+" => "#".into(),
        _ => levels,
    })
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let group = || prop::option::weighted(0.4, 0u8..3);
    let shard = || prop::sample::select(&[1u16, 2, 63, 64, 70, 1023][..]);
    prop_oneof![
        4 => (filter(), group(), 0u32..40).prop_map(|(f, g, c)| Op::Subscribe(f, g, c)),
        3 => (filter(), group(), 0u32..40).prop_map(|(f, g, c)| Op::Unsubscribe(f, g, c)),
        2 => (filter(), group(), shard(), 0u32..3).prop_map(|(f, g, s, n)| Op::Note(f, g, s, n)),
        1 => (filter(), 0u8..3, 0u32..40, any::<bool>())
            .prop_map(|(f, g, c, stalled)| Op::Stall(f, g, c, stalled)),
    ]
}

pub(super) type Wanted = (String, Option<u8>);

/// What a router has to know.
#[derive(Default)]
pub(super) struct Model {
    /// Connections, and whether each is stalled.
    pub(super) local: BTreeMap<Wanted, BTreeMap<u32, bool>>,
    pub(super) others: BTreeMap<Wanted, BTreeMap<u16, u32>>,
}

impl Model {
    fn count(&self, wanted: &Wanted) -> Count {
        let members = self.local.get(wanted);
        let ready = members.map_or(0, |all| all.values().filter(|stalled| !**stalled).count());
        Count {
            total: members.map_or(0, BTreeMap::len) as u32,
            ready: ready as u32,
        }
    }

    /// The [`Change`] that results from this count before.
    fn change(&self, wanted: &Wanted, before: Count) -> Change {
        let after = self.count(wanted);
        match wanted.1 {
            Some(_) if before != after => Change::Tell(after),
            None if before.total == 0 && after.total > 0 => tell(1, 1),
            None if before.total > 0 && after.total == 0 => tell(0, 0),
            _ => Change::None,
        }
    }

    pub(super) fn apply(&mut self, router: &mut Router, op: Op) {
        let bytes = |group: &Option<u8>| group.map(|byte| [byte]);
        match op {
            Op::Subscribe(filter, group, slot) => {
                check_filter(&filter).unwrap();
                let name = bytes(&group);
                let name = name.as_ref().map(|name| &name[..]);
                let done = router.subscribe(&filter, name, subscription(slot));
                let wanted = (filter, group);
                let before = self.count(&wanted);
                let members = self.local.entry(wanted.clone()).or_default();
                assert_eq!(done.new, !members.contains_key(&slot));
                members.entry(slot).or_default();
                assert_eq!(done.change, self.change(&wanted, before));
                assert_eq!(done.group.is_some(), group.is_some());
            }
            Op::Unsubscribe(filter, group, slot) => {
                let name = bytes(&group);
                let name = name.as_ref().map(|name| &name[..]);
                let done = router.unsubscribe(&filter, name, connection(slot));
                let wanted = (filter, group);
                let before = self.count(&wanted);
                let members = self.local.get_mut(&wanted);
                let was_in = members.is_some_and(|members| members.remove(&slot).is_some());
                let change = was_in.then(|| self.change(&wanted, before));
                assert_eq!(done.map(|(change, _)| change), change);
            }
            Op::Note(filter, group, shard, total) => {
                let name = bytes(&group);
                let number = connection(u32::from(shard));
                let name = name.as_ref().map(|name| (&name[..], number));
                let count = Count { total, ready: 0 };
                router.note(ShardId(shard), &filter, name, count);
                let others = self.others.entry((filter, group)).or_default();
                others.insert(shard, total);
                others.retain(|_, total| *total > 0);
            }
            Op::Stall(filter, group, slot, stalled) => {
                let id = router.topics.find(&filter);
                let key = id.and_then(|id| router.find_group(id, &[group]).ok());
                let wanted = (filter, Some(group));
                let before = self.count(&wanted);
                let members = self.local.get_mut(&wanted);
                if let Some(known) = members.and_then(|members| members.get_mut(&slot)) {
                    *known = stalled;
                }
                if let Some(key) = key {
                    let change = router.set_stalled(key, connection(slot), stalled);
                    assert_eq!(change, self.change(&wanted, before));
                }
            }
        }
    }

    fn check(&self, router: &Router, topic: &str) {
        check_topic(topic).unwrap();
        let matching = |wanted: &Wanted| matches(&wanted.0, topic);
        let plain = |wanted: &Wanted| wanted.1.is_none() && matching(wanted);
        let local = self.local.iter().filter(|(wanted, _)| plain(wanted));
        let mut local: Vec<u32> = local.flat_map(|(_, all)| all.keys().copied()).collect();
        local.sort_unstable();
        let others = self.others.iter().filter(|(wanted, _)| plain(wanted));
        let shards: BTreeSet<u16> = others.flat_map(|(_, all)| all.keys().copied()).collect();
        let mut found = found(router, topic);
        found.local.sort_unstable_by_key(|member| member.connection);
        let slots = found.local.iter().map(|member| member.connection.slot);
        let mut slots: Vec<u32> = slots.collect();
        slots.sort_unstable();
        assert_eq!(slots, local, "{topic}");
        assert!(
            found
                .elsewhere
                .shards
                .iter()
                .map(|shard| shard.0)
                .eq(shards)
        );

        let mut groups = BTreeSet::new();
        let members = self.local.iter().map(|(wanted, all)| (wanted, all.len()));
        let others = self.others.iter().map(|(wanted, all)| (wanted, all.len()));
        for (wanted, count) in members.chain(others) {
            if count > 0 && matching(wanted) && wanted.1.is_some() {
                groups.insert(wanted.clone());
            }
        }
        let named = found.groups.iter().map(|key| {
            let (filter, name) = router.group_name(*key).unwrap();
            (filter.to_owned(), Some(name[0]))
        });
        let named: Vec<Wanted> = named.collect();
        assert_eq!(named.len(), groups.len(), "none twice");
        assert_eq!(named.into_iter().collect::<BTreeSet<_>>(), groups);
        for key in &found.groups {
            let (filter, name) = router.group_name(*key).unwrap();
            let wanted = (filter.to_owned(), Some(name[0]));
            assert_eq!(router.group_count(*key), Some(self.count(&wanted)));
        }
    }
}

proptest! {
    #[test]
    fn a_router_finds_what_a_list_finds(
        ops in prop::collection::vec(op(), 1..200),
        topics in prop::collection::vec(name(&["a", "b", "$c", "a level of more than 22 bytes"]), 10),
    ) {
        let mut model = Model::default();
        let mut router = Router::new(OWN);
        for op in ops {
            model.apply(&mut router, op);
        }
        router.topics.check_invariants();
        for topic in &topics {
            model.check(&router, topic);
        }
        // All unsubscribe: nothing may be left.
        let local = model.local.clone();
        for ((filter, group), members) in local {
            for slot in members.into_keys() {
                model.apply(&mut router, Op::Unsubscribe(filter.clone(), group, slot));
            }
        }
        for ((filter, group), shards) in model.others.clone() {
            for shard in shards.into_keys() {
                model.apply(&mut router, Op::Note(filter.clone(), group, shard, 0));
            }
        }
        assert_nothing_is_left(&router);
    }

    #[test]
    fn the_same_calls_find_the_same_in_the_same_order(
        ops in prop::collection::vec(op(), 1..200),
        topics in prop::collection::vec(name(&["a", "b", "$c"]), 10),
    ) {
        // Two routers with different hash seeds.
        let mut routers = [Router::new(OWN), Router::new(OWN)];
        for router in &mut routers {
            let mut model = Model::default();
            for op in ops.clone() {
                model.apply(router, op);
            }
        }
        let [one, other] = &routers;
        for topic in &topics {
            let (one, other) = (found(one, topic), found(other, topic));
            prop_assert_eq!(one.local, other.local);
            prop_assert_eq!(one.groups, other.groups);
            prop_assert_eq!(one.elsewhere.shards, other.elsewhere.shards);
        }
    }
}
