//! A buffer that takes so many bytes and no more: what is written there is as large as the
//! writer of a payload wants, not as large as we do.

use std::io;

pub(super) struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    left: usize,
}

impl<'a> Bounded<'a> {
    /// Appends to `out`, `bytes_max` bytes at most.
    pub(super) fn new(out: &'a mut Vec<u8>, bytes_max: usize) -> Bounded<'a> {
        Bounded {
            out,
            left: bytes_max,
        }
    }
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.left = left;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
