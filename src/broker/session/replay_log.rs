//! The replay log: counted messages that a session's client has not acknowledged, kept for
//! retransmission (PROTOCOL.md, Sessions).
//!
//! ```text
//!   numbers     acked              sent               count         (modulo 2^32)
//!                 │                  │                  │
//!   entries       [ len ][ len ][ len ][ len ][ len ]
//!   bytes         [ message │ message │ … │ message ]◄── pushed at the end
//!                 ▲ dropped when acknowledged
//! ```
//!
//! The messages lie back to back in one ring of bytes, with their lengths in a second one: a push
//! copies, and allocates only when the ring grows. Messages are copied rather than shared, because
//! a session must be able to move to another core and to stay for its linger: what it keeps must
//! cost its own size, not that of the receive buffers and large messages it would point into.
//!
//! A message gets its number when it is sent, and keeps it while the connection lasts, because the
//! client may have counted it. A client that resumes says how many it has counted. Of the messages
//! after that, those that have expired and those larger than the new connection accepts are
//! dropped, and the later ones move up.
//!
//! It neither bounds itself (see `connection`) nor looks into messages.
//!
//! Invariants: `sent_len ≤ entries.len()`; all sent messages precede all unsent ones; the lengths
//! of the entries add up to `bytes.len()`.

use crate::base::clock::Instant;
use crate::base::id::Key;
use bytes::Bytes;
use std::collections::VecDeque;

/// Capacity that an empty log keeps, so that it allocates nothing while its client acknowledges in
/// time; small enough to keep in thousands of idle sessions.
const KEPT_BYTES: usize = 1024;
/// Capacity in entries that an empty log keeps.
const KEPT_ENTRIES: usize = 16;

#[derive(Clone, Copy)]
struct Entry {
    expires: Instant,
    /// A message's header has 32 bits for its length, and `limits` keeps it far below that.
    length: u32,
    /// The group it was delivered through: when the session ends, another member gets it.
    group: Option<Key>,
}

/// Why a kept message is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Expired,
    TooLarge,
}

/// The unacknowledged counted messages of one session. See the module's head.
#[derive(Default)]
pub struct ReplayLog {
    bytes: VecDeque<u8>,
    entries: VecDeque<Entry>,
    /// How many of the entries, from the oldest, have been sent at least once.
    sent_len: usize,
    /// How many messages the client has acknowledged: the number of the first entry.
    acked: u32,
}

impl ReplayLog {
    /// The empty log of a new session. Allocates nothing.
    pub const fn new() -> ReplayLog {
        ReplayLog {
            bytes: VecDeque::new(),
            entries: VecDeque::new(),
            sent_len: 0,
            acked: 0,
        }
    }

    #[cfg(test)]
    /// Messages kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the messages kept.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory in use: what is charged to the shard.
    pub fn capacity_bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    #[cfg(test)]
    /// Counted messages of this session so far (modulo 2^32), including those waiting for the
    /// client to come back.
    pub fn count(&self) -> u32 {
        self.acked.wrapping_add(self.entries.len() as u32)
    }

    #[cfg(test)]
    /// How many of [`ReplayLog::count`] have been sent at least once: a client cannot have received
    /// more.
    pub fn sent(&self) -> u32 {
        self.acked.wrapping_add(self.sent_len as u32)
    }

    #[cfg(test)]
    pub fn push(&mut self, message: &[u8], expires: Instant, sent: bool) {
        self.push_for(None, message, expires, sent);
    }

    /// Keeps a whole message (header and payload, no CRC) and the group it was delivered through.
    /// `sent`: it is also being sent now; false while the client is away, until
    /// [`ReplayLog::replay`].
    pub fn push_for(&mut self, group: Option<Key>, message: &[u8], expires: Instant, sent: bool) {
        let all_sent = self.sent_len == self.entries.len();
        debug_assert!(all_sent || !sent, "sent before an older one");
        debug_assert!(u32::try_from(message.len()).is_ok());
        self.bytes.extend(message);
        self.entries.push_back(Entry {
            expires,
            length: message.len() as u32,
            group,
        });
        // Never marked as sent too early: an acknowledgement would drop a message no one has
        // received.
        self.sent_len += usize::from(sent && all_sent);
        self.check_invariants();
    }

    /// Whether a client may have received this many: [`ReplayLog::ack`] would accept it.
    pub fn covers(&self, received: u32) -> bool {
        received.wrapping_sub(self.acked) as usize <= self.sent_len
    }

