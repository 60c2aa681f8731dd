//! Retained messages: what late subscribers get, and that earlier subscribers saw the same message
//! last.

use super::delivery::keeps_all;
use super::{Evidence, Verdict, Witness, suits};
use ringmail::ring::sim::client::ClientId;
use ringmail::ring::sim::client::traffic::{Label, Published};
use std::collections::{BTreeMap, BTreeSet};

type Made<'a> = (&'a Witness, Label, &'a Published);

impl Evidence {
    /// What late subscribers on different shards got as retained messages: for each topic the last
    /// one published, or one of those that may have been the last; and all of them the same.
    pub fn check_retained(&self, late: &[ClientId]) -> Verdict {
        let topics: BTreeSet<&str> = self
            .retained()
            .map(|one| one.2.plan.topic.as_str())
            .collect();
        let mut seen: BTreeMap<&str, BTreeSet<Option<Label>>> = BTreeMap::new();
        for witness in late.iter().filter_map(|&id| self.witness(id)) {
            for &topic in &topics {
                let delivered = witness.record.delivered.iter();
                let mut found = delivered.filter(|one| one.topic == topic);
                let first = found.next().map(|one| one.label);
                seen.entry(topic).or_default().insert(first);
                if found.next().is_some() {
                    return Err(format!("to {:?}: {topic}: retained twice", witness.id));
                }
            }
        }
        for (topic, seen) in &seen {
            self.check_agreed(topic, seen)?;
        }
        for (topic, seen) in seen {
            if seen.len() > 1 {
                let each = late.iter().filter_map(|&id| self.witness(id));
                let each = each.map(|one| {
                    let shard = one.record.connections.last().and_then(|last| last.shard);
                    let mut of = one.record.delivered.iter();
                    (
                        shard,
                        of.find(|one| one.topic == topic).map(|one| one.label),
                    )
                });
                let each: Vec<_> = each.collect();
                return Err(format!("{topic}: not the same for all: {each:?}"));
            }
            let wanted = self.last_retained(topic);
            if !seen.is_subset(&wanted) {
                return Err(format!("{topic}: retained {seen:?}, not one of {wanted:?}"));
            }
        }
        Ok(())
    }

    /// Every client subscribed to the end, on whatever shard, received the retained message last.
    fn check_agreed(&self, topic: &str, seen: &BTreeSet<Option<Label>>) -> Verdict {
        for receiver in &self.witnesses {
            for registration in &receiver.record.subscriptions {
                let stays = registration.left_at.is_none()
                    && registration.refused.is_none()
                    && receiver.is_whole(registration.membership);
                let has_max = receiver.plan.message_max.is_some();
                if !stays || has_max || !suits(registration, topic) || !keeps_all(registration) {
                    continue;
                }
                let delivered = receiver.record.delivered.iter().rev();
                let mut retained = delivered.filter(|one| {
                    // One from before the SUBSCRIBE belongs to a subscription that it has ended.
                    let is_of_it =
                        one.membership == registration.membership && one.at >= registration.sent_at;
                    is_of_it && one.topic == topic && one.retain
                });
                let last = retained.next().and_then(|one| {
                    let empty = self.find(one).is_some_and(|one| one.plan.empty);
                    (!empty).then_some(one.label)
                });
                if !seen.contains(&last) {
                    let to = receiver.id;
                    return Err(format!(
                        "to {to:?}: {topic}: {last:?} came last, retained is {seen:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn retained(&self) -> impl Iterator<Item = Made<'_>> {
        self.published().filter(|(_, _, published)| {
            published.plan.retain && !published.is_will && published.refused.is_none()
        })
    }

    /// The messages that may be a topic's retained one: those after which no other was certainly
    /// published. `None`: cleared, or perhaps never taken.
    fn last_retained(&self, topic: &str) -> BTreeSet<Option<Label>> {
        let of: Vec<Made<'_>> = self
            .retained()
            .filter(|one| one.2.plan.topic == topic)
            .collect();
        let surely = |one: &Made<'_>| one.0.taken_at(one.1.number);
        let follows = |one: &Made<'_>, other: &Made<'_>| {
            let same = one.1.sender == other.1.sender && one.2.membership == other.2.membership;
            let later = surely(one).is_some_and(|at| at < other.2.sent_at);
            surely(other).is_some() && ((same && one.1.number < other.1.number) || later)
        };
        let last = of
            .iter()
            .filter(|one| !of.iter().any(|other| follows(one, other)));
        let mut last: BTreeSet<_> = last
            .map(|one| (!one.2.plan.empty).then_some(one.1))
            .collect();
        if of.iter().all(|one| surely(one).is_none()) {
            last.insert(None);
        }
        last
    }
}
