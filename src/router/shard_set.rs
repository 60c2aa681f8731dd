//! A set of shards as bits, so that the union over all filters of a topic costs one instruction per
//! filter.
//!
//! The first 64 shards are stored inline; a machine with more cores needs a vector as well, which
//! `clear` keeps, so that a reused set does not allocate.

use crate::base::id::ShardId;

#[derive(Clone, Debug, Default)]
pub struct ShardSet {
    low: u64,
    high: Vec<u64>,
}

impl ShardSet {
    pub const fn new() -> ShardSet {
        ShardSet {
            low: 0,
            high: Vec::new(),
        }
    }

    pub fn insert(&mut self, shard: ShardId) {
        let (word, bit) = place(shard);
        if word > self.high.len() {
            self.high.resize(word, 0);
        }
        *self.word_mut(word) |= bit;
    }

    pub fn remove(&mut self, shard: ShardId) {
        let (word, bit) = place(shard);
        if word <= self.high.len() {
            *self.word_mut(word) &= !bit;
        }
    }

    pub fn contains(&self, shard: ShardId) -> bool {
        let (word, bit) = place(shard);
        word <= self.high.len() && self.word(word) & bit != 0
    }

    pub fn is_empty(&self) -> bool {
        self.low == 0 && self.high.iter().all(|word| *word == 0)
    }

    pub fn len(&self) -> u32 {
        let high: u32 = self.high.iter().map(|word| word.count_ones()).sum();
        self.low.count_ones() + high
    }

    pub fn clear(&mut self) {
        self.low = 0;
        self.high.fill(0);
    }

    /// Inserts the shards 0 to 63 whose bits are set.
    pub const fn insert_low(&mut self, bits: u64) {
        self.low |= bits;
    }

    pub fn insert_all(&mut self, other: &ShardSet) {
        self.low |= other.low;
        if self.high.len() < other.high.len() {
            self.high.resize(other.high.len(), 0);
        }
        for (word, other) in self.high.iter_mut().zip(&other.high) {
            *word |= other;
        }
    }

    /// The shards in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = ShardId> {
        (0..=self.high.len()).flat_map(|word| {
            let mut bits = self.word(word);
            std::iter::from_fn(move || {
                if bits == 0 {
                    return None;
                }
                let bit = bits.trailing_zeros();
                bits &= bits - 1;
                Some(ShardId((word * 64) as u16 + bit as u16))
            })
        })
    }

    fn word(&self, word: usize) -> u64 {
        match word {
            0 => self.low,
            _ => self.high[word - 1],
        }
    }

    fn word_mut(&mut self, word: usize) -> &mut u64 {
        match word {
            0 => &mut self.low,
            _ => &mut self.high[word - 1],
        }
    }
}

/// Equal if both contain the same shards, whatever capacity they keep.
impl PartialEq for ShardSet {
    fn eq(&self, other: &ShardSet) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for ShardSet {}

impl FromIterator<ShardId> for ShardSet {
    fn from_iter<I: IntoIterator<Item = ShardId>>(shards: I) -> ShardSet {
        let mut set = ShardSet::new();
        for shard in shards {
            set.insert(shard);
        }
        set
    }
}

const fn place(shard: ShardId) -> (usize, u64) {
    (shard.index() / 64, 1 << (shard.index() % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_of_shards_holds_what_a_set_holds(
            ops in prop::collection::vec((any::<bool>(), 0u16..300), 0..200),
            others in prop::collection::btree_set(0u16..300, 0..20),
        ) {
            let mut set = ShardSet::new();
            let mut model = BTreeSet::new();
            for (insert, shard) in ops {
                if insert {
                    set.insert(ShardId(shard));
                    model.insert(ShardId(shard));
                } else {
                    set.remove(ShardId(shard));
                    model.remove(&ShardId(shard));
                }
                prop_assert_eq!(set.contains(ShardId(shard)), insert);
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert_eq!(set.len() as usize, model.len());
            prop_assert_eq!(set.is_empty(), model.is_empty());
            let other: ShardSet = others.iter().copied().map(ShardId).collect();
            set.insert_all(&other);
            model.extend(others.into_iter().map(ShardId));
            prop_assert!(set.iter().eq(model.iter().copied()));
            set.clear();
            prop_assert!(set.is_empty() && set == ShardSet::new());
        }
    }
}
