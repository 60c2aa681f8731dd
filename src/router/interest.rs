//! Who is interested in one filter: subscribers of this shard, other shards, groups.
//!
//! Most filters have one subscriber somewhere, and there may be a million such filters, so that
//! case takes 32 bytes and no allocation; rarer cases are behind a pointer.
//!
//! Invariants: `Local::Many` has at least two members; `more`, if present, is not empty; the router
//! removes an empty interest.

use super::Subscription;
use super::elsewhere::Elsewhere;
use super::member::Members;
use super::shard_set::ShardSet;
use crate::base::id::{Key, ShardId};

const LOW_SHARDS: usize = u64::BITS as usize;
/// Subscribers of one shard from which on the others are told about how many they are: when
/// they have doubled, and when less than half of what was told is left.
const CROWD_MIN: u32 = 16;

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
    Many(Box<Many>),
}

#[derive(Default)]
struct Many {
    members: Members,
    /// As how many the other shards know them: 0 is as good as 1.
    told: u32,
}

impl Many {
    /// What the others have to be told, now that there are more or fewer.
    fn retell(&mut self) -> Option<u32> {
        let count = self.members.len() as u32;
        let is_crowd = self.told >= CROWD_MIN;
        if count < CROWD_MIN.max(2 * self.told) && !(is_crowd && count < self.told / 2) {
            return None;
        }
        self.told = match count {
            CROWD_MIN.. => 1 << count.ilog2(),
            _ => 1,
        };
        Some(self.told)
    }
}

#[derive(Default)]
struct More {
    /// Those of the shards from 64 on that have subscribers.
    shards: ShardSet,
    /// Of all shards, those with many subscribers, and about how many they have.
    crowds: Vec<(ShardId, u32)>,
    /// Ordered by name, so that the order is the same on every shard.
    groups: Vec<Key>,
}

impl Interest {
    /// Returns the number of subscribers of this shard to report to the others now, if that has
    /// changed, and whether this connection was one before.
    pub fn subscribe(&mut self, subscription: Subscription) -> (Option<u32>, bool) {
        match &mut self.local {
            Local::None => {
                self.local = Local::One(subscription);
                (Some(1), false)
            }
            Local::One(one) if one.connection == subscription.connection => {
                *one = subscription;
                (None, true)
            }
            Local::One(one) => {
                let mut many = Box::<Many>::default();
                many.members.push(*one);
                many.members.push(subscription);
                self.local = Local::Many(many);
                (None, false)
            }
            Local::Many(many) => match many.members.position(subscription.connection) {
                Some(at) => {
                    many.members.replace(at, subscription);
                    (None, true)
                }
                None => {
                    many.members.push(subscription);
                    (many.retell(), false)
                }
            },
        }
    }

    /// Likewise, if the connection was a subscriber.
    pub fn unsubscribe(&mut self, connection: Key) -> Option<Option<u32>> {
        match &mut self.local {
            Local::One(one) if one.connection == connection => {
                self.local = Local::None;
                Some(Some(0))
            }
            Local::None | Local::One(_) => None,
            Local::Many(many) => {
                let at = many.members.position(connection)?;
                many.members.swap_remove(at);
                let told = many.retell();
                if let &[one] = many.members.as_slice() {
                    self.local = Local::One(one);
                }
                Some(told)
            }
        }
    }

    pub fn local(&self) -> &[Subscription] {
        match &self.local {
            Local::None => &[],
            Local::One(one) => std::slice::from_ref(one),
            Local::Many(many) => many.members.as_slice(),
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

    /// Records about how many subscribers another shard has.
    pub fn note(&mut self, shard: ShardId, count: u32) {
        if count >= CROWD_MIN {
            let crowds = &mut self.more.get_or_insert_default().crowds;
            crowds.retain(|one| one.0 != shard);
            crowds.push((shard, count));
        } else if let Some(more) = &mut self.more {
            more.crowds.retain(|one| one.0 != shard);
            self.drop_empty();
        }
        let is_interested = count > 0;
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

    #[inline]
    pub fn add_shards_to(&self, elsewhere: &mut Elsewhere) {
        elsewhere.shards.insert_low(self.shards);
        let mut is_wanted = self.shards != 0;
        if let Some(more) = &self.more {
            elsewhere.shards.insert_all(&more.shards);
            elsewhere.crowds.extend_from_slice(&more.crowds);
            is_wanted |= !more.shards.is_empty();
        }
        elsewhere.filters += usize::from(is_wanted);
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.local, Local::None) && self.shards == 0 && self.more.is_none()
    }

    fn drop_empty(&mut self) {
        let is_empty = |more: &mut Box<More>| {
            more.groups.is_empty() && more.shards.is_empty() && more.crowds.is_empty()
        };
        self.more.take_if(is_empty);
    }
}
