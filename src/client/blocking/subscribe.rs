//! What is brought to the client: subscriptions, services, and taking what has come.

use super::Client;
use crate::client::error::Error;
use crate::client::incoming::{Incoming, IncomingRequest};
use crate::client::subscribe::{Serve, Subscribe};
use crate::proto::envelope::Codec;
use crate::proto::error::Code;
use std::time::Duration;

impl Client {
    /// Subscribes to all topics that `filter` matches (`+`: one level, `#` at the end: any
    /// number), and waits until the subscription stands on every shard.
    ///
    /// # Errors
    /// `Invalid` for a filter that cannot be, `Failed` if the server refuses, `Timeout`,
    /// `InboxFull`, and what ends the connection.
    pub fn subscribe(&mut self, filter: &str) -> Result<(), Error> {
        self.subscribe_with(&Subscribe::new(filter))
    }

    /// Subscribes with a group, a codec or a policy for when this client is slow.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub fn subscribe_with(&mut self, subscribe: &Subscribe<'_>) -> Result<(), Error> {
        let _ = subscribe.interest()?;
        todo!()
    }

    /// Ends a subscription made without a group.
    ///
    /// # Errors
    /// As [`Client::subscribe`]; `Failed` with NOT_SUBSCRIBED if there was none.
    pub fn unsubscribe(&mut self, filter: &str) -> Result<(), Error> {
        self.unsubscribe_with(&Subscribe::new(filter))
    }

    /// Ends the subscription with this filter and group.
    ///
    /// # Errors
    /// As [`Client::unsubscribe`].
    pub fn unsubscribe_with(&mut self, subscribe: &Subscribe<'_>) -> Result<(), Error> {
        let _ = subscribe.identity()?;
        todo!()
    }

    /// Answers for a service from now on: its requests come out of [`Client::receive`].
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub fn serve(&mut self, service: &str) -> Result<(), Error> {
        self.serve_with(&Serve::new(service))
    }

    /// Answers for a service as a member of a group.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub fn serve_with(&mut self, serve: &Serve<'_>) -> Result<(), Error> {
        let _ = serve.interest()?;
        todo!()
    }

    /// Answers for a service no more.
    ///
    /// # Errors
    /// As [`Client::unsubscribe`].
    pub fn unserve(&mut self, service: &str) -> Result<(), Error> {
        self.unserve_with(&Serve::new(service))
    }

    /// Answers no more for the service with this name and group.
    ///
    /// # Errors
    /// As [`Client::unsubscribe`].
    pub fn unserve_with(&mut self, serve: &Serve<'_>) -> Result<(), Error> {
        let _ = serve.interest()?;
        todo!()
    }

    /// Answers a request, in its own codec.
    ///
    /// An answer whose requester has been told SERVICE_GONE meanwhile (the connection broke,
    /// and no session outlived it) is dropped.
    ///
    /// # Errors
    /// `Invalid` if it is too large, and what ends the connection.
    pub fn respond(
        &mut self,
        request: &IncomingRequest,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        self.respond_with(request, request.codec, payload)
    }

    /// Answers a request in a codec of the answer's own.
    ///
    /// # Errors
    /// As [`Client::respond`].
    pub fn respond_with(
        &mut self,
        request: &IncomingRequest,
        codec: Codec,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        let _ = (request, codec, payload.as_ref());
        todo!()
    }

    /// Answers a request with a failure; codes of one's own are `Code::Application(0x1000)`
    /// and above.
    ///
    /// # Errors
    /// As [`Client::respond`].
    pub fn respond_failed(
        &mut self,
        request: &IncomingRequest,
        code: Code,
        text: &str,
    ) -> Result<(), Error> {
        let _ = (request, code, text);
        todo!()
    }

    /// Waits for the next message, request or word of a reconnect, however long it takes.
    ///
    /// With a session, calling it again tells the server that what it returned before has
    /// been dealt with.
    ///
    /// # Errors
    /// What ends the connection for good; `Rejected` and `Unconfirmed` about a PUBLISH,
    /// after which receiving goes on.
    pub fn receive(&mut self) -> Result<Incoming, Error> {
        todo!()
    }

    /// Waits for `timeout` at most; `None` if nothing has come. Zero takes what is there.
    ///
    /// # Errors
    /// As [`Client::receive`].
    pub fn receive_timeout(&mut self, timeout: Duration) -> Result<Option<Incoming>, Error> {
        let _ = timeout;
        todo!()
    }
}
