//! Keys that tokens have named and the key set does not have: the next fetch looks for them, and
//! those that it does not find do not exist.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Names that are remembered. Others are never reported as nonexistent: a client that presents
/// one is asked to retry.
const NAMES_MAX: usize = 256;

#[derive(Default)]
pub struct Wanted {
    came: Notify,
    /// Empty: a key without a name.
    names: Mutex<HashSet<Box<str>>>,
}

impl Wanted {
    /// A token has named an unknown key.
    pub fn want(&self, name: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < NAMES_MAX {
            names.insert(name.into());
        }
        self.came.notify_one();
    }

    /// Waits until a key has been wanted since this last returned.
    pub async fn came(&self) {
        self.came.notified().await;
    }

    /// Takes the names recorded since the last call.
    pub fn take(&self) -> HashSet<Box<str>> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *names)
    }
}
