//! The interest map of one shard: who gets a message, who answers a request, which messages are
//! retained.
//!
//! Every shard has a map of all filters, but with no more than it needs: its own subscribers one by
//! one, and of another shard whether it has any, and about how many. A publisher's shard therefore
//! hands a message to each interested shard once, and that shard matches it against its own
//! subscribers:
//!
//! ```text
//!   shard 0                                        shard 1
//!   site/+/temp ─► local: [a, b]                   site/+/temp ─► local: [c]
//!                  shards: {1}                                    shards: {0}
//!                  groups: [billing]                              groups: [billing]
//!                          local: [a]  1 ready                            local: [d, e]  1 ready
//!                          shard 1: 2, 1 ready                            shard 0: 1, 1 ready
//! ```
//!
//! An operation returns what it means for the other shards as a [`Change`]. The shard passes that
//! on to their `note` or `note_servers`, and confirms the operation only once all of them have
//! applied it.
//!
//! | file | idea |
//! |---|---|
//! | `trie` | filters, found by the topics they match |
//! | `node`, `label`, `arena` | what the trie is made of: nodes and their hash table, short strings, pages |
//! | `subscription` | a subscriber and its options; the result of a choice |
//! | `interest`, `member` | who is interested in one filter |
//! | `group`, `service` | one of several: members of a group, servers of a service |
//! | `search`, `server_search` | who gets a message, who a request, matched in one step or in several |
//! | `retained` | the last message of each topic |
//! | `elsewhere` | what other shards have to do for a message |
//! | `shard_set` | shards as bits |
//!
//! No I/O, no clock, no thread. The same calls give the same results in the same order: random
//! numbers come from the caller's generator, and no result depends on the seed of a hash.
//!
//! What it does not do: check names (`proto::name`) or rights; bound the number of subscriptions
//! (the session does, for each connection); deduplicate a connection that appears twice in one
//! match; notice that a connection has ended (its shard unsubscribes it).

mod arena;
mod elsewhere;
mod group;
mod interest;
mod label;
mod member;
mod node;
mod retained;
mod search;
mod server_search;
mod service;
mod shard_set;
mod subscription;
mod trie;

#[cfg(test)]
mod tests;

pub use elsewhere::Elsewhere;
pub use retained::{Kept, TOMBSTONE, Version, Walk};
pub use search::{Matches, Search};
pub use server_search::ServerSearch;
pub use shard_set::ShardSet;
pub use subscription::{Choice, Count, Subscription};
pub use trie::{FilterId, Trie};

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use fastrand::Rng;
use group::{Draw, Group, Groups};
use interest::Interest;
use retained::Retained;
use search::Newcomers;

/// What a change means for the other shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// They have to `note` this count. Without a group it is approximate: none, some (1), or many,
    /// in powers of two.
    Tell(Count),
}

impl Change {
    fn plain(told: Option<u32>) -> Change {
        told.map_or(Change::None, |total| {
            Change::Tell(Count {
                total,
                ready: total,
            })
        })
    }
}

/// The result of SUBSCRIBE or SERVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    pub change: Change,
    /// False: it replaced the same connection's earlier one.
    pub new: bool,
    /// This shard's own key of the group, by which other shards address it.
    pub group: Option<Key>,
    /// The filter in four bytes, for `unsubscribe_id` (SERVE: `unserve_id`) as long as the
    /// connection is subscribed.
    pub filter: FilterId,
}

/// See the module's head.
pub struct Router {
    own: ShardId,
    topics: Trie<Interest>,
    /// Each filter's servers are one group.
    services: Trie<Key>,
    groups: Groups,
    retained: Retained,
    newcomers: Newcomers,
    /// Incremented by every change of interest: while it is the same, matches are. Never 0.
    epoch: u64,
}

impl Router {
    pub fn new(own: ShardId) -> Router {
        Router {
            own,
            topics: Trie::new(),
            services: Trie::new(),
            groups: Groups::new(),
            retained: Retained::default(),
            newcomers: Newcomers::default(),
            epoch: 1,
        }
    }

    /// A number that changes with every change of interest.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Subscribes a connection of this shard, or replaces its options if it is subscribed to the
    /// same filter in the same group.
    pub fn subscribe(
        &mut self,
        filter: &str,
        group: Option<&[u8]>,
        subscription: Subscription,
    ) -> Subscribed {
        self.epoch += 1;
        let id = self.topics.insert(filter, Interest::default);
        let Some(name) = group else {
            let interest = &mut self.topics[id];
            let (told, had_this) = interest.subscribe(subscription);
            if !had_this {
                self.newcomers.note(id, subscription.connection, self.epoch);
            }
            return Subscribed {
                change: Change::plain(told),
                new: !had_this,
                group: None,
                filter: id,
            };
        };
        let key = self.group_of(id, filter, name);
        self.join(key, id, subscription)
    }

