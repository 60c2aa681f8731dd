//! PUBLISHes that requested a confirmation and are still unconfirmed, oldest first.
//!
//! With a session their bytes are kept, so that a resumed connection can repeat them; without
//! one only their topics are, to name them in an error.

use super::error::Error;
use crate::proto::envelope::Envelope;
use crate::proto::error::Code;
use crate::proto::message::MessageType;
use std::collections::VecDeque;

/// How many may be in flight before publishing waits.
const COUNT_MAX: usize = 16_384;
/// The most bytes of them; a single larger message goes alone.
const BYTES_MAX: usize = 8 << 20;

#[derive(Debug)]
struct Sent {
    id: u32,
    topic: Box<str>,
    /// The encoded envelope, without the message header, which differs between connections; empty
    /// if it will not be repeated.
    body: Box<[u8]>,
    /// Whether a caller waits for its confirmation.
    is_awaited: bool,
}

impl Sent {
    fn bytes(&self) -> usize {
        self.topic.len() + self.body.len()
    }

    /// The first of `count`.
    fn unconfirmed(&self, count: usize) -> Error {
        Error::Unconfirmed {
            id: self.id,
            topic: self.topic.to_string(),
            count,
        }
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

    /// Adds one that is sent; with `keep` it can be repeated. `is_awaited`: its result goes to a
    /// waiting caller, a failure is not a complaint.
    pub(super) fn push(&mut self, envelope: &Envelope<'_>, keep: bool, is_awaited: bool) {
        let sent = Sent {
            id: envelope.id,
            topic: envelope.name.into(),
            body: if keep {
                envelope.to_body()
            } else {
                Box::default()
            },
            is_awaited,
        };
        self.bytes += sent.bytes();
        self.sent.push_back(sent);
    }

    /// The caller no longer waits for this one; it stays in flight.
    pub(super) fn forget(&mut self, id: u32) {
        let index = self.position(id);
        if let Some(sent) = index.and_then(|index| self.sent.get_mut(index)) {
            sent.is_awaited = false;
        }
    }

    /// OK for this id: returns whether a caller waits for it; `None` if it is not in flight.
    pub(super) fn confirm(&mut self, id: u32) -> Option<bool> {
        self.remove(id).map(|sent| sent.is_awaited)
    }

    /// ERROR for this id: returns whether a caller waits for it, and the error.
    pub(super) fn reject(&mut self, id: u32, code: Code, text: &str) -> Option<(bool, Error)> {
        let sent = self.remove(id)?;
        let error = Error::Rejected {
            id,
            topic: sent.topic.into(),
            code,
            text: text.to_owned(),
        };
        Some((sent.is_awaited, error))
    }

    /// The error about the unconfirmed ones, if there are any.
    pub(super) fn complaint(&self) -> Option<Error> {
        let first = self.sent.front()?;
        Some(first.unconfirmed(self.sent.len()))
    }

    /// These will not be confirmed any more: returns an error for each that a caller waits for, by
    /// id, and one for all others.
    pub(super) fn abandon(&mut self) -> (Vec<(u32, Error)>, Option<Error>) {
        let flight = std::mem::take(self);
        let (awaited, others): (Vec<_>, Vec<_>) =
            flight.sent.into_iter().partition(|sent| sent.is_awaited);
        let first = others.first().map(|sent| sent.unconfirmed(others.len()));
        let awaited = awaited.iter().map(|sent| (sent.id, sent.unconfirmed(1)));
        (awaited.collect(), first)
    }

    /// The next kept one after this id, to be repeated under its own id.
    pub(super) fn next_after(&self, id: u32) -> Option<Envelope<'_>> {
        let first = self.sent.partition_point(|sent| is_through(id, sent.id));
        // Parsed from its encoded form, which is the one that owns its bytes.
        self.sent
            .range(first..)
            .find_map(|sent| Envelope::parse(MessageType::Publish, &sent.body).ok())
    }

    /// The topic of the one with this id.
    pub(super) fn topic(&self, id: u32) -> Option<&str> {
        let sent = self.sent.get(self.position(id).filter(|_| id != 0)?)?;
        Some(&sent.topic)
    }

    fn remove(&mut self, id: u32) -> Option<Sent> {
        let sent = self.sent.remove(self.position(id)?)?;
        self.bytes -= sent.bytes();
        Some(sent)
    }

    /// Answers come in order, so it is nearly always the first.
    fn position(&self, id: u32) -> Option<usize> {
        self.sent.iter().position(|sent| sent.id == id)
    }
}

/// Whether `id` is at most `last`, modulo 2^32; nothing is at most 0, which is not an id.
const fn is_through(last: u32, id: u32) -> bool {
    last != 0 && last.wrapping_sub(id) as i32 >= 0
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
    fn what_is_answered_is_not_repeated() {
        let mut flight = Flight::default();
        for (id, topic) in [(3, "a"), (4, "b"), (7, "c")] {
            flight.push(&envelope(id, topic), true, id == 4);
        }
        assert_eq!(flight.confirm(4), Some(true));
        assert_eq!(flight.next_after(0), Some(envelope(3, "a")));
        assert_eq!(flight.next_after(3), Some(envelope(7, "c")));
        assert_eq!(flight.next_after(7), None);
        for id in [3, 7] {
            assert_eq!(flight.confirm(id), Some(false));
            assert_eq!(flight.confirm(id), None);
        }
        assert_eq!((flight.len(), flight.bytes), (0, 0));
    }

    #[test]
    fn ids_are_compared_through_the_end_of_their_range() {
        let ids = [0xFFFF_FFFE, 0xFFFF_FFFF, 1, 2];
        let mut flight = Flight::default();
        for id in ids {
            flight.push(&envelope(id, "a"), true, true);
        }
        for (last, through) in [(0, 0), (0xFFFF_FFFD, 0), (0xFFFF_FFFF, 2), (1, 3), (2, 4)] {
            let next = flight.next_after(last).map(|envelope| envelope.id);
            assert_eq!(next, ids.get(through).copied(), "{last:#x}");
        }
    }

    #[test]
    fn a_rejected_one_is_named_and_the_others_stay() {
        let mut flight = Flight::default();
        flight.push(&envelope(1, "a"), false, true);
        flight.push(&envelope(2, "b"), false, true);
        let (awaited, error) = flight.reject(2, Code::Forbidden, "no").unwrap();
        assert!(awaited);
        assert!(matches!(error, Error::Rejected { id: 2, ref topic, .. } if topic == "b"));
        assert!(flight.reject(2, Code::Forbidden, "no").is_none());
        assert_eq!((flight.position(1), flight.position(2)), (Some(0), None));
        assert_eq!(flight.next_after(0), None, "nothing was kept to repeat");
    }

    #[test]
    fn abandoned_publishes_are_reported_by_the_first_and_their_number() {
        let mut flight = Flight::default();
        assert!(flight.abandon().1.is_none());
        for (id, topic) in [(5, "first"), (7, "mine"), (8, "left"), (9, "last")] {
            flight.push(&envelope(id, topic), false, matches!(id, 7 | 8));
        }
        flight.forget(8);
        flight.confirm(8);
        let (awaited, error) = flight.abandon();
        let error = error.unwrap();
        assert!(matches!(
            awaited[..],
            [(
                7,
                Error::Unconfirmed {
                    id: 7,
                    count: 1,
                    ..
                }
            )]
        ));
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
        flight.push(&large, false, false);
        assert!(!flight.is_full());
        flight.push(&large, true, false);
        assert!(flight.is_full());
    }
}