    /// The client has received the first `received` messages of this session. Returns false and
    /// changes nothing if that is less than it said before or more than were sent.
    #[must_use]
    pub fn ack(&mut self, received: u32) -> bool {
        if !self.covers(received) {
            return false;
        }
        let taken = received.wrapping_sub(self.acked) as usize;
        let taken_entries = self.entries.drain(..taken);
        let taken_bytes: usize = taken_entries.map(|entry| entry.length as usize).sum();
        self.bytes.drain(..taken_bytes);
        self.sent_len -= taken;
        self.acked = received;
        self.shrink();
        self.check_invariants();
        true
    }

    /// The client is back and says how many it has received, as in [`ReplayLog::ack`]. Messages
    /// that have expired meanwhile or are longer than `length_max` are dropped, and `dropped` is
    /// called for each. [`ReplayLog::replay`] comes next.
    #[must_use]
    pub fn resume(
        &mut self,
        received: u32,
        now: Instant,
        length_max: usize,
        dropped: impl FnMut(&[u8], Loss),
    ) -> bool {
        if !self.ack(received) {
            return false;
        }
        let loss = |entry: &Entry| {
            if entry.expires <= now {
                Some(Loss::Expired)
            } else {
                (entry.length as usize > length_max).then_some(Loss::TooLarge)
            }
        };
        if self.entries.iter().any(|entry| loss(entry).is_some()) {
            self.drop_lost(loss, dropped);
        }
        true
    }

    /// Yields every kept message, oldest first, and marks all as sent. A message comes in two parts
    /// because it may wrap around the ring's end; the second part is usually empty.
    pub fn replay(&mut self, mut each: impl FnMut(&[u8], &[u8])) {
        let (mut head, mut tail) = self.bytes.as_slices();
        for entry in &self.entries {
            let length = entry.length as usize;
            let (first, head_rest) = head.split_at(length.min(head.len()));
            let (second, tail_rest) = tail.split_at(length - first.len());
            (head, tail) = (head_rest, tail_rest);
            // Once the first slice is used up, the rest is contiguous in the second.
            if first.is_empty() {
                each(second, first);
            } else {
                each(first, second);
            }
        }
        self.sent_len = self.entries.len();
        self.check_invariants();
    }

    /// Whether `is_good` holds for every kept message after the first `received`.
    pub fn all_behind(&self, received: u32, mut is_good: impl FnMut(&[u8]) -> bool) -> bool {
        let taken = received.wrapping_sub(self.acked) as usize;
        let mut at = 0;
        self.entries.iter().enumerate().all(|(index, entry)| {
            let range = at..at + entry.length as usize;
            at = range.end;
            if index < taken {
                return true;
            }
            let (head, tail) = self.bytes.as_slices();
            if range.end <= head.len() {
                is_good(&head[range])
            } else if range.start >= head.len() {
                is_good(&tail[range.start - head.len()..range.end - head.len()])
            } else {
                is_good(&[&head[range.start..], &tail[..range.end - head.len()]].concat())
            }
        })
    }

    /// Yields the messages that came through groups, oldest first. The log is not used afterwards.
    pub fn take_grouped(&mut self, each: &mut impl FnMut(Key, Instant, Bytes)) {
        let log = std::mem::take(self);
        let (mut bytes, mut at) = (log.bytes, 0);
        let bytes = bytes.make_contiguous();
        for entry in &log.entries {
            let range = at..at + entry.length as usize;
            at = range.end;
            if let Some(group) = entry.group {
                each(group, entry.expires, Bytes::copy_from_slice(&bytes[range]));
            }
        }
    }

    /// Compacts what has not expired; only messages that were never sent may be dropped.
    #[cold]
    fn drop_lost(
        &mut self,
        loss: impl Fn(&Entry) -> Option<Loss>,
        mut dropped: impl FnMut(&[u8], Loss),
    ) {
        let bytes = self.bytes.make_contiguous();
        let (mut from, mut to, mut index) = (0, 0, 0);
        let (sent_len, mut sent_lost) = (self.sent_len, 0);
        self.entries.retain(|entry| {
            let message = from..from + entry.length as usize;
            let lost = loss(entry);
            match lost {
                None => {
                    bytes.copy_within(message.clone(), to);
                    to += message.len();
                }
                Some(loss) => {
                    sent_lost += usize::from(index < sent_len);
                    dropped(&bytes[message.clone()], loss);
                }
            }
            from = message.end;
            index += 1;
            lost.is_none()
        });
        self.sent_len -= sent_lost;
        self.bytes.truncate(to);
        self.shrink();
        self.check_invariants();
    }

