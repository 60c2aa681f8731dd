//! A table that grows by pages and never moves its entries.
//!
//! A `Vec` that doubles would copy a million entries in the middle of a turn, and hold up to twice
//! the memory they need. Here growth is one allocation of `PAGE_ENTRIES` entries, and existing
//! entries stay where they are:
//!
//! ```text
//!   index:  | page number (24 bits) | entry (8 bits) |
//!                      │                     │
//!           pages ──► [0] ──► [e0 e1 … e255] │
//!                     [1] ──► [e0 e1 … e255] ▼
//! ```
//!
//! What it does not do: shrink, or have holes. Its index is a slab's slot, so it is dense from 0,
//! and what a peak needed will be needed again. Pages are full of entries from the start: the user
//! decides what an unused entry looks like.

use std::ops::{Index, IndexMut};

const ENTRY_BITS: u32 = 8;

/// Entries of a page.
pub const PAGE_ENTRIES: usize = 1 << ENTRY_BITS;

/// Entries by index; all below `len()` exist.
pub struct Paged<T> {
    pages: Vec<Box<[T; PAGE_ENTRIES]>>,
}

impl<T> Paged<T> {
    pub const fn new() -> Paged<T> {
        Paged { pages: Vec::new() }
    }

    /// Entries that exist: a multiple of `PAGE_ENTRIES`.
    pub fn len(&self) -> u64 {
        (self.pages.len() * PAGE_ENTRIES) as u64
    }

    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Appends one page of entries, each made from its index.
    pub fn add_page(&mut self, make: impl FnMut(u32) -> T) {
        let Ok(first) = u32::try_from(self.len()) else {
            unreachable!("more than 2^32 entries");
        };
        let last = first + (PAGE_ENTRIES as u32 - 1);
        // Built on the heap: as an array it would cross the stack, entry size times 256.
        let page: Vec<T> = (first..=last).map(make).collect();
        let Ok(page) = page.try_into() else {
            unreachable!("a page has PAGE_ENTRIES entries");
        };
        self.pages.push(page);
    }

    pub fn get(&self, index: u32) -> Option<&T> {
        let (page, entry) = split(index);
        self.pages.get(page).map(|page| &page[entry])
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (page, entry) = split(index);
        self.pages.get_mut(page).map(|page| &mut page[entry])
    }

    /// All entries in the order of their index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let entries = self.pages.iter().flat_map(|page| page.iter());
        entries.enumerate().map(|(at, entry)| (at as u32, entry))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let entries = self.pages.iter_mut().flat_map(|page| page.iter_mut());
        entries.enumerate().map(|(at, entry)| (at as u32, entry))
    }
}

/// The mask lets the compiler see that the entry lies inside its page.
const fn split(index: u32) -> (usize, usize) {
    let entry = index as usize & (PAGE_ENTRIES - 1);
    ((index >> ENTRY_BITS) as usize, entry)
}

impl<T> Default for Paged<T> {
    fn default() -> Paged<T> {
        Paged::new()
    }
}

/// For indices that the user stores in the table itself, as in a linked list: one out of range is a
/// bug and panics.
impl<T> Index<u32> for Paged<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        let (page, entry) = split(index);
        &self.pages[page][entry]
    }
}

impl<T> IndexMut<u32> for Paged<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        let (page, entry) = split(index);
        &mut self.pages[page][entry]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_moves_nothing() {
        let mut table = Paged::new();
        table.add_page(|index| index);
        let before: *const u32 = &raw const table[7];
        for _ in 0..100 {
            table.add_page(|index| index);
        }
        assert_eq!(before, &raw const table[7]);
    }

    #[test]
    fn each_index_finds_its_own_entry_and_none_beyond_the_end() {
        let mut table = Paged::new();
        assert!(table.is_empty() && table.get(0).is_none());
        for _ in 0..3 {
            table.add_page(|index| index);
        }
        let end = table.len() as u32;
        assert_eq!(end as usize, 3 * PAGE_ENTRIES);
        for index in 0..end {
            assert_eq!(table.get(index), Some(&index));
            assert_eq!(table.get_mut(index).copied(), Some(index));
            assert_eq!(table[index], index);
        }
        assert_eq!(table.get(end), None);
        assert_eq!(table.get_mut(u32::MAX), None);
        assert!(table.iter().all(|(index, entry)| index == *entry));
        assert!(table.iter_mut().all(|(index, entry)| index == *entry));
        assert_eq!(table.iter().count(), end as usize);
    }
}
