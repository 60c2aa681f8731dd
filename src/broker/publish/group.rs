//! Groups: which member gets a message, and which members count as stalled.
//!
//! ```text
//!   PUBLISH ─► group ─► a member here
//!                    └► a shard ─► a member there ─ all have left ─► a member elsewhere
//! ```
//!
//! A subscriber that a publication also reaches through other filters gets it once. If a group
//! message is delivered after that shard's plain subscribers have received it (perhaps from
//! elsewhere: the message comes from a member that has left), those count as having it: one of the
//! other members is chosen, and if there is none, a member has it already.
//!
//! A member is stalled when messages wait on its pending queue, and when the kernel holds much for
//! it: a program that hangs takes in megabytes before anything waits here. The kernel does not
//! report when that has drained, so the shard polls; less and less often while nothing is read.

use crate::base::id::{Key, ShardId};
use crate::base::slab::Slab;
use crate::broker::Broker;
use crate::broker::peers::connection::Connection;
use crate::broker::publish::audience::SUBSCRIBERS_PER_UNIT;
use crate::broker::publish::publication::{Origin, Publication};
use crate::metrics::counter::Counter;
use crate::router::{Choice, Elsewhere, Subscription};

impl Broker {
    /// Chooses the member that gets a group's message: here or on another shard.
    pub(in crate::broker) fn choose(&mut self, group: Key) -> Option<Choice> {
        let connections = &self.connections;
        self.router
            .choose(group, &mut self.random, |key| load(connections, key))
    }

    /// Chooses the member that gets a message for which another shard has picked this one: if all
    /// members here have left meanwhile, one elsewhere.
    pub(in crate::broker) fn choose_here(&mut self, group: Key) -> Option<Choice> {
        let connections = &self.connections;
        let here = self
            .router
            .choose_local(group, &mut self.random, |key| load(connections, key));
        match here {
            Some(member) => Some(Choice::Local(member)),
            None => self.choose(group),
        }
    }

    /// Delivers a publication to a member on this shard.
    pub(in crate::broker) fn deliver_to_member(
        &mut self,
        group: Key,
        member: Subscription,
        publication: &mut Publication<'_>,
    ) {
        publication.group = Some(group);
        self.deliver(member, publication);
        publication.group = None;
    }

    /// Delivers a publication to a member of each of these groups if the chosen member is on this
    /// shard; for the others, picks their shards. Returns how many were here.
    #[inline]
    pub(in crate::broker) fn deliver_or_pick(
        &mut self,
        groups: &[Key],
        publication: &mut Publication<'_>,
        picks: &mut Vec<(ShardId, Key)>,
    ) -> usize {
        let mut here = 0;
        for &group in groups {
            match self.choose(group) {
                Some(Choice::Local(member)) => {
                    self.deliver_to_member(group, member, publication);
                    here += 1;
                }
                Some(Choice::Remote { shard, group }) => picks.push((shard, group)),
                None => {}
            }
        }
        here
    }

    /// Delivers a publication to a member of each of these groups after all plain subscribers have
    /// received it (`had` tells which: by a list if that took several turns, otherwise by its
    /// number). `again`: choose another member of this shard than those, if there is one. Members
    /// of other shards are picked: see `send_on`.
    pub(in crate::broker) fn deliver_to_groups(
        &mut self,
        origin: Origin,
        groups: &[Key],
        again: bool,
        mut had: impl FnMut(Key) -> bool,
        publication: &mut Publication<'_>,
        picks: &mut Vec<(ShardId, Key)>,
    ) {
        for &group in groups {
            let chosen = match origin {
                Origin::Link(_) => self.choose_here(group),
                Origin::Connection(_) | Origin::Home(_) | Origin::Nobody => self.choose(group),
            };
            match chosen {
                Some(Choice::Local(member)) => {
                    let member = match had(member.connection) {
                        false => Some(member),
                        true if again => self.router.first_member(group, |key| !had(key)),
                        true => None,
                    };
                    if let Some(member) = member {
                        self.deliver_to_member(group, member, publication);
                    }
                }
                Some(Choice::Remote { shard, group }) => picks.push((shard, group)),
                None => self.resources.counters.add(Counter::GroupLost, 1),
            }
        }
    }

    /// Delivers a publication to a member that has not received it as a plain subscriber, as
    /// recorded by `note_plain`; `here`: one of this shard, if possible. False: there is no member.
    pub(in crate::broker) fn deliver_again(
        &mut self,
        group: Key,
        here: bool,
        publication: &mut Publication<'_>,
    ) -> bool {
        self.resources.work.spend(1);
        let chosen = match here {
            true => self.choose_here(group),
            false => self.choose(group),
        };
        let has_it = |broker: &Broker, key: Key| {
            let connection = broker.connections.get(key);
            connection.is_some_and(|one| one.member.has_taken(publication))
        };
        let member = match chosen {
            Some(Choice::Local(member)) if has_it(self, member.connection) => {
                let others = |key| !has_it(self, key);
                // `None`: all members here have it, so a member has it.
                self.router.first_member(group, others)
            }
            Some(Choice::Local(member)) => Some(member),
            Some(Choice::Remote { shard, group }) => {
                self.send_on(&[(shard, group)], publication);
                return true;
            }
            None => {
                self.resources.counters.add(Counter::GroupLost, 1);
                return false;
            }
        };
        if let Some(member) = member {
            self.deliver_to_member(group, member, publication);
        }
        true
    }

    /// Sends a publication to members on other shards, whose plain subscribers have received it: to
    /// all groups of a shard at once, so that the shard knows who has it already.
    pub(in crate::broker) fn send_on(
        &mut self,
        picks: &[(ShardId, Key)],
        publication: &mut Publication<'_>,
    ) {
        let terms = publication.terms(false, true, self.resources.now);
        let nowhere = Elsewhere::default();
        let (parcel, translated) = publication.forms();
        self.mesh
            .publish(parcel, &nowhere, picks, terms, translated, None);
    }

    /// Marks all plain subscribers of this shard as having it. False: finding them takes too long.
    pub(in crate::broker) fn note_plain(&mut self, publication: &Publication<'_>) -> bool {
        let mut matches = std::mem::take(&mut self.matches);
        let is_found = self.find(publication.envelope.name, &mut matches);
        self.resources
            .work
            .spend(matches.local.len() / SUBSCRIBERS_PER_UNIT);
        for subscription in &matches.local {
            if let Some(connection) = self.connections.get_mut(subscription.connection) {
                connection.member.note_taken(publication);
            }
        }
        self.matches = matches;
        is_found
    }
}

impl Broker {
    /// The kernel no longer holds much for it.
    pub(crate) fn note_kept_up(&mut self, key: Key) {
        let connection = self.connections.get(key);
        if connection.is_some_and(|one| !one.member.has_pending && !one.transport.has_left) {
            self.note_stalled(key, false);
        }
    }
}

/// A connection's load, as a measure of which only the order counts.
pub(in crate::broker) fn load(connections: &Slab<Connection>, key: Key) -> u32 {
    connections.get(key).map_or(u32::MAX, Connection::load)
}
