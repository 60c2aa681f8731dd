//! Finds who gets a message. A match that takes more than one step stops after some nodes of the
//! trie and continues in a later turn; connections may subscribe and unsubscribe in between.
//!
//! ```text
//!   begin_search ─► go_on ─► go_on ─► … ─► end_search
//!     │  a connection that subscribes from here on is not found
//! ```
//!
//! A connection subscribed from the search's beginning to its end is found, once, with the options
//! of its first matching subscription. One that unsubscribes meanwhile may be found or not. One
//! that subscribes meanwhile is not: if the message is retained, its SUBSCRIBE has already
//! delivered it. To exclude those, the router records new subscriptions while a search is open.
//!
//! Invariants: `since` is empty while no search is open; every pair in it is subscribed.

use super::Subscription;
use super::elsewhere::Elsewhere;
use super::interest::Interest;
use super::trie::{FilterId, Place, Trie};
use crate::base::id::Key;
use crate::base::slot_set::SlotSet;
use std::collections::BTreeMap;

/// Who gets a message. Reused between matches.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    /// One entry for each filter that matches: a connection may appear several times.
    pub local: Vec<Subscription>,
    /// What other shards have to do for it.
    pub elsewhere: Elsewhere,
    /// Groups with members on any shard, by this shard's own keys, for `choose`.
    pub groups: Vec<Key>,
    /// How many nodes of the trie the match visited.
    pub nodes: usize,
    /// The topic it is for, and the epoch in which it was made.
    topic: String,
    epoch: u64,
    /// The match takes more nodes than allowed: the result is empty.
    is_long: bool,
}

impl Matches {
    pub const fn new() -> Matches {
        Matches {
            local: Vec::new(),
            elsewhere: Elsewhere::new(),
            groups: Vec::new(),
            nodes: 0,
            topic: String::new(),
            epoch: 0,
            is_long: false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.local.is_empty() && self.groups.is_empty() && self.elsewhere.shards.is_empty()
    }

    pub fn clear(&mut self) {
        self.local.clear();
        self.elsewhere.clear();
        self.groups.clear();
        (self.nodes, self.epoch, self.is_long) = (0, 0, false);
    }

    pub(super) fn find(
        &mut self,
        topics: &Trie<Interest>,
        epoch: u64,
        topic: &str,
        nodes_max: usize,
    ) -> bool {
        if self.epoch == epoch && self.topic == topic {
            self.nodes = 0;
            return !self.is_long;
        }
        self.clear();
        let mut place = Place::default();
        let (nodes, is_done) = topics.matching_some(topic, &mut place, nodes_max, |_, interest| {
            self.local.extend_from_slice(interest.local());
            interest.add_shards_to(&mut self.elsewhere);
            self.groups.extend_from_slice(interest.groups());
        });
        if !is_done {
            self.clear();
        }
        (self.nodes, self.epoch, self.is_long) = (nodes, epoch, !is_done);
        self.elsewhere.nodes = nodes;
        topic.clone_into(&mut self.topic);
        is_done
    }

    /// Takes over what a search has found. True: nothing has changed since it began.
    pub(super) fn take(&mut self, search: Search, topic: &str, epoch: u64) -> bool {
        self.clear();
        (self.local, self.groups) = (search.local, search.groups);
        self.elsewhere = search.elsewhere;
        let is_current = search.epoch == epoch;
        if is_current {
            self.epoch = epoch;
            topic.clone_into(&mut self.topic);
        }
        is_current
    }
}

/// How many subscribers take as long as one node of the trie.
const SUBSCRIBERS_PER_NODE: usize = 8;

/// See the module's head.
pub struct Search {
    place: Place,
    /// The router's epoch when the search began.
    epoch: u64,
    local: Vec<Subscription>,
    /// The slots of the connections in `local`.
    seen: SlotSet,
    elsewhere: Elsewhere,
    groups: Vec<Key>,
}

/// Subscriptions made while a search is open, each with the epoch in which it began.
#[derive(Default)]
pub(super) struct Newcomers {
    since: BTreeMap<(FilterId, Key), u64>,
    searches: usize,
}

impl Newcomers {
    pub(super) fn begin(&mut self) {
        self.searches += 1;
    }

