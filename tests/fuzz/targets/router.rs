//! The interest map against lists: subscriptions, groups, services, other shards and retained
//! messages, changed and asked about in any order, while searches go on over many steps.
//!
//! Beside it stands the map of another shard, which knows nothing but the changes that it is told:
//! it sends here exactly what somebody here takes.

mod model;
mod retained;
mod service;

use super::Draw;
use model::{Circle, Model, check_choice, key, number_at};
use ringmail::base::clock::Instant;
use ringmail::base::id::{Key, ShardId};
use ringmail::proto::envelope::Codec;
use ringmail::proto::name::{check_filter, check_topic, matches};
use ringmail::router::{
    Change, Choice, Count, Matches, Router, Search, ServerSearch, Subscription,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const LEVELS: &[&str] = &["a", "b", "+", "#", "", "$s", "a-long-level-beyond-a-label"];
const WORDS: &[&str] = &["a", "b", "", "$s", "a-long-level-beyond-a-label"];
const GROUPS: &[&[u8]] = &[b"g", b"h"];
const OWN: ShardId = ShardId(1);
const OTHER: ShardId = ShardId(2);
const OPERATIONS_MAX: usize = 400;

/// A search begun, and who was subscribed when, and at any time since.
struct Going {
    topic: String,
    search: Search,
    before: BTreeSet<u32>,
    gone: BTreeSet<u32>,
    came: BTreeSet<u32>,
}

struct Bench<'a> {
    draw: Draw<'a>,
    router: Router,
    /// The other shard's.
    mirror: Router,
    model: Model,
    going: Option<Going>,
    seeking: Option<(String, ServerSearch)>,
    found: Matches,
    found_there: Matches,
    rng: fastrand::Rng,
    now: Instant,
}

pub fn run(input: &[u8]) {
    let mut bench = Bench {
        draw: Draw::new(input),
        router: Router::new(OWN),
        mirror: Router::new(OTHER),
        model: Model::default(),
        going: None,
        seeking: None,
        found: Matches::new(),
        found_there: Matches::new(),
        rng: fastrand::Rng::with_seed(1),
        now: Instant::ZERO,
    };
    for _ in 0..OPERATIONS_MAX {
        if bench.draw.is_empty() {
            break;
        }
        bench.step();
        bench.model.drop_empty();
        bench.now = bench.now + Duration::from_secs(1);
    }
    bench.finish();
}

