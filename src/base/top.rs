//! The greatest of many, without keeping all of them: a heap whose root is the least of
//! those kept, and the first to go.
//!
//! Invariant: at most `most` are kept, and none that was offered and is not kept is greater
//! than one that is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub struct Top<T> {
    kept: BinaryHeap<Reverse<T>>,
    most: usize,
}

impl<T: Ord> Top<T> {
    /// For the `most` greatest. Allocates for all of them now, and never again.
    pub fn new(most: usize) -> Top<T> {
        Top {
            kept: BinaryHeap::with_capacity(most),
            most,
        }
    }

    pub fn offer(&mut self, value: T) {
        if self.kept.len() < self.most {
            return self.kept.push(Reverse(value));
        }
        if let Some(mut least) = self.kept.peek_mut()
            && least.0 < value
        {
            *least = Reverse(value);
        }
    }

    /// Those kept, the greatest first.
    pub fn into_sorted(self) -> Vec<T> {
        let sorted = self.kept.into_sorted_vec();
        sorted.into_iter().map(|Reverse(value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_none_wanted_none_is_kept() {
        let mut top = Top::new(0);
        (0..10).for_each(|value| top.offer(value));
        assert!(top.into_sorted().is_empty());
    }

    proptest! {
        #[test]
        fn the_greatest_are_kept_in_order_whatever_order_they_come_in(
            mut values in prop::collection::vec(0u16..500, 0..300),
            most in 0usize..40,
        ) {
            let mut top = Top::new(most);
            for &value in &values {
                top.offer(value);
                prop_assert!(top.kept.len() <= most);
            }
            values.sort_unstable_by(|a, b| b.cmp(a));
            values.truncate(most);
            prop_assert_eq!(top.into_sorted(), values);
        }
    }
}
