//! Entries by a 32-bit index, in pages that are freed when they are empty.
//!
//! Like `base::slab` it grows by a page at a time and moves nothing; unlike it, it shrinks: after a
//! million subscriptions have ended, one page is left. New entries go to the lowest page with room,
//! so that the high pages empty out under churn.
//!
//! ```text
//!   pages ──► 0 [e e e e … e]   full
//!             1 [e – e – … –]   open: the lowest, takes the next entry
//!             2  absent         memory given back
//!             3 [– – e – … e]   open
//! ```
//!
//! What it does not do: recognise a stale index. Users that hand indices out keep a generation
//! beside them (`group`), or require that an id is used only while its entry exists
//! (`trie::FilterId`).
//!
//! Invariants: `open` names exactly the pages that are present and have room, `absent`
//! exactly those that are not present; the last page of the list is never absent; at most one page
//! is present without an entry.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

const ENTRY_BITS: u32 = 8;
const PAGE_ENTRIES: usize = 1 << ENTRY_BITS;

/// Ends a page's list of vacant slots.
const END: u16 = u16::MAX;

/// The most pages: an index keeps its highest bit clear, for `trie::FilterId`, so that the users'
/// `NONE` is never an index.
const PAGES_MAX: usize = 1 << (31 - ENTRY_BITS);

enum Slot<T> {
    Occupied(T),
    Vacant { next: u16 },
}

struct Page<T> {
    slots: Option<Box<[Slot<T>; PAGE_ENTRIES]>>,
    live: u16,
    vacant_head: u16,
}

pub struct Arena<T> {
    pages: Vec<Page<T>>,
    open: BTreeSet<u32>,
    absent: BTreeSet<u32>,
    len: usize,
}

impl<T> Arena<T> {
    pub const fn new() -> Arena<T> {
        Arena {
            pages: Vec::new(),
            open: BTreeSet::new(),
            absent: BTreeSet::new(),
            len: 0,
        }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that the entries take, without vacant slots.
    pub const fn bytes(&self) -> usize {
        self.len * size_of::<Slot<T>>()
    }

    /// How many entries the allocated pages hold.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        (self.pages.len() - self.absent.len()) * PAGE_ENTRIES
    }

    pub fn insert(&mut self, value: T) -> u32 {
        let number = match self.open.first() {
            Some(number) => *number,
            None => self.add_page(),
        };
        let page = &mut self.pages[number as usize];
        let at = page.vacant_head;
        let Some(slots) = page.slots.as_mut() else {
            unreachable!("page {number} is open and absent");
        };
        let slot = &mut slots[usize::from(at)];
        let Slot::Vacant { next } = *slot else {
            unreachable!("slot {at} of page {number} is in the list of vacant ones and occupied");
        };
        *slot = Slot::Occupied(value);
        page.vacant_head = next;
        page.live += 1;
        self.len += 1;
        if next == END {
            self.open.remove(&number);
        }
        number << ENTRY_BITS | u32::from(at)
    }

    pub fn remove(&mut self, index: u32) -> Option<T> {
        let (number, at) = split(index);
        let page = self.pages.get_mut(number)?;
        let slot = page.slots.as_mut()?.get_mut(at)?;
        let vacant = Slot::Vacant {
            next: page.vacant_head,
        };
        let value = match std::mem::replace(slot, vacant) {
            Slot::Occupied(value) => value,
            was_vacant => {
                *slot = was_vacant;
                return None;
            }
        };
        if page.vacant_head == END {
            self.open.insert(number as u32);
        }
        page.vacant_head = at as u16;
        page.live -= 1;
        self.len -= 1;
        // One page with room stays, so that adding and removing one entry at a page boundary does
        // not allocate a page each time.
        if page.live == 0 && self.open.len() > 1 {
            self.drop_page(number);
        }
        Some(value)
    }

