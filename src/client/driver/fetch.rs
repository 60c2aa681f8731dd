//! Fetches a credential with the user's code, which may take long, block, panic, or use the
//! client itself. It runs in its own task, or on a thread that may block, and never under the
//! client's lock.

use crate::client::credential::{Fetched, Source};
use std::future::pending;
use tokio::task::JoinSet;

/// At most one fetch; dropping this stops waiting for it.
#[derive(Default)]
pub(super) struct Fetching {
    task: JoinSet<Fetched>,
}

impl Fetching {
    /// Begins a fetch, replacing the previous one.
    pub(super) fn begin(&mut self, source: Source) {
        self.forget();
        match source {
            Source::Fixed(credential) => self.task.spawn(async { Ok(credential) }),
            Source::FetchedAsync(fetch) => self.task.spawn(async move { fetch().await }),
            Source::Fetched(fetch) => self.task.spawn_blocking(move || fetch()),
        };
    }

    /// Stops waiting for it.
    pub(super) fn forget(&mut self) {
        self.task = JoinSet::new();
    }

    /// Waits for its result; forever if nothing is being fetched.
    pub(super) async fn done(&mut self) -> Fetched {
        match self.task.join_next().await {
            None => pending().await,
            Some(Ok(fetched)) => fetched,
            Some(Err(_)) => Err("fetching the credential panicked".to_owned()),
        }
    }
}
