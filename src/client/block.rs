//! A header block under construction: a builder appends entries, which are checked once, when
//! their operation is sent.

use super::error::Error;
use crate::proto::envelope::Headers;
use crate::proto::message::MessageType;
use std::time::Duration;

/// Entries in their wire form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Block {
    pub(super) fn push(&mut self, key: u8, value: &[u8]) {
        if self.bytes.len() + 3 + value.len() > usize::from(u16::MAX) {
            self.too_long = true;
        } else {
            Headers::push(&mut self.bytes, key, value);
        }
    }

    /// A duration in whole milliseconds, rounded up, at least one.
    pub(super) fn push_ms(&mut self, key: u8, duration: Duration) {
        let ms = duration.as_nanos().div_ceil(1_000_000).max(1);
        let ms = u32::try_from(ms).unwrap_or(u32::MAX);
        self.push(key, &ms.to_be_bytes());
    }

    /// The block as it will be sent, on a message of this type.
    ///
    /// # Errors
    /// `Invalid`: too long, a key given twice, a value out of range, a header that is not a
    /// client's to send there.
    pub(super) fn check(&self, kind: MessageType) -> Result<Headers<'_>, Error> {
        if self.too_long {
            return Err(Error::invalid("the headers are longer than 65535 bytes"));
        }
        Headers::check_sent(&self.bytes, kind)
            .map_err(|refusal| Error::invalid(format!("headers: {}", refusal.text)))
    }
}
