//! How a subcommand fails: one line for people, an exit status for scripts.

use crate::base::exit::Status;
use std::fmt;

/// What `main` prints on standard error and exits with.
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
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
