//! What the interest map has to know, as lists.

use ringmail::base::clock::Instant;
use ringmail::base::id::{Key, ShardId};
use ringmail::proto::envelope::Codec;
use ringmail::proto::name::matches;
use ringmail::router::{Choice, Count, Version};
use std::collections::{BTreeMap, BTreeSet};

/// A filter and the name of a group on it.
pub type Terms = (String, &'static [u8]);

/// Members of which one is chosen: a group's, or the servers of a filter.
#[derive(Default)]
pub struct Circle {
    /// This shard's, by connection: the codec of each, and whether it is stalled.
    pub own: BTreeMap<u32, (Codec, bool)>,
    pub others: BTreeMap<u16, Count>,
}

impl Circle {
    /// This shard's members that may be chosen: the ready ones or, if none is, all.
    fn candidates(&self) -> Vec<u32> {
        let ready = self.own.iter().filter(|(_, (_, is_stalled))| !is_stalled);
        let ready: Vec<u32> = ready.map(|(who, _)| *who).collect();
        match ready.is_empty() {
            true => self.own.keys().copied().collect(),
            false => ready,
        }
    }

    pub fn count(&self) -> Count {
        let ready = self.own.values().filter(|(_, is_stalled)| !is_stalled);
        Count {
            total: self.own.len() as u32,
            ready: ready.count() as u32,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.count().ready > 0 || self.others.values().any(|count| count.ready > 0)
    }

    /// Whether this one may be chosen where a higher number has more in flight: two are drawn, so
    /// that the most loaded one of several never is.
    pub fn may_choose(&self, who: u32) -> bool {
        let candidates = self.candidates();
        candidates.contains(&who) && (candidates.len() == 1 || candidates.last() != Some(&who))
    }

    /// This shard's first choice of those that suit.
    pub fn is_first(&self, who: Option<u32>, suits: impl Fn(u32) -> bool) -> bool {
        let suiting = |of: Vec<u32>| -> Vec<u32> {
            let of = of.into_iter();
            of.filter(|who| suits(*who)).collect()
        };
        let mut wanted = suiting(self.candidates());
        if wanted.is_empty() {
            wanted = suiting(self.own.keys().copied().collect());
        }
        who.map_or(wanted.is_empty(), |who| wanted.contains(&who))
    }

    pub fn is_gone(&self) -> bool {
        self.own.is_empty() && self.others.is_empty()
    }

    pub fn note(&mut self, shard: u16, count: Count) {
        match count.total {
            0 => drop(self.others.remove(&shard)),
            _ => drop(self.others.insert(shard, count)),
        }
    }
}

/// What another shard calls its part of a group.
pub fn number_at(shard: u16) -> Key {
    key(1000 + u32::from(shard))
}

pub fn key(slot: u32) -> Key {
    Key {
        slot,
        generation: 7,
    }
}

/// One member of all circles together was chosen, a ready one if there is any.
pub fn check_choice(circles: &[&Circle], choice: Option<Choice>) {
    let is_ready = circles.iter().any(|circle| circle.is_ready());
    match choice {
        None => assert!(circles.iter().all(|circle| circle.is_gone())),
        Some(Choice::Local(one)) => {
            let who = one.connection.slot;
            let fits = |circle: &&Circle| {
                circle.own.get(&who).is_some_and(|own| own.0 == one.codec)
                    && circle.may_choose(who)
                    && (!is_ready || circle.count().ready > 0)
            };
            assert!(circles.iter().any(fits), "{who} was chosen");
        }
        Some(Choice::Remote { shard, group }) => {
            assert_eq!(group, number_at(shard.0));
            let mut told = circles.iter().filter_map(|it| it.others.get(&shard.0));
            assert!(
                told.any(|count| !is_ready || count.ready > 0),
                "{shard:?} was chosen"
            );
        }
    }
}

/// The last message of a topic, and when it expires.
pub type Retained = (Version, Option<(Vec<u8>, Instant)>);

#[derive(Default)]
pub struct Model {
    /// Without a group, in the order they came; no two alike.
    pub subscriptions: Vec<(String, u32, Codec)>,
    pub groups: BTreeMap<Terms, Circle>,
    /// By filter, with this shard's number.
    pub services: BTreeMap<String, (Circle, Option<Key>)>,
    /// Shards with subscribers of a filter.
    pub shards: BTreeSet<(String, u16)>,
    pub retained: BTreeMap<String, Retained>,
}

impl Model {
    pub fn plain(&self, topic: &str) -> Vec<(u32, u8)> {
        let mut all: Vec<(u32, u8)> = self
            .subscriptions
            .iter()
            .filter(|(filter, ..)| matches(filter, topic))
            .map(|(_, who, codec)| (*who, *codec as u8))
            .collect();
        all.sort_unstable();
        all
    }

    pub fn shards(&self, topic: &str) -> BTreeSet<ShardId> {
        let known = self.shards.iter();
        let known = known.filter(|(filter, _)| matches(filter, topic));
        known.map(|(_, shard)| ShardId(*shard)).collect()
    }

    pub fn groups(&self, topic: &str) -> BTreeMap<&Terms, &Circle> {
        let known = self.groups.iter();
        known
            .filter(|((filter, _), _)| matches(filter, topic))
            .collect()
    }

    pub fn services(&self, service: &str) -> Vec<&Circle> {
        let known = self.services.iter();
        let known = known.filter(|(filter, _)| matches(filter, service));
        known.map(|(_, (circle, _))| circle).collect()
    }

    /// Groups and services without a member anywhere are none.
    pub fn drop_empty(&mut self) {
        self.groups.retain(|_, circle| !circle.is_gone());
        self.services.retain(|_, (circle, _)| !circle.is_gone());
    }
}
