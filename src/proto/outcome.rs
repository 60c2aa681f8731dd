//! A service's answer to a REQUEST, as a value: services of the server and of clients return the
//! same one. Each side decides how it becomes a RESPONSE.

use super::envelope::{Codec, Envelope};
use super::error::{Code, clip};
use bytes::Bytes;
use std::fmt;

/// A successful answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// A large payload is sent without a copy, so several answers may share it.
    pub payload: Bytes,
    /// `None`: the request's codec.
    pub codec: Option<Codec>,
}

impl<T: Into<Bytes>> From<T> for Answer {
    fn from(payload: T) -> Answer {
        Answer {
            payload: payload.into(),
            codec: None,
        }
    }
}

/// A failed answer: a code (the application's own start at 0x1000) and a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u16,
    pub text: String,
}

impl Failure {
    pub fn new(code: u16, text: impl Into<String>) -> Failure {
        Failure {
            code,
            text: text.into(),
        }
    }

    /// A failure with one of the protocol's own codes.
    pub fn of(code: Code, text: &str) -> Failure {
        Failure::new(code.to_wire(), text)
    }

    /// The payload of a RESPONSE with FAILED: its code, and its text, clipped.
    pub fn to_payload(&self) -> Vec<u8> {
        let mut payload = self.code.to_be_bytes().to_vec();
        payload.extend_from_slice(clip(&self.text).as_bytes());
        payload
    }

    /// The failure in a RESPONSE with FAILED. `None`: it does not have FAILED, or no code.
    pub fn of_response(response: &Envelope<'_>) -> Option<Failure> {
        let (code, text) = response.payload.split_first_chunk()?;
        response.failed().then(|| Failure {
            code: u16::from_be_bytes(*code),
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Code::from_wire(self.code), self.text)
    }
}

impl std::error::Error for Failure {}

/// The result of a call.
pub type Outcome = Result<Answer, Failure>;
