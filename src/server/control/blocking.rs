//! Blocking work off the control thread, and how its panics are handled.

use std::panic::resume_unwind;
use tokio::task::{JoinError, spawn_blocking};

/// Does work that blocks, on a thread for it. A panic there is one here.
pub(super) async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is ending, and so is whoever waits.
            Err(_) => std::future::pending().await,
        },
    }
}

/// A task that panicked takes this one with it.
pub(super) fn pass_on_panic(ended: Result<(), JoinError>) {
    if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
        resume_unwind(panic);
    }
}
