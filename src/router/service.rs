//! Who answers requests: SERVE and its like.
//!
//! The servers of one filter are one group, on whatever shards they are, chosen from as
//! members of groups are; a request that several filters match goes to one member of all
//! their groups together. Names of services are a world of their own: what subscribes to a
//! topic of the same name hears nothing of it. A GROUP header means nothing here.
//!
//! What it does not do: the built-in services and the embedding program's, which the shard
//! asks first.
//!
//! Invariants: each filter in `services` has one group, whose `filter` it is.

use super::group;
use super::{Change, Choice, Count, FilterId, Router, Subscribed, Subscription};
use crate::base::id::{Key, ShardId};
use crate::proto::envelope::Codec;
use fastrand::Rng;
use std::cell::Cell;

/// Names no group: there are no 2^32 of them.
const NO_GROUP: Key = Key {
    slot: u32::MAX,
    generation: 0,
};

impl Router {
    /// Makes a connection of this shard a server of all services that the filter matches.
    pub fn serve(&mut self, filter: &str, connection: Key) -> Subscribed {
        let server = Subscription {
            connection,
            policy: None,
            codec: Codec::Bytes,
        };
        let (id, key) = self.servers_of(filter);
        self.join(key, id, server)
    }

    /// Ends what `serve` began. `None`: the connection was no server of this filter.
    pub fn unserve(&mut self, filter: &str, connection: Key) -> Option<(Change, Option<Key>)> {
        let id = self.service(filter)?;
        self.unserve_id(id, connection)
    }

    /// What `serve` returned as the filter.
    pub fn service(&self, filter: &str) -> Option<FilterId> {
        self.services.find(filter)
    }

    /// The same, by what `serve` returned.
    pub fn unserve_id(
        &mut self,
        filter: FilterId,
        connection: Key,
    ) -> Option<(Change, Option<Key>)> {
        let key = *self.services.get(filter)?;
        let change = self.leave(key, connection)?;
        self.drop_empty_servers(key);
        Some((change, Some(key)))
    }

    /// Notes what another shard has told of its servers, and its own number for them.
    pub fn note_servers(&mut self, shard: ShardId, filter: &str, number: Key, count: Count) {
        debug_assert_ne!(shard, self.own, "a shard knows its own servers");
        if count.total == 0 && self.services.find(filter).is_none() {
            return;
        }
        let (_, key) = self.servers_of(filter);
        if let Some(group) = self.groups.get_mut(key) {
            group.note(shard, number, count);
        }
        self.drop_empty_servers(key);
    }

    /// Chooses one server of all shards, of all filters that match. `None`: NO_SERVICE. Says
    /// how many nodes of the trie were looked at.
    pub fn find_servers(
        &self,
        service: &str,
        rng: &mut Rng,
        load: impl Fn(Key) -> u32,
    ) -> (Option<Choice>, usize) {
        let nodes = Cell::new(0);
        let place = group::draw(rng, |weight, draw| {
            let looked = self.services.matching(service, &mut |key: &Key| {
                if let Some(group) = self.groups.get(*key) {
                    group.offer(*key, weight, draw);
                }
            });
            nodes.set(nodes.get() + looked);
        });
        let chosen = place.and_then(|place| self.groups.choose(place, rng, load));
        (chosen, nodes.get())
    }

    /// Chooses among this shard's servers, for a request that another shard has sent here.
    pub fn choose_local_server(
        &self,
        group: Key,
        rng: &mut Rng,
        load: impl Fn(Key) -> u32,
    ) -> Option<Subscription> {
        self.choose_local(group, rng, load)
    }

    /// Appends the text of the filter that a connection serves.
    pub fn service_name(&self, filter: FilterId, text: &mut String) {
        self.services.name(filter, text);
    }

    fn servers_of(&mut self, filter: &str) -> (FilterId, Key) {
        if let Some(id) = self.services.find(filter) {
            return (id, self.services[id]);
        }
        // Filter and group name each other: one of them has to be there first.
        let id = self.services.insert(filter, || NO_GROUP);
        let key = self.groups.insert(id, filter, b"");
        self.services[id] = key;
        (id, key)
    }

    fn drop_empty_servers(&mut self, key: Key) {
        let Some(group) = self.groups.get(key) else {
            return;
        };
        if group.is_empty() {
            self.services.remove(group.filter);
            self.groups.remove(key);
        }
    }
}
