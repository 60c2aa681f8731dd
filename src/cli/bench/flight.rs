//! The requests of one connection that are not answered yet, and the time each is measured from.
//!
//! Ids rise by one, so they index a queue. Answers usually come in order (a pop); out of
//! order they leave a hole that goes when it reaches the front. No allocation once the
//! queue has reached its greatest length.

use super::fault::Fault;
use crate::base::clock::Instant;
use std::collections::VecDeque;

/// Marks an entry answered while an earlier one is still open.
const ANSWERED: Instant = Instant::NEVER;

#[derive(Debug, Default)]
pub struct Flight {
    /// The id of the front entry; the front is always open.
    front: u32,
    since: VecDeque<Instant>,
    /// Entries made since the last look at them.
    fresh: usize,
}

impl Flight {
    /// Notes a request measured from `since`; returns its id.
    #[inline]
    pub fn push(&mut self, since: Instant) -> u32 {
        let id = self.front.wrapping_add(self.since.len() as u32);
        self.since.push_back(since);
        self.fresh += 1;
        id
    }

    /// The request `id` is answered; returns the time it is measured from.
    ///
    /// # Errors
    /// An id that no open request has: never asked, or answered before.
    #[inline]
    pub fn take(&mut self, id: u32) -> Result<Instant, Fault> {
        let index = id.wrapping_sub(self.front) as usize;
        let since = match self.since.get_mut(index) {
            Some(entry) if *entry != ANSWERED => std::mem::replace(entry, ANSWERED),
            _ => return Err(Fault::Answer("an answer to a request that is not open")),
        };
        while self.since.front() == Some(&ANSWERED) {
            self.since.pop_front();
            self.front = self.front.wrapping_add(1);
        }
        Ok(since)
    }

    /// Whether an entry was made since the last look.
    pub fn is_fresh(&self) -> bool {
        self.fresh > 0
    }

    /// The entries made since the last look, the latest first.
    pub fn take_fresh(&mut self) -> impl Iterator<Item = Instant> + '_ {
        let count = std::mem::take(&mut self.fresh);
        self.since.iter().rev().take(count).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_out_of_order_find_their_own_times() {
        let mut flight = Flight {
            front: u32::MAX - 1,
            ..Flight::default()
        };
        let ids: Vec<u32> = (0..4)
            .map(|n| flight.push(Instant::from_nanos(n)))
            .collect();
        assert_eq!(ids, [u32::MAX - 1, u32::MAX, 0, 1]);
        for n in [2, 0, 3, 1] {
            let since = flight.take(ids[n]).unwrap();
            assert_eq!(since, Instant::from_nanos(n as u64));
        }
        assert!(flight.since.is_empty());
        assert_eq!(flight.push(Instant::ZERO), 2);
    }

    #[test]
    fn an_answer_twice_or_to_nothing_is_refused() {
        let mut flight = Flight::default();
        let (a, b) = (flight.push(Instant::ZERO), flight.push(Instant::ZERO));
        assert!(flight.take(b).is_ok());
        assert!(flight.take(b).is_err());
        assert!(flight.take(b + 1).is_err());
        assert!(flight.take(a).is_ok());
        assert!(flight.take(a).is_err());
    }
}
