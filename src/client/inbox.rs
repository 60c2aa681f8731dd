//! Messages that have arrived and have not been taken, bounded; which mailbox each is for; and
//! how far a session's counted messages have been handled.
//!
//! ```text
//!   counted   1   2   3   4   5   6   7        received = 7
//!   done ─────────┘   │   └─ wait here ─┘      the response 5 was taken at once: it has
//!                     handed out               no entry, and counts as done with 4
//!
//!   entries      3   4   6   7
//!   mailbox a        ▲   ▲                     an entry stands in each mailbox that takes it,
//!   mailbox b            ▲   ▲                 and goes when the last of them is done with it
//! ```
//!
//! - A mailbox belongs to one subscription or one service, or takes everything. The server sends
//!   a message once, however many filters of a connection match: the inbox decides which
//!   mailboxes get it. A request goes to one mailbox, and so does a message of a group: to the
//!   one with the fewest waiting.
//! - A message is done when its mailbox is asked for the next one, a request when it has been
//!   answered: only then are they acknowledged. The answer to a call (a RESPONSE) is done as
//!   soon as everything before it is.
//!
//! Invariants: counts rise with the keys of `entries`; `done() ≤ received`, both modulo 2^32;
//! an entry's contents are there, and in `bytes`, exactly while it waits in a mailbox.

mod choke;

use super::incoming::Incoming;
use super::subscribe::Interest;
pub(super) use super::wildcard::BoxId;
use super::wildcard::Wildcards;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

/// How many done messages make an ACK worth sending before the application has taken all.
const ACK_EVERY: u32 = 64;
/// How much may wait beyond the bound (a read from each of several connections) before the client
/// stops reconnecting.
const BEYOND_MAX: usize = 1 << 20;
/// Bytes counted for each entry beside its contents.
const ENTRY_BYTES: usize = 128;

/// An entry's key: its position in the order of arrival.
pub(super) type Key = u64;

/// What a mailbox takes.
#[derive(Debug)]
pub(super) enum Takes {
    Everything,
    Messages(Interest),
    Requests(Interest),
}

impl Takes {
    /// Whether both share one subscription or service at the server.
    fn is_same(&self, other: &Takes) -> bool {
        match (self, other) {
            (Takes::Messages(one), Takes::Messages(other))
            | (Takes::Requests(one), Takes::Requests(other)) => one.is_same(other),
            _ => false,
        }
    }

    /// The name it takes, or a filter of names; `None`: all.
    fn name(&self) -> Option<&str> {
        match self {
            Takes::Everything => None,
            Takes::Messages(interest) | Takes::Requests(interest) => Some(&interest.name),
        }
    }

    /// Whether it takes a filter with wildcards.
    fn is_wild(&self) -> bool {
        let is_wild = |level| level == "+" || level == "#";
        let name = self.name();
        name.is_none_or(|name| name.split('/').any(is_wild))
    }
}

#[derive(Debug)]
struct Mailbox {
    takes: Takes,
    /// Whether its owner still wants what the server sends for it, so that the registration there
    /// is needed.
    is_wanted: bool,
    /// Whether its owner can take from it: not before its OK.
    is_handed: bool,
    waiting: VecDeque<Key>,
    /// The entry that its owner has taken and may still be working on; requests are tracked by
    /// their own keys.
    handed: Option<Key>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Entry {
    /// `None` once the last mailbox has handed it out.
    incoming: Option<Incoming>,
    /// Its number among the session's counted messages.
    count: Option<u32>,
    bytes: usize,
    /// How many mailboxes have not handed it out, and how many are not done with it.
    waiting: usize,
    held: usize,
}

#[derive(Debug)]
pub(super) struct Inbox {
    boxes: BTreeMap<BoxId, Mailbox>,
    next_box: BoxId,
    /// The mailboxes without wildcards, by name; those with wildcards; and those that take
    /// everything.
    exact: HashMap<String, Vec<BoxId>>,
    wild: Wildcards,
    greedy: Vec<BoxId>,
    /// Scratch: the mailboxes that take what has just arrived.
    found: Vec<BoxId>,
    entries: BTreeMap<Key, Entry>,
    next_key: Key,
    bytes: usize,
    bytes_max: usize,
    /// Whether a session is in force, so that messages are counted.
    counting: bool,
    received: u32,
    acknowledged: u32,
    /// Wakers of mailboxes' owners, to be called.
    woken: Vec<Waker>,
}

impl Inbox {
    pub(super) fn new(bytes_max: usize) -> Inbox {
        Inbox {
            boxes: BTreeMap::new(),
            next_box: 0,
            exact: HashMap::new(),
            wild: Wildcards::default(),
            greedy: Vec::new(),
            found: Vec::new(),
            entries: BTreeMap::new(),
            next_key: 0,
            bytes: 0,
            bytes_max,
            counting: false,
            received: 0,
            acknowledged: 0,
            woken: Vec::new(),
        }
    }

