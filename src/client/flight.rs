//! PUBLISHes that asked for a confirmation and have none yet, oldest first.
//!
//! With a session their bytes are kept, so that a resumed connection can repeat them; without
//! one only their topics are, to name them in an error.

use super::error::Error;
use crate::base::limits::MESSAGE_HEADER_BYTES;
use crate::proto::envelope::Envelope;
use crate::proto::error::Code;
use crate::proto::message::{Message, MessageType};
use std::collections::VecDeque;

/// How many a client keeps before publishing waits.
const COUNT_MAX: usize = 16_384;
/// Bytes of them at most; one larger message goes alone.
const BYTES_MAX: usize = 8 << 20;

#[derive(Debug)]
struct Sent {
    id: u32,
    topic: Box<str>,
    /// The encoded envelope; empty where nothing will be repeated.
    body: Box<[u8]>,
}

impl Sent {
    fn bytes(&self) -> usize {
        self.topic.len() + self.body.len()
    }
}

#[derive(Debug, Default)]
pub(super) struct Flight {
    sent: VecDeque<Sent>,
    bytes: usize,
}

impl Flight {
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.sent.len() >= COUNT_MAX || self.bytes >= BYTES_MAX
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.position(id).is_some()
    }

    /// One more goes out; with `keep` it can be repeated.
    pub(super) fn push(&mut self, envelope: &Envelope<'_>, keep: bool) {
        let sent = Sent {
            id: envelope.id,
            topic: envelope.name.into(),
            body: if keep {
                to_body(envelope)
            } else {
                Box::default()
            },
        };
        self.bytes += sent.bytes();
        self.sent.push_back(sent);
    }

    /// OK for this id; false if it is not one of these.
    pub(super) fn confirm(&mut self, id: u32) -> bool {
        self.remove(id).is_some()
    }

    /// ERROR for this id.
    pub(super) fn reject(&mut self, id: u32, code: Code, text: &str) -> Option<Error> {
        let sent = self.remove(id)?;
        Some(Error::Rejected {
            id,
            topic: sent.topic.into(),
            code,
            text: text.to_owned(),
        })
    }

    /// The session has confirmed all up to this id.
    pub(super) fn confirm_through(&mut self, last: u32) {
        while let Some(sent) = self.sent.front().filter(|sent| sent.id <= last) {
            let id = sent.id;
            self.remove(id);
        }
    }

    /// Nobody will confirm these any more: the error that says so, and the ids it is about.
    pub(super) fn abandon(&mut self) -> Option<(u32, u32, Error)> {
        let (first, last) = (self.sent.front()?, self.sent.back()?);
        let (from, to) = (first.id, last.id);
        let error = Error::Unconfirmed {
            id: from,
            topic: first.topic.to_string(),
            count: self.sent.len(),
        };
        *self = Flight::default();
        Some((from, to, error))
    }

    /// All that are kept, to be sent again under their ids.
    pub(super) fn envelopes(&self) -> impl Iterator<Item = Envelope<'_>> {
        // What was encoded here is parsed again: the one form that owns its bytes.
        self.sent
            .iter()
            .filter_map(|sent| Envelope::parse(MessageType::Publish, &sent.body).ok())
    }

    fn remove(&mut self, id: u32) -> Option<Sent> {
        let sent = self.sent.remove(self.position(id)?)?;
        self.bytes -= sent.bytes();
        Some(sent)
    }

    /// Answers come in order, so that it is nearly always the first.
    fn position(&self, id: u32) -> Option<usize> {
        self.sent.iter().position(|sent| sent.id == id)
    }
}

/// An envelope's bytes without a message's header, which is each connection's own.
pub(super) fn to_body(envelope: &Envelope<'_>) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(MESSAGE_HEADER_BYTES + envelope.encoded_len());
    Message::Envelope(MessageType::Publish, *envelope).encode(false, &mut bytes);
    bytes.split_off(MESSAGE_HEADER_BYTES).into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(id: u32, topic: &str) -> Envelope<'_> {
        Envelope {
            id,
            name: topic,
            payload: b"payload",
            ..Envelope::default()
        }
    }

    #[test]
    fn what_a_resume_has_confirmed_is_not_repeated() {
        let mut flight = Flight::default();
        for (id, topic) in [(3, "a"), (4, "b"), (7, "c")] {
            flight.push(&envelope(id, topic), true);
        }
        flight.confirm_through(4);
        let repeated: Vec<_> = flight.envelopes().collect();
        assert_eq!(repeated, [envelope(7, "c")]);
        assert!(flight.confirm(7) && flight.len() == 0);
        assert_eq!(flight.bytes, 0);
    }

    #[test]
    fn a_rejected_one_is_named_and_the_others_stay() {
        let mut flight = Flight::default();
        flight.push(&envelope(1, "a"), false);
        flight.push(&envelope(2, "b"), false);
        let error = flight.reject(2, Code::Forbidden, "no").unwrap();
        assert!(matches!(error, Error::Rejected { id: 2, ref topic, .. } if topic == "b"));
        assert!(flight.reject(2, Code::Forbidden, "no").is_none());
        assert!(flight.contains(1) && !flight.contains(2));
        assert_eq!(flight.envelopes().count(), 0, "nothing was kept to repeat");
    }

    #[test]
    fn abandoned_ones_are_told_by_the_first_and_their_number() {
        let mut flight = Flight::default();
        assert!(flight.abandon().is_none());
        flight.push(&envelope(5, "first"), false);
        flight.push(&envelope(9, "last"), false);
        let (from, to, error) = flight.abandon().unwrap();
        assert_eq!((from, to), (5, 9));
        assert!(error.to_string().contains("2 PUBLISHes") && error.to_string().contains("first"));
        assert_eq!(flight.len(), 0);
    }

    #[test]
    fn it_is_full_by_bytes() {
        let mut flight = Flight::default();
        let payload = vec![0; BYTES_MAX];
        let large = Envelope {
            payload: &payload,
            ..envelope(1, "a")
        };
        flight.push(&large, false);
        assert!(!flight.is_full());
        flight.push(&large, true);
        assert!(flight.is_full());
    }
}
