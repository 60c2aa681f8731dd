//! Abuse budgets: how often a peer may make us work for nothing before it is shut out.

use crate::base::clock::Instant;
use std::time::Duration;

/// At most `max` events in any window of one second, counted from the first of the window.
///
/// A fixed window rather than a sliding one: eight bytes of state, and a peer gains at
/// most twice the bound across a boundary.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    window_start: Instant,
    spent: u32,
    max: u32,
}

impl Budget {
    const WINDOW: Duration = Duration::from_secs(1);

    pub const fn per_second(max: u32) -> Budget {
        Budget {
            window_start: Instant::ZERO,
            spent: 0,
            max,
        }
    }

    /// Counts one event; false when it is one too many.
    pub fn spend(&mut self, now: Instant) -> bool {
        if self.spent == 0 || now.since(self.window_start) >= Budget::WINDOW {
            self.window_start = now;
            self.spent = 0;
        }
        self.spent = self.spent.saturating_add(1);
        self.spent <= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_within_a_second_is_one_too_many_and_a_second_later_is_not() {
        let mut budget = Budget::per_second(10);
        let at = |ms: u64| Instant::from_nanos(5_000_000_000 + ms * 1_000_000);
        assert!((0..10).all(|i| budget.spend(at(i * 50))));
        assert!(!budget.spend(at(999)));
        assert!(budget.spend(at(1000)));
    }
}