    pub(super) fn end(&mut self) {
        self.searches -= 1;
        if self.searches == 0 {
            self.since = BTreeMap::new();
        }
    }

    #[inline]
    pub(super) fn note(&mut self, filter: FilterId, connection: Key, epoch: u64) {
        if self.searches > 0 {
            self.since.insert((filter, connection), epoch);
        }
    }

    #[inline]
    pub(super) fn forget(&mut self, filter: FilterId, connection: Key) {
        if !self.since.is_empty() {
            self.since.remove(&(filter, connection));
        }
    }

    fn was_there(&self, filter: FilterId, connection: Key, epoch: u64) -> bool {
        let since = self.since.get(&(filter, connection));
        since.is_none_or(|since| *since <= epoch)
    }
}

impl Search {
    pub(super) fn new(epoch: u64) -> Search {
        Search {
            place: Place::default(),
            epoch,
            local: Vec::new(),
            seen: SlotSet::new(),
            elsewhere: Elsewhere::new(),
            groups: Vec::new(),
        }
    }

    pub(super) fn go_on(
        &mut self,
        topics: &Trie<Interest>,
        newcomers: &Newcomers,
        topic: &str,
        nodes_max: usize,
    ) -> (usize, bool) {
        let mut place = self.place;
        let mut looks = 0;
        let take = |filter, interest: &Interest| {
            looks += interest.local().len() + interest.groups().len();
            self.take(filter, interest, newcomers);
        };
        let (nodes, is_done) = topics.matching_some(topic, &mut place, nodes_max, take);
        self.place = place;
        self.elsewhere.nodes += nodes;
        (nodes + looks / SUBSCRIBERS_PER_NODE, is_done)
    }

    /// How many bytes of memory it holds.
    pub fn held_bytes(&self) -> usize {
        self.local.capacity() * size_of::<Subscription>()
            + self.seen.held_bytes()
            + self.groups.capacity() * size_of::<Key>()
    }

    fn take(&mut self, filter: FilterId, interest: &Interest, newcomers: &Newcomers) {
        for subscription in interest.local() {
            let Key { slot, .. } = subscription.connection;
            if newcomers.was_there(filter, subscription.connection, self.epoch)
                && self.seen.insert(slot)
            {
                self.local.push(*subscription);
            }
        }
        interest.add_shards_to(&mut self.elsewhere);
        self.groups.extend_from_slice(interest.groups());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Model, OWN, Op, Wanted, assert_nothing_is_left, found, name, op};
    use super::*;
    use crate::base::id::ShardId;
    use crate::proto::name::matches;
    use crate::router::Router;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Who gets a message according to the model: plain subscribers, members of groups, other
    /// shards.
    fn wanting(model: &Model, topic: &str) -> BTreeSet<(Wanted, Option<u32>, Option<u16>)> {
        let is = |wanted: &Wanted| matches(&wanted.0, topic);
        let local = model.local.iter().filter(|(wanted, _)| is(wanted));
        let local = local.flat_map(|(wanted, all)| {
            let slots = all.keys().copied();
            slots.map(|slot| (wanted.clone(), Some(slot), None))
        });
        let others = model.others.iter().filter(|(wanted, _)| is(wanted));
        let others = others.flat_map(|(wanted, all)| {
            let shards = all.keys().copied();
            shards.map(|shard| (wanted.clone(), None, Some(shard)))
        });
        local.chain(others).collect()
    }

