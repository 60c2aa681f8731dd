//! Which keys tokens have named that are not here: the next fetch of the key set is asked
//! for them, and says of those that it does not bring that they do not exist.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Names that are remembered. Of others nobody says that they do not exist: whoever shows
/// them is asked to come again.
const NAMES_MAX: usize = 256;

#[derive(Default)]
pub struct Wanted {
    came: Notify,
    /// Empty: a key without a name.
    names: Mutex<HashSet<Box<str>>>,
}

impl Wanted {
    /// A token has named a key that is not here.
    pub fn want(&self, name: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < NAMES_MAX {
            names.insert(name.into());
        }
        self.came.notify_one();
    }

    /// Waits until somebody has wanted a key since this last returned.
    pub async fn came(&self) {
        self.came.notified().await;
    }

    /// The names since the last time.
    pub fn take(&self) -> HashSet<Box<str>> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *names)
    }
}
