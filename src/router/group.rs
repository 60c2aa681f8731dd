//! Groups: each message goes to one member, chosen among those of all shards.
//!
//! The choice takes two steps, so that no shard needs to know another's members:
//!
//! ```text
//!   1. the shard    in proportion to its ready members         own 3   shard 1: 1   shard 2: 0
//!                   (none ready anywhere: to all members)      75 %    25 %         –
//!   2. the member   on that shard: two of the ready ones at random, the one with less in flight
//! ```
//!
//! Hence each ready member of the whole server has the same chance, and a loaded one half of it or
//! less. The choice between shards goes by numbers of members, not by load: a load reported by
//! another shard would be stale on arrival.
//!
//! The servers of one service filter form a group without a name.
//!
//! What it does not do: decide which members are ready. The shard reports a connection that stalls
//! (`set_stalled`); it stays a member.
//!
//! Invariants: the first `ready` members are the ready ones; the router removes a group that has no
//! member on any shard; no shard is in `remotes` twice, or with a total of 0.

use super::arena::Arena;
use super::member::Members;
use super::trie::FilterId;
use super::{Choice, Count, Subscription};
use crate::base::id::{Key, ShardId};
use fastrand::Rng;

/// Bytes a group takes beside the struct and its names: allocations, its place in its filter's list
/// of groups, and the counts of a few other shards.
const GROUP_BYTES: usize = 160;

pub struct Group {
    generation: u32,
    ready: u32,
    pub filter: FilterId,
    pub filter_name: Box<str>,
    pub name: Box<[u8]>,
    members: Members,
    remotes: Vec<Remote>,
}

/// What another shard has reported of its members.
struct Remote {
    shard: ShardId,
    /// That shard's own key of the group.
    group: Key,
    count: Count,
}

impl Group {
    /// How many members this shard has.
    pub fn count(&self) -> Count {
        Count {
            total: self.members.len() as u32,
            ready: self.ready,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.remotes.is_empty()
    }

    /// Adds a member as ready, or replaces the options of an existing one, whose readiness stays.
    /// Returns whether the member is new.
    pub fn insert(&mut self, member: Subscription) -> bool {
        if let Some(at) = self.members.position(member.connection) {
            self.members.replace(at, member);
            return false;
        }
        self.members.push(member);
        self.members
            .swap(self.members.len() - 1, self.ready as usize);
        self.ready += 1;
        true
    }

    /// Returns whether the connection was a member.
    pub fn remove(&mut self, connection: Key) -> bool {
        self.set_stalled(connection, true);
        let position = self.members.position(connection);
        position.map(|at| self.members.swap_remove(at)).is_some()
    }

    /// Returns whether this changed anything.
    pub fn set_stalled(&mut self, connection: Key, stalled: bool) -> bool {
        let Some(at) = self.members.position(connection) else {
            return false;
        };
        let is_stalled = at >= self.ready as usize;
        if is_stalled == stalled {
            return false;
        }
        if stalled {
            self.ready -= 1;
            self.members.swap(at, self.ready as usize);
        } else {
            self.members.swap(at, self.ready as usize);
            self.ready += 1;
        }
        true
    }

    /// Records how many members another shard has.
    pub fn note(&mut self, shard: ShardId, group: Key, count: Count) {
        let known = self
            .remotes
            .binary_search_by_key(&shard, |remote| remote.shard);
        let remote = Remote {
            shard,
            group,
            count,
        };
        match known {
            Ok(at) if count.total == 0 => drop(self.remotes.remove(at)),
            Ok(at) => self.remotes[at] = remote,
            Err(_) if count.total == 0 => {}
            Err(at) => self.remotes.insert(at, remote),
        }
    }

    /// Draws two of this shard's ready members (of all, if none is ready) and returns the one with
    /// less load.
    pub fn choose_local(&self, rng: &mut Rng, load: impl Fn(Key) -> u32) -> Option<Subscription> {
        let members = match self.ready as usize {
            0 => self.members.as_slice(),
            ready => &self.members.as_slice()[..ready],
        };
        match *members {
            [] => None,
            [only] => Some(only),
            _ => {
                let a = rng.usize(..members.len());
                // Any member but `a`.
                let b = (a + rng.usize(1..members.len())) % members.len();
                let lighter = load(members[b].connection) < load(members[a].connection);
                Some(members[if lighter { b } else { a }])
            }
        }
    }

    /// Whether any member, on this shard or another, is ready.
    pub fn is_ready(&self) -> bool {
        self.ready > 0 || self.remotes.iter().any(|remote| remote.count.ready > 0)
    }

    /// The first member of this shard for which `suits` holds, a ready one if possible.
    pub fn first(&self, mut suits: impl FnMut(Key) -> bool) -> Option<Subscription> {
        let mut members = self.members.as_slice().iter();
        members.find(|member| suits(member.connection)).copied()
    }

    /// Offers this shard and the others to `draw`.
    pub fn offer(&self, key: Key, draw: &mut Draw, rng: &mut Rng) {
        draw.offer(self.count(), || Place::Here(key), rng);
        for remote in &self.remotes {
            let (shard, group) = (remote.shard, remote.group);
            draw.offer(remote.count, || Place::There { shard, group }, rng);
        }
    }
}

/// Where a message of a group goes: the first step of the choice.
#[derive(Clone, Copy)]
pub enum Place {
    Here(Key),
    There { shard: ShardId, group: Key },
}

/// Draws one of the places offered: by numbers of ready members and, only if there is none, by
/// numbers of all members.
#[derive(Default)]
pub struct Draw {
    ready: Reservoir,
    all: Reservoir,
}

/// Draws with probability proportional to weight, in one pass (weighted reservoir sampling).
#[derive(Default)]
struct Reservoir {
    sum: u64,
    drawn: Option<Place>,
}

impl Draw {
    fn offer(&mut self, count: Count, place: impl FnOnce() -> Place, rng: &mut Rng) {
        if count.ready > 0 {
            self.ready.offer(count.ready, place, rng);
        } else if self.ready.sum == 0 && count.total > 0 {
            self.all.offer(count.total, place, rng);
        }
    }

