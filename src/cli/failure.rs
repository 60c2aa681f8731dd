//! How a subcommand fails: one line for people, an exit status for scripts.

use crate::base::exit::Status;
use crate::base::terminal::escaped;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long printing the message may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What `main` prints on standard error and exits with. Without a message nothing is
/// printed; a message of several lines is several failures.
#[derive(Debug)]
pub struct Failure {
    pub status: Status,
    pub message: String,
}

impl Failure {
    pub fn new(status: Status, message: impl fmt::Display) -> Failure {
        Failure {
            status,
            message: message.to_string(),
        }
    }

    /// Prints the message on standard error, for a limited time: a failed program must end even if
    /// standard error is a pipe without a reader.
    pub fn tell(&self) {
        if self.message.is_empty() {
            return;
        }
        let lines = self.message.lines();
        let text: String = lines
            .map(|line| format!("ringmail: {}\n", escaped(line)))
            .collect();
        let (done, told) = mpsc::channel::<()>();
        let write = move || {
            let _ = io::stderr().write_all(text.as_bytes());
            drop(done);
        };
        if thread::Builder::new().spawn(write).is_ok() {
            // Written (the channel is disconnected), or timed out.
            let _ = told.recv_timeout(LAST_WORDS);
        }
    }

    /// Standard output could not be written. A reader that has closed it (`| head`) is not a
    /// failure: it ends the program quietly.
    pub fn output(error: io::Error) -> Failure {
        if error.kind() == ErrorKind::BrokenPipe {
            return Failure::new(Status::Ok, "");
        }
        let message = format!("cannot write to standard output: {error}; is the disk full?");
        Failure::new(Status::Runtime, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Writes a line for people to standard error, and ignores errors.
pub fn note(line: impl fmt::Display) {
    let line = line.to_string();
    let _ = writeln!(io::stderr(), "ringmail: {}", escaped(&line));
}

/// Writes data to standard output, all of it, at once.
///
/// # Errors
/// As [`Failure::output`] says.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(Failure::output)
}
