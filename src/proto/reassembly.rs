//! Zero-copy reassembly: whole messages are parsed where the kernel put them; only the
//! partial tail of a receive is copied, and completed by what comes next.
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
//! Invariant: `start ≤ kept.len()`, and `kept` is empty when `start` reaches its end. The
//! kept bytes grow as bytes arrive, never by a length that a peer claims.

/// The received bytes of one connection that no message was made of yet.
#[derive(Debug, Default)]
pub struct Reassembly {
    kept: Vec<u8>,
    start: usize,
}

impl Reassembly {
    /// What to parse next: the kept bytes if there are any, else `bytes` in place.
    #[inline]
    pub fn view<'v>(&'v self, bytes: &'v [u8]) -> &'v [u8] {
        if self.kept.is_empty() {
            bytes
        } else {
            &self.kept[self.start..]
        }
    }

    /// Done with the first `used` bytes of the view.
    #[inline]
    pub fn consume(&mut self, used: usize, bytes: &mut &[u8]) {
        if self.kept.is_empty() {
            *bytes = &bytes[used..];
            return;
        }
        self.start += used;
        self.check_invariants();
        if self.start == self.kept.len() {
            self.kept.clear();
            self.start = 0;
        }
    }

    /// The view is incomplete, and would get further with `need` bytes: takes what is
    /// missing from `bytes`. True when the view now has them.
    pub fn fill(&mut self, need: usize, bytes: &mut &[u8]) -> bool {
        if self.start > 0 {
            self.kept.drain(..self.start);
            self.start = 0;
        }
        let missing = need.saturating_sub(self.kept.len());
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        if !head.is_empty() {
            self.kept.extend_from_slice(head);
        }
        *bytes = rest;
        self.check_invariants();
        !self.kept.is_empty() && self.kept.len() >= need
    }

    /// Keeps all of `bytes` for later: the owner stopped before the end.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// Forgets what is kept.
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
        self.kept.len() - self.start
    }

    /// Bytes of memory held.
    pub fn capacity(&self) -> usize {
        self.kept.capacity()
    }

    /// Lends a buffer to keep bytes in, or takes it back when it is empty.
    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        &mut self.kept
    }

    fn check_invariants(&self) {
        debug_assert!(self.start <= self.kept.len(), "consumed more than was kept");
    }
}