    /// Shrinks once three quarters of the memory is unused: afterwards half of the remainder must
    /// fill up or empty before the next move, so moving costs little per message.
    fn shrink(&mut self) {
        let (bytes, entries) = (self.bytes.len(), self.entries.len());
        if self.bytes.capacity() > KEPT_BYTES.max(4 * bytes) {
            self.bytes.shrink_to(KEPT_BYTES.max(2 * bytes));
        }
        if self.entries.capacity() > KEPT_ENTRIES.max(4 * entries) {
            self.entries.shrink_to(KEPT_ENTRIES.max(2 * entries));
        }
    }

    /// Checks after every change what is cheap to check; the tests check the sums.
    fn check_invariants(&self) {
        debug_assert!(self.sent_len <= self.entries.len());
        debug_assert!(!self.entries.is_empty() || self.bytes.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEVER: Instant = Instant::NEVER;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn starting_at(count: u32) -> ReplayLog {
        ReplayLog {
            acked: count,
            ..ReplayLog::new()
        }
    }

    /// Resumes with a client that accepts messages up to `length_max`.
    fn resume(log: &mut ReplayLog, received: u32, now: Instant, length_max: usize) -> bool {
        log.resume(received, now, length_max, |_, _| {})
    }

    fn replayed(log: &mut ReplayLog) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        log.replay(|first, second| {
            assert!(!first.is_empty() || second.is_empty());
            messages.push([first, second].concat());
        });
        messages
    }

    fn check_sums(log: &ReplayLog) {
        let sum: usize = log.entries.iter().map(|entry| entry.length as usize).sum();
        assert_eq!(log.bytes(), sum);
        assert!(log.bytes.capacity() <= KEPT_BYTES.max(4 * sum.max(KEPT_BYTES)));
    }

    #[test]
    fn a_new_log_allocates_nothing() {
        assert_eq!(ReplayLog::new().capacity_bytes(), 0);
    }

    #[test]
    fn acknowledged_messages_are_not_sent_again() {
        let mut log = ReplayLog::new();
        for message in ["one", "two", "three"] {
            log.push(message.as_bytes(), NEVER, true);
        }
        assert!(log.ack(1));
        assert_eq!(
            (log.len(), log.bytes(), log.count(), log.sent()),
            (2, 8, 3, 3)
        );
        assert!(resume(&mut log, 2, at(0), 5));
        assert_eq!(replayed(&mut log), [b"three"]);
    }

    #[test]
    fn an_acknowledgement_of_what_was_not_sent_changes_nothing() {
        let mut log = starting_at(7);
        log.push(b"sent", NEVER, true);
        log.push(b"away", NEVER, false);
        for wrong in [6, 9, 10, 0, u32::MAX, 7 + (1 << 31)] {
            assert!(!log.ack(wrong) && !resume(&mut log, wrong, at(0), 0));
            assert_eq!((log.len(), log.sent(), log.count()), (2, 8, 9));
        }
        assert!(log.ack(8) && log.ack(8) && !log.ack(9));
        assert_eq!(replayed(&mut log), [b"away"]);
        assert!(log.ack(9) && log.is_empty());
    }

    #[test]
    fn numbers_go_on_through_zero() {
        let mut log = starting_at(u32::MAX - 1);
        for message in [b"a", b"b", b"c", b"d"] {
            log.push(message, NEVER, true);
        }
        assert_eq!((log.count(), log.sent()), (2, 2));
        assert!(!log.ack(3) && !log.ack(u32::MAX - 2));
        assert!(log.ack(u32::MAX) && log.ack(0) && log.ack(1));
        assert!(!log.ack(0));
        assert_eq!(replayed(&mut log), [b"d"]);
    }

    #[test]
    fn what_has_expired_or_is_too_large_is_not_sent_again_and_gives_up_its_number() {
        let mut log = ReplayLog::new();
        for (message, expires, sent) in [
            ("taken, expired", at(1), true),
            ("sent, expired", at(5), true),
            ("sent", NEVER, true),
            ("sent, and far too large", NEVER, true),
            ("away, expired", at(10), false),
            ("away", at(11), false),
            ("away, and far too large", at(9), false),
        ] {
            log.push(message.as_bytes(), expires, sent);
        }
        let mut lost = Vec::new();
        let told = |message: &[u8], loss| lost.push((message.to_vec(), loss));
        assert!(log.resume(1, at(10), 15, told));
        let expected = [
            ("sent, expired", Loss::Expired),
            ("sent, and far too large", Loss::TooLarge),
            ("away, expired", Loss::Expired),
            ("away, and far too large", Loss::Expired),
        ];
        assert_eq!(
            lost,
            expected.map(|(message, loss)| (message.as_bytes().to_vec(), loss))
        );
        assert_eq!((log.count(), log.sent(), log.bytes()), (3, 2, 8));
        assert_eq!(replayed(&mut log), [b"sent", b"away"]);
        assert_eq!(log.sent(), 3);
        assert!(resume(&mut log, 2, at(99), 15), "what was sent expires too");
        assert!(log.is_empty());
    }

    #[test]
    fn an_empty_log_gives_large_memory_back() {
        let mut log = ReplayLog::new();
        for _ in 0..10_000 {
            log.push(&[7; 100], NEVER, true);
        }
        assert!(log.capacity_bytes() >= 1_000_000);
        assert!(log.ack(10_000));
        assert!(log.capacity_bytes() <= 2 * (KEPT_BYTES + KEPT_ENTRIES * size_of::<Entry>()));
    }

    #[test]
    fn a_steady_flow_allocates_nothing() {
        let mut log = ReplayLog::new();
        let mut round = || {
            for _ in 0..50 {
                log.push(&[7; 72], NEVER, true);
            }
            let full = log.capacity_bytes();
            // Always half a window behind, like a client that acknowledges in time.
            assert!(log.ack(log.sent().wrapping_sub(25)));
            (full, log.capacity_bytes())
        };
        let reconciled = (0..4).map(|_| round()).last().unwrap();
        assert_eq!(reconciled.0, reconciled.1);
        assert!((0..100).all(|_| round() == reconciled));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(Vec<u8>, Option<u64>),
        Leave,
        Ack(u32),
        Resume(u32, usize),
        Wait(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let message = prop_oneof![
            9 => prop::collection::vec(any::<u8>(), 1..100),
            1 => prop::collection::vec(any::<u8>(), 1000..3000),
        ];
        prop_oneof![
            8 => (message, prop::option::of(0u64..20)).prop_map(|(m, e)| Op::Push(m, e)),
            1 => Just(Op::Leave),
            4 => (0u32..12).prop_map(Op::Ack),
            2 => (0u32..12, prop_oneof![3 => Just(4000usize), 1 => 0usize..200])
                .prop_map(|(more, length_max)| Op::Resume(more, length_max)),
            2 => (0u64..10).prop_map(Op::Wait),
        ]
    }

    /// Message, expiry, sent.
    type Model = VecDeque<(Vec<u8>, Instant, bool)>;

    proptest! {
        #[test]
        fn a_log_keeps_what_a_list_keeps(
            start in prop_oneof![Just(0), u32::MAX - 100..=u32::MAX, any::<u32>()],
            ops in prop::collection::vec(op(), 0..300),
        ) {
            let mut log = starting_at(start);
            let mut model = Model::new();
            let (mut acked, mut away, mut now) = (u64::from(start), false, at(0));
            for op in ops {
                let sent = model.iter().filter(|entry| entry.2).count();
                match op {
                    Op::Push(message, expires) => {
                        let expires = expires.map_or(NEVER, |e| at(now.as_nanos() + e));
                        log.push(&message, expires, !away);
                        model.push_back((message, expires, !away));
                    }
                    Op::Leave => away = true,
                    // From one below the acknowledged count to far beyond the sent count.
                    Op::Ack(more) | Op::Resume(more, _) => {
                        let received = acked + u64::from(more);
                        let received = if more == 11 { acked.wrapping_sub(1) } else { received };
                        let good = more != 11 && more as usize <= sent;
                        prop_assert_eq!(good, match op {
                            Op::Resume(_, length_max) => {
                                resume(&mut log, received as u32, now, length_max)
                            }
                            _ => log.ack(received as u32),
                        });
                        if good {
                            model.drain(..more as usize);
                            acked = received;
                        }
                        if good && let Op::Resume(_, length_max) = op {
                            model.retain(|entry| entry.1 > now && entry.0.len() <= length_max);
                            let kept: Vec<_> = model.iter().map(|entry| entry.0.clone()).collect();
                            prop_assert_eq!(replayed(&mut log), kept);
                            model.iter_mut().for_each(|entry| entry.2 = true);
                            away = false;
                        }
                    }
                    Op::Wait(nanos) => now = at(now.as_nanos() + nanos),
                }
                let sent = model.iter().filter(|entry| entry.2).count();
                prop_assert_eq!(log.len(), model.len());
                prop_assert_eq!(log.bytes(), model.iter().map(|entry| entry.0.len()).sum::<usize>());
                prop_assert_eq!(log.count(), (acked + model.len() as u64) as u32);
                prop_assert_eq!(log.sent(), (acked + sent as u64) as u32);
                check_sums(&log);
            }
            let kept: Vec<_> = model.iter().map(|entry| entry.0.clone()).collect();
            prop_assert_eq!(replayed(&mut log), kept);
        }
    }
}
