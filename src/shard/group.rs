//! Members of groups: which one gets a message, and who counts as stalled.
//!
//! ```text
//!   PUBLISH ─► group ─► a member here
//!                    └► a shard ─► a member there ─ all have left ─► a member elsewhere
//! ```
//!
//! A subscriber that a publication reaches by other filters as well has it once. Where it
//! goes to a member after the plain subscribers of that shard have had it (they may have had
//! it from elsewhere: it comes from a member that has left), those count as having it: one
//! of the others is chosen, and if there is none, a member has it.
//!
//! A member stalls when it has to wait on its pending queue, and when the kernel holds much for it:
//! a program that hangs takes in megabytes before anything waits here. The kernel does not
//! say when that is over, so it is asked; more and more rarely while nothing is read.

use super::audience::SUBSCRIBERS_PER_UNIT;
use super::backlog::{LOOK_MAX, LOOK_MIN};
use super::broker::Broker;
use super::connection::Connection;
use super::publication::{Origin, Publication};
use super::state::Shard;
use super::transport::Stage;
use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::slab::Slab;
use crate::metrics::counter::Counter;
use crate::ring::driver::Driver;
use crate::router::{Choice, ShardSet, Subscription};

impl Broker {
    /// The member that gets a group's message: here or on another shard.
    pub(super) fn choose(&mut self, group: Key) -> Option<Choice> {
        let connections = &self.connections;
        self.router
            .choose(group, &mut self.random, |key| load(connections, key))
    }

    /// The member that gets a message another shard has picked this one for: if all here
    /// have gone meanwhile, one elsewhere.
    pub(super) fn choose_here(&mut self, group: Key) -> Option<Choice> {
        let connections = &self.connections;
        let here = self
            .router
            .choose_local(group, &mut self.random, |key| load(connections, key));
        match here {
            Some(member) => Some(Choice::Local(member)),
            None => self.choose(group),
        }
    }

    /// Gives a publication to a member of this shard.
    pub(super) fn deliver_to_member(
        &mut self,
        group: Key,
        member: Subscription,
        publication: &mut Publication<'_>,
    ) {
        publication.group = Some(group);
        self.deliver(member, publication);
        publication.group = None;
    }

    /// Gives a publication to a member of each of these groups, if that is one of this shard;
    /// the others are picked for their shards. How many were here.
    #[inline]
    pub(super) fn deliver_or_pick(
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

    /// Gives a publication to a member of each of these groups, after all plain subscribers
    /// were given it: those that `had` it over turns, the others by its number; `again`: to
    /// another of this shard than those, if there is one. Those of other shards are picked:
    /// see `send_on`.
    pub(super) fn deliver_to_groups(
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

    /// Gives a publication to a member that has not had it as a plain subscriber, as `note_plain`
    /// has noted; one of this shard's if it shall be `here`. False: there is no member.
    pub(super) fn deliver_again(
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
                // None: all members here have it, so one has.
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

    /// Sends a publication to members of other shards, whose plain subscribers have had it: of
    /// each shard all at once, which tells it who has it already.
    pub(super) fn send_on(&mut self, picks: &[(ShardId, Key)], publication: &mut Publication<'_>) {
        let terms = publication.terms(false, true, self.resources.now);
        let nowhere = ShardSet::default();
        let (parcel, translated) = publication.forms();
        self.mesh
            .publish(parcel, &nowhere, picks, terms, translated, None);
    }

    /// All plain subscribers of this shard count as having it. False: finding them takes long.
    pub(super) fn note_plain(&mut self, publication: &Publication<'_>) -> bool {
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

impl<D: Driver> Shard<D> {
    /// The kernel has taken so many bytes more for a member of a group.
    #[cold]
    pub(super) fn follow_trail(&mut self, key: Key, went: usize) {
        let broker = &mut self.broker;
        let Some(connection) = broker.connections.get_mut(key) else {
            return;
        };
        let Some(station) = &mut connection.member.station else {
            return;
        };
        if !station.trail.note_left(went) {
            return;
        }
        let socket = self.streams.of(key.slot).socket;
        let held = self.driver.unacknowledged(socket);
        let changed = station.trail.note_held(held);
        let backed_up = station.trail.backed_up;
        connection.member.recharge(&mut broker.resources);
        if changed && backed_up {
            broker.backed_up.add(key, broker.resources.now);
            broker.note_stalled(key, true);
        } else if changed {
            broker.note_kept_up(key);
        } else if backed_up {
            let now = broker.resources.now;
            broker.backed_up.hurry(key, now);
        }
    }

    /// Asks whether the kernel still holds much for those for whom it did.
    pub(super) fn look_at_backed_up(&mut self) {
        let broker = &mut self.broker;
        let now = broker.resources.now;
        if now < broker.backed_up.next_look {
            return;
        }
        let mut members = std::mem::take(&mut broker.backed_up.members);
        members.retain_mut(|one| {
            let Some(connection) = broker.connections.get_mut(one.member) else {
                return false;
            };
            let Some(station) = &mut connection.member.station else {
                return false;
            };
            if connection.transport.stage != Stage::Running || !station.trail.backed_up {
                return false;
            }
            if now < one.next_look {
                return true;
            }
            let socket = self.streams.of(one.member.slot).socket;
            let held = self.driver.unacknowledged(socket);
            if !station.trail.note_held(held) {
                let reads = held < std::mem::replace(&mut one.held, held);
                one.pause = match reads {
                    true => LOOK_MIN,
                    false => (one.pause * 2).min(LOOK_MAX),
                };
                one.next_look = now + one.pause;
                return true;
            }
            connection.member.recharge(&mut broker.resources);
            broker.note_kept_up(one.member);
            false
        });
        let looks = members.iter().map(|one| one.next_look);
        broker.backed_up.next_look = looks.min().unwrap_or(Instant::NEVER);
        broker.backed_up.members = members;
    }
}

impl Broker {
    /// The kernel holds little for it again.
    fn note_kept_up(&mut self, key: Key) {
        let connection = self.connections.get(key);
        if connection.is_some_and(|one| !one.member.has_pending && !one.transport.has_left) {
            self.note_stalled(key, false);
        }
    }
}

/// How much a connection has before it, in a measure of which only the order counts.
pub(super) fn load(connections: &Slab<Connection>, key: Key) -> u32 {
    connections.get(key).map_or(u32::MAX, Connection::load)
}
