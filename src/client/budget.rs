//! How many ERRORs a client may still cause: the eleventh counted within a second ends the
//! connection, for all tasks that share it (PROTOCOL.md §3). An operation that could cause one is
//! held back while that might be the eleventh; all others pass.
//!
//! ```text
//!   sent ──► open ── OK ────► accepted: this topic's later PUBLISHes are not counted
//!              │
//!              └── ERROR ──► errors, for a second        errors + open ≤ OPEN_MAX
//! ```
//!
//! - A PUBLISH is open unless its topic was accepted before on this connection. So the first
//!   PUBLISHes of a topic cost a client one round trip, later ones a look-up in a set. Many new
//!   topics in a row, each accepted, are trusted more and more: as many may be open as have been
//!   accepted since the last ERROR, or since nothing was open.
//! - Operations repeated after a reconnect are trusted in the same way; a new SUBSCRIBE, SERVE or
//!   WILL is not: a limit on their number may refuse any of them.
//! - A PUBLISH without confirmation is settled once a later operation is answered, since answers
//!   come in order, or by the PONG to a PING sent after it. If an earlier operation was open, PONG
//!   may overtake its ERROR: then a second has to pass as well.
//! - Requests are answered by RESPONSE, which never counts.
//!
//! Times are those of the ERRORs' arrival: the server's window began earlier, and ends earlier.
//!
//! Invariant: `open` is in the order sent.

use crate::base::clock::Instant;
use crate::base::limits::ERRORS_PER_S_MAX;
use foldhash::fast::FixedState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

/// How many operations may be open while ERRORs are likely, including the ERRORs of the last
/// second; fewer than the server allows, since it also counts ERRORs that belong to no operation.
const OPEN_MAX: usize = ERRORS_PER_S_MAX as usize - 2;
/// The server's second, plus the rounding of its clock to milliseconds.
const WINDOW: Duration = Duration::from_millis(1010);
/// How many operations may be open in any case.
const TRUSTED_MAX: usize = 16_384;
/// How many topics are remembered as accepted; beyond that all are forgotten.
const ACCEPTED_MAX: usize = 32_768;
/// The payload of this client's own PINGs, distinguished by length and content from all others.
pub(super) const MARK: &[u8] = b"\xFFin order";

#[derive(Debug)]
struct Open {
    /// The operation's id; 0 for a PUBLISH without confirmation.
    id: u32,
    /// The last id assigned before it.
    behind: u32,
    /// The topic of a PUBLISH.
    topic: Option<u64>,
    /// Whether a PING has been sent after it.
    is_marked: bool,
    /// Whether an earlier operation was open when it was sent: PONG may overtake its ERROR.
    is_unsure: bool,
    /// When it is settled at the latest.
    until: Instant,
    /// Whether it is not trusted on the grounds of earlier acceptance.
    is_cautious: bool,
    /// Whether an ERROR that names no operation came while it was open.
    is_suspect: bool,
}

#[derive(Debug, Default)]
pub(super) struct Budget {
    open: VecDeque<Open>,
    /// How many of them are cautious; how many have no id; how many of those have no PING after
    /// them.
    cautious: usize,
    unnamed: usize,
    unmarked: usize,
    /// The earliest `until` of them; `None`: none has one.
    until: Option<Instant>,
    /// When the ERRORs of the last second came.
    errors: VecDeque<Instant>,
    /// Hashes of topics.
    accepted: HashSet<u64, FixedState>,
    /// Accepted since the last ERROR, or since nothing was open.
    run: usize,
    /// Whether a PING of this client waits for its PONG.
    is_pinging: bool,
}

impl Budget {
    /// A new connection: the server's count starts over, and this client's rights may have changed.
    pub(super) fn renew(&mut self) {
        *self = Budget::default();
    }

    // ---- before something is sent ----

    /// Whether a PUBLISH on this topic may go out now.
    pub(super) fn admits_publish(&mut self, topic: &str, now: impl FnOnce() -> Instant) -> bool {
        self.accepted.contains(&hash(topic)) || self.admits_known(now())
    }

    /// Whether an operation accepted on an earlier connection may be repeated.
    pub(super) fn admits_known(&mut self, now: Instant) -> bool {
        self.expire(now);
        let is_trusted = self.errors.is_empty() && self.open.len() < self.run.min(TRUSTED_MAX);
        is_trusted || self.open.len() + self.errors.len() < OPEN_MAX
    }

