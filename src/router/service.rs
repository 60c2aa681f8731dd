//! Who answers requests: SERVE and UNSERVE.
//!
//! The servers of one filter, on all shards, form one group, and are chosen like members of groups;
//! a request that several filters match goes to one member of all their groups together. Services
//! have a namespace of their own: a subscriber to a topic of the same name does not get requests. A
//! GROUP header is ignored here.
//!
//! What it does not do: the built-in services and those of an embedding program; the shard tries
//! these first.
//!
//! Invariants: each filter in `services` has one group, whose `filter` it is.

use super::server_search::ServerSearch;
use super::{Change, Choice, Count, FilterId, Router, Subscribed, Subscription};
use crate::base::id::{Key, ShardId};
use crate::proto::envelope::Codec;
use fastrand::Rng;

/// Names no group: there are no 2^32 of them.
const NO_GROUP: Key = Key {
    slot: u32::MAX,
    generation: 0,
};

impl Router {
    /// Registers a connection of this shard as a server of all services that the filter matches.
    pub fn serve(&mut self, filter: &str, connection: Key) -> Subscribed {
        let server = Subscription {
            connection,
            policy: None,
            codec: Codec::Bytes,
        };
        let (id, key) = self.servers_of(filter);
        self.join(key, id, server)
    }

    /// Ends a registration by `serve`. `None`: the connection was not a server of this filter.
    pub fn unserve(&mut self, filter: &str, connection: Key) -> Option<(Change, Option<Key>)> {
        let id = self.service(filter)?;
        self.unserve_id(id, connection)
    }

    /// Looks up the id that `serve` returned for the filter.
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

    /// Records how many servers another shard has reported, and its own key of their group.
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

    /// Looks for the servers of a request, among those of all shards and all filters that match, at
    /// no more than `nodes_max` nodes of the trie, at least one. Returns how many it visited, and
    /// whether it has seen all; if not, call it again, whatever has changed meanwhile.
    pub fn seek_server(
        &self,
        service: &str,
        search: &mut ServerSearch,
        rng: &mut Rng,
        nodes_max: usize,
    ) -> (usize, bool) {
        let ServerSearch { place, draw } = search;
        self.services
            .matching_some(service, place, nodes_max, |_, &key| {
                if let Some(group) = self.groups.get(key) {
                    group.offer(key, draw, rng);
                }
            })
    }

    /// The server that a search has chosen. `None`: there is none, or it has just ended.
    pub fn found_server(
        &self,
        search: &ServerSearch,
        rng: &mut Rng,
        load: impl Fn(Key) -> u32,
    ) -> Option<Choice> {
        self.groups.choose(search.draw.drawn()?, rng, load)
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
        // Filter and group refer to each other: one of them has to be inserted first.
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