impl Bench<'_> {
    fn step(&mut self) {
        match self.draw.byte() & 15 {
            0..=3 => self.subscribe(),
            4 | 5 => self.unsubscribe(),
            6 => self.serve(),
            7 => self.note(),
            8 => self.retain(),
            9 => self.check_retained(),
            10 => self.stall(),
            11 | 12 => self.search(),
            13 => match self.draw.bool() {
                true => self.seek(),
                false => self.check_services(),
            },
            _ => {
                let topic = self.draw.name(WORDS, 4);
                if check_topic(&topic).is_ok() {
                    self.check(&topic);
                    self.check_mirror(&topic);
                }
            }
        }
    }

    fn filter(&mut self) -> Option<String> {
        let filter = self.draw.name(LEVELS, 4);
        check_filter(&filter).is_ok().then_some(filter)
    }

    fn who(&mut self) -> u32 {
        self.draw.below(8) as u32
    }

    /// Tells the other shard.
    fn tell(&mut self, change: Change, filter: &str, group: Option<(&[u8], Key)>) {
        if let Change::Tell(count) = change {
            self.mirror.note(OWN, filter, group, count);
        }
    }

    fn tell_servers(&mut self, change: Change, filter: &str, number: Key) {
        if let Change::Tell(count) = change {
            self.mirror.note_servers(OWN, filter, number, count);
        }
    }

    fn subscribe(&mut self) {
        let Some(filter) = self.filter() else { return };
        let group = self.draw.bool().then(|| *self.draw.pick(GROUPS));
        let who = self.who();
        let codec = Codec::from_wire(self.draw.byte() % 3).expect("0 to 2");
        let subscription = Subscription {
            connection: key(who),
            policy: None,
            codec,
        };
        let done = self.router.subscribe(&filter, group, subscription);
        if let Some(name) = group {
            let number = done.group.expect("a group's number");
            let circle = self.model.groups.entry((filter.clone(), name));
            let circle = circle.or_default();
            let is_stalled = circle.own.get(&who).is_some_and(|own| own.1);
            let old = circle.own.insert(who, (codec, is_stalled));
            assert_eq!(done.new, old.is_none());
            assert_eq!(self.router.group_name(number), Some((&*filter, name)));
            assert_eq!(self.router.group_count(number), Some(circle.count()));
            self.tell(done.change, &filter, Some((name, number)));
            return;
        }
        let (mut count, mut old) = (0, None);
        for one in &mut self.model.subscriptions {
            if one.0 == filter {
                count += 1;
                old = old.or((one.1 == who).then_some(one));
            }
        }
        assert_eq!(done.new, old.is_none());
        assert!(count > 0 || done.change != Change::None, "it is not told");
        match old {
            Some(old) => old.2 = codec,
            None => {
                if let Some(going) = &mut self.going
                    && matches(&filter, &going.topic)
                {
                    going.came.insert(who);
                }
                let new = (filter.clone(), who, codec);
                self.model.subscriptions.push(new);
            }
        }
        self.tell(done.change, &filter, None);
    }

    /// One that there is, mostly.
    fn standing(&mut self) -> Option<(String, Option<&'static [u8]>, u32)> {
        let is_there = self.draw.byte() & 7 != 0;
        let group = self.draw.bool();
        let plain = self.model.subscriptions.len();
        if is_there && group && !self.model.groups.is_empty() {
            let at = self.draw.below(self.model.groups.len().min(256));
            let who = self.who();
            let ((filter, name), circle) = self.model.groups.iter().nth(at)?;
            let who = circle.own.range(who..).next().map_or(who, |one| *one.0);
            return Some((filter.clone(), Some(name), who));
        }
        if is_there && !group && plain > 0 {
            let (filter, who, _) = &self.model.subscriptions[self.draw.below(plain.min(256))];
            return Some((filter.clone(), None, *who));
        }
        let filter = self.filter()?;
        let group = group.then(|| *self.draw.pick(GROUPS));
        Some((filter, group, self.who()))
    }

    fn unsubscribe(&mut self) {
        let Some((filter, group, who)) = self.standing() else {
            return;
        };
        let ended = self.router.unsubscribe(&filter, group, key(who));
        let was_there = match group {
            Some(name) => {
                let circle = self.model.groups.get_mut(&(filter.clone(), name));
                circle.is_some_and(|circle| circle.own.remove(&who).is_some())
            }
            None => {
                let before = self.model.subscriptions.len();
                let stood = |one: &(String, u32, Codec)| one.0 == filter && one.1 == who;
                self.model.subscriptions.retain(|one| !stood(one));
                self.model.subscriptions.len() < before
            }
        };
        assert_eq!(ended.is_some(), was_there, "{filter:?} {group:?} of {who}");
        if let (Some(going), true, None) = (&mut self.going, was_there, group)
            && matches(&filter, &going.topic)
        {
            going.gone.insert(who);
        }
        if let Some((change, number)) = ended {
            self.tell(change, &filter, group.zip(number));
        }
    }

    fn serve(&mut self) {
        let Some(filter) = self.filter() else { return };
        let who = self.who();
        let service = self.model.services.entry(filter.clone()).or_default();
        if self.draw.bool() {
            let done = self.router.serve(&filter, key(who));
            let is_stalled = service.0.own.get(&who).is_some_and(|own| own.1);
            let old = service.0.own.insert(who, (Codec::Bytes, is_stalled));
            assert_eq!(done.new, old.is_none());
            service.1 = done.group;
            let number = done.group.expect("a group's number");
            self.tell_servers(done.change, &filter, number);
        } else {
            let ended = self.router.unserve(&filter, key(who));
            let old = service.0.own.remove(&who);
            assert_eq!(ended.is_some(), old.is_some());
            if let Some((change, number)) = ended {
                self.tell_servers(change, &filter, number.expect("a group's number"));
            }
        }
    }

    /// What a third shard tells.
    fn note(&mut self) {
        let Some(filter) = self.filter() else { return };
        let shard = *self.draw.pick(&[0u16, 2, 63, 64, 200]);
        let choice = self.draw.byte();
        let total = u32::from(choice & 3);
        let ready = total.min(u32::from(choice >> 2 & 3));
        let (id, number) = (ShardId(shard), number_at(shard));
        let count = Count { total, ready };
        match choice >> 4 & 3 {
            0 | 1 => {
                self.router.note(id, &filter, None, count);
                match total {
                    0 => drop(self.model.shards.remove(&(filter, shard))),
                    _ => drop(self.model.shards.insert((filter, shard))),
                }
            }
            2 => {
                let name = *self.draw.pick(GROUPS);
                self.router.note(id, &filter, Some((name, number)), count);
                let circle = self.model.groups.entry((filter, name)).or_default();
                circle.note(shard, count);
            }
            _ => {
                self.router.note_servers(id, &filter, number, count);
                let service = self.model.services.entry(filter).or_default();
                service.0.note(shard, count);
            }
        }
    }

    fn stall(&mut self) {
        let (choice, who, at) = (self.draw.byte(), self.who(), self.draw.byte());
        let is_stalled = choice & 1 != 0;
        if choice & 2 == 0 {
            let count = self.model.groups.len().max(1);
            let known = self.model.groups.iter_mut().nth(usize::from(at) % count);
            let Some((terms, circle)) = known else { return };
            let found = self.router.subscription(&terms.0, Some(terms.1));
            let number = found.and_then(|found| found.1).expect("it is a group's");
            let change = set_stalled(&mut self.router, circle, number, who, is_stalled);
            let (filter, name) = terms.clone();
            self.tell(change, &filter, Some((name, number)));
            return;
        }
        let count = self.model.services.len().max(1);
        let known = self.model.services.iter_mut().nth(usize::from(at) % count);
        if let Some((filter, (circle, Some(number)))) = known {
            let (number, filter) = (*number, filter.clone());
            let change = set_stalled(&mut self.router, circle, number, who, is_stalled);
            self.tell_servers(change, &filter, number);
        }
    }

    /// Begins a search, goes on with it, or ends it.
    fn search(&mut self) {
        let Some(mut one) = self.going.take() else {
            let topic = self.draw.name(WORDS, 4);
            let before = self.model.plain(&topic).into_iter();
            self.going = Some(Going {
                before: before.map(|(who, _)| who).collect(),
                topic,
                search: self.router.begin_search(),
                gone: BTreeSet::new(),
                came: BTreeSet::new(),
            });
            return;
        };
        let nodes_max = 1 + self.draw.below(4);
        let (_, is_done) = self.router.go_on(&one.topic, &mut one.search, nodes_max);
        if !is_done {
            self.going = Some(one);
            return;
        }
        // Not `self.found`: `find` would take it for what it has found itself, and in what a search
        // has found nobody stands twice.
        let mut found = Matches::new();
        let is_current = self.router.end_search(&one.topic, one.search, &mut found);
        let local = found.local.iter().map(|one| one.connection.slot);
        let local: Vec<u32> = local.collect();
        let told: BTreeSet<u32> = local.iter().copied().collect();
        assert_eq!(told.len(), local.len(), "somebody is found twice");
        let mut missed = one.before.difference(&told);
        assert!(missed.all(|who| one.gone.contains(who)), "one is missed");
        let came = &one.came;
        assert!(told.is_subset(&one.before), "one of {came:?} came later");
        if is_current {
            assert_eq!(told, one.before);
        }
    }

    fn check(&mut self, topic: &str) {
        let (router, model, found) = (&self.router, &self.model, &mut self.found);
        assert!(router.find(topic, found, usize::MAX));
        let told = |one: &Subscription| (one.connection.slot, one.codec as u8);
        let mut local: Vec<_> = found.local.iter().map(told).collect();
        local.sort_unstable();
        assert_eq!(local, model.plain(topic), "{topic:?}");
        let shards: BTreeSet<_> = found.elsewhere.shards.iter().collect();
        assert_eq!(shards, model.shards(topic));
        let mut left = model.groups(topic);
        for &number in &found.groups {
            let circle = named(router, number, &mut left);
            let choice = router.choose(number, &mut self.rng, |key| key.slot);
            check_choice(&[circle], choice);
            assert_eq!(router.is_ready(number), Some(circle.is_ready()));
            let first = router.first_member(number, |key| key.slot % 3 == 1);
            let first = first.map(|one| one.connection.slot);
            assert!(circle.is_first(first, |who| who % 3 == 1), "{first:?}");
        }
        assert!(left.is_empty(), "groups of {topic:?} are missed");
    }

    /// What another shard sends here is what is taken here.
    fn check_mirror(&mut self, topic: &str) {
        let (mirror, model, found) = (&self.mirror, &self.model, &mut self.found_there);
        assert!(mirror.find(topic, found, usize::MAX) && found.local.is_empty());
        let told: Vec<_> = found.elsewhere.shards.iter().collect();
        let is_wanted = !model.plain(topic).is_empty();
        assert_eq!(told, if is_wanted { vec![OWN] } else { Vec::new() });
        let mut left = model.groups(topic);
        left.retain(|_, circle| !circle.own.is_empty());
        for &number in &found.groups {
            let circle = named(mirror, number, &mut left);
            let is_ready = circle.count().ready > 0;
            assert_eq!(mirror.is_ready(number), Some(is_ready));
            let choice = mirror.choose(number, &mut self.rng, |_| 0);
            self.router.check_sent(circle, choice, &mut self.rng);
        }
        assert!(left.is_empty(), "groups of {topic:?} are not told");
    }

    /// Everybody leaves, and nothing is left.
    fn finish(mut self) {
        if let Some(one) = self.going.take() {
            self.router
                .end_search(&one.topic, one.search, &mut self.found);
        }
        let model = std::mem::take(&mut self.model);
        for (filter, who, _) in &model.subscriptions {
            let ended = self.router.unsubscribe(filter, None, key(*who));
            self.tell(ended.expect("it stands").0, filter, None);
        }
        for ((filter, name), circle) in &model.groups {
            for who in circle.own.keys() {
                let ended = self.router.unsubscribe(filter, Some(name), key(*who));
                let (change, number) = ended.expect("it stands");
                self.tell(change, filter, Some(name).copied().zip(number));
            }
            for shard in circle.others.keys() {
                let group = Some((*name, number_at(*shard)));
                self.router
                    .note(ShardId(*shard), filter, group, Count::default());
            }
        }
        for (filter, (circle, _)) in &model.services {
            for who in circle.own.keys() {
                let ended = self.router.unserve(filter, key(*who));
                let (change, number) = ended.expect("it serves");
                self.tell_servers(change, filter, number.expect("a group's number"));
            }
            for shard in circle.others.keys() {
                let (id, number) = (ShardId(*shard), number_at(*shard));
                self.router
                    .note_servers(id, filter, number, Count::default());
            }
        }
        for (filter, shard) in &model.shards {
            self.router
                .note(ShardId(*shard), filter, None, Count::default());
        }
        for router in [&self.router, &self.mirror] {
            assert_eq!(router.filter_count(), 0);
            let mut found = Matches::new();
            for topic in ["a", "a/b", "$s", "a//b"] {
                assert!(router.find(topic, &mut found, usize::MAX));
                assert!(found.is_empty(), "{topic}");
                let mut search = ServerSearch::default();
                let rng = &mut self.rng;
                assert!(router.seek_server(topic, &mut search, rng, usize::MAX).1);
                assert_eq!(router.found_server(&search, rng, |_| 0), None);
            }
        }
        self.forget_retained(&model);
    }
}