    /// Whether any other operation may be sent.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        self.expire(now);
        // It does not wait for trusted operations, however many are open.
        let open = match self.open.len() > OPEN_MAX {
            true => self.cautious,
            false => self.open.len(),
        };
        open + self.errors.len() < OPEN_MAX
    }

    // ---- when something was sent ----

    /// An operation was sent; `is_known`: it was accepted before.
    pub(super) fn note_sent(&mut self, id: u32, is_known: bool) {
        self.push(Open {
            is_cautious: !is_known,
            ..Open::new(id)
        });
    }

    /// A PUBLISH was sent; if its id is 0, after the operation with the id `behind`. `is_unsure`:
    /// earlier operations wait for their answers. True: a PING has to be sent after it.
    pub(super) fn note_publish(
        &mut self,
        id: u32,
        topic: &str,
        behind: u32,
        is_unsure: bool,
    ) -> bool {
        let topic = hash(topic);
        if self.accepted.contains(&topic) {
            return false;
        }
        self.push(Open {
            behind,
            topic: Some(topic),
            is_unsure: is_unsure || self.unnamed < self.open.len(),
            ..Open::new(id)
        });
        self.mark()
    }

    fn push(&mut self, open: Open) {
        self.cautious += usize::from(open.is_cautious);
        self.unnamed += usize::from(open.id == 0);
        self.unmarked += usize::from(open.id == 0);
        self.open.push_back(open);
    }

    /// Whether to send a PING now, after everything sent so far.
    pub(super) fn mark(&mut self) -> bool {
        if self.is_pinging || self.unmarked == 0 {
            return false;
        }
        self.is_pinging = true;
        self.unmarked = 0;
        self.open.iter_mut().for_each(|open| open.is_marked = true);
        true
    }

    // ---- when something arrived ----

    /// OK or ERROR for an operation: everything sent before it is settled, too.
    pub(super) fn note_answer(&mut self, id: u32, is_ok: bool) {
        // Ids rise, and wrap.
        let is_reached = |from: u32| id.wrapping_sub(from) < u32::MAX / 2;
        let is_judged = |open: &Open| match open.id {
            0 => is_reached(open.behind.wrapping_add(1)),
            own => is_reached(own),
        };
        while self.open.front().is_some_and(is_judged)
            && let Some(open) = self.open.pop_front()
        {
            let is_accepted = open.id == 0 || (open.id == id && is_ok);
            self.note_end(&open, is_accepted);
        }
    }

    /// An ERROR that counts has arrived. `topic`: of the refused PUBLISH; `None`, with id 0: it is
    /// unknown which operation it refers to.
    pub(super) fn note_error(&mut self, id: u32, topic: Option<&str>, now: Instant) {
        self.errors.push_back(now);
        if self.errors.len() > ERRORS_PER_S_MAX as usize {
            self.errors.pop_front();
        }
        self.run = 0;
        if let Some(topic) = topic {
            self.accepted.remove(&hash(topic));
        }
        if id == 0 && self.unnamed == 0 {
            self.accepted.clear(); // a topic that was accepted is not any more
        } else if id == 0 {
            self.open.iter_mut().for_each(|open| open.is_suspect = true);
        }
    }

    /// The PONG to a PING of this client.
    pub(super) fn note_pong(&mut self, now: Instant) {
        self.is_pinging = false;
        let marked = self.open.iter_mut().filter(|open| open.is_marked);
        for open in marked.filter(|open| open.id == 0 && open.until == Instant::NEVER) {
            open.until = match open.is_unsure {
                true => now + WINDOW,
                false => now,
            };
        }
        self.end_due(now);
    }

    /// When time alone will next change the state.
    pub(super) fn timeout(&self) -> Instant {
        let error = self.errors.front().map(|at| *at + WINDOW);
        let never = Instant::NEVER;
        error.unwrap_or(never).min(self.until.unwrap_or(never))
    }

    /// Forgets ERRORs that no longer count.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.errors.front().is_some_and(|at| now >= *at + WINDOW) {
            self.errors.pop_front();
        }
        if self.until.is_some_and(|until| now >= until) {
            self.end_due(now);
        }
    }

    /// Settles the operations whose time has passed.
    fn end_due(&mut self, now: Instant) {
        let open = std::mem::take(&mut self.open);
        let (due, open): (VecDeque<_>, _) = open.into_iter().partition(|it| it.until <= now);
        let until = open.iter().map(|open| open.until).min();
        self.until = until.filter(|until| *until != Instant::NEVER);
        self.open = open;
        due.iter().for_each(|open| self.note_end(open, true));
        // Open PUBLISHes on a topic that is accepted by now count like later ones.
        let (accepted, before) = (&self.accepted, self.open.len());
        let (unnamed, unmarked) = (&mut self.unnamed, &mut self.unmarked);
        self.open.retain(|open| {
            let is_free = open.id == 0 && open.topic.is_some_and(|it| accepted.contains(&it));
            *unnamed -= usize::from(is_free);
            *unmarked -= usize::from(is_free && !open.is_marked);
            !is_free
        });
        if self.open.is_empty() && before > 0 {
            self.run = 0;
        }
    }

    /// An operation that is no longer open.
    fn note_end(&mut self, open: &Open, is_accepted: bool) {
        self.cautious -= usize::from(open.is_cautious);
        self.unnamed -= usize::from(open.id == 0);
        self.unmarked -= usize::from(open.id == 0 && !open.is_marked);
        if is_accepted && !open.is_suspect {
            self.run += 1;
            if self.accepted.len() >= ACCEPTED_MAX {
                self.accepted.clear();
            }
            self.accepted.extend(open.topic);
        }
        if self.open.is_empty() {
            self.run = 0;
        }
    }
}

