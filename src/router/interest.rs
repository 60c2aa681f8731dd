//! Who is interested in one filter: subscribers of this shard, other shards, groups.
//!
//! Most filters have one subscriber somewhere, and there may be a million such filters, so that
//! case takes 32 bytes and no allocation; rarer cases are behind a pointer.
//!
//! Invariants: `Local::Many` has at least two members; `more`, if present, is not empty; the router
//! removes an empty interest.

use super::Subscription;
use super::member::Members;
use super::shard_set::ShardSet;
use crate::base::id::{Key, ShardId};

const LOW_SHARDS: usize = u64::BITS as usize;

#[derive(Default)]
pub struct Interest {
    local: Local,
    /// Those of the shards 0 to 63 that have subscribers.
    shards: u64,
    more: Option<Box<More>>,
}

const _: () = assert!(size_of::<Interest>() <= 32);

#[derive(Default)]
enum Local {
    #[default]
    None,
    One(Subscription),
    Many(Box<Members>),
}

#[derive(Default)]
struct More {
    /// Those of the shards from 64 on that have subscribers.
    shards: ShardSet,
    /// Ordered by name, so that the order is the same on every shard.
    groups: Vec<Key>,
}

impl Interest {
    /// Returns whether this shard had a subscriber before, and whether this connection was one.
    pub fn subscribe(&mut self, subscription: Subscription) -> (bool, bool) {
        match &mut self.local {
            Local::None => {
                self.local = Local::One(subscription);
                (false, false)
            }
            Local::One(one) if one.connection == subscription.connection => {
                *one = subscription;
                (true, true)
            }
            Local::One(one) => {
                let mut members = Box::<Members>::default();
                members.push(*one);
                members.push(subscription);
                self.local = Local::Many(members);
                (true, false)
            }
            Local::Many(members) => match members.position(subscription.connection) {
                Some(at) => {
                    members.replace(at, subscription);
                    (true, true)
                }
                None => {
                    members.push(subscription);
                    (true, false)
                }
            },
        }
    }

    /// Returns whether the connection was a subscriber.
    pub fn unsubscribe(&mut self, connection: Key) -> bool {
        match &mut self.local {
            Local::One(one) if one.connection == connection => self.local = Local::None,
            Local::None | Local::One(_) => return false,
            Local::Many(members) => {
                let Some(at) = members.position(connection) else {
                    return false;
                };
                members.swap_remove(at);
                if let &[one] = members.as_slice() {
                    self.local = Local::One(one);
                }
            }
        }
        true
    }

    pub fn local(&self) -> &[Subscription] {
        match &self.local {
            Local::None => &[],
            Local::One(one) => std::slice::from_ref(one),
            Local::Many(members) => members.as_slice(),
        }
    }

    pub fn groups(&self) -> &[Key] {
        self.more.as_ref().map_or(&[], |more| &more.groups)
    }

    pub fn insert_group(&mut self, at: usize, group: Key) {
        self.more.get_or_insert_default().groups.insert(at, group);
    }

    pub fn remove_group(&mut self, at: usize) {
        if let Some(more) = &mut self.more {
            more.groups.remove(at);
            if more.groups.len() < more.groups.capacity() / 4 {
                more.groups.shrink_to(more.groups.len() * 2);
            }
        }
        self.drop_empty();
    }

    /// Records whether another shard has subscribers.
    pub fn note(&mut self, shard: ShardId, is_interested: bool) {
        if shard.index() < LOW_SHARDS {
            let bit = 1 << shard.index();
            self.shards = self.shards & !bit | if is_interested { bit } else { 0 };
        } else if is_interested {
            self.more.get_or_insert_default().shards.insert(shard);
        } else if let Some(more) = &mut self.more {
            more.shards.remove(shard);
            self.drop_empty();
        }
    }

    pub fn add_shards_to(&self, set: &mut ShardSet) {
        set.insert_low(self.shards);
        if let Some(more) = &self.more {
            set.insert_all(&more.shards);
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.local, Local::None) && self.shards == 0 && self.more.is_none()
    }

    fn drop_empty(&mut self) {
        let is_empty = |more: &mut Box<More>| more.groups.is_empty() && more.shards.is_empty();
        self.more.take_if(is_empty);
    }
}
