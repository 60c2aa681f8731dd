//! Why an operation of the store failed.

use std::io;
use std::sync::Arc;

/// Why an operation failed; it had no effect.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0}")]
    Redb(Box<redb::Error>),
    /// The disk has failed before, with this cause.
    #[error("{0}")]
    Failing(Arc<str>),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> StoreError {
        StoreError::Redb(Box::new(error.into()))
    }
}

impl StoreError {
    /// Whether the file has to be reopened.
    pub(super) fn is_lasting(&self) -> bool {
        use redb::Error::{DatabaseClosed, Io, LockPoisoned, PreviousIo};
        match self {
            StoreError::Redb(error) => {
                matches!(
                    **error,
                    Io(_) | PreviousIo | DatabaseClosed | LockPoisoned(_)
                )
            }
            StoreError::Failing(_) => false,
        }
    }
}

/// Random bytes that cannot be guessed.
pub(in crate::server::control) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        let error = io::Error::other(format!("the system provides no random numbers: {error}"));
        redb::Error::Io(error)
    })?;
    Ok(bytes)
}
