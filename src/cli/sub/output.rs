//! Standard output for a stream of messages: buffered while more of them are waiting, flushed
//! when none is. `std`'s own buffer would flush at each newline.

use crate::cli::failure::Failure;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

/// Bytes gathered before they are written whatever waits.
const GATHER_BYTES: usize = 64 * 1024;
/// How much memory is kept between writes: one large message must not keep its memory forever.
const KEPT_BYTES_MAX: usize = 4 * GATHER_BYTES;

/// The pending output.
pub struct Output {
    file: File,
    gathered: Vec<u8>,
    /// Whether the output is a terminal, so that nothing is held back.
    is_terminal: bool,
}

impl Output {
    /// # Errors
    /// If standard output is closed.
    pub fn stdout() -> Result<Output, Failure> {
        let stdout = io::stdout();
        let fd = stdout
            .as_fd()
            .try_clone_to_owned()
            .map_err(Failure::output)?;
        Ok(Output {
            file: File::from(fd),
            gathered: Vec::with_capacity(2 * GATHER_BYTES),
            is_terminal: stdout.is_terminal(),
        })
    }

    /// Lets `write` append something; writes when enough has gathered.
    ///
    /// # Errors
    /// As [`Failure::output`] says.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        write(&mut self.gathered);
        if self.is_terminal || self.gathered.len() >= GATHER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes everything pending.
    ///
    /// # Errors
    /// As [`Failure::output`] says.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let written = self.file.write_all(&self.gathered);
        self.gathered.clear();
        self.gathered.shrink_to(KEPT_BYTES_MAX);
        written.map_err(Failure::output)
    }
}