/// The circle of a group that was found, which is then no longer left to be found.
fn named<'m>(
    router: &Router,
    number: Key,
    left: &mut BTreeMap<&model::Terms, &'m Circle>,
) -> &'m Circle {
    let (filter, name) = router.group_name(number).expect("it was found");
    let known = |terms: &&model::Terms| terms.0 == filter && terms.1 == name;
    let terms = left.keys().copied().find(known);
    let terms = terms.unwrap_or_else(|| panic!("{filter} {name:?} has nobody"));
    left.remove(terms).expect("it was found here")
}

trait Sent {
    /// A message sent here by another shard's choice meets a member that takes it.
    fn check_sent(&self, circle: &Circle, choice: Option<Choice>, rng: &mut fastrand::Rng);
}

impl Sent for Router {
    fn check_sent(&self, circle: &Circle, choice: Option<Choice>, rng: &mut fastrand::Rng) {
        let Some(Choice::Remote { shard, group }) = choice else {
            panic!("{choice:?} for members of another shard");
        };
        assert_eq!(shard, OWN);
        let one = self.choose_local(group, rng, |key| key.slot);
        let who = one.expect("it was told").connection.slot;
        assert!(circle.may_choose(who), "{who} was chosen");
    }
}

fn set_stalled(
    router: &mut Router,
    circle: &mut Circle,
    number: Key,
    who: u32,
    is_stalled: bool,
) -> Change {
    let change = router.set_stalled(number, key(who), is_stalled);
    let own = circle.own.get_mut(&who);
    let is_new = own.is_some_and(|own| std::mem::replace(&mut own.1, is_stalled) != is_stalled);
    assert_eq!(change != Change::None, is_new);
    let count = router.group_count(number);
    assert_eq!(count, Some(circle.count()));
    change
}