    /// Whether too much waits, so that nothing more should be read.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// Whether more than one read's worth waits beyond the bound.
    pub(super) fn is_overfull(&self) -> bool {
        self.bytes >= self.bytes_max.saturating_add(BEYOND_MAX)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counted messages of the session so far.
    pub(super) fn received(&self) -> u32 {
        self.received
    }

    // ---- mailboxes ----

    pub(super) fn open(&mut self, takes: Takes) -> BoxId {
        self.next_box += 1;
        match (takes.name(), takes.is_wild()) {
            (None, _) => self.greedy.push(self.next_box),
            (Some(name), true) => self.wild.insert(name, self.next_box),
            (Some(name), false) => match self.exact.get_mut(name) {
                Some(ids) => ids.push(self.next_box),
                None => {
                    self.exact.insert(name.to_owned(), vec![self.next_box]);
                }
            },
        }
        let mailbox = Mailbox {
            takes,
            is_wanted: true,
            is_handed: false,
            waiting: VecDeque::new(),
            handed: None,
            waker: None,
        };
        self.boxes.insert(self.next_box, mailbox);
        self.next_box
    }

    /// The owner wants nothing more from the server, but can still take what arrives until the
    /// server knows. True: no other mailbox wants it either.
    pub(super) fn resign(&mut self, id: BoxId) -> bool {
        let Some(mailbox) = self.boxes.get_mut(&id) else {
            return false;
        };
        let was_wanted = std::mem::take(&mut mailbox.is_wanted);
        let Some(mailbox) = self.boxes.get(&id).filter(|_| was_wanted) else {
            return false;
        };
        let mut others = self.boxes.values();
        !others.any(|other| other.is_wanted && other.takes.is_same(&mailbox.takes))
    }

    /// Removes a mailbox: its owner is done with everything in it. Returns the requests in it,
    /// which no one else will answer.
    pub(super) fn close(&mut self, id: BoxId) -> Vec<Incoming> {
        let mut left = Vec::new();
        let Some(mut mailbox) = self.boxes.remove(&id) else {
            return left;
        };
        // Not dropped here: dropping a task's last waker may drop the task, which must not happen
        // under a lock.
        self.woken.extend(mailbox.waker.take());
        match (mailbox.takes.name(), mailbox.takes.is_wild()) {
            (None, _) => self.greedy.retain(|greedy| *greedy != id),
            (Some(name), true) => self.wild.remove(name, id),
            (Some(name), false) => {
                if let Some(ids) = self.exact.get_mut(name) {
                    ids.retain(|exact| *exact != id);
                    if ids.is_empty() {
                        self.exact.remove(name);
                    }
                }
            }
        }
        for key in mailbox.waiting {
            let incoming = self.hand_out(key);
            left.extend(incoming.filter(|it| matches!(it, Incoming::Request(_))));
            self.release(key);
        }
        if let Some(key) = mailbox.handed {
            self.release(key);
        }
        self.woken.extend(mailbox.waker);
        left
    }

    /// Whether a mailbox takes everything; its owner then declines what it cannot use.
    pub(super) fn gathers(&self) -> bool {
        let mut boxes = self.boxes.values();
        boxes.any(|mailbox| matches!(mailbox.takes, Takes::Everything))
    }

    /// The subscriptions with a mailbox.
    pub(super) fn subscriptions(&self) -> impl Iterator<Item = &Interest> {
        self.boxes
            .values()
            .filter_map(|mailbox| match &mailbox.takes {
                Takes::Messages(interest) => Some(interest),
                _ => None,
            })
    }

    /// Takes the wakers recorded since the last call, to be called outside of any lock.
    pub(super) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }

