//! Descriptors reserved for the admin address. When the process has none left, some of these are
//! released, so that an operator gets an answer just then.
//!
//! Shards cannot use up the reserve: a shard that finds no descriptor pauses accepting, and
//! tries again ten times a second. A released descriptor is free only for the microseconds until
//! the admin address has taken it. Files read for an answer are opened beforehand.

use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many connections can be answered while no descriptor is free.
const DESCRIPTORS: usize = 8;

pub struct Reserve(Mutex<Vec<File>>);

impl Default for Reserve {
    /// A full reserve, as far as there are descriptors.
    fn default() -> Reserve {
        super::metrics::prepare();
        let reserve = Reserve(Mutex::default());
        reserve.refill();
        reserve
    }
}

impl Reserve {
    fn held(&self) -> MutexGuard<'_, Vec<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases one, if there is one.
    pub fn release(&self) -> bool {
        self.held().pop().is_some()
    }

    pub fn is_short(&self) -> bool {
        self.held().len() < DESCRIPTORS
    }

    /// Refills the reserve, as far as there are descriptors.
    pub fn refill(&self) {
        let mut held = self.held();
        while held.len() < DESCRIPTORS {
            match File::open("/dev/null") {
                Ok(file) => held.push(file),
                Err(_) => return,
            }
        }
    }
}

/// Whether the process, or the system, has no descriptor left.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
