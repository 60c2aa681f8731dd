//! Whom to look at again, and when: connections by their keys, which may have gone meanwhile.
//! Where a member has a flag for its list (`touched`, `ready`, `blocked`), who lists it sets that,
//! so that nobody stands in a list twice.

use crate::base::id::Key;
use std::collections::VecDeque;

#[derive(Default)]
pub(crate) struct Lists {
    /// To be reconciled at the end of the turn.
    touched: Vec<Key>,
    /// With input left to handle, in this turn or the next.
    ready: VecDeque<Key>,
    /// The first of them, who would have been heard in this turn, had there been time.
    unheard: usize,
    /// That end, and for whose subscriptions there was no time yet.
    leaving: VecDeque<Key>,
    /// That wait for room in the mesh, or for memory.
    blocked: Vec<Key>,
}

impl Lists {
    /// Nobody has to be looked at in the next turn already.
    pub(crate) fn are_quiet(&self) -> bool {
        self.ready.is_empty() && self.touched.is_empty() && self.leaving.is_empty()
    }

    #[inline]
    pub(in crate::broker) fn touch(&mut self, key: Key) {
        self.touched.push(key);
    }

    /// All that were touched. Give the vector back with `keep`.
    pub(crate) fn take_touched(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.touched)
    }

    pub(crate) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Keeps an emptied vector for its allocation, unless there is another by now.
    pub(crate) fn keep(&mut self, emptied: Vec<Key>) {
        if self.touched.is_empty() {
            self.touched = emptied;
        }
    }

    #[inline]
    pub(crate) fn make_ready(&mut self, key: Key) {
        self.ready.push_back(key);
    }

    #[inline]
    pub(in crate::broker) fn next_ready(&mut self) -> Option<Key> {
        self.ready.pop_front()
    }

    pub(in crate::broker) fn count_ready(&self) -> usize {
        self.ready.len()
    }

    /// So many of those that are ready had no time in this turn: they are first in the next.
    pub(in crate::broker) fn note_unheard(&mut self, count: usize) {
        self.unheard = count;
    }

    pub(in crate::broker) fn take_unheard(&mut self) -> usize {
        std::mem::take(&mut self.unheard)
    }

    pub(crate) fn put_off_leaving(&mut self, key: Key) {
        self.leaving.push_back(key);
    }

    pub(crate) fn next_leaving(&mut self) -> Option<Key> {
        self.leaving.pop_front()
    }

    #[inline]
    pub(in crate::broker) fn block(&mut self, key: Key) {
        self.blocked.push(key);
    }

    pub(crate) fn take_blocked(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.blocked)
    }

    pub(crate) fn count_blocked(&self) -> usize {
        self.blocked.len()
    }
}
