//! Connections to look at again, by key; a listed connection may be gone by then. Where a member
//! has a flag for its list (`touched`, `ready`, `blocked`), whoever lists it sets the flag, so that
//! no connection is in a list twice.

use crate::base::id::Key;
use std::collections::VecDeque;

/// Connections that are heard in turn. What one turn has no time for is first in the next.
#[derive(Default)]
pub(crate) struct HearingQueue {
    keys: VecDeque<Key>,
    /// How many at the head the last turn had no time for.
    unheard: usize,
}

impl HearingQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    #[inline]
    pub(crate) fn push(&mut self, key: Key) {
        self.keys.push_back(key);
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Option<Key> {
        self.keys.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// This turn had no time for the first `count`: the next one begins with them.
    pub(crate) fn note_unheard(&mut self, count: usize) {
        self.unheard = count;
    }

    pub(crate) fn take_unheard(&mut self) -> usize {
        std::mem::take(&mut self.unheard)
    }
}

#[derive(Default)]
pub(crate) struct Lists {
    /// To reconcile at the end of the turn.
    touched: Vec<Key>,
    /// With input left to handle, in this turn or the next.
    pub(in crate::broker) ready: HearingQueue,
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
        self.ready.push(key);
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
