//! What has come and was not taken yet, in order, bounded; and how far a session's counted
//! messages have been dealt with.
//!
//! ```text
//!   counted   1   2   3   4   5   6   7        received = 7
//!   done ─────────┘   │   └─ wait here ─┘      the response 5 was taken at once: it has
//!                     handed out               no entry, and counts as done with 4
//! ```
//!
//! A message is done when the application comes for the next one: only then is it
//! acknowledged. What was answered to a call (a RESPONSE) is done as soon as all before it is.
//!
//! Invariants: counts rise through `waiting`; `done() ≤ received`, both modulo 2^32.

use super::incoming::Incoming;
use std::collections::VecDeque;

/// Done messages that make an ACK worth sending before the application has taken all.
const ACK_EVERY: u32 = 64;
/// Bytes counted for each entry beside its contents.
const ENTRY_BYTES: usize = 128;

#[derive(Debug)]
struct Entry {
    incoming: Incoming,
    /// Its number among the session's counted messages.
    count: Option<u32>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Inbox {
    waiting: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    /// A session is in force: messages are counted.
    counting: bool,
    received: u32,
    acknowledged: u32,
    /// The count of what the application holds and may still be working on.
    handed: Option<u32>,
}

impl Inbox {
    pub(super) fn new(bytes_max: usize) -> Inbox {
        Inbox {
            waiting: VecDeque::new(),
            bytes: 0,
            bytes_max,
            counting: false,
            received: 0,
            acknowledged: 0,
            handed: None,
        }
    }

    /// Too much waits: nothing more should be read.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counted messages of the session so far.
    pub(super) fn received(&self) -> u32 {
        self.received
    }

    // ---- in ----

    /// A message of type 0x10 or more has come that does not wait here.
    pub(super) fn count(&mut self) {
        if self.counting {
            self.received = self.received.wrapping_add(1);
        }
    }

    /// A counted message has come.
    pub(super) fn push(&mut self, incoming: Incoming) {
        self.count();
        let count = self.counting.then_some(self.received);
        self.append(incoming, count);
    }

    /// Word of a reconnect: not a message, not counted.
    pub(super) fn push_event(&mut self, event: Incoming) {
        self.append(event, None);
    }

    fn append(&mut self, incoming: Incoming, count: Option<u32>) {
        let contents = match &incoming {
            Incoming::Message(message) => {
                message.topic.len() + message.payload.len() + message.headers.len()
            }
            Incoming::Request(request) => {
                request.service.len() + request.payload.len() + request.headers.len()
            }
            Incoming::Reconnected { .. } => 0,
        };
        let bytes = contents + ENTRY_BYTES;
        self.bytes += bytes;
        self.waiting.push_back(Entry {
            incoming,
            count,
            bytes,
        });
    }

    // ---- out ----

    /// The next for the application, which is done with what it got before. Word of a
    /// reconnect, and all behind it, is held back until the connection is `open`.
    pub(super) fn take(&mut self, open: bool) -> Option<Incoming> {
        self.handed = None;
        if !open && matches!(self.waiting.front()?.incoming, Incoming::Reconnected { .. }) {
            return None;
        }
        let entry = self.waiting.pop_front()?;
        self.bytes -= entry.bytes;
        self.handed = entry.count;
        Some(entry.incoming)
    }

    /// How many counted messages are dealt with.
    fn done(&self) -> u32 {
        let oldest = self
            .handed
            .or_else(|| self.waiting.iter().find_map(|entry| entry.count));
        oldest.map_or(self.received, |count| count.wrapping_sub(1))
    }

    /// The ACK to send now, if one is due; an `idle` client acknowledges all it can.
    pub(super) fn acknowledge(&mut self, idle: bool) -> Option<u32> {
        if !self.counting {
            return None; // nothing has a number: looking for the first that has would be in vain
        }
        let done = self.done();
        let news = done.wrapping_sub(self.acknowledged);
        // More than half of the numbers ahead is behind: a resume has said more already.
        let due = if idle { 1 } else { ACK_EVERY };
        if news > u32::MAX / 2 || news < due {
            return None;
        }
        self.acknowledged = done;
        Some(done)
    }

    /// Nobody will come for what waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }

    // ---- sessions ----

    /// The session goes on, where `received` was told to the server.
    pub(super) fn resume(&mut self) {
        self.acknowledged = self.received;
    }

