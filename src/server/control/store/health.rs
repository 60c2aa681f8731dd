//! Whether the store can be used: after a disk failure it cannot until it has been reopened;
//! meanwhile every caller gets the cause.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub struct Health {
    is_failing: AtomicBool,
    /// The cause of a lasting failure.
    cause: Mutex<Option<Arc<str>>>,
    failures: AtomicU64,
}

impl Health {
    /// Why the store fails; `None`: it works.
    pub fn cause(&self) -> Option<Arc<str>> {
        match self.is_failing.load(Relaxed) {
            true => self.locked().clone(),
            false => None,
        }
    }

    /// How often the disk has failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Records a failure; returns whether the store worked before.
    pub(super) fn failed(&self, cause: String) -> bool {
        self.failures.fetch_add(1, Relaxed);
        let mut kept = self.locked();
        let is_new = kept.is_none();
        *kept = Some(cause.into());
        self.is_failing.store(true, Relaxed);
        is_new
    }

    pub(super) fn recovered(&self) {
        let mut kept = self.locked();
        *kept = None;
        self.is_failing.store(false, Relaxed);
    }

    fn locked(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
