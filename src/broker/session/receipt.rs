//! Which PUBLISHes of a session have been taken: a client that comes back repeats those whose
//! answer it has not got, and none may be delivered twice (PROTOCOL.md, Sessions).
//!
//! Ids of one session rise, modulo 2^32, so one number says what was taken: the highest. An
//! id below it that was refused has not been taken. Only the last of these are remembered:
//! who tries one of the others again is told OK for nothing, which is why a client retries
//! what was refused under a new id.

use std::collections::VecDeque;

/// Refused ids that are remembered.
const REFUSED_MAX: usize = 1024;

/// What a session knows of its PUBLISHes' ids. No id is 0: such a PUBLISH is not confirmed.
#[derive(Default)]
pub(in crate::broker) struct Receipts {
    /// The highest id taken; 0: none.
    taken: u32,
    /// The highest id confirmed; 0: none.
    confirmed: u32,
    /// Ids that were refused, the latest last.
    refused: VecDeque<u32>,
}

impl Receipts {
    /// A PUBLISH with this id was taken before: it is only confirmed again.
    pub(in crate::broker) fn has(&self, id: u32) -> bool {
        !is_beyond(id, self.taken) && !self.refused.contains(&id)
    }

    /// It is taken.
    pub(in crate::broker) fn take(&mut self, id: u32) {
        if is_beyond(id, self.taken) {
            self.taken = id;
        }
        if !self.refused.is_empty() {
            self.refused.retain(|&refused| refused != id);
        }
    }

    /// It is refused.
    pub(in crate::broker) fn refuse(&mut self, id: u32) {
        if self.refused.contains(&id) {
            return;
        }
        if self.refused.len() == REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back(id);
    }

    /// Its OK goes out.
    pub(in crate::broker) fn confirm(&mut self, id: u32) {
        if is_beyond(id, self.confirmed) {
            self.confirmed = id;
        }
    }

    /// What SESSION_OK tells: the last id confirmed; 0: none.
    pub(in crate::broker) fn last_confirmed(&self) -> u32 {
        self.confirmed
    }

    /// Bytes of memory in use beside its own.
    pub(in crate::broker) fn cost_bytes(&self) -> usize {
        self.refused.capacity() * size_of::<u32>()
    }
}

/// An id comes after another, half of all numbers being before and half behind.
fn is_beyond(id: u32, last: u32) -> bool {
    last == 0 || (id.wrapping_sub(last) as i32) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_through_the_end_of_their_range() {
        for first in [1, 7, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFD] {
            let mut receipts = Receipts::default();
            let ids = (0..6).map(|n| u32::wrapping_add(first, n));
            // 0 is no id.
            let ids: Vec<u32> = ids.filter(|&id| id != 0).collect();
            for (index, &id) in ids.iter().enumerate() {
                assert!(!receipts.has(id), "{id:#x} after {index}");
                receipts.take(id);
                receipts.confirm(id);
                assert!(ids[..=index].iter().all(|&id| receipts.has(id)));
                assert_eq!(receipts.last_confirmed(), id);
            }
        }
    }

    #[test]
    fn a_refused_id_is_not_taken_whatever_came_after_it() {
        let mut receipts = Receipts::default();
        receipts.take(1);
        receipts.refuse(2);
        receipts.refuse(2);
        receipts.take(3);
        receipts.confirm(3);
        assert!(receipts.has(1) && !receipts.has(2) && receipts.has(3));
        receipts.take(2);
        receipts.confirm(2);
        assert!(receipts.has(2), "once taken it is not taken again");
        assert_eq!(receipts.last_confirmed(), 3, "it does not go back");
    }

    #[test]
    fn the_latest_refused_ids_are_remembered_in_bounded_memory() {
        let mut receipts = Receipts::default();
        let most = REFUSED_MAX as u32;
        for id in 1..=3 * most {
            receipts.refuse(id);
        }
        receipts.take(3 * most + 1);
        assert!((2 * most + 1..=3 * most).all(|id| !receipts.has(id)));
        assert!(receipts.has(2 * most));
        assert!(receipts.cost_bytes() <= 2 * REFUSED_MAX * size_of::<u32>());
    }
}
