//! Abuse budgets: how often a peer may cause useless work before it is refused.

use crate::base::clock::Instant;

/// A bound on the events in a window of one second, which starts with its first event.
///
/// A fixed window rather than a sliding one: eight bytes of state, and a peer gains at most twice
/// the bound across a boundary. (Its start is the low bits of a time in milliseconds: after 49.7
/// days, to the second, a peer finds its old window.)
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    window_start_ms: u32,
    spent: u32,
}

impl Budget {
    const WINDOW_MS: u32 = 1000;

    /// Counts one event; false if it exceeds `max`.
    pub fn spend(&mut self, max: u32, now: Instant) -> bool {
        let now_ms = now.as_millis() as u32;
        if self.spent == 0 || now_ms.wrapping_sub(self.window_start_ms) >= Budget::WINDOW_MS {
            self.window_start_ms = now_ms;
            self.spent = 0;
        }
        self.spent = self.spent.saturating_add(1);
        self.spent <= max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_within_a_second_is_one_too_many_and_a_second_later_is_not() {
        let mut budget = Budget::default();
        let at = |ms: u64| Instant::from_nanos(5_000_000_000 + ms * 1_000_000);
        assert!((0..10).all(|i| budget.spend(10, at(i * 50))));
        assert!(!budget.spend(10, at(999)));
        assert!(budget.spend(10, at(1000)));
    }
}
