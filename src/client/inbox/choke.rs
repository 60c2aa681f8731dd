//! Mailboxes whose owners cannot take from them yet, for their OK has not come: what fills the inbox
//! there stands in the way of that OK.

use super::{BoxId, Inbox, Key, Mailbox, Takes};
use crate::client::subscribe::Interest;
use std::collections::BTreeSet;

impl Inbox {
    /// This subscription, or service, stands: from now on the owners of its mailboxes can take.
    pub(in crate::client) fn hand_over(&mut self, serves: bool, interest: &Interest) {
        for mailbox in self.boxes.values_mut() {
            mailbox.is_handed |= match &mailbox.takes {
                Takes::Everything => false,
                Takes::Messages(own) => !serves && own.is_same(interest),
                Takes::Requests(own) => serves && own.is_same(interest),
            };
        }
    }

    /// Whether the inbox stays full, whatever is taken, unless this mailbox or another one whose
    /// owner has not got it yet is closed.
    pub(in crate::client) fn is_choked_by(&self, id: BoxId) -> bool {
        let is_part = |mailbox: &Mailbox| !mailbox.is_handed && !mailbox.waiting.is_empty();
        if !self.is_full() || !self.boxes.get(&id).is_some_and(is_part) {
            return false;
        }
        let boxes = self.boxes.values().filter(|mailbox| is_part(mailbox));
        let keys: BTreeSet<&Key> = boxes.flat_map(|mailbox| &mailbox.waiting).collect();
        let entries = keys.into_iter().filter_map(|key| self.entries.get(key));
        entries.map(|entry| entry.bytes).sum::<usize>() >= self.bytes_max
    }

    /// How many entries and mailboxes there are.
    #[cfg(feature = "sim")]
    pub(in crate::client) fn counts(&self) -> (usize, usize) {
        (self.entries.len(), self.boxes.len())
    }
}
