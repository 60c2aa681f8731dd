//! Entries by keys of slot and generation, so that a stale key is recognised.
//!
//! A completion, a timer or another shard may name an entry long after it was removed and its slot
//! reused. Each removal increments the slot's generation, and every look-up compares it, so a stale
//! key finds nothing.
//!
//! ```text
//!   slot:      0            1            2            3            4
//!         ┌────────────┬────────────┬────────────┬────────────┬────────────┐
//!         │ occupied   │ vacant     │ occupied   │ vacant     │ vacant     │
//!         │ gen 0      │ gen 4      │ gen 1      │ gen 2      │ gen 0      │
//!         │ value      │ next: 4    │ value      │ next: 1    │ next: none │
//!         └────────────┴────────────┴────────────┴────────────┴────────────┘
//!
//!   vacant_head: 3 ──► 1 ──► 4
//! ```
//!
//! Vacant slots form a list through themselves, last freed first taken: its memory is the
//! most likely to be in the cache. Storage grows by pages (`base::page`), so that nothing
//! is copied and an entry costs its value and at most 8 bytes (values of 4 bytes or more,
//! aligned to 8 at most). Inserting allocates only where a new page is needed; removing
//! never does.
//!
//! What it does not do: shrink; promise an order other than that of slots; detect a key after 2^24
//! reuses of its slot.
//!
//! Invariants: `len ≤ capacity_max`; the list holds each vacant slot exactly once; a slot
//! is handed out for the first time only when all lower ones are taken, hence every slot
//! in a key is below `capacity_max`.

use crate::base::id::Key;
use crate::base::page::Paged;
use std::mem;

/// Ends the list of vacant slots. Never a slot itself: `capacity_max` is at most this.
const NONE: u32 = u32::MAX;

// The generation is in both variants, rather than beside the enum, so that it shares eight bytes
// with the tag.
enum Slot<T> {
    Occupied { generation: u32, value: T },
    Vacant { generation: u32, next: u32 },
}

const _: () = assert!(size_of::<Slot<u32>>() <= size_of::<u32>() + 8);
const _: () = assert!(size_of::<Slot<[u64; 20]>>() <= size_of::<[u64; 20]>() + 8);

/// A bounded set of `T` that gives each a [`Key`].
pub struct Slab<T> {
    slots: Paged<Slot<T>>,
    vacant_head: u32,
    len: u32,
    capacity_max: u32,
}

impl<T> Slab<T> {
    /// A slab that holds at most `capacity_max` entries. Allocates nothing yet.
    pub const fn new(capacity_max: u32) -> Slab<T> {
        Slab {
            slots: Paged::new(),
            vacant_head: NONE,
            len: 0,
            capacity_max,
        }
    }

    pub const fn len(&self) -> u32 {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub const fn is_full(&self) -> bool {
        self.len == self.capacity_max
    }

    /// How many more entries it has room for.
    pub const fn vacant(&self) -> u32 {
        self.capacity_max - self.len
    }

    pub fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.slot)? {
            Slot::Occupied { generation, value } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.slot)? {
            Slot::Occupied { generation, value } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    pub fn contains(&self, key: Key) -> bool {
        self.get(key).is_some()
    }

    /// The key of the entry now in `slot`, for callers that know only the slot (the timer wheel).
    pub fn key_of(&self, slot: u32) -> Option<Key> {
        match *self.slots.get(slot)? {
            Slot::Occupied { generation, .. } => Some(Key { slot, generation }),
            Slot::Vacant { .. } => None,
        }
    }

    /// How many slots there are, including vacant ones: every key's slot is below. For callers that
    /// visit some slots at a time, with [`Slab::key_of`].
    pub fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// All entries, in the order of their slots; visits every slot ever used.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().filter_map(|(slot, entry)| match entry {
            Slot::Occupied { generation, value } => Some((key(slot, *generation), value)),
            Slot::Vacant { .. } => None,
        })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.slots
            .iter_mut()
            .filter_map(|(slot, entry)| match entry {
                Slot::Occupied { generation, value } => Some((key(slot, *generation), value)),
                Slot::Vacant { .. } => None,
            })
    }

    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.iter().map(|(key, _)| key)
    }

    /// Inserts `value`, or drops it and returns `None` if the slab is full.
    pub fn insert(&mut self, value: T) -> Option<Key> {
        self.insert_with(|_| value)
    }

    /// Like `insert`, for a value that holds its own key; `make` runs only if there is room.
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Option<Key> {
        if self.is_full() {
            return None;
        }
        if self.vacant_head == NONE {
            self.add_vacant();
        }
        let slot = self.vacant_head;
        let entry = &mut self.slots[slot];
        let Slot::Vacant { generation, next } = *entry else {
            unreachable!("slot {slot} is in the list of vacant ones and occupied");
        };
        let key = key(slot, generation);
        // If `make` panics, the slab is unchanged.
        let value = make(key);
        *entry = Slot::Occupied { generation, value };
        self.vacant_head = next;
        self.len += 1;
        Some(key)
    }

    /// Removes the entry, unless `key` is stale; its key is stale from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.slots.get_mut(key.slot)?;
        if !matches!(entry, Slot::Occupied { generation, .. } if *generation == key.generation) {
            return None;
        }
        let vacant = Slot::Vacant {
            generation: (key.generation + 1) % Key::GENERATIONS,
            next: self.vacant_head,
        };
        let Slot::Occupied { value, .. } = mem::replace(entry, vacant) else {
            unreachable!("slot {} was occupied a line ago", key.slot);
        };
        self.vacant_head = key.slot;
        self.len -= 1;
        Some(value)
    }

    /// Adds a page of vacant slots to the list, which is empty, the lowest first.
    fn add_vacant(&mut self) {
        let first = self.slots.len();
        self.slots.add_page(|slot| Slot::Vacant {
            generation: 0,
            next: slot.saturating_add(1),
        });
        let end = self.slots.len();
        if let Some(Slot::Vacant { next, .. }) = self.slots.get_mut((end - 1) as u32) {
            *next = NONE;
        }
        // Fits: the slab is not full, so `first` ≤ len < capacity_max.
        self.vacant_head = first as u32;
    }
}