impl Open {
    fn new(id: u32) -> Open {
        Open {
            id,
            behind: id,
            topic: None,
            is_marked: false,
            is_unsure: false,
            until: Instant::NEVER,
            is_cautious: false,
            is_suspect: false,
        }
    }
}

fn hash(topic: &str) -> u64 {
    FixedState::default().hash_one(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn publish(budget: &mut Budget, topic: &str, now: Instant) -> bool {
        let admitted = budget.admits_publish(topic, || now);
        if admitted {
            budget.note_publish(0, topic, 7, false);
        }
        admitted
    }

    #[test]
    fn errors_and_open_operations_stay_below_the_fatal_number() {
        let mut budget = Budget::default();
        for id in 1..=OPEN_MAX as u32 {
            assert!(budget.admits(at(0)));
            budget.note_sent(id, false);
        }
        assert!(!budget.admits(at(0)) && !budget.admits_known(at(0)));
        assert!(!budget.admits_publish("t", || at(0)));
        // Successful operations make room at once, failed ones a second later.
        budget.note_answer(1, true);
        budget.note_answer(2, false);
        budget.note_error(2, None, at(500));
        assert!(budget.admits(at(500)));
        budget.note_sent(99, false);
        assert!(!budget.admits(at(1500)));
        assert_eq!(budget.timeout(), at(500) + WINDOW);
        assert!(budget.admits(budget.timeout()));
        // A new connection starts from scratch.
        budget.renew();
        assert!(budget.admits(at(0)) && budget.timeout() == Instant::NEVER);
    }

    #[test]
    fn an_accepted_topic_is_free_until_it_is_refused() {
        let mut budget = Budget::default();
        assert!(publish(&mut budget, "good", at(0)));
        budget.note_pong(at(1));
        let count = (0..1000).filter(|_| publish(&mut budget, "new", at(1)));
        assert_eq!(count.count(), OPEN_MAX);
        assert!((0..1000).all(|_| publish(&mut budget, "good", at(1))));
        budget.note_error(9, Some("good"), at(2));
        assert!(!publish(&mut budget, "good", at(2)));
        // An ERROR that names no operation belongs to an open one, or else to one whose topic had
        // been accepted.
        let mut budget = Budget::default();
        assert!(publish(&mut budget, "good", at(0)));
        budget.note_pong(at(1));
        assert!(publish(&mut budget, "bad", at(1)));
        budget.note_error(0, None, at(2));
        budget.note_pong(at(3));
        assert_eq!(budget.accepted.len(), 1, "the bad one is not");
        budget.note_error(0, None, at(4));
        assert_eq!(budget.accepted.len(), 0);
    }

    #[test]
    fn a_publish_without_confirmation_is_settled_by_a_later_answer_or_a_pong() {
        let open = |budget: &Budget| budget.open.len();
        let mut budget = Budget::default();
        assert!(
            budget.note_publish(0, "a", 5, false),
            "a PING goes behind it"
        );
        for topic in ["b", "a"] {
            assert!(!budget.note_publish(0, topic, 5, false), "one at a time");
        }
        budget.note_pong(at(1));
        assert_eq!(open(&budget), 1, "the second topic's was behind the PING");
        assert!(budget.mark() && !budget.mark());
        budget.note_answer(5, true);
        assert_eq!(open(&budget), 1, "that one was asked for earlier");
        budget.note_answer(6, true);
        assert_eq!(open(&budget), 0);
        budget.note_pong(at(2));

        // With an earlier operation unanswered, PONG may overtake an ERROR.
        assert!(budget.note_publish(0, "c", 7, true));
        budget.note_pong(at(10));
        assert_eq!((open(&budget), budget.timeout()), (1, at(10) + WINDOW));
        budget.expire(budget.timeout());
        assert_eq!((open(&budget), budget.timeout()), (0, Instant::NEVER));

        // Ids wrap.
        budget.note_sent(u32::MAX, false);
        budget.note_publish(0, "d", u32::MAX, false);
        budget.note_sent(1, false);
        budget.note_answer(1, true);
        assert_eq!((open(&budget), budget.cautious, budget.unnamed), (0, 0, 0));
    }

    #[test]
    fn new_topics_in_a_row_are_trusted_more_and_more_while_each_is_accepted() {
        let mut budget = Budget::default();
        let (mut number, mut rounds, mut id) = (0, 0, 0);
        while number < 10_000 {
            let first = id + 1;
            while budget.admits_publish(&number.to_string(), || at(rounds)) {
                (number, id) = (number + 1, id + 1);
                budget.note_publish(id, &number.to_string(), id, false);
            }
            // All but the last are answered, as when there is always more in flight.
            (first..id).for_each(|id| budget.note_answer(id, true));
            rounds += 1;
        }
        assert!(rounds < 20, "{rounds} round trips");
        assert!(budget.admits(at(rounds)), "others do not wait behind them");
        budget.note_error(id, None, at(rounds));
        assert!(!(0..OPEN_MAX).all(|_| publish(&mut budget, "x", at(rounds))));
    }
}
