//! Talking to a server, shared by all subcommands that do: connecting, and the exit status of
//! failures.

use super::access;
use super::args::Peer;
use super::failure::Failure;
use crate::base::exit::Status;
use crate::client::Error;
use crate::client::blocking::{Builder, Client};
use std::time::Duration;

/// How long subcommands that run until they are told to end wait for their connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects; `timeout` applies to this and to each later call.
///
/// # Errors
/// Usage for an address that cannot be one; Permission for a credential that is missing or
/// refused; Unavailable for everything that keeps a server
/// from being talked to.
pub fn connect(peer: &Peer, timeout: Duration) -> Result<Client, Failure> {
    connect_with(&builder(timeout), peer)
}

/// Options with `timeout` for connecting and for each later call.
pub fn builder(timeout: Duration) -> Builder {
    Client::builder()
        .connect_timeout(timeout)
        .request_timeout(timeout)
}

/// Connects with options of the subcommand's own.
///
/// # Errors
/// As [`connect`].
pub fn connect_with(builder: &Builder, peer: &Peer) -> Result<Client, Failure> {
    dial(&prepare(builder.clone(), peer)?, &peer.address)
}

/// A builder with the client id, the wait, the credential and the TLS options of these flags.
///
/// # Errors
/// As [`access::apply`].
pub fn prepare(builder: Builder, peer: &Peer) -> Result<Builder, Failure> {
    let builder = match &peer.client_id {
        Some(id) => builder.client_id(id),
        None => builder,
    };
    access::apply(builder.wait(peer.wait), &peer.access)
}

/// Connects with a builder that is [prepared](prepare).
///
/// # Errors
/// As [`connect`].
pub fn dial(builder: &Builder, address: &str) -> Result<Client, Failure> {
    builder.connect(address).map_err(|error| match error {
        error if error.is_permission() => {
            Failure::new(Status::Permission, format!("{address}: {error}"))
        }
        Error::Invalid { .. } => Failure::new(Status::Usage, error),
        // This error names the address by itself.
        Error::Connect { .. } => Failure::new(Status::Unavailable, error),
        error => Failure::new(Status::Unavailable, format!("{address}: {error}")),
    })
}

/// A call on an established connection failed.
pub fn failure(error: &Error) -> Failure {
    let status = match error {
        Error::Invalid { .. } => Status::Usage,
        error if error.is_permission() => Status::Permission,
        _ => Status::Runtime,
    };
    Failure::new(status, error)
}
