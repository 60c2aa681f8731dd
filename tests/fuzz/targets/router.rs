//! The interest map against a list: subscriptions, groups, services, other shards and retained
//! messages, changed and asked about in any order, while a search goes on over many steps.

use super::Draw;
use ringmail::base::clock::Instant;
use ringmail::base::id::{Key, ShardId};
use ringmail::proto::envelope::Codec;
use ringmail::proto::name::{check_filter, check_topic, matches};
use ringmail::router::{
    Change, Choice, Count, Kept, Matches, Router, Search, ServerSearch, Subscription, Version, Walk,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const LEVELS: &[&str] = &["a", "b", "+", "#", "", "$s", "a-long-level-beyond-a-label"];
const WORDS: &[&str] = &["a", "b", "", "$s", "a-long-level-beyond-a-label"];
const GROUPS: &[&[u8]] = &[b"g", b"h"];
const OWN: ShardId = ShardId(1);
const OPERATIONS_MAX: usize = 400;

/// Who subscribes to a filter, or to it in a group.
type Terms = (String, Option<&'static [u8]>);

#[derive(Default)]
struct Model {
    /// In the order they came; no two alike.
    subscriptions: Vec<(Terms, u32, Codec)>,
    servers: Vec<(String, u32)>,
    /// Shards with plain subscribers of a filter; with members of a group, and how many.
    shards: BTreeSet<(String, u16)>,
    members: BTreeMap<(Terms, u16), u32>,
    retained: BTreeMap<String, (Version, Option<Vec<u8>>)>,
}

/// A search begun, and who was subscribed when, and at any time since.
struct Going {
    topic: String,
    search: Search,
    before: BTreeSet<u32>,
    gone: BTreeSet<u32>,
    came: BTreeSet<u32>,
}

fn key(slot: u32) -> Key {
    Key {
        slot,
        generation: 7,
    }
}

impl Model {
    fn plain(&self, topic: &str) -> Vec<(u32, u8)> {
        let mut all: Vec<(u32, u8)> = self
            .subscriptions
            .iter()
            .filter(|((filter, group), ..)| group.is_none() && matches(filter, topic))
            .map(|(_, who, codec)| (*who, *codec as u8))
            .collect();
        all.sort_unstable();
        all
    }

    fn groups(&self, topic: &str) -> BTreeSet<Terms> {
        let own = self.subscriptions.iter().map(|(terms, ..)| terms);
        let others = self.members.keys().map(|(terms, _)| terms);
        let in_force = |(filter, group): &&Terms| group.is_some() && matches(filter, topic);
        own.chain(others).filter(in_force).cloned().collect()
    }
}

pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let (mut router, mut model) = (Router::new(OWN), Model::default());
    let mut rng = fastrand::Rng::with_seed(1);
    let mut going: Option<Going> = None;
    let mut found = Matches::new();
    for at in 0..OPERATIONS_MAX {
        if draw.is_empty() {
            break;
        }
        let now = Instant::ZERO + Duration::from_secs(at as u64);
        match draw.byte() & 15 {
            0..=3 => subscribe(&mut router, &mut model, &mut going, &mut draw),
            4 | 5 => unsubscribe(&mut router, &mut model, &mut going, &mut draw),
            6 => serve(&mut router, &mut model, &mut draw),
            7 => note(&mut router, &mut model, &mut draw),
            8 => retain(&mut router, &mut model, &mut draw, now),
            9 => check_retained(&mut router, &model, &mut draw, now),
            10 => stall(&mut router, &model, &mut draw),
            11 | 12 => search(&mut router, &model, &mut going, &mut draw, &mut found),
            13 => check_services(&router, &model, &mut draw, &mut rng),
            _ => {
                let topic = draw.name(WORDS, 4);
                check(&router, &model, &topic, &mut found, &mut rng);
            }
        }
    }
    finish(router, model, going);
}

fn filter(draw: &mut Draw<'_>) -> Option<String> {
    let filter = draw.name(LEVELS, 4);
    check_filter(&filter).is_ok().then_some(filter)
}

fn subscribe(router: &mut Router, model: &mut Model, going: &mut Option<Going>, draw: &mut Draw) {
    let Some(filter) = filter(draw) else { return };
    let group = draw.bool().then(|| *draw.pick(GROUPS));
    let who = draw.below(8) as u32;
    let codec = Codec::from_wire(draw.byte() % 3).expect("0 to 2");
    let subscription = Subscription {
        connection: key(who),
        policy: None,
        codec,
    };
    let done = router.subscribe(&filter, group, subscription);
    let terms = (filter, group);
    let alike =
        |(other, connection, _): &&mut (Terms, u32, Codec)| *other == terms && *connection == who;
    let before = model
        .subscriptions
        .iter()
        .filter(|one| one.0 == terms)
        .count();
    match model.subscriptions.iter_mut().find(alike) {
        Some(old) => {
            old.2 = codec;
            assert!(!done.new);
        }
        None => {
            assert!(done.new);
            model.subscriptions.push((terms.clone(), who, codec));
            if let (Some(going), None) = (going, group)
                && matches(&terms.0, &going.topic)
            {
                going.came.insert(who);
            }
        }
    }
    match group {
        None => assert_eq!(done.change != Change::None, before == 0),
        Some(name) => {
            let number = done.group.expect("a group's number");
            assert_eq!(router.group_name(number), Some((&*terms.0, name)));
            let own = model.subscriptions.iter().filter(|one| one.0 == terms);
            let count = router.group_count(number).expect("it was joined");
            assert_eq!(count.total as usize, own.count());
        }
    }
}

fn unsubscribe(router: &mut Router, model: &mut Model, going: &mut Option<Going>, draw: &mut Draw) {
    let (terms, who) = match model.subscriptions.len() {
        // One that there is, mostly.
        count @ 1.. if draw.byte() & 7 != 0 => {
            let (terms, who, _) = &model.subscriptions[draw.below(count.min(256))];
            (terms.clone(), *who)
        }
        _ => {
            let Some(filter) = filter(draw) else { return };
            let group = draw.bool().then(|| *draw.pick(GROUPS));
            ((filter, group), draw.below(8) as u32)
        }
    };
    let ended = router.unsubscribe(&terms.0, terms.1, key(who));
    let stood = |one: &(Terms, u32, Codec)| one.0 == terms && one.1 == who;
    let was_there = model.subscriptions.iter().any(stood);
    assert_eq!(ended.is_some(), was_there, "{terms:?} of {who}");
    model.subscriptions.retain(|one| !stood(one));
    if let (Some(going), true, None) = (going, was_there, terms.1)
        && matches(&terms.0, &going.topic)
    {
        going.gone.insert(who);
    }
}

fn serve(router: &mut Router, model: &mut Model, draw: &mut Draw) {
    let Some(filter) = filter(draw) else { return };
    let who = draw.below(8) as u32;
    let server = (filter, who);
    let at = model.servers.iter().position(|one| *one == server);
    if draw.bool() {
        let done = router.serve(&server.0, key(who));
        assert_eq!(done.new, at.is_none());
        if at.is_none() {
            model.servers.push(server);
        }
    } else {
        let ended = router.unserve(&server.0, key(who));
        assert_eq!(ended.is_some(), at.is_some());
        at.map(|at| model.servers.remove(at));
    }
}

/// What another shard tells.
fn note(router: &mut Router, model: &mut Model, draw: &mut Draw) {
    let Some(filter) = filter(draw) else { return };
    let shard = *draw.pick(&[0u16, 2, 63, 64, 200]);
    let total = draw.below(3) as u32;
    let count = Count {
        total,
        ready: total,
    };
    let group = draw.bool().then(|| *draw.pick(GROUPS));
    let number = key(1000 + u32::from(shard));
    let told = group.map(|name| (name, number));
    router.note(ShardId(shard), &filter, told, count);
    match (group, total) {
        (None, 0) => drop(model.shards.remove(&(filter, shard))),
        (None, _) => drop(model.shards.insert((filter, shard))),
        (Some(_), 0) => drop(model.members.remove(&((filter, group), shard))),
        (Some(_), _) => drop(model.members.insert(((filter, group), shard), total)),
    }
}

fn retain(router: &mut Router, model: &mut Model, draw: &mut Draw, now: Instant) {
    let topic = draw.name(WORDS, 4);
    if check_topic(&topic).is_err() {
        return;
    }
    let earlier = Duration::from_secs(u64::from(draw.byte() & 7));
    // Within the life of a tombstone, beyond which nothing is promised.
    let at = Instant::from_nanos(now.as_nanos().saturating_sub(earlier.as_nanos() as u64));
    let shard = ShardId(u16::from(draw.byte() & 1));
    let version = Version { at, shard };
    let payload = draw.bool().then(|| draw.take(4).to_vec());
    let message = payload
        .clone()
        .map(|bytes| Kept::from(bytes::Bytes::from(bytes)));
    let is_kept = router.retain(&topic, version, message, Instant::NEVER, now);
    let is_late = model
        .retained
        .get(&topic)
        .is_some_and(|old| old.0 > version);
    assert_eq!(is_kept, !is_late, "{topic:?}");
    if is_kept {
        model.retained.insert(topic, (version, payload));
    }
}

fn check_retained(router: &mut Router, model: &Model, draw: &mut Draw, now: Instant) {
    let Some(filter) = filter(draw) else { return };
    let step = 1 + draw.below(5);
    let (mut walk, mut told) = (Walk::default(), Vec::new());
    loop {
        let mut looks = step;
        let is_done = router.retained(&filter, &mut walk, &mut looks, now, |kept, _| {
            told.push(kept.message.to_vec());
            true
        });
        if is_done {
            break;
        }
        assert_eq!(looks, 0, "it stopped with looks left");
    }
    let stands = |(topic, (_, message)): (&String, &(Version, Option<Vec<u8>>))| {
        message.clone().filter(|_| matches(&filter, topic))
    };
    let mut expected: Vec<_> = model.retained.iter().filter_map(stands).collect();
    expected.sort();
    told.sort();
    assert_eq!(told, expected, "{filter:?}");
    let live = model
        .retained
        .values()
        .filter(|one| one.1.is_some())
        .count();
    assert_eq!(router.retained_count(), live);
}

fn stall(router: &mut Router, model: &Model, draw: &mut Draw) {
    let Some(filter) = filter(draw) else { return };
    let group = *draw.pick(GROUPS);
    let terms = (filter, Some(group));
    if let Some((_, Some(number))) = router.subscription(&terms.0, terms.1) {
        let who = draw.below(8) as u32;
        router.set_stalled(number, key(who), draw.bool());
        let own = model.subscriptions.iter().filter(|one| one.0 == terms);
        let count = router.group_count(number).expect("there is one");
        assert_eq!(count.total as usize, own.count());
        assert!(count.ready <= count.total);
    }
}

/// Begins a search, goes on with it, or ends it.
fn search(
    router: &mut Router,
    model: &Model,
    going: &mut Option<Going>,
    draw: &mut Draw<'_>,
    found: &mut Matches,
) {
    let Some(mut one) = going.take() else {
        let topic = draw.name(WORDS, 4);
        let before = model
            .plain(&topic)
            .into_iter()
            .map(|(who, _)| who)
            .collect();
        *going = Some(Going {
            topic,
            search: router.begin_search(),
            before,
            gone: BTreeSet::new(),
            came: BTreeSet::new(),
        });
        return;
    };
    let (_, is_done) = router.go_on(&one.topic, &mut one.search, 1 + draw.below(4));
    if !is_done {
        *going = Some(one);
        return;
    }
    let is_current = router.end_search(&one.topic, one.search, found);
    let local: Vec<u32> = found.local.iter().map(|one| one.connection.slot).collect();
    let told: BTreeSet<u32> = local.iter().copied().collect();
    assert_eq!(told.len(), local.len(), "somebody is found twice");
    for who in &one.before {
        assert!(
            told.contains(who) || one.gone.contains(who),
            "{who} is missed"
        );
    }
    for who in &told {
        assert!(
            one.before.contains(who),
            "{who} came meanwhile: {:?}",
            one.came
        );
    }
    if is_current {
        assert_eq!(told, one.before);
    }
}

fn check(
    router: &Router,
    model: &Model,
    topic: &str,
    found: &mut Matches,
    rng: &mut fastrand::Rng,
) {
    if check_topic(topic).is_err() || !router.find(topic, found, usize::MAX) {
        return;
    }
    let told = |one: &Subscription| (one.connection.slot, one.codec as u8);
    let mut local: Vec<_> = found.local.iter().map(told).collect();
    local.sort_unstable();
    assert_eq!(local, model.plain(topic), "{topic:?}");
    let shards: BTreeSet<u16> = found.elsewhere.shards.iter().map(|shard| shard.0).collect();
    let others = model
        .shards
        .iter()
        .filter(|(filter, _)| matches(filter, topic));
    assert_eq!(shards, others.map(|(_, shard)| *shard).collect());
    let mut groups = BTreeSet::new();
    for &number in &found.groups {
        let (filter, name) = router.group_name(number).expect("it was found");
        let name = GROUPS
            .iter()
            .find(|group| **group == name)
            .expect("one of them");
        let terms = (filter.to_owned(), Some(*name));
        let is_member = |who: u32| {
            let mut own = model.subscriptions.iter();
            own.any(|one| one.0 == terms && one.1 == who)
        };
        match router.choose(number, rng, |_| 0) {
            Some(Choice::Local(one)) => assert!(is_member(one.connection.slot)),
            Some(Choice::Remote { shard, group }) => {
                assert!(model.members.contains_key(&(terms.clone(), shard.0)));
                assert_eq!(group, key(1000 + u32::from(shard.0)));
            }
            None => panic!("{terms:?} has nobody"),
        }
        assert!(router.is_ready(number).is_some());
        assert!(groups.insert(terms), "a group is found twice");
    }
    assert_eq!(groups, model.groups(topic), "{topic:?}");
}

fn check_services(router: &Router, model: &Model, draw: &mut Draw, rng: &mut fastrand::Rng) {
    let service = draw.name(WORDS, 4);
    if check_topic(&service).is_err() {
        return;
    }
    let serves = |who: Option<u32>| {
        let suits =
            |one: &&(String, u32)| matches(&one.0, &service) && who.is_none_or(|who| who == one.1);
        model.servers.iter().any(|one| suits(&one))
    };
    let (mut search, nodes_max) = (ServerSearch::default(), draw.below(4));
    while !router.seek_server(&service, &mut search, rng, nodes_max).1 {}
    match router.found_server(&search, rng, |_| 0) {
        Some(Choice::Local(one)) => assert!(serves(Some(one.connection.slot))),
        Some(Choice::Remote { .. }) => panic!("no other shard serves"),
        None => assert!(!serves(None), "{service:?} is served"),
    }
}

/// Everybody leaves, and nothing is left.
fn finish(mut router: Router, model: Model, going: Option<Going>) {
    if let Some(one) = going {
        router.end_search(&one.topic, one.search, &mut Matches::new());
    }
    for ((filter, group), who, _) in &model.subscriptions {
        assert!(router.unsubscribe(filter, *group, key(*who)).is_some());
    }
    for (filter, who) in &model.servers {
        assert!(router.unserve(filter, key(*who)).is_some());
    }
    for (filter, shard) in &model.shards {
        router.note(ShardId(*shard), filter, None, Count::default());
    }
    for ((filter, group), shard) in model.members.keys() {
        let number = key(1000 + u32::from(*shard));
        let group = group.map(|name| (name, number));
        router.note(ShardId(*shard), filter, group, Count::default());
    }
    assert_eq!(router.filter_count(), 0);
    let mut found = Matches::new();
    for topic in ["a", "a/b", "$s", "a//b"] {
        assert!(router.find(topic, &mut found, usize::MAX) && found.is_empty());
    }
}
