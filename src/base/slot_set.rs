//! Slots as bits: which connections have been seen.

/// A set of slots, which grows to the highest one that was put in.
#[derive(Clone, Debug, Default)]
pub struct SlotSet {
    words: Vec<u64>,
}

impl SlotSet {
    pub const fn new() -> SlotSet {
        SlotSet { words: Vec::new() }
    }

    /// Returns whether the slot is new.
    #[inline]
    pub fn insert(&mut self, slot: u32) -> bool {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        is_new
    }

    /// How many bytes of memory it holds.
    pub const fn held_bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_new_once() {
        let mut set = SlotSet::new();
        for slot in [0, 63, 64, 1_000_000, 1] {
            assert!(set.insert(slot));
            assert!(!set.insert(slot));
        }
        assert!(set.held_bytes() >= 1_000_000 / 8);
    }
}
