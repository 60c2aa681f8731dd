//! TLS handshakes in the order in which they are advanced.

use crate::base::id::Key;
use std::collections::VecDeque;

/// Connections whose handshake has something to go on with, oldest first. One that has begun
/// goes before all that have not: what was spent on it would be lost if it came too late.
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
