//! What arrives at a client other than answers to its calls: messages of its subscriptions,
//! requests to its services, and notice of a reconnect.
//!
//! All of it is owned: it waits in the inbox until the application takes it.

use crate::proto::envelope::{Codec, Envelope, FLAG_RETAIN, Headers};
use std::time::Duration;

/// What `receive` returns.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incoming {
    /// A message of a topic this client subscribes to.
    Message(Message),
    /// A request to a service of this client: answer it once, with `respond` or
    /// `respond_failed`.
    Request(IncomingRequest),
    /// The connection broke and has been re-established; messages before and after that are on
    /// either side of this. Only with `Builder::reconnect` or `Builder::session`.
    Reconnected {
        /// True: the session was resumed, and nothing was lost. False: messages published in the
        /// meantime were not delivered, and the server has failed open requests. Either way the
        /// client has subscribed and served again by itself.
        resumed: bool,
    },
}

impl Incoming {
    /// The message, if this is one.
    pub fn into_message(self) -> Option<Message> {
        match self {
            Incoming::Message(message) => Some(message),
            _ => None,
        }
    }

    /// The request, if this is one.
    pub fn into_request(self) -> Option<IncomingRequest> {
        match self {
            Incoming::Request(request) => Some(request),
            _ => None,
        }
    }
}

/// A published message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    /// What the payload is written in.
    pub codec: Codec,
    /// Published with RETAIN.
    pub retain: bool,
    pub(super) headers: Vec<u8>,
}

impl Message {
    pub(super) fn of(envelope: &Envelope<'_>) -> Message {
        Message {
            topic: envelope.name.to_owned(),
            payload: envelope.payload.to_vec(),
            codec: envelope.codec,
            retain: envelope.flags & FLAG_RETAIN != 0,
            headers: envelope.headers.as_bytes().to_vec(),
        }
    }

    /// The publisher's headers, passed on unchanged.
    pub fn headers(&self) -> Headers<'_> {
        Headers::check(&self.headers).unwrap_or_default() // was checked when it came
    }
}

/// A request to a service of this client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncomingRequest {
    pub service: String,
    pub payload: Vec<u8>,
    /// The codec of the payload, and the preferred codec of the answer.
    pub codec: Codec,
    pub(super) headers: Vec<u8>,
    /// The server's number for it, and the life of the session in which that is valid.
    pub(super) id: u32,
    pub(super) epoch: u32,
}

impl IncomingRequest {
    pub(crate) fn of(envelope: &Envelope<'_>, epoch: u32) -> IncomingRequest {
        IncomingRequest {
            service: envelope.name.to_owned(),
            payload: envelope.payload.to_vec(),
            codec: envelope.codec,
            headers: envelope.headers.as_bytes().to_vec(),
            id: envelope.id,
            epoch,
        }
    }

    /// The requester's headers, passed on unchanged.
    pub fn headers(&self) -> Headers<'_> {
        Headers::check(&self.headers).unwrap_or_default() // was checked when it came
    }

    /// How long the requester waits, counted from its request, if it said so (TIMEOUT_MS).
    pub fn timeout(&self) -> Option<Duration> {
        let ms = self.headers().timeout_ms()?;
        Some(Duration::from_millis(u64::from(ms)))
    }
}