    /// What went before has no numbers any more, and its requests nobody who waits. With
    /// `counting` a new session begins.
    pub(super) fn renew(&mut self, counting: bool) {
        self.waiting
            .retain(|entry| !matches!(entry.incoming, Incoming::Request(_)));
        self.bytes = self.waiting.iter().map(|entry| entry.bytes).sum();
        for entry in &mut self.waiting {
            entry.count = None;
        }
        self.counting = counting;
        self.handed = None;
        self.received = 0;
        self.acknowledged = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::incoming::Message;
    use crate::proto::envelope::Envelope;

    fn message() -> Incoming {
        Incoming::Message(Message::of(&Envelope::default()))
    }

    fn counting() -> Inbox {
        let mut inbox = Inbox::new(1000);
        inbox.renew(true);
        inbox
    }

    #[test]
    fn a_message_is_acknowledged_when_the_next_is_asked_for() {
        let mut inbox = counting();
        inbox.push(message());
        inbox.push(message());
        assert_eq!(inbox.acknowledge(true), None);
        assert!(inbox.take(true).is_some());
        assert_eq!(inbox.acknowledge(true), None, "it is being worked on");
        assert!(inbox.take(true).is_some());
        assert_eq!(inbox.acknowledge(true), Some(1));
        assert_eq!(inbox.acknowledge(true), None, "told once");
        assert!(inbox.take(true).is_none());
        assert_eq!(inbox.acknowledge(true), Some(2));
    }

    #[test]
    fn a_response_is_not_acknowledged_before_what_came_ahead_of_it() {
        let mut inbox = counting();
        inbox.count();
        assert_eq!(inbox.acknowledge(true), Some(1));
        inbox.push(message());
        inbox.count();
        assert_eq!(inbox.acknowledge(true), None);
        inbox.take(true);
        inbox.take(true);
        assert_eq!(inbox.acknowledge(true), Some(3));
    }

    #[test]
    fn a_busy_client_acknowledges_in_batches() {
        let mut inbox = counting();
        for _ in 0..ACK_EVERY {
            inbox.push(message());
        }
        for _ in 0..ACK_EVERY {
            assert_eq!(inbox.acknowledge(false), None);
            inbox.take(true);
        }
        inbox.take(true);
        assert_eq!(inbox.acknowledge(false), Some(ACK_EVERY));
    }

    #[test]
    fn counts_wrap() {
        let mut inbox = counting();
        inbox.received = u32::MAX;
        inbox.acknowledged = u32::MAX;
        inbox.push(message());
        inbox.take(true);
        assert_eq!(inbox.acknowledge(true), None);
        inbox.take(true);
        assert_eq!(inbox.acknowledge(true), Some(0));
    }

    #[test]
    fn after_a_resume_nothing_is_acknowledged_twice() {
        let mut inbox = counting();
        inbox.push(message());
        inbox.push(message());
        inbox.take(true);
        inbox.resume(); // SESSION said 2
        inbox.take(true);
        assert_eq!(inbox.acknowledge(true), None);
        inbox.push(message());
        inbox.take(true);
        inbox.take(true);
        assert_eq!(inbox.acknowledge(true), Some(3));
    }

    #[test]
    fn messages_of_the_old_session_are_still_handed_out_but_not_counted_in_the_new() {
        let mut inbox = counting();
        inbox.push(message());
        inbox.push(Incoming::Request(crate::client::IncomingRequest::of(
            &Envelope::default(),
            0,
        )));
        inbox.renew(true);
        inbox.push_event(Incoming::Reconnected { resumed: false });
        inbox.push(message());
        assert!(matches!(inbox.take(false), Some(Incoming::Message(_))));
        assert!(inbox.take(false).is_none(), "held back until it stands");
        let event = inbox.take(true).unwrap();
        assert_eq!(event, Incoming::Reconnected { resumed: false });
        assert_eq!(inbox.acknowledge(true), None);
        assert!(matches!(inbox.take(true), Some(Incoming::Message(_))));
        assert!(inbox.take(true).is_none());
        assert_eq!(inbox.acknowledge(true), Some(1));
        assert_eq!(inbox.bytes(), 0);
    }

    #[test]
    fn it_is_full_by_bytes_and_not_when_it_was_emptied() {
        let mut inbox = Inbox::new(2 * ENTRY_BYTES);
        inbox.push(message());
        assert!(!inbox.is_full());
        inbox.push(message());
        assert!(inbox.is_full());
        inbox.take(true);
        assert!(!inbox.is_full());
        assert_eq!(inbox.acknowledge(true), None, "no session, no ACK");
    }
}
