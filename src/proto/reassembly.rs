//! Zero-copy reassembly: complete messages are parsed where the kernel put them; only the
//! partial tail of a receive is copied, and completed by the next one.
//!
//! ```text
//!  receive 1   [ message ][ message ][ mess        parsed in place; "mess" is kept
//!  kept        [ mess ]
//!  receive 2   age ][ message ][ message ]         "age" completes the kept one,
//!  kept        [ message ]   then empty             the rest is parsed in place again
//! ```
//!
//! The owner's loop is always the same (`view`, `Session::handle`, then `consume` or
//! `fill`), so one message is handled at a time and nothing is collected on the way:
//!
//! ```text
//!  loop { match session.handle(input.view(bytes), …) {
//!      Taken { used, event } => { …; input.consume(used, &mut bytes) }
//!      Incomplete { need }   => if !input.fill(need, &mut bytes) { break } } }
//!  input.keep(bytes)          // only if the loop was left early
//! ```
//!
//! Both numbers have 32 bits, because every connection stores them: the kept bytes are at most one
//! message plus what one turn may receive.
//!
//! Invariant: `start ≤ kept.len()`, and `kept` is empty when `start` reaches its end. The
//! kept bytes grow as bytes arrive, never by a length that a peer claims.

/// The received bytes of one connection that are not yet parsed.
#[derive(Debug, Default)]
pub struct Reassembly {
    kept: Vec<u8>,
    start: u32,
    charged: u32,
}

#[expect(
    clippy::indexing_slicing,
    reason = "by the invariant, and by what was parsed"
)]
impl Reassembly {
    /// What to parse next: the kept bytes if there are any, else `bytes` in place.
    #[inline]
    pub fn view<'v>(&'v self, bytes: &'v [u8]) -> &'v [u8] {
        if self.kept.is_empty() {
            bytes
        } else {
            &self.kept[self.start as usize..]
        }
    }

    /// Removes the first `used` bytes of the view.
    #[inline]
    pub fn consume(&mut self, used: usize, bytes: &mut &[u8]) {
        if self.kept.is_empty() {
            *bytes = &bytes[used..];
            return;
        }
        self.start += used as u32;
        self.check_invariants();
        if self.start as usize == self.kept.len() {
            self.kept.clear();
            self.start = 0;
        }
    }

    /// The view is incomplete and needs `need` bytes: takes what is missing from `bytes`. True if
    /// the view has grown and should be parsed again: even short of `need`, the next byte of a
    /// header may already be invalid.
    pub fn fill(&mut self, need: usize, bytes: &mut &[u8]) -> bool {
        let was_empty = self.kept.is_empty();
        if self.start > 0 {
            self.kept.drain(..self.start as usize);
            self.start = 0;
        }
        let missing = need.saturating_sub(self.kept.len());
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        if !head.is_empty() {
            self.kept.extend_from_slice(head);
        }
        *bytes = rest;
        self.check_invariants();
        !was_empty && !head.is_empty()
    }

    /// Keeps all of `bytes` for later, if the owner stopped before the end.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// Discards the kept bytes.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.start = 0;
    }

    /// Whether no bytes are kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Bytes kept and not yet consumed.
    pub fn len(&self) -> usize {
        self.kept.len() - self.start as usize
    }

    /// Bytes of memory held.
    pub fn capacity(&self) -> usize {
        self.kept.capacity()
    }

    /// Bytes of the buffer that its lender has charged; 0: none is lent. Only the lender uses this.
    pub fn charged(&self) -> usize {
        self.charged as usize
    }

    pub fn note_charged(&mut self, bytes: usize) {
        self.charged = u32::try_from(bytes).unwrap_or(u32::MAX);
    }

    /// For the lender: puts in a buffer to keep bytes in, or takes it back once it is empty.
    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        &mut self.kept
    }

    fn check_invariants(&self) {
        debug_assert!(
            self.start as usize <= self.kept.len(),
            "consumed more than was kept"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_messages_are_parsed_in_place_and_never_kept() {
        let mut input = Reassembly::default();
        let mut bytes = &b"onetwo"[..];
        assert_eq!(input.view(bytes).as_ptr(), bytes.as_ptr());
        input.consume(3, &mut bytes);
        assert_eq!(input.view(bytes), b"two");
        input.consume(3, &mut bytes);
        assert_eq!((bytes.len(), input.capacity()), (0, 0));
    }

    #[test]
    fn a_partial_message_takes_what_it_needs_and_no_more() {
        let mut input = Reassembly::default();
        let mut bytes = &b"on"[..];
        assert!(!input.fill(3, &mut bytes), "seen before, nothing new");
        assert_eq!((input.len(), bytes.len()), (2, 0));
        let mut bytes = &b"etwo"[..];
        assert_eq!(input.view(bytes), b"on");
        assert!(input.fill(3, &mut bytes));
        assert_eq!((input.view(bytes), bytes), (&b"one"[..], &b"two"[..]));
        input.consume(3, &mut bytes);
        assert!(input.is_empty());
        assert_eq!(input.view(bytes), b"two");
    }

    #[test]
    fn growth_short_of_the_need_is_parsed_again() {
        let mut input = Reassembly::default();
        input.keep(b"M");
        assert!(input.fill(8, &mut &b"X"[..]));
        assert!(!input.fill(8, &mut &b""[..]));
    }

    #[test]
    fn kept_messages_come_out_one_by_one() {
        let mut input = Reassembly::default();
        input.keep(b"onetwoth");
        let mut bytes = &b"reefour"[..];
        for wanted in [&b"one"[..], b"two"] {
            assert_eq!(&input.view(bytes)[..3], wanted);
            input.consume(3, &mut bytes);
        }
        assert_eq!((input.view(bytes), input.len()), (&b"th"[..], 2));
        assert!(input.fill(5, &mut bytes));
        assert_eq!(input.view(bytes), b"three");
        input.consume(5, &mut bytes);
        assert_eq!(input.view(bytes), b"four");
    }
}