    pub(super) fn wake_all(&mut self) {
        let wakers = self.boxes.values_mut().filter_map(|it| it.waker.take());
        self.woken.extend(wakers);
    }

    // ---- in ----

    /// A message of type 0x10 or more has arrived that does not wait here.
    pub(super) fn count(&mut self) {
        if self.counting {
            self.received = self.received.wrapping_add(1);
        }
    }

    /// A counted message has arrived; false if no mailbox takes it, so that it is done.
    pub(super) fn push(&mut self, incoming: Incoming) -> bool {
        self.count();
        let count = self.counting.then_some(self.received);
        self.append(incoming, count)
    }

    /// Adds the notice of a reconnect: not a message, not counted.
    pub(super) fn push_event(&mut self, event: Incoming) {
        self.append(event, None);
    }

    fn append(&mut self, incoming: Incoming, count: Option<u32>) -> bool {
        let key = self.next_key;
        let held = self.distribute(&incoming, key);
        if held == 0 {
            return false;
        }
        self.next_key += 1;
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
        let entry = Entry {
            incoming: Some(incoming),
            count,
            bytes,
            waiting: held,
            held,
        };
        self.entries.insert(key, entry);
        true
    }

    /// Puts a key into each mailbox that takes the message; returns how many do.
    fn distribute(&mut self, incoming: &Incoming, key: Key) -> usize {
        let mut held = 0;
        let mut one_of_many: Option<(bool, usize, BoxId)> = None;
        let name = match incoming {
            Incoming::Message(message) => message.topic.as_str(),
            Incoming::Request(request) => request.service.as_str(),
            Incoming::Reconnected { .. } => "",
        };
        let mut found = std::mem::take(&mut self.found);
        found.extend(self.exact.get(name).into_iter().flatten());
        found.extend(&self.greedy);
        self.wild.find(name, &mut found);
        for id in found.drain(..) {
            let Some(mailbox) = self.boxes.get_mut(&id) else {
                continue;
            };
            let (takes_it, is_shared) = match (&mailbox.takes, incoming) {
                (Takes::Everything, _) => (true, false),
                (Takes::Messages(interest), Incoming::Message(_)) => {
                    (true, interest.group.is_some())
                }
                (Takes::Requests(_), Incoming::Request(_)) => (true, true),
                _ => (false, false),
            };
            if !takes_it {
                continue;
            }
            if is_shared {
                // A mailbox whose owner is leaving takes only what no other does.
                let candidate = (!mailbox.is_wanted, mailbox.waiting.len(), id);
                one_of_many = Some(one_of_many.map_or(candidate, |best| best.min(candidate)));
                continue;
            }
            mailbox.waiting.push_back(key);
            self.woken.extend(mailbox.waker.take());
            held += 1;
        }
        self.found = found;
        let chosen = one_of_many.and_then(|(_, _, id)| self.boxes.get_mut(&id));
        if let Some(mailbox) = chosen {
            mailbox.waiting.push_back(key);
            self.woken.extend(mailbox.waker.take());
            held += 1;
        }
        held
    }

    // ---- out ----

