//! A request as the caller composes it, and the response to it.

use super::block::Block;
use super::error::Error;
use crate::proto::envelope::{Codec, Envelope, header};
use crate::proto::error::{Code, Refusal};
use crate::proto::message::MessageType;
use crate::proto::name::check_topic;
use crate::proto::outcome::Failure;
use std::time::Duration;

/// A request with more than service and payload.
///
/// ```
/// use ringmail::client::{Codec, Request};
/// use std::time::Duration;
///
/// let request = Request::new("site/forecast")
///     .payload(br#"{"days":3}"#)
///     .codec(Codec::Json)
///     .timeout(Duration::from_millis(250))
///     .header(0x40, b"tenant-7");
/// # let _ = request;
/// ```
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub(crate) service: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) codec: Codec,
    pub(crate) timeout: Option<Duration>,
    headers: Vec<(u8, &'a [u8])>,
}

impl<'a> Request<'a> {
    /// An empty request to `service`.
    pub fn new(service: &'a str) -> Request<'a> {
        Request {
            service,
            payload: &[],
            codec: Codec::Bytes,
            timeout: None,
            headers: Vec::new(),
        }
    }

    pub fn payload(mut self, payload: &'a [u8]) -> Request<'a> {
        self.payload = payload;
        self
    }

    /// The codec of the payload; the client does not translate anything.
    pub fn codec(mut self, codec: Codec) -> Request<'a> {
        self.codec = codec;
        self
    }

    /// How long to wait, instead of the client's `request_timeout`. Also sent to the server
    /// (TIMEOUT_MS, in whole milliseconds, at least one), so that nobody works on an answer for
    /// which nobody waits.
    pub fn timeout(mut self, timeout: Duration) -> Request<'a> {
        self.timeout = Some(timeout);
        self
    }

    /// Adds a header: one from PROTOCOL.md (`proto::envelope::header`), or one of the
    /// application's own, with a key from 0x40 on.
    pub fn header(mut self, key: u8, value: &'a [u8]) -> Request<'a> {
        self.headers.push((key, value));
        self
    }

    /// The header block in wire format; everything about the request but its size is checked.
    pub(super) fn block(&self) -> Result<Block, Error> {
        check_topic(self.service)
            .map_err(|refusal| Error::invalid(format!("service {:?}: {refusal}", self.service)))?;
        let mut block = Block::default();
        if let Some(timeout) = self.timeout {
            block.push_ms(header::TIMEOUT_MS, timeout);
        }
        for (key, value) in &self.headers {
            block.push(*key, value);
        }
        block.check(MessageType::Request)?;
        Ok(block)
    }
}

/// What a service answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    pub payload: Vec<u8>,
    /// The codec of the payload.
    pub codec: Codec,
}

impl Response {
    pub(crate) fn of(envelope: &Envelope<'_>) -> Response {
        Response {
            payload: envelope.payload.to_vec(),
            codec: envelope.codec,
        }
    }

    /// Converts a RESPONSE to the requester's result.
    pub(crate) fn outcome(envelope: &Envelope<'_>) -> Result<Response, Error> {
        if !envelope.failed() {
            return Ok(Response::of(envelope));
        }
        Err(match Failure::of_response(envelope) {
            Some(Failure { code, text }) => Error::Failed {
                code: Code::from_wire(code),
                text,
            },
            None => Error::Protocol(Refusal::new(
                Code::Malformed,
                "a failed RESPONSE carries no code",
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_sent_in_whole_milliseconds_rounded_up() {
        for (timeout, ms) in [
            (Duration::ZERO, 1),
            (Duration::from_micros(1500), 2),
            (Duration::from_secs(10), 10_000),
            (Duration::MAX, u32::MAX),
        ] {
            let block = Request::new("a").timeout(timeout).block().unwrap();
            let headers = block.check(MessageType::Request).unwrap();
            assert_eq!(headers.timeout_ms(), Some(ms));
        }
    }

    #[test]
    fn a_request_that_no_server_would_take_is_refused_here() {
        let long = vec![0; 70_000];
        for (request, problem) in [
            (Request::new(""), "empty"),
            (Request::new("a/+"), "wildcard"),
            (Request::new("a").header(2, b"123"), "out of range"),
            (
                Request::new("a").timeout(Duration::MAX).header(2, b"1234"),
                "twice",
            ),
            (Request::new("a").header(0x40, &long), "65535"),
        ] {
            let error = request.block().unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
