//! Errors before the control thread runs.

use crate::server::state::StateError;
use std::io;
use std::net::SocketAddr;

/// Why the control thread cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("cannot serve the admin address {address}: {cause}")]
    Admin {
        address: SocketAddr,
        cause: io::Error,
    },
    #[error("{0}")]
    State(#[from] StateError),
    #[error("{0}")]
    Access(String),
    #[error("{0}")]
    Trace(String),
}