    /// The next entry for a mailbox's owner, which is done with the message it got before; a
    /// request is done when it is released by its key. The notice of a reconnect, and everything
    /// after it, is held back until the connection is `open`, or never will be.
    pub(super) fn take(&mut self, id: BoxId, open: bool) -> Option<(Key, Incoming)> {
        let mailbox = self.boxes.get_mut(&id)?;
        if let Some(key) = mailbox.handed.take() {
            self.release(key);
        }
        let mailbox = self.boxes.get_mut(&id)?;
        let key = *mailbox.waiting.front()?;
        let contents = self.entries.get(&key)?.incoming.as_ref();
        if !open && matches!(contents, Some(Incoming::Reconnected { .. })) {
            return None;
        }
        mailbox.waiting.pop_front();
        if !matches!(mailbox.takes, Takes::Requests(_)) {
            mailbox.handed = Some(key);
        }
        Some((key, self.hand_out(key)?))
    }

    /// As [`Inbox::take`], and wakes the owner when there is something.
    pub(super) fn poll(&mut self, id: BoxId, cx: &mut Context<'_>) -> Poll<(Key, Incoming)> {
        if let Some(taken) = self.take(id, true) {
            return Poll::Ready(taken);
        }
        if let Some(mailbox) = self.boxes.get_mut(&id) {
            let is_it = |waker: &Waker| waker.will_wake(cx.waker());
            if !mailbox.waker.as_ref().is_some_and(is_it) {
                // A replaced waker is called once more rather than dropped here: dropping a task's
                // last waker may drop the task, which must not happen under a lock.
                self.woken.extend(mailbox.waker.replace(cx.waker().clone()));
            }
        }
        Poll::Pending
    }

    fn hand_out(&mut self, key: Key) -> Option<Incoming> {
        let entry = self.entries.get_mut(&key)?;
        entry.waiting = entry.waiting.saturating_sub(1);
        if entry.waiting > 0 {
            return entry.incoming.clone();
        }
        self.bytes -= std::mem::take(&mut entry.bytes);
        entry.incoming.take()
    }

    /// One of its owners is done with an entry.
    pub(super) fn release(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.held -= 1;
        if entry.held == 0 {
            self.entries.remove(&key);
        }
    }

    /// How many counted messages are done.
    fn done(&self) -> u32 {
        let oldest = self.entries.values().find_map(|entry| entry.count);
        oldest.map_or(self.received, |count| count.wrapping_sub(1))
    }

    /// The ACK to send now, if one is due; an `idle` client acknowledges all it can.
    pub(super) fn acknowledge(&mut self, idle: bool) -> Option<u32> {
        if !self.counting {
            return None; // nothing has a number: looking for the first that has would be in vain
        }
        let done = self.done();
        let news = done.wrapping_sub(self.acknowledged);
        // A difference of more than half the range means behind: a resume has acknowledged more
        // already.
        let due = if idle { 1 } else { ACK_EVERY };
        if news > u32::MAX / 2 || news < due {
            return None;
        }
        self.acknowledged = done;
        Some(done)
    }

    /// Drops what waits: no one will take it.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
        for mailbox in self.boxes.values_mut() {
            mailbox.waiting.clear();
            mailbox.handed = None;
        }
    }

    // ---- sessions ----

    /// The session is resumed; `received` was sent to the server.
    pub(super) fn resume(&mut self) {
        self.acknowledged = self.received;
    }