    pub fn get(&self, index: u32) -> Option<&T> {
        let (number, at) = split(index);
        match &self.pages.get(number)?.slots.as_ref()?[at] {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (number, at) = split(index);
        match &mut self.pages.get_mut(number)?.slots.as_mut()?[at] {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    fn add_page(&mut self) -> u32 {
        // Built on the heap: as an array it would cross the stack.
        let slots: Vec<Slot<T>> = (1..=PAGE_ENTRIES as u16)
            .map(|next| match usize::from(next) {
                PAGE_ENTRIES => Slot::Vacant { next: END },
                _ => Slot::Vacant { next },
            })
            .collect();
        let page = Page {
            slots: slots.try_into().ok(),
            live: 0,
            vacant_head: 0,
        };
        let number = match self.absent.pop_first() {
            Some(number) => {
                self.pages[number as usize] = page;
                number
            }
            None => {
                assert!(self.pages.len() < PAGES_MAX, "no more than 2^31 entries");
                self.pages.push(page);
                self.pages.len() as u32 - 1
            }
        };
        self.open.insert(number);
        number
    }

    fn drop_page(&mut self, number: usize) {
        self.pages[number].slots = None;
        self.open.remove(&(number as u32));
        self.absent.insert(number as u32);
        while let Some(Page { slots: None, .. }) = self.pages.last() {
            self.pages.pop();
            self.absent.remove(&(self.pages.len() as u32));
        }
        if self.pages.len() < self.pages.capacity() / 4 {
            self.pages.shrink_to(self.pages.len() * 2);
        }
    }
}

/// The mask lets the compiler see that the entry lies inside its page.
const fn split(index: u32) -> (usize, usize) {
    let at = index as usize & (PAGE_ENTRIES - 1);
    ((index >> ENTRY_BITS) as usize, at)
}

/// For indices that the structure itself stores: an index of a vacant slot is a bug and panics.
impl<T> Index<u32> for Arena<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        let Some(value) = self.get(index) else {
            unreachable!("entry {index} is vacant");
        };
        value
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        let Some(value) = self.get_mut(index) else {
            unreachable!("entry {index} is vacant");
        };
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn check_invariants<T>(arena: &Arena<T>) {
        let (mut live_sum, mut empty) = (0, 0);
        for (number, page) in arena.pages.iter().enumerate() {
            let number = number as u32;
            assert_eq!(page.slots.is_none(), arena.absent.contains(&number));
            let roomy = page.slots.is_some() && page.vacant_head != END;
            assert_eq!(roomy, arena.open.contains(&number));
            let Some(slots) = &page.slots else { continue };
            empty += usize::from(page.live == 0);
            let occupied = slots.iter().filter(|s| matches!(s, Slot::Occupied(_)));
            assert_eq!(occupied.count(), usize::from(page.live));
            live_sum += usize::from(page.live);
        }
        assert_eq!(live_sum, arena.len());
        assert!(empty <= 1);
        assert!(arena.pages.last().is_none_or(|page| page.slots.is_some()));
    }

    #[test]
    fn pages_that_have_emptied_are_given_back() {
        let mut arena = Arena::new();
        let all: Vec<u32> = (0..10_000).map(|n| arena.insert(n)).collect();
        assert!(arena.capacity() >= 10_000);
        for index in all.iter().step_by(2).chain(all.iter().skip(1).step_by(2)) {
            assert!(arena.remove(*index).is_some());
        }
        assert_eq!((arena.len(), arena.capacity()), (0, PAGE_ENTRIES));
        check_invariants(&arena);
    }

    #[test]
    fn an_entry_that_comes_and_goes_at_a_page_boundary_keeps_its_page() {
        let mut arena = Arena::new();
        for n in 0..PAGE_ENTRIES {
            arena.insert(n);
        }
        let over = arena.insert(0);
        let before = arena.pages[1].slots.as_ref().unwrap().as_ptr();
        for _ in 0..10 {
            arena.remove(over).unwrap();
            assert_eq!(arena.insert(0), over);
        }
        assert_eq!(before, arena.pages[1].slots.as_ref().unwrap().as_ptr());
    }

    proptest! {
        #[test]
        fn an_arena_holds_what_a_map_holds(
            ops in prop::collection::vec((0u8..5, any::<prop::sample::Index>()), 0..3000),
            growing in any::<bool>(),
        ) {
            let mut arena = Arena::new();
            let mut model: BTreeMap<u32, usize> = BTreeMap::new();
            for (n, (op, at)) in ops.into_iter().enumerate() {
                if op < if growing { 4 } else { 2 } || model.is_empty() {
                    prop_assert!(model.insert(arena.insert(n), n).is_none());
                } else {
                    let index = *model.keys().nth(at.index(model.len())).unwrap();
                    prop_assert_eq!(arena.remove(index), model.remove(&index));
                    prop_assert_eq!(arena.remove(index), None);
                }
            }
            check_invariants(&arena);
            for (index, value) in &model {
                prop_assert_eq!(arena.get(*index), Some(value));
            }
            for index in model.keys() {
                arena.remove(*index);
            }
            prop_assert!(arena.capacity() <= PAGE_ENTRIES);
        }
    }
}
