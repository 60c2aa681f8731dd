//! Blocking work off the control thread, and how its panics are handled.

use std::panic::resume_unwind;
use tokio::task::{JoinError, spawn_blocking};

/// Runs blocking work on a thread of its own. A panic there is propagated here.
pub(super) async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down, and so is the caller.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Propagates the panic of a task.
pub(super) fn pass_on_panic(ended: Result<(), JoinError>) {
    if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
        resume_unwind(panic);
    }
}
