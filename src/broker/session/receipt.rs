//! Which PUBLISHes of a session were accepted: a client that comes back repeats those it has no
//! answer to, and none may be delivered twice (PROTOCOL.md, Sessions).
//!
//! Ids of one session rise, modulo 2^32, so one number says what was accepted: the highest id. A
//! lower id that was refused was not accepted. Only the most recently refused ids are remembered: a
//! client that retries an older one gets OK although nothing is delivered, which is why a client
//! retries a refused PUBLISH under a new id.

use std::collections::VecDeque;

/// Refused ids that are remembered.
const REFUSED_MAX: usize = 1024;

/// What a session knows of the ids of its PUBLISHes. No id is 0: such a PUBLISH is not confirmed.
#[derive(Default)]
pub(in crate::broker) struct Receipts {
    /// The highest id accepted; 0: none.
    taken: u32,
    /// The highest id confirmed; 0: none.
    confirmed: u32,
    /// Refused ids, the latest last.
    refused: VecDeque<u32>,
}

impl Receipts {
    /// A PUBLISH with this id was accepted before: it is only confirmed again.
    pub(in crate::broker) fn has(&self, id: u32) -> bool {
        !is_beyond(id, self.taken) && !self.refused.contains(&id)
    }

    /// The PUBLISH with this id is accepted.
    pub(in crate::broker) fn take(&mut self, id: u32) {
        if is_beyond(id, self.taken) {
            self.taken = id;
        }
        if !self.refused.is_empty() {
            self.refused.retain(|&refused| refused != id);
        }
    }

    /// The PUBLISH with this id is refused.
    pub(in crate::broker) fn refuse(&mut self, id: u32) {
        if self.refused.contains(&id) {
            return;
        }
        if self.refused.len() == REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back(id);
    }

    /// Its OK is sent.
    pub(in crate::broker) fn confirm(&mut self, id: u32) {
        if is_beyond(id, self.confirmed) {
            self.confirmed = id;
        }
    }

    /// What SESSION_OK carries: the last id confirmed; 0: none.
    pub(in crate::broker) fn last_confirmed(&self) -> u32 {
        self.confirmed
    }

    /// Bytes of memory in use besides the struct itself.
    pub(in crate::broker) fn cost_bytes(&self) -> usize {
        self.refused.capacity() * size_of::<u32>()
    }
}

/// Whether `id` comes after `last`: half of all numbers are ahead of `last`, half behind.
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
            // 0 is not an id.
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
