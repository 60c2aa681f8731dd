//! The messages of one sender that have not arrived everywhere yet, and how many copies of
//! each are still to come.
//!
//! Numbers rise by one from 1, so they index a queue; messages usually arrive in order,
//! and leave a hole otherwise that goes when it reaches the front. No allocation once the
//! queue has reached its greatest length.

use super::fault::Fault;
use std::collections::VecDeque;

#[derive(Debug)]
pub struct Window {
    /// The number of the front entry; the front is never 0.
    front: u32,
    /// Copies to come, by message.
    copies: VecDeque<u32>,
}

impl Default for Window {
    fn default() -> Window {
        Window {
            front: 1,
            copies: VecDeque::new(),
        }
    }
}

impl Window {
    /// Notes a message that so many copies are to arrive of; returns its number.
    #[inline]
    pub fn push(&mut self, copies: u32) -> u32 {
        debug_assert!(copies > 0);
        let number = self.front.wrapping_add(self.copies.len() as u32);
        self.copies.push_back(copies);
        number
    }

    /// One copy has arrived; true when it was the last.
    ///
    /// # Errors
    /// No copy of such a message is to come: never sent, or one too many.
    #[inline]
    pub fn take(&mut self, number: u32) -> Result<bool, Fault> {
        let index = number.wrapping_sub(self.front) as usize;
        let Some(left) = self.copies.get_mut(index).filter(|left| **left > 0) else {
            return Err(Fault::Answer("a message arrived that was not in flight"));
        };
        *left -= 1;
        if *left > 0 {
            return Ok(false);
        }
        while self.copies.front() == Some(&0) {
            self.copies.pop_front();
            self.front = self.front.wrapping_add(1);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_copy_of_each_message_is_recognised_in_any_order() {
        let mut window = Window::default();
        assert_eq!([window.push(2), window.push(1), window.push(2)], [1, 2, 3]);
        let last: Vec<bool> = [3, 2, 1, 3, 1]
            .map(|number| window.take(number).unwrap())
            .into();
        assert_eq!(last, [false, true, false, true, true]);
        assert!(window.copies.is_empty());
        assert_eq!(window.push(1), 4);
    }

    #[test]
    fn a_copy_too_many_is_refused() {
        let mut window = Window::default();
        let (a, b) = (window.push(1), window.push(1));
        assert!(window.take(b).unwrap());
        assert!(window.take(b).is_err());
        assert!(window.take(b + 1).is_err());
        assert!(window.take(a).unwrap());
        assert!(window.take(a).is_err());
    }
}
