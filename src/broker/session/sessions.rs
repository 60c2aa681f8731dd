//! The sessions of a shard: by their keys, and those without a connection by when they end.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::SESSION_KEY_BYTES;
use std::collections::{BTreeSet, HashMap};

#[derive(Default)]
pub(crate) struct Sessions {
    /// And the slots they are in.
    by_key: HashMap<[u8; SESSION_KEY_BYTES], Key>,
    /// Those whose connection has gone, by when their linger is over.
    absent: BTreeSet<(Instant, Key)>,
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The slot of a session.
    pub(crate) fn find(&self, session: &[u8; SESSION_KEY_BYTES]) -> Option<Key> {
        self.by_key.get(session).copied()
    }

    pub(in crate::broker) fn begin(&mut self, session: [u8; SESSION_KEY_BYTES], slot: Key) {
        self.by_key.insert(session, slot);
    }

    pub(in crate::broker) fn end(&mut self, session: &[u8; SESSION_KEY_BYTES]) {
        self.by_key.remove(session);
    }

    /// Those that wait for a connection.
    pub(crate) fn count_absent(&self) -> usize {
        self.absent.len()
    }

    pub(in crate::broker) fn wait_until(&mut self, deadline: Instant, slot: Key) {
        self.absent.insert((deadline, slot));
    }

    /// It waits no longer, or no longer until then.
    pub(crate) fn end_wait(&mut self, deadline: Instant, slot: Key) {
        self.absent.remove(&(deadline, slot));
    }

    /// The one whose time is over first.
    pub(crate) fn first_absent(&self) -> Option<Key> {
        self.absent.first().map(|&(_, slot)| slot)
    }

    /// All that wait, and until when: to be told of other times.
    pub(crate) fn take_absent(&mut self) -> BTreeSet<(Instant, Key)> {
        std::mem::take(&mut self.absent)
    }
}
