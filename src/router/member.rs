//! The members of one filter or group on this shard: an array to copy and to choose from, and, once
//! it is long, an index into it.
//!
//! A match copies the array as it is. Adding and removing look the connection up: by a scan among
//! few members, in a tree among many (unlike a hash table it never rehashes everything at once,
//! cannot be attacked with collisions, and behaves the same in every run).
//!
//! What it does not do: keep members in order. Removing moves the last member into the gap; the
//! order depends on the operations alone, so it is the same in each run.
//!
//! Invariants: each connection is in the array at most once; the index, if present, holds each
//! member's position.

use super::Subscription;
use crate::base::id::Key;
use std::collections::BTreeMap;

/// From this many members on there is an index; below it is dropped again.
const INDEX_MEMBERS_MIN: usize = 32;
const INDEX_MEMBERS_LOW: usize = INDEX_MEMBERS_MIN / 2;

#[derive(Default)]
pub struct Members {
    list: Vec<Subscription>,
    index: BTreeMap<Key, u32>,
}

impl Members {
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn as_slice(&self) -> &[Subscription] {
        &self.list
    }

    pub fn position(&self, connection: Key) -> Option<usize> {
        if self.index.is_empty() {
            let mut members = self.list.iter();
            return members.position(|member| member.connection == connection);
        }
        self.index.get(&connection).map(|at| *at as usize)
    }

    /// Appends a member whose connection is not in the array.
    pub fn push(&mut self, member: Subscription) {
        let at = self.list.len();
        self.list.push(member);
        if !self.index.is_empty() {
            self.index.insert(member.connection, at as u32);
        } else if self.list.len() >= INDEX_MEMBERS_MIN {
            let positions = self.list.iter().map(|member| member.connection).zip(0..);
            self.index = positions.collect();
        }
    }

    /// Replaces a member by the same connection's new subscription.
    pub fn replace(&mut self, at: usize, member: Subscription) {
        debug_assert_eq!(self.list[at].connection, member.connection);
        self.list[at] = member;
    }

    pub fn swap(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        self.list.swap(a, b);
        if !self.index.is_empty() {
            self.index.insert(self.list[a].connection, a as u32);
            self.index.insert(self.list[b].connection, b as u32);
        }
    }

    /// Removes a member; the last one takes its place.
    pub fn swap_remove(&mut self, at: usize) -> Subscription {
        self.swap(at, self.list.len() - 1);
        let member = self.list.swap_remove(self.list.len() - 1);
        if !self.index.is_empty() {
            self.index.remove(&member.connection);
        }
        if self.list.len() < INDEX_MEMBERS_LOW {
            self.index = BTreeMap::new();
        }
        if self.list.len() < self.list.capacity() / 4 {
            self.list.shrink_to(self.list.len() * 2);
        }
        member
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::envelope::Codec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn member(slot: u32) -> Subscription {
        Subscription {
            connection: Key {
                slot,
                generation: 7,
            },
            policy: None,
            codec: Codec::Bytes,
        }
    }

    proptest! {
        #[test]
        fn members_are_found_where_they_are(
            ops in prop::collection::vec((any::<bool>(), 0u32..90), 0..600),
        ) {
            let mut members = Members::default();
            let mut model = BTreeSet::new();
            for (insert, slot) in ops {
                let position = members.position(member(slot).connection);
                prop_assert_eq!(position.is_some(), model.contains(&slot));
                match position {
                    None if insert => {
                        members.push(member(slot));
                        model.insert(slot);
                    }
                    Some(at) if insert => members.swap(at, members.len() / 2),
                    Some(at) => {
                        prop_assert_eq!(members.swap_remove(at), member(slot));
                        model.remove(&slot);
                    }
                    None => {}
                }
                prop_assert_eq!(members.len(), model.len());
                for (at, member) in members.as_slice().iter().enumerate() {
                    prop_assert_eq!(members.position(member.connection), Some(at));
                }
                prop_assert!(members.list.capacity() <= 4.max(4 * members.len() + 4));
            }
        }
    }
}
