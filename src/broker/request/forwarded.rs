//! Forwarded requests: requests that connections of this shard have to answer.
//!
//! Each is sent to its server under an id of ours, by which its RESPONSE is recognized. The ids of
//! a server increase by one from a random start, across all the connections of its session; ids in
//! use are skipped. So an id is used again only 2^32 requests later, and an answer that comes late,
//! or on the server's next connection, is never taken for the answer to another request.
//!
//! ```text
//!   RESPONSE of a server ── (server, id) ──► forwarded request ◄── (shard, call) ── end of a requester
//!                                              │
//!                                           deadline
//! ```
//!
//! The slots are shared in the same way as those of calls (see `call`): a server that does not
//! answer holds only a part of them, and others still find room.
//!
//! Invariant: each forwarded request ends once: answered, overdue, with its requester, or with its
//! server.

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::limits::CALLS_PER_PLACE_LEFT;
use crate::base::slab::Slab;
use crate::base::wheel::Wheel;
use crate::broker::mesh::Call;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// A request that a connection of this shard has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) struct Forwarded {
    pub(in crate::broker) server: Key,
    pub(in crate::broker) call: Call,
    /// The id under which its server knows it.
    id: u32,
}

/// The last id of one server; `None`: it has not been sent a request yet.
pub(in crate::broker) type LastId = Option<u32>;

/// The forwarded requests of one shard.
pub(crate) struct ForwardedRequests {
    open: Slab<Forwarded>,
    open_max: u32,
    timers: Wheel,
    /// By the server's slot, and the id.
    by_id: HashMap<(u32, u32), Key, RandomState>,
    /// By the shard of the call and the call's slot there, as far as used: the slot of a forwarded
    /// request, which itself tells whether it belongs to that call.
    by_call: Vec<Vec<u32>>,
}

