//! A network in memory in place of sockets, for this crate's tests (feature `sim`): with tokio's
//! clock paused, a whole client then runs in virtual time, and the test is the network.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The client's end of a connection.
pub trait Wire: Send + Sync {
    /// Whether a read, or a write, would not return `WouldBlock`; the task is woken when one is.
    fn poll_ready(&self, read: bool, write: bool, cx: &mut Context<'_>) -> Poll<()>;

    /// # Errors
    /// `WouldBlock` if nothing has arrived.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// # Errors
    /// `WouldBlock` if there is no room.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Nothing more will be written.
    fn finish(&self);
}

pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Arc<dyn Wire>>> + Send>>;

pub trait Network: Send + Sync {
    fn dial(&self, address: &str) -> Dialing;
}

/// The network that a client dials on.
#[derive(Clone)]
pub(super) struct Dialer(pub(super) Arc<dyn Network>);

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialer")
    }
}

/// What a client holds at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes and entries of the inbox, and its mailboxes.
    pub inbox_bytes: usize,
    pub entries: usize,
    pub mailboxes: usize,
    pub unsent_bytes: usize,
    /// Calls that wait, and what the ledger knows of operations and PINGs.
    pub waiters: usize,
    pub asked: usize,
    pub pings: usize,
    pub flight: usize,
    /// Subscriptions, services and the will that would be restored, and the ends to be said.
    pub registered: usize,
    pub withdrawals: usize,
    pub doubtful: usize,
    /// Requests to be declined, and answers that wait for a connection.
    pub declined: usize,
    pub responses: usize,
    /// Registrations that are being restored.
    pub restoring: usize,
}