const fn key(slot: u32, generation: u32) -> Key {
    Key { slot, generation }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::page::PAGE_ENTRIES;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    fn check_invariants<T>(slab: &Slab<T>) {
        let mut vacant = 0;
        let mut at = slab.vacant_head;
        while at != NONE {
            let Slot::Vacant { next, generation } = slab.slots[at] else {
                panic!("slot {at} is in the list of vacant ones and occupied");
            };
            assert!(generation < Key::GENERATIONS);
            at = next;
            vacant += 1;
            assert!(vacant <= slab.slots.len(), "the list is a ring");
        }
        assert_eq!(vacant + u64::from(slab.len()), slab.slots.len());
        assert_eq!(slab.iter().count(), slab.len() as usize);
        assert!(slab.len() <= slab.capacity_max);
        assert!(slab.keys().all(|key| key.slot < slab.capacity_max));
    }

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab = Slab::new(4);
        let old = slab.insert("old").unwrap();
        assert_eq!(slab.remove(old), Some("old"));
        let new = slab.insert("new").unwrap();
        assert_eq!(new.slot, old.slot);
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.remove(old), None);
        assert!(!slab.contains(old));
        assert_eq!(slab.get(new), Some(&"new"));
        assert_eq!(slab.key_of(old.slot), Some(new));
        check_invariants(&slab);
    }

    #[test]
    fn a_key_that_was_never_given_finds_nothing() {
        let mut slab = Slab::new(4);
        assert_eq!(slab.get(key(0, 0)), None);
        slab.insert(1).unwrap();
        assert_eq!(slab.get(key(1, 0)), None);
        assert_eq!(slab.remove(key(1, 0)), None);
        assert_eq!(slab.remove(key(u32::MAX, 0)), None);
        assert_eq!(slab.get(key(0, Key::GENERATIONS)), None);
        assert_eq!(slab.key_of(1), None);
        assert_eq!(slab.key_of(u32::MAX), None);
        check_invariants(&slab);
    }

    #[test]
    fn a_full_slab_takes_no_more_until_one_leaves() {
        let capacity = PAGE_ENTRIES as u32 + 3;
        let mut slab = Slab::new(capacity);
        let keys: Vec<Key> = (0..capacity).map(|n| slab.insert(n).unwrap()).collect();
        assert!(slab.is_full());
        assert_eq!(slab.insert(0), None);
        assert_eq!(
            slab.insert_with(|_| unreachable!("no room, no value")),
            None
        );
        slab.remove(keys[5]).unwrap();
        assert_eq!(slab.vacant(), 1);
        assert_eq!(slab.insert(77).map(|key| key.slot), Some(5));
        assert!(slab.is_full());
        check_invariants(&slab);
        assert_eq!(Slab::new(0).insert(()), None);
    }

    #[test]
    fn generations_wrap_and_the_slot_stays_usable() {
        let mut slab = Slab::new(1);
        let first = slab.insert(0).unwrap();
        slab.remove(first);
        let mut last = first;
        for n in 1..Key::GENERATIONS {
            last = slab.insert(n).unwrap();
            assert_eq!(last.generation, n);
            slab.remove(last);
        }
        assert_eq!(last.generation, Key::GENERATIONS - 1);
        let wrapped = slab.insert(0).unwrap();
        assert_eq!(wrapped, first);
        assert_eq!(slab.get(last), None);
        check_invariants(&slab);
    }

    #[test]
    fn the_last_freed_slot_is_the_first_taken() {
        let mut slab = Slab::new(10);
        let keys: Vec<Key> = (0..4).map(|n| slab.insert(n).unwrap()).collect();
        assert!(keys.iter().map(|key| key.slot).eq(0..4));
        for n in [1, 3, 0] {
            slab.remove(keys[n]);
        }
        let slots: Vec<u32> = (0..4).map(|n| slab.insert(n).unwrap().slot).collect();
        assert_eq!(slots, [0, 3, 1, 4]);
    }

    #[test]
    fn a_constructor_that_panics_leaves_the_slab_as_it_was() {
        let mut slab = Slab::<u32>::new(2);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            slab.insert_with(|_| panic!("no value"))
        }));
        assert!(panicked.is_err());
        assert!(slab.is_empty());
        assert_eq!(slab.insert(1), Some(key(0, 0)));
        check_invariants(&slab);
    }

    #[test]
    fn a_value_knows_its_key_and_is_dropped_once() {
        let witness = Rc::new(());
        let mut slab = Slab::new(1000);
        for _ in 0..1000 {
            slab.insert_with(|key| (key, witness.clone())).unwrap();
        }
        assert!(slab.iter().all(|(key, value)| value.0 == key));
        assert!(slab.iter_mut().all(|(key, value)| value.0 == key));
        let even: Vec<Key> = slab.keys().filter(|key| key.slot % 2 == 0).collect();
        for key in even {
            slab.remove(key).unwrap();
        }
        assert_eq!(Rc::strong_count(&witness), 501);
        drop(slab);
        assert_eq!(Rc::strong_count(&witness), 1);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64),
        Remove(prop::sample::Index),
        RemoveStale(prop::sample::Index),
        Change(prop::sample::Index, u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            5 => any::<u64>().prop_map(Op::Insert),
            3 => any::<prop::sample::Index>().prop_map(Op::Remove),
            1 => any::<prop::sample::Index>().prop_map(Op::RemoveStale),
            1 => any::<(prop::sample::Index, u64)>().prop_map(|(at, value)| Op::Change(at, value)),
        ]
    }

    proptest! {
        #[test]
        fn a_slab_holds_what_a_map_holds(
            capacity in 1u32..600,
            ops in prop::collection::vec(op(), 0..1200),
        ) {
            let mut slab = Slab::new(capacity);
            let mut model = HashMap::new();
            let mut live: Vec<Key> = Vec::new();
            let mut stale: Vec<Key> = Vec::new();
            for op in ops {
                match op {
                    Op::Insert(value) => match slab.insert(value) {
                        Some(key) => {
                            prop_assert!(!stale.contains(&key), "a key was given twice");
                            prop_assert_eq!(model.insert(key, value), None);
                            live.push(key);
                        }
                        None => prop_assert_eq!(model.len(), capacity as usize),
                    },
                    Op::Remove(at) if !live.is_empty() => {
                        let key = live.swap_remove(at.index(live.len()));
                        prop_assert_eq!(slab.remove(key), model.remove(&key));
                        stale.push(key);
                    }
                    Op::RemoveStale(at) if !stale.is_empty() => {
                        prop_assert_eq!(slab.remove(stale[at.index(stale.len())]), None);
                    }
                    Op::Change(at, value) if !live.is_empty() => {
                        let key = live[at.index(live.len())];
                        *slab.get_mut(key).unwrap() = value;
                        model.insert(key, value);
                    }
                    _ => {}
                }
                prop_assert_eq!(slab.len() as usize, model.len());
            }
            check_invariants(&slab);
            let held: HashMap<Key, u64> = slab.iter().map(|(key, value)| (key, *value)).collect();
            prop_assert_eq!(held, model);
            prop_assert!(stale.iter().all(|key| slab.get(*key).is_none()));
            prop_assert!(live.iter().all(|key| slab.key_of(key.slot) == Some(*key)));
        }
    }
}