impl ForwardedRequests {
    pub(in crate::broker) fn new(open_max: u32, now: Instant) -> ForwardedRequests {
        ForwardedRequests {
            open: Slab::new(open_max),
            open_max,
            timers: Wheel::new(now),
            by_id: HashMap::default(),
            by_call: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.open.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_due()
    }

    /// Whether a server that has to answer `held` requests may get another.
    pub(in crate::broker) fn may_have(&self, held: u32) -> bool {
        held < (self.open_max - self.open.len()).saturating_mul(CALLS_PER_PLACE_LEFT)
    }

    /// Opens a forwarded request and assigns an id; `None`: there is no room.
    pub(in crate::broker) fn open(
        &mut self,
        server: Key,
        call: Call,
        last: &mut LastId,
        random: &mut fastrand::Rng,
    ) -> Option<(Key, u32)> {
        let mut id = last.unwrap_or_else(|| random.u32(..));
        loop {
            id = id.wrapping_add(1);
            // 0 is not a valid id for operations (PROTOCOL.md §2), so it is never assigned.
            if id != 0 && !self.by_id.contains_key(&(server.slot, id)) {
                break;
            }
        }
        let entry = self.open.insert(Forwarded { server, call, id })?;
        *last = Some(id);
        self.timers.arm(entry.slot, call.deadline);
        self.by_id.insert((server.slot, id), entry);
        let (shard, slot) = (call.shard.index(), call.key.slot as usize);
        if self.by_call.len() <= shard {
            self.by_call.resize_with(shard + 1, Vec::new);
        }
        let of_shard = &mut self.by_call[shard];
        if of_shard.len() <= slot {
            of_shard.resize(slot + 1, u32::MAX);
        }
        of_shard[slot] = entry.slot;
        Some((entry, id))
    }

    pub(in crate::broker) fn remove(&mut self, key: Key) -> Option<Forwarded> {
        let entry = self.open.remove(key)?;
        self.timers.cancel(key.slot);
        self.by_id.remove(&(entry.server.slot, entry.id));
        Some(entry)
    }

    /// The forwarded request that `server` answers with this id.
    pub(in crate::broker) fn answered(&self, id: u32, server: Key) -> Option<Key> {
        let key = *self.by_id.get(&(server.slot, id))?;
        (self.open.get(key)?.server == server).then_some(key)
    }

    /// The forwarded request of a call that is open on this or another shard.
    pub(in crate::broker) fn of_call(&self, shard: ShardId, call: Key) -> Option<Key> {
        let slot = *self.by_call.get(shard.index())?.get(call.slot as usize)?;
        let key = self.open.key_of(slot)?;
        let of = self.open.get(key)?.call;
        ((of.shard, of.key) == (shard, call)).then_some(key)
    }

    /// All that `server` has to answer.
    pub(in crate::broker) fn of_server(&self, server: Key) -> Vec<Key> {
        let open = self.open.iter();
        open.filter_map(|(key, entry)| (entry.server == server).then_some(key))
            .collect()
    }

    /// A forwarded request whose deadline has passed.
    pub(in crate::broker) fn next_overdue(&mut self, now: Instant) -> Option<Key> {
        self.timers.advance(now);
        while let Some(slot) = self.timers.pop_due() {
            if let Some(key) = self.open.key_of(slot) {
                return Some(key);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SERVER: Key = Key {
        slot: 7,
        generation: 3,
    };

    fn call(shard: u16, slot: u32) -> Call {
        Call {
            shard: ShardId(shard),
            key: Key {
                slot,
                generation: 5,
            },
            deadline: Instant::from_nanos(0) + Duration::from_secs(10),
            grown: false,
        }
    }

    fn forwarded(open_max: u32) -> (ForwardedRequests, fastrand::Rng) {
        let forwarded = ForwardedRequests::new(open_max, Instant::from_nanos(0));
        (forwarded, fastrand::Rng::with_seed(1))
    }

    #[test]
    fn an_id_is_not_given_again_as_long_as_another_is_left() {
        let (mut forwarded, mut random) = forwarded(4);
        let mut last = None;
        let mut given = std::collections::HashSet::new();
        // More rounds than any part of an id could distinguish, reusing one slot.
        for round in 0..200_000 {
            let (entry, id) = forwarded
                .open(SERVER, call(0, 0), &mut last, &mut random)
                .unwrap();
            assert!(given.insert(id), "{id:#x} again in round {round}");
            assert_eq!(forwarded.answered(id, SERVER), Some(entry));
            forwarded.remove(entry).unwrap();
            assert_eq!(forwarded.answered(id, SERVER), None);
        }
    }

    #[test]
    fn when_ids_have_gone_round_those_in_use_are_left_out() {
        let (mut forwarded, mut random) = forwarded(8);
        for in_use in [0, 1, 2, 0xFFFF_FFFE] {
            let mut last = Some(u32::wrapping_sub(in_use, 1));
            forwarded
                .open(SERVER, call(0, in_use & 7), &mut last, &mut random)
                .unwrap();
        }
        // 0 was requested above, and became 1; so the second id became 2, the third 3.
        let mut last = Some(0xFFFF_FFFD);
        let mut next = || {
            let opened = forwarded.open(SERVER, call(1, 0), &mut last, &mut random);
            opened.map(|(_, id)| id)
        };
        assert_eq!(next(), Some(0xFFFF_FFFF));
        assert_eq!(next(), Some(4), "neither 0 nor 1, 2 and 3");
        // For another server the same ids are free.
        let other = Key { slot: 8, ..SERVER };
        let mut last = Some(0);
        let (_, id) = forwarded
            .open(other, call(1, 1), &mut last, &mut random)
            .unwrap();
        assert_eq!(id, 1);
    }

    #[test]
    fn a_forwarded_request_is_found_by_its_server_or_its_call_and_by_no_other() {
        let (mut forwarded, mut random) = forwarded(8);
        let mut last = None;
        let (entry, id) = forwarded
            .open(SERVER, call(1, 4), &mut last, &mut random)
            .unwrap();
        let next_tenant = Key {
            generation: 4,
            ..SERVER
        };
        assert_eq!(forwarded.answered(id, next_tenant), None);
        assert_eq!(forwarded.answered(id, Key { slot: 0, ..SERVER }), None);
        let of = call(1, 4).key;
        assert_eq!(forwarded.of_call(ShardId(1), of), Some(entry));
        assert_eq!(forwarded.of_call(ShardId(0), of), None);
        assert_eq!(forwarded.of_call(ShardId(9), of), None);
        let later = Key {
            generation: 6,
            ..of
        };
        assert_eq!(forwarded.of_call(ShardId(1), later), None);
        assert_eq!(forwarded.of_server(SERVER), [entry]);
        forwarded.remove(entry).unwrap();
        assert_eq!(forwarded.of_call(ShardId(1), of), None);
        assert!(forwarded.of_server(SERVER).is_empty() && forwarded.remove(entry).is_none());
    }
}