    proptest! {
        #[test]
        fn a_subscription_that_stays_is_found_once_whatever_else_changes(
            before in prop::collection::vec(op(), 1..200),
            meanwhile in prop::collection::vec(op(), 0..40),
            topic in name(&["a", "b", "$c", "a level of more than 22 bytes"]),
            steps in prop::collection::vec(0usize..4, 1..20),
        ) {
            let mut model = Model::default();
            let mut router = Router::new(OWN);
            for op in before {
                model.apply(&mut router, op);
            }
            let first = wanting(&model, &topic);
            let mut always = first.clone();
            let mut search = router.begin_search();
            let mut meanwhile = meanwhile.into_iter();
            for step in steps.iter().cycle() {
                if router.go_on(&topic, &mut search, *step).1 {
                    break;
                }
                for op in meanwhile.by_ref().take(*step) {
                    model.apply(&mut router, op);
                    let now = wanting(&model, &topic);
                    always.retain(|one| now.contains(one));
                }
            }
            let mut matches = Matches::new();
            router.end_search(&topic, search, &mut matches);

            let slots: Vec<u32> = matches.local.iter().map(|one| one.connection.slot).collect();
            let distinct: BTreeSet<u32> = slots.iter().copied().collect();
            prop_assert_eq!(slots.len(), distinct.len(), "none twice");
            let plain = |all: &BTreeSet<(Wanted, Option<u32>, Option<u16>)>| {
                let plain = all.iter().filter(|one| one.0.1.is_none());
                plain.filter_map(|one| one.1).collect::<BTreeSet<_>>()
            };
            prop_assert!(distinct.is_superset(&plain(&always)));
            prop_assert!(distinct.is_subset(&plain(&first)), "newcomers");
            let groups: BTreeSet<Key> = matches.groups.iter().copied().collect();
            prop_assert_eq!(groups.len(), matches.groups.len(), "none twice");
            for ((filter, group), _, shard) in always {
                if let Some(group) = group {
                    let mut names = groups.iter().filter_map(|key| router.group_name(*key));
                    prop_assert!(names.any(|one| one == (&filter, &[group])));
                } else if let Some(shard) = shard {
                    prop_assert!(matches.elsewhere.shards.contains(ShardId(shard)));
                }
            }
        }

        #[test]
        fn a_match_in_steps_is_the_match_in_one(
            ops in prop::collection::vec(op(), 1..200),
            topics in prop::collection::vec(name(&["a", "b", "$c"]), 10),
            nodes in 0usize..6,
        ) {
            let mut model = Model::default();
            let mut router = Router::new(OWN);
            for op in ops {
                model.apply(&mut router, op);
            }
            for topic in &topics {
                let mut whole = found(&router, topic);
                let mut seen = BTreeSet::new();
                whole.local.retain(|one| seen.insert(one.connection.slot));
                let mut search = router.begin_search();
                let mut taken = 0;
                loop {
                    let (one, is_done) = router.go_on(topic, &mut search, nodes);
                    taken += one;
                    if is_done {
                        break;
                    }
                    prop_assert!(taken < 10_000, "it comes to no end");
                }
                let mut cut = Matches::new();
                prop_assert!(router.end_search(topic, search, &mut cut));
                prop_assert_eq!(&cut.local, &whole.local);
                prop_assert_eq!(&cut.groups, &whole.groups);
                prop_assert_eq!(&cut.elsewhere.shards, &whole.elsewhere.shards);
                // The result is as good as that of `find`.
                prop_assert!(router.find(topic, &mut cut, 1));
                prop_assert_eq!((cut.nodes, &cut.local), (0, &whole.local));
            }
        }
    }

    #[test]
    fn newcomers_are_recorded_only_during_a_search() {
        let mut router = Router::new(OWN);
        let mut model = Model::default();
        let subscribe = |slot| Op::Subscribe("a/+".into(), None, slot);
        let search = router.begin_search();
        model.apply(&mut router, subscribe(1));
        model.apply(&mut router, subscribe(2));
        assert_eq!(router.newcomers.since.len(), 2);
        model.apply(&mut router, Op::Unsubscribe("a/+".into(), None, 1));
        assert_eq!(router.newcomers.since.len(), 1);
        let current = router.end_search("a/b", search, &mut Matches::new());
        assert!(!current && router.newcomers.since.is_empty());
        model.apply(&mut router, subscribe(1));
        assert!(router.newcomers.since.is_empty());
        for slot in [1, 2] {
            model.apply(&mut router, Op::Unsubscribe("a/+".into(), None, slot));
        }
        assert_nothing_is_left(&router);
    }
}
