//! Connections that have received records for which there was no time yet: of handshakes, and of
//! data.

use crate::base::id::Key;
use std::collections::VecDeque;

/// Connections whose handshake has received something to process, oldest first. Handshakes that
/// have begun go before all that have not: the work spent on them would be lost if they timed out.
#[derive(Default)]
pub(in crate::shard) struct Handshakes {
    pub(super) first: VecDeque<Key>,
    pub(super) second: VecDeque<Key>,
}

impl Handshakes {
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.second.is_empty()
    }

    pub(super) fn next(&mut self) -> Option<Key> {
        self.second.pop_front().or_else(|| self.first.pop_front())
    }
}

/// Connections with records still to be opened, in the order in which there was no time for them.
#[derive(Default)]
pub(in crate::shard) struct Unopened {
    keys: VecDeque<Key>,
    /// How many at the head the previous turn did not get to.
    unheard: usize,
}

impl Unopened {
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn push(&mut self, key: Key) {
        self.keys.push_back(key);
    }

    pub(super) fn next(&mut self) -> Option<Key> {
        self.keys.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn note_unheard(&mut self, count: usize) {
        self.unheard = count;
    }

    pub(super) fn take_unheard(&mut self) -> usize {
        std::mem::take(&mut self.unheard)
    }
}
