//! Why an operation of the store failed.

use std::io;
use std::sync::Arc;

/// What was asked has not happened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0}")]
    Redb(Box<redb::Error>),
    /// The disk failed before, with this cause.
    #[error("{0}")]
    Failing(Arc<str>),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> StoreError {
        StoreError::Redb(Box::new(error.into()))
    }
}

impl StoreError {
    /// The file has to be opened again.
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

/// Bytes nobody can guess.
pub(in crate::server::control) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        let error = io::Error::other(format!("the system provides no random numbers: {error}"));
        redb::Error::Io(error)
    })?;
    Ok(bytes)
}