    /// Ends a subscription. `None`: there was none. Otherwise the change, and the key of the group,
    /// which may be gone now.
    pub fn unsubscribe(
        &mut self,
        filter: &str,
        group: Option<&[u8]>,
        connection: Key,
    ) -> Option<(Change, Option<Key>)> {
        let (id, group) = self.subscription(filter, group)?;
        self.unsubscribe_id(id, group, connection)
    }

    /// Looks up what `subscribe` returned for a filter and a group: the filter's id and the group's
    /// key.
    pub fn subscription(
        &self,
        filter: &str,
        group: Option<&[u8]>,
    ) -> Option<(FilterId, Option<Key>)> {
        let id = self.topics.find(filter)?;
        match group {
            Some(name) => Some((id, Some(self.find_group(id, name).ok()?))),
            None => Some((id, None)),
        }
    }

    /// The same, by what `subscribe` returned.
    pub fn unsubscribe_id(
        &mut self,
        filter: FilterId,
        group: Option<Key>,
        connection: Key,
    ) -> Option<(Change, Option<Key>)> {
        self.epoch += 1;
        if let Some(key) = group {
            let change = self.leave(key, connection)?;
            self.drop_empty_group(key);
            return Some((change, group));
        }
        let interest = self.topics.get_mut(filter)?;
        let told = interest.unsubscribe(connection)?;
        self.newcomers.forget(filter, connection);
        self.drop_empty_filter(filter);
        Some((Change::plain(told), None))
    }

    /// Records that a member's connection takes no messages for now, or takes them again. For
    /// groups and services alike; a stale key changes nothing.
    pub fn set_stalled(&mut self, group: Key, connection: Key, stalled: bool) -> Change {
        if let Some(group) = self.groups.get_mut(group)
            && group.set_stalled(connection, stalled)
        {
            return Change::Tell(group.count());
        }
        Change::None
    }

    /// Records what another shard has reported: without a group, about how many subscribers it has;
    /// with one, how many members, and its own key of the group.
    pub fn note(
        &mut self,
        shard: ShardId,
        filter: &str,
        group: Option<(&[u8], Key)>,
        count: Count,
    ) {
        debug_assert_ne!(shard, self.own, "a shard knows its own members");
        self.epoch += 1;
        let id = match self.topics.find(filter) {
            Some(id) => id,
            None if count.total == 0 => return,
            None => self.topics.insert(filter, Interest::default),
        };
        match group {
            None => {
                self.topics[id].note(shard, count.total);
                self.drop_empty_filter(id);
            }
            Some((name, number)) => {
                let key = match self.find_group(id, name) {
                    Ok(key) => key,
                    Err(_) if count.total == 0 => return,
                    Err(_) => self.group_of(id, filter, name),
                };
                self.note_group(key, shard, number, count);
            }
        }
    }

    /// Finds who gets a message on this topic, if that visits at most `nodes_max` nodes. `matches`
    /// is cleared first, unless it still holds this topic's result. False: it takes more nodes, and
    /// needs a [`Search`].
    pub fn find(&self, topic: &str, matches: &mut Matches, nodes_max: usize) -> bool {
        matches.find(&self.topics, self.epoch, topic, nodes_max)
    }

    /// Begins a search for who gets a message. The caller has to end it with `end_search`.
    pub fn begin_search(&mut self) -> Search {
        self.newcomers.begin();
        Search::new(self.epoch)
    }

    /// Continues a search for at most `nodes_max` nodes, at least one. Returns how many it took,
    /// with subscribers converted to nodes, and whether the search is complete.
    pub fn go_on(&self, topic: &str, search: &mut Search, nodes_max: usize) -> (usize, bool) {
        search.go_on(&self.topics, &self.newcomers, topic, nodes_max)
    }

    /// Ends a search: moves what it has found into `matches`. True: nothing has changed since it
    /// began, so that `find` would find the same.
    pub fn end_search(&mut self, topic: &str, search: Search, matches: &mut Matches) -> bool {
        self.newcomers.end();
        matches.take(search, topic, self.epoch)
    }

    /// A group's filter and name; the name is empty for the servers of a service.
    pub fn group_name(&self, group: Key) -> Option<(&str, &[u8])> {
        let group = self.groups.get(group)?;
        Some((&group.filter_name, &group.name))
    }

    /// The number of this shard's members of a group, as reported to other shards.
    pub fn group_count(&self, group: Key) -> Option<Count> {
        self.groups.get(group).map(Group::count)
    }

    /// Appends the text of the filter that a connection is subscribed to.
    pub fn filter_name(&self, filter: FilterId, text: &mut String) {
        self.topics.name(filter, text);
    }

    /// How many topic filters this shard knows, its own subscribers' and other shards'.
    pub const fn filter_count(&self) -> usize {
        self.topics.len()
    }

    /// Chooses the member, among those of all shards, that gets a message; `load` returns how much
    /// a connection of this shard has in flight. `None`: no member is left.
    pub fn choose(&self, group: Key, rng: &mut Rng, load: impl Fn(Key) -> u32) -> Option<Choice> {
        let found = self.groups.get(group)?;
        let mut draw = Draw::default();
        found.offer(group, &mut draw, rng);
        self.groups.choose(draw.drawn()?, rng, load)
    }

