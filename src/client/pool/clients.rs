//! Real connections.

use super::maker::Maker;
use super::status::Reason;
use crate::client::builder::Builder;
use crate::client::error::Error;
use crate::client::handle::Client;
use crate::client::status::Phase;
use std::time::Duration;

/// Makes clients of one server.
pub(super) struct Clients {
    builder: Builder<Client>,
    address: String,
}

impl Clients {
    /// The pool makes new connections itself: clients neither reconnect nor have a session.
    pub fn new(builder: Builder<Client>, address: &str) -> Clients {
        Clients {
            builder: builder.without_return(),
            address: address.to_owned(),
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Maker for Clients {
    type Connection = Client;
    type Error = Error;

    async fn connect(&self) -> Result<Client, Error> {
        self.builder.connect(&self.address).await
    }

    fn may_pass(&self, error: &Error) -> bool {
        error.is_retryable()
    }

    /// The client's own task reads the socket and answers heartbeats, so it notices an end that the
    /// other side or the kernel has reported.
    fn fault(&self, client: &Client) -> Option<Reason> {
        match client.status().phase {
            Phase::Lost | Phase::Ended => Some(Reason::Dead),
            Phase::Draining => Some(Reason::Draining),
            Phase::Open => client.has_others().then_some(Reason::Shared),
        }
    }

    fn is_in_doubt(&self, client: &Client, after: Duration) -> bool {
        client.is_in_doubt(after)
    }

    async fn answers(&self, client: &Client) -> bool {
        client.ping().await.is_ok()
    }

    /// Sends published messages first. Errors are ignored: the connection is ending anyway.
    async fn close(&self, client: Client) {
        let _ = client.close().await;
    }
}
