//! Connections to look at again, by key; a listed connection may be gone by then. Where a member
//! has a flag for its list (`touched`, `ready`, `blocked`), whoever lists it sets the flag, so that
//! no connection is in a list twice.

use crate::base::id::Key;
use std::collections::VecDeque;

#[derive(Default)]
pub(crate) struct Lists {
    /// To reconcile at the end of the turn.
    touched: Vec<Key>,
    /// With input left to handle, in this turn or the next.
    ready: VecDeque<Key>,
    /// How many at the head of `ready` this turn had no time for.
    unheard: usize,
    /// Ending connections whose subscriptions have not all been removed yet.
    leaving: VecDeque<Key>,
    /// Ending connections whose sockets are to be shut down or closed.
    closing: VecDeque<Key>,
    /// Waiting for room in the mesh, or for memory.
    blocked: Vec<Key>,
}

impl Lists {
    /// Nothing is left to do that needs another turn at once.
    pub(crate) fn are_quiet(&self) -> bool {
        self.ready.is_empty()
            && self.touched.is_empty()
            && self.leaving.is_empty()
            && self.closing.is_empty()
    }

    #[inline]
    pub(crate) fn touch(&mut self, key: Key) {
        self.touched.push(key);
    }

    /// Takes all touched connections. Give the vector back with `keep`.
    pub(crate) fn take_touched(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.touched)
    }

    pub(crate) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Keeps an emptied vector for its allocation, unless the list has a new one by now.
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

    /// This turn had no time for the first `count` ready connections: the next one begins with
    /// them.
    pub(in crate::broker) fn note_unheard(&mut self, count: usize) {
        self.unheard = count;
    }

    pub(in crate::broker) fn take_unheard(&mut self) -> usize {
        std::mem::take(&mut self.unheard)
    }

    pub(crate) fn put_off_leaving(&mut self, key: Key) {
        self.leaving.push_back(key);
    }

    pub(crate) fn count_leaving(&self) -> usize {
        self.leaving.len()
    }

    pub(crate) fn next_leaving(&mut self) -> Option<Key> {
        self.leaving.pop_front()
    }

    pub(crate) fn put_off_closing(&mut self, key: Key) {
        self.closing.push_back(key);
    }

    pub(crate) fn next_closing(&mut self) -> Option<Key> {
        self.closing.pop_front()
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
