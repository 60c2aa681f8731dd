//! TLS handshakes, in the order in which they are advanced.

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
