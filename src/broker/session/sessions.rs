//! The sessions of a shard: by key, and those without a connection by when they expire.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::SESSION_KEY_BYTES;
use std::collections::{BTreeSet, HashMap};

#[derive(Default)]
pub(crate) struct Sessions {
    /// The slot of each session.
    by_key: HashMap<[u8; SESSION_KEY_BYTES], Key>,
    /// Sessions without a connection, by the end of their linger.
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

    /// Number of sessions waiting for a connection.
    pub(crate) fn count_absent(&self) -> usize {
        self.absent.len()
    }

    pub(in crate::broker) fn wait_until(&mut self, deadline: Instant, slot: Key) {
        self.absent.insert((deadline, slot));
    }

    /// The session no longer waits, or not until this deadline.
    pub(crate) fn end_wait(&mut self, deadline: Instant, slot: Key) {
        self.absent.remove(&(deadline, slot));
    }

    /// The session that expires first.
    pub(crate) fn first_absent(&self) -> Option<Key> {
        self.absent.first().map(|&(_, slot)| slot)
    }

    /// All waiting sessions and their deadlines, taken out in order to be given new ones.
    pub(crate) fn take_absent(&mut self) -> BTreeSet<(Instant, Key)> {
        std::mem::take(&mut self.absent)
    }
}