    pub fn drawn(&self) -> Option<Place> {
        self.ready.drawn.or(self.all.drawn)
    }
}

impl Reservoir {
    fn offer(&mut self, weight: u32, place: impl FnOnce() -> Place, rng: &mut Rng) {
        let weight = u64::from(weight);
        self.sum += weight;
        if self.sum == weight || rng.u64(..self.sum) < weight {
            self.drawn = Some(place());
        }
    }
}

/// All groups of a shard, including those of services, by this shard's own keys.
pub struct Groups {
    arena: Arena<Group>,
    /// Bytes of all names.
    name_bytes: usize,
    /// How many groups have been made: the generation of the next one, so that a stale key which
    /// another shard still uses finds nothing instead of the slot's next group.
    made: u32,
}

impl Groups {
    pub const fn new() -> Groups {
        Groups {
            arena: Arena::new(),
            name_bytes: 0,
            made: 0,
        }
    }

    #[cfg(test)]
    pub const fn len(&self) -> usize {
        self.arena.len()
    }

    pub fn insert(&mut self, filter: FilterId, filter_name: &str, name: &[u8]) -> Key {
        self.made = (self.made + 1) % Key::GENERATIONS;
        let generation = self.made;
        self.name_bytes += filter_name.len() + name.len();
        let slot = self.arena.insert(Group {
            generation,
            ready: 0,
            filter,
            filter_name: filter_name.into(),
            name: name.into(),
            members: Members::default(),
            remotes: Vec::new(),
        });
        Key { slot, generation }
    }

    /// Bytes of memory that groups take, without the entries of this shard's members.
    pub const fn bytes(&self) -> usize {
        self.arena.bytes() + self.name_bytes + self.arena.len() * GROUP_BYTES
    }

    pub fn get(&self, key: Key) -> Option<&Group> {
        let group = self.arena.get(key.slot)?;
        (group.generation == key.generation).then_some(group)
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut Group> {
        let group = self.arena.get_mut(key.slot)?;
        (group.generation == key.generation).then_some(group)
    }

    pub fn remove(&mut self, key: Key) {
        if self.get(key).is_some()
            && let Some(group) = self.arena.remove(key.slot)
        {
            self.name_bytes -= group.filter_name.len() + group.name.len();
        }
    }

    pub fn choose(&self, place: Place, rng: &mut Rng, load: impl Fn(Key) -> u32) -> Option<Choice> {
        match place {
            Place::Here(key) => {
                let chosen = self.get(key)?.choose_local(rng, load);
                chosen.map(Choice::Local)
            }
            Place::There { shard, group } => Some(Choice::Remote { shard, group }),
        }
    }
}