    /// Chooses among this shard's members, for a message that another shard has sent here. `None`:
    /// the last one has left meanwhile.
    pub fn choose_local(
        &self,
        group: Key,
        rng: &mut Rng,
        load: impl Fn(Key) -> u32,
    ) -> Option<Subscription> {
        self.groups.get(group)?.choose_local(rng, load)
    }

    /// Whether any member, on any shard, is ready; `None`: there is no member.
    pub fn is_ready(&self, group: Key) -> Option<bool> {
        self.groups.get(group).map(Group::is_ready)
    }

    /// A member on this shard for which `suits` holds, a ready one if possible.
    pub fn first_member(&self, group: Key, suits: impl FnMut(Key) -> bool) -> Option<Subscription> {
        self.groups.get(group)?.first(suits)
    }

    /// Retains a message for its topic or, without one, clears the topic. False: a later version is
    /// known already.
    pub fn retain(
        &mut self,
        topic: &str,
        version: Version,
        message: Option<Kept>,
        expires: Instant,
        now: Instant,
    ) -> bool {
        self.retained.retain(topic, version, message, expires, now)
    }

    /// Calls `each` with every retained message whose topic the filter matches, and its expiry: see
    /// [`Retained::matching`].
    pub fn retained(
        &mut self,
        filter: &str,
        walk: &mut Walk,
        looks: &mut usize,
        now: Instant,
        each: impl FnMut(&Kept, Instant) -> bool,
    ) -> bool {
        self.retained.matching(filter, walk, looks, now, each)
    }

    /// Removes what has expired among the next `count` retained messages; successive calls go round
    /// all of them.
    pub fn sweep_retained(&mut self, now: Instant, count: usize) {
        self.retained.sweep(now, count);
    }

    /// Approximate memory of retained messages and their topics, in bytes.
    pub const fn retained_bytes(&self) -> usize {
        self.retained.bytes()
    }

    /// The part of it that the messages themselves take.
    pub const fn retained_message_bytes(&self) -> usize {
        self.retained.message_bytes()
    }

    /// Approximate memory of filters, services and groups, of this shard and what it knows of
    /// others, in bytes; without the entries of this shard's own members.
    pub fn interest_bytes(&self) -> usize {
        self.topics.bytes() + self.services.bytes() + self.groups.bytes()
    }

    /// How many topics have a retained message.
    pub const fn retained_count(&self) -> usize {
        self.retained.count()
    }

    fn join(&mut self, key: Key, filter: FilterId, member: Subscription) -> Subscribed {
        let mut joined = Subscribed {
            change: Change::None,
            new: false,
            group: Some(key),
            filter,
        };
        if let Some(group) = self.groups.get_mut(key)
            && group.insert(member)
        {
            joined.new = true;
            joined.change = Change::Tell(group.count());
        }
        joined
    }

    fn leave(&mut self, key: Key, connection: Key) -> Option<Change> {
        let group = self.groups.get_mut(key)?;
        group
            .remove(connection)
            .then(|| Change::Tell(group.count()))
    }

    fn note_group(&mut self, key: Key, shard: ShardId, number: Key, count: Count) {
        if let Some(group) = self.groups.get_mut(key) {
            group.note(shard, number, count);
        }
        self.drop_empty_group(key);
    }

    /// The group of that name, or the index at which it belongs among the filter's groups.
    fn find_group(&self, filter: FilterId, name: &[u8]) -> Result<Key, usize> {
        let groups = self.topics.get(filter).map_or(&[][..], Interest::groups);
        self.place_of_group(groups, name).map(|at| groups[at])
    }

    fn place_of_group(&self, groups: &[Key], name: &[u8]) -> Result<usize, usize> {
        let name_of = |key: &Key| self.groups.get(*key).map_or(&[][..], |group| &group.name);
        groups.binary_search_by(|key| name_of(key).cmp(name))
    }

    fn group_of(&mut self, filter: FilterId, filter_name: &str, name: &[u8]) -> Key {
        self.find_group(filter, name).unwrap_or_else(|at| {
            let key = self.groups.insert(filter, filter_name, name);
            self.topics[filter].insert_group(at, key);
            key
        })
    }

    fn drop_empty_group(&mut self, key: Key) {
        let Some(group) = self.groups.get(key) else {
            return;
        };
        if !group.is_empty() {
            return;
        }
        let filter = group.filter;
        let groups = self.topics.get(filter).map_or(&[][..], Interest::groups);
        let at = self.place_of_group(groups, &group.name);
        debug_assert_eq!(at.map(|at| groups[at]), Ok(key));
        if let (Some(interest), Ok(at)) = (self.topics.get_mut(filter), at) {
            interest.remove_group(at);
        }
        self.groups.remove(key);
        self.drop_empty_filter(filter);
    }

    fn drop_empty_filter(&mut self, filter: FilterId) {
        if self.topics.get(filter).is_some_and(Interest::is_empty) {
            self.topics.remove(filter);
        }
    }
}
