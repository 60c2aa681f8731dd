//! Decisions out of bytes, from front to back. Where they end every decision is the first
//! one, and every piece of bytes is empty: a shorter input is a simpler case.

pub struct Draw<'a>(&'a [u8]);

impl<'a> Draw<'a> {
    pub const fn new(bytes: &'a [u8]) -> Draw<'a> {
        Draw(bytes)
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    pub fn bool(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number below `count`, which is 1 to 256.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    pub fn pick<'o, T>(&mut self, of: &'o [T]) -> &'o T {
        &of[self.below(of.len())]
    }

    pub fn word<'o>(&mut self, of: &[&'o str]) -> &'o str {
        of[self.below(of.len())]
    }

    /// The next `count` bytes, or those that are left.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A length in one byte, and that many.
    pub fn piece(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte());
        self.take(count)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// `count` levels at most out of `alphabet`, as a name.
    pub fn name(&mut self, alphabet: &[&str], count: usize) -> String {
        let count = 1 + self.below(count);
        let levels: Vec<&str> = (0..count).map(|_| self.word(alphabet)).collect();
        levels.join("/")
    }
}