    /// Earlier messages are no longer counted, and earlier requests have no requester any more.
    /// With `counting` a new session begins.
    pub(super) fn renew(&mut self, counting: bool) {
        let is_request = |entry: &Entry| matches!(entry.incoming, Some(Incoming::Request(_)));
        self.entries.retain(|_, entry| !is_request(entry));
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
        for entry in self.entries.values_mut() {
            entry.count = None;
        }
        for mailbox in self.boxes.values_mut() {
            let entries = &self.entries;
            mailbox.waiting.retain(|key| entries.contains_key(key));
        }
        self.counting = counting;
        self.received = 0;
        self.acknowledged = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::incoming::Message;
    use crate::client::{Serve, Subscribe};
    use crate::proto::envelope::Envelope;

    const ALL: BoxId = 1;

    fn message() -> Incoming {
        Incoming::Message(Message::of(&Envelope::default()))
    }

    fn counting() -> Inbox {
        let mut inbox = gathering(1000);
        inbox.renew(true);
        inbox
    }

    fn gathering(bytes_max: usize) -> Inbox {
        let mut inbox = Inbox::new(bytes_max);
        assert_eq!(inbox.open(Takes::Everything), ALL);
        inbox
    }

    fn next(inbox: &mut Inbox, open: bool) -> Option<Incoming> {
        inbox.take(ALL, open).map(|(_, incoming)| incoming)
    }

    #[test]
    fn a_message_is_acknowledged_when_the_next_is_requested() {
        let mut inbox = counting();
        inbox.push(message());
        inbox.push(message());
        assert_eq!(inbox.acknowledge(true), None);
        assert!(next(&mut inbox, true).is_some());
        assert_eq!(inbox.acknowledge(true), None, "it is being worked on");
        assert!(next(&mut inbox, true).is_some());
        assert_eq!(inbox.acknowledge(true), Some(1));
        assert_eq!(inbox.acknowledge(true), None, "told once");
        assert!(next(&mut inbox, true).is_none());
        assert_eq!(inbox.acknowledge(true), Some(2));
    }

    #[test]
    fn a_response_is_not_acknowledged_before_earlier_messages() {
        let mut inbox = counting();
        inbox.count();
        assert_eq!(inbox.acknowledge(true), Some(1));
        inbox.push(message());
        inbox.count();
        assert_eq!(inbox.acknowledge(true), None);
        next(&mut inbox, true);
        next(&mut inbox, true);
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
            next(&mut inbox, true);
        }
        next(&mut inbox, true);
        assert_eq!(inbox.acknowledge(false), Some(ACK_EVERY));
    }

    #[test]
    fn counts_wrap() {
        let mut inbox = counting();
        inbox.received = u32::MAX;
        inbox.acknowledged = u32::MAX;
        inbox.push(message());
        next(&mut inbox, true);
        assert_eq!(inbox.acknowledge(true), None);
        next(&mut inbox, true);
        assert_eq!(inbox.acknowledge(true), Some(0));
    }

    #[test]
    fn after_a_resume_nothing_is_acknowledged_twice() {
        let mut inbox = counting();
        inbox.push(message());
        inbox.push(message());
        next(&mut inbox, true);
        inbox.resume(); // SESSION said 2
        next(&mut inbox, true);
        assert_eq!(inbox.acknowledge(true), None);
        inbox.push(message());
        next(&mut inbox, true);
        next(&mut inbox, true);
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
        assert!(matches!(
            next(&mut inbox, false),
            Some(Incoming::Message(_))
        ));
        assert!(
            next(&mut inbox, false).is_none(),
            "held back until it stands"
        );
        let event = next(&mut inbox, true).unwrap();
        assert_eq!(event, Incoming::Reconnected { resumed: false });
        assert_eq!(inbox.acknowledge(true), None);
        assert!(matches!(next(&mut inbox, true), Some(Incoming::Message(_))));
        assert!(next(&mut inbox, true).is_none());
        assert_eq!(inbox.acknowledge(true), Some(1));
        assert_eq!(inbox.bytes(), 0);
    }

    #[test]
    fn it_is_full_by_bytes_and_not_when_it_was_emptied() {
        let mut inbox = gathering(2 * ENTRY_BYTES);
        inbox.push(message());
        assert!(!inbox.is_full());
        inbox.push(message());
        assert!(inbox.is_full());
        next(&mut inbox, true);
        assert!(!inbox.is_full());
        assert_eq!(inbox.acknowledge(true), None, "no session, no ACK");
    }

    fn on(topic: &str) -> Incoming {
        Incoming::Message(Message::of(&Envelope {
            name: topic,
            ..Envelope::default()
        }))
    }

