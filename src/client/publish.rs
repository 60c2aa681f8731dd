//! A message as the publisher composes it; also used for wills.

use super::block::Block;
use super::error::Error;
use crate::proto::envelope::{Codec, Envelope, FLAG_RETAIN, Headers, header};
use crate::proto::message::MessageType;
use crate::proto::name::check_topic;
use std::time::Duration;

/// A message to publish with more than topic and payload.
///
/// ```
/// use ringmail::client::{Codec, Publish};
/// use std::time::Duration;
///
/// let reading = Publish::new("site/1/temperature")
///     .payload(br#"{"celsius":21.5}"#)
///     .codec(Codec::Json)
///     .retain(true)
///     .expires(Duration::from_secs(60))
///     .header(0x40, b"tenant-7")
///     .confirm(true);
/// # let _ = reading;
/// ```
#[derive(Clone, Debug)]
pub struct Publish<'a> {
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    pub(super) codec: Codec,
    pub(super) retain: bool,
    pub(super) confirm: bool,
    headers: Block,
}

impl<'a> Publish<'a> {
    /// An empty message on `topic`.
    pub fn new(topic: &'a str) -> Publish<'a> {
        Publish {
            topic,
            payload: &[],
            codec: Codec::Bytes,
            retain: false,
            confirm: false,
            headers: Block::default(),
        }
    }

    pub fn payload(mut self, payload: &'a [u8]) -> Publish<'a> {
        self.payload = payload;
        self
    }

    /// The codec of the payload; the client does not translate anything.
    pub fn codec(mut self, codec: Codec) -> Publish<'a> {
        self.codec = codec;
        self
    }

    /// Keeps it as the topic's last message, which later subscribers get. With an empty payload
    /// it clears the retained message.
    pub fn retain(mut self, retain: bool) -> Publish<'a> {
        self.retain = retain;
        self
    }

    /// Asks the server to confirm that it is queued for every subscriber present.
    pub fn confirm(mut self, confirm: bool) -> Publish<'a> {
        self.confirm = confirm;
        self
    }

    /// Drops it if it has not been delivered after this long (EXPIRES_MS, whole milliseconds).
    pub fn expires(mut self, after: Duration) -> Publish<'a> {
        self.headers.push_ms(header::EXPIRES_MS, after);
        self
    }

    /// What it is about (KEY): a slow subscriber may ask for only the latest of each key.
    pub fn key(self, key: &[u8]) -> Publish<'a> {
        self.header(header::KEY, key)
    }

    /// The name of the payload's message type (SCHEMA).
    pub fn schema(self, schema: &str) -> Publish<'a> {
        self.header(header::SCHEMA, schema.as_bytes())
    }

    /// When it was made, in nanoseconds since 1970 (TIMESTAMP_NS).
    pub fn timestamp_ns(self, unix_ns: u64) -> Publish<'a> {
        self.header(header::TIMESTAMP_NS, &unix_ns.to_be_bytes())
    }

    /// Adds a header: one from PROTOCOL.md ([`header`](crate::client::header)), or one of the
    /// application's own, with a key from 0x40 on.
    pub fn header(mut self, key: u8, value: &[u8]) -> Publish<'a> {
        self.headers.push(key, value);
        self
    }

    /// The envelope without an id; everything but its size is checked.
    pub(super) fn envelope(&self) -> Result<Envelope<'_>, Error> {
        check_topic(self.topic)
            .map_err(|refusal| Error::invalid(format!("topic {:?}: {refusal}", self.topic)))?;
        Ok(Envelope {
            id: 0,
            flags: if self.retain { FLAG_RETAIN } else { 0 },
            codec: self.codec,
            name: self.topic,
            headers: self.headers()?,
            payload: self.payload,
        })
    }

    fn headers(&self) -> Result<Headers<'_>, Error> {
        self.headers.check(MessageType::Publish)
    }
}
