//! Fetches a credential with the user's code, which may take long, block, panic, or use the
//! client itself. It runs in its own task, or on a thread that may block, and never under the
//! client's lock.

use crate::client::credential::{Fetched, Source};
use std::future::pending;
use tokio::task::JoinSet;

/// At most one fetch; dropped, it is not waited for any more.
#[derive(Default)]
pub(super) struct Fetching {
    task: JoinSet<Fetched>,
}

impl Fetching {
    /// Begins one, in place of the one before.
    pub(super) fn begin(&mut self, source: Source) {
        self.forget();
        match source {
            Source::Fixed(credential) => self.task.spawn(async { Ok(credential) }),
            Source::FetchedAsync(fetch) => self.task.spawn(async move { fetch().await }),
            Source::Fetched(fetch) => self.task.spawn_blocking(move || fetch()),
        };
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&mut self) {
        self.task = JoinSet::new();
    }

    /// Waits for what comes of it; without end where nothing is being fetched.
    pub(super) async fn done(&mut self) -> Fetched {
        match self.task.join_next().await {
            None => pending().await,
            Some(Ok(fetched)) => fetched,
            Some(Err(_)) => Err("fetching the credential panicked".to_owned()),
        }
    }
}