    fn asked(service: &str) -> Incoming {
        let envelope = Envelope {
            name: service,
            ..Envelope::default()
        };
        Incoming::Request(crate::client::IncomingRequest::of(&envelope, 0))
    }

    fn subscription(filter: &str, group: Option<&str>) -> Takes {
        let subscribe = Subscribe::new(filter);
        let subscribe = group.map_or(subscribe.clone(), |group| subscribe.group(group));
        Takes::Messages(subscribe.interest().unwrap())
    }

    #[test]
    fn each_mailbox_gets_what_its_filter_matches_and_no_other_counts() {
        let mut inbox = Inbox::new(10_000);
        inbox.renew(true);
        let narrow = inbox.open(subscription("a/b", None));
        let wide = inbox.open(subscription("a/#", None));
        assert!(inbox.push(on("a/b")));
        assert!(inbox.push(on("a/c")));
        assert!(!inbox.push(on("b")), "nobody takes it");
        assert!(!inbox.push(asked("a/b")), "a subscription is no service");
        assert!(inbox.take(narrow, true).is_some());
        assert!(inbox.take(narrow, true).is_none());
        assert_eq!(inbox.acknowledge(true), None, "the other has not had it");
        assert!(inbox.take(wide, true).is_some());
        assert!(inbox.take(wide, true).is_some());
        assert_eq!(inbox.acknowledge(true), Some(1));
        assert_eq!(inbox.bytes(), 0);
        assert!(inbox.close(wide).is_empty());
        assert_eq!(inbox.acknowledge(true), Some(4));
    }

    #[test]
    fn members_of_a_group_take_turns_and_a_request_goes_to_one() {
        let mut inbox = Inbox::new(10_000);
        let members = [0, 1].map(|_| inbox.open(subscription("jobs", Some("g"))));
        for _ in 0..4 {
            inbox.push(on("jobs"));
        }
        for member in members {
            assert!(inbox.take(member, true).is_some());
            assert!(inbox.take(member, true).is_some());
            assert!(inbox.take(member, true).is_none());
        }
        let interest = || Serve::new("s").interest().unwrap();
        let first = inbox.open(Takes::Requests(interest()));
        let second = inbox.open(Takes::Requests(interest()));
        assert!(inbox.push(asked("s")) && inbox.push(asked("s")));
        assert!(inbox.take(first, true).is_some() && inbox.take(first, true).is_none());
        assert_eq!(inbox.close(second).len(), 1, "it is told, to be declined");
    }

    #[test]
    fn the_last_owner_that_wants_it_ends_it_though_others_hold_a_mailbox() {
        let mut inbox = Inbox::new(10_000);
        let [one, two] = [0, 1].map(|_| inbox.open(subscription("a/+", None)));
        let other = inbox.open(subscription("a/+", Some("g")));
        let service = inbox.open(Takes::Requests(Serve::new("a/+").interest().unwrap()));
        assert!(!inbox.resign(one), "another wants the same");
        // Both mailboxes still exist, but one whose owner has resigned does not count.
        assert!(inbox.resign(two) && !inbox.resign(two), "told once");
        assert!(inbox.resign(other) && inbox.resign(service));
        let again = inbox.open(subscription("a/+", None));
        inbox.close(one);
        assert!(inbox.resign(again));
    }

    #[test]
    fn a_request_is_acknowledged_when_it_is_released_and_others_do_not_wait_in_memory() {
        let mut inbox = Inbox::new(10_000);
        inbox.renew(true);
        let service = Takes::Requests(Serve::new("s").interest().unwrap());
        let service = inbox.open(service);
        let mut keys = Vec::new();
        for _ in 0..3 {
            inbox.push(asked("s"));
            keys.push(inbox.take(service, true).unwrap().0);
        }
        inbox.release(keys[1]);
        inbox.release(keys[2]);
        assert_eq!(inbox.entries.len(), 1);
        assert_eq!(inbox.acknowledge(true), None);
        inbox.release(keys[0]);
        assert_eq!(inbox.acknowledge(true), Some(3));
    }
}
