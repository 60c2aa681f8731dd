//! The greatest of many values, without keeping all of them: a heap whose root is the least of
//! those kept, which the next greater one replaces.
//!
//! Invariant: at most `most` are kept, and no value that was offered and not kept is greater than
//! one that is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub struct Top<T> {
    kept: BinaryHeap<Reverse<T>>,
    most: usize,
}

impl<T: Ord> Top<T> {
    /// Keeps the `most` greatest. Allocates room for all of them now, and nothing later.
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

    /// The values kept, the greatest first.
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
    fn with_a_limit_of_zero_nothing_is_kept() {
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
