//! What the server has published beside all else that it says, each message with a number of its
//! own, and which mailboxes have it.

use super::speech::Censor;
use crate::pair::encoded;
use ringmail::base::clock::Instant;
use ringmail::client::harness::Harness;
use ringmail::proto::envelope::Envelope;
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::name::matches;
use std::collections::{BTreeMap, BTreeSet};

/// Payloads begin with this; nothing else that is said contains it.
const MARK: &[u8] = b"\xF5said";

struct Heard {
    topic: &'static str,
    /// Mailboxes that each get it, and those of groups, of which one does.
    each: BTreeSet<u64>,
    shared: BTreeSet<u64>,
    /// One of `shared` was closed, with what waited in it.
    is_shared_lost: bool,
    taken: BTreeSet<u64>,
    /// Its number in the session, and which session that is.
    count: Option<(u32, u32)>,
}

pub struct Said {
    /// Bytes that the client has not read, and the messages in them.
    pipe: Vec<u8>,
    waiting: Vec<(u32, &'static str)>,
    /// The length of the last one.
    waiting_bytes: usize,
    /// The connection that they are on.
    connection: usize,
    censor: Censor,
    number: u32,
    heard: BTreeMap<u32, Heard>,
    /// By mailbox, the last message taken; and whether it may still be worked on.
    last: BTreeMap<u64, u32>,
    in_hand: BTreeSet<u64>,
    /// The highest ACK, and of which session.
    acknowledged: (u32, u32),
}

impl Default for Said {
    fn default() -> Said {
        Said {
            pipe: Vec::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            connection: 0,
            censor: Censor::new(MARK),
            number: 0,
            heard: BTreeMap::new(),
            last: BTreeMap::new(),
            in_hand: BTreeSet::new(),
            acknowledged: (0, 0),
        }
    }
}

impl Said {
    pub fn next_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    /// Bytes of any kind.
    pub fn add(&mut self, client: &mut Harness, bytes: &[u8], now: Instant) {
        if self.censor.admits(bytes) {
            self.flush(client, now);
            self.pipe.extend_from_slice(bytes);
        }
    }

    /// A message of its own, with so many bytes besides.
    pub fn publish(
        &mut self,
        client: &mut Harness,
        topic: &'static str,
        bytes: usize,
        now: Instant,
    ) {
        self.flush(client, now);
        let number = self.next_number();
        let payload = [MARK, &number.to_be_bytes(), &vec![0; bytes]].concat();
        let envelope = Envelope {
            name: topic,
            payload: &payload,
            ..Envelope::default()
        };
        let message = Message::Envelope(MessageType::Publish, envelope);
        let bytes = encoded(&message, client.has_checksum());
        self.waiting_bytes = bytes.len();
        self.pipe.extend(bytes);
        self.waiting.push((number, topic));
        self.flush(client, now);
    }

    /// The client reads what there is, unless it has paused.
    pub fn flush(&mut self, client: &mut Harness, now: Instant) {
        if client.connections() != self.connection || !client.is_up() {
            self.connection = client.connections();
            self.pipe.clear();
            self.waiting.clear();
        }
        let (counted, epoch) = client.counted();
        if self.pipe.is_empty() || !client.receive(&self.pipe, now) {
            return;
        }
        let is_alone = self.waiting.len() == 1 && self.pipe.len() == self.waiting_bytes;
        let is_counted = client.counted() == (counted.wrapping_add(1), epoch);
        self.pipe.clear();
        for (number, topic) in self.waiting.drain(..) {
            let ids = |is_shared| {
                let takes = client.mailboxes().filter(move |mailbox| {
                    let is_it = !mailbox.serves && mailbox.is_shared == is_shared;
                    is_it && matches(mailbox.filter, topic)
                });
                takes.map(|mailbox| mailbox.id).collect()
            };
            let heard = Heard {
                topic,
                each: ids(false),
                shared: ids(true),
                is_shared_lost: false,
                taken: BTreeSet::new(),
                count: (is_alone && is_counted).then_some((counted.wrapping_add(1), epoch)),
            };
            self.heard.insert(number, heard);
        }
    }

    /// An ACK of the session.
    pub fn acknowledged(&mut self, received: u32, epoch: u32) {
        self.acknowledged = (received, epoch);
    }

    /// Takes what is next in a mailbox. False: there is nothing.
    pub fn take(&mut self, client: &mut Harness, id: u64) -> bool {
        if self.in_hand.remove(&id) {
            self.check_unacknowledged(self.last[&id]);
        }
        let (is_taken, message) = client.take(id);
        if let Some((topic, payload)) = message
            && let Some(number) = payload.strip_prefix(MARK)
            && let Some(number) = number.first_chunk().copied().map(u32::from_be_bytes)
            && self.heard.get(&number).is_some_and(|it| it.topic == topic)
        {
            self.check_unacknowledged(number);
            self.note_taken(id, number);
        }
        is_taken
    }

    /// What is not taken, or still in somebody's hand, has not been acknowledged.
    fn check_unacknowledged(&self, number: u32) {
        let (received, session) = self.acknowledged;
        if let Some((count, epoch)) = self.heard.get(&number).and_then(|heard| heard.count) {
            let is_ahead = count.wrapping_sub(received).wrapping_sub(1) < u32::MAX / 2;
            assert!(epoch != session || is_ahead, "{count} is acknowledged");
        }
    }

    fn note_taken(&mut self, id: u64, number: u32) {
        let before = self.last.insert(id, number).unwrap_or(0);
        assert!(before < number, "{number} after {before}");
        self.in_hand.insert(id);
        let heard = self.heard.get_mut(&number).expect("it was looked for");
        heard.taken.insert(id);
        let others = heard.taken.intersection(&heard.shared);
        assert!(others.count() <= 1, "{number} is for one of a group");
        let is_its = heard.each.contains(&id) || heard.shared.contains(&id);
        assert!(is_its, "{number} is not for this mailbox");
        // A message that one mailbox has, and another has passed over.
        let passed = |other: &&u64| self.last.get(other).is_some_and(|last| *last > number);
        let mut missing = heard.each.difference(&heard.taken).filter(passed);
        assert_eq!(missing.next(), None, "{number} is missed");
        for (missed, heard) in self.heard.range(before + 1..number) {
            let is_missed = heard.each.contains(&id) && !heard.taken.is_empty();
            assert!(!is_missed, "{missed} is missed");
        }
    }

    /// Mailboxes that are gone get nothing more.
    pub fn forget_closed(&mut self, client: &Harness) {
        let open: BTreeSet<u64> = client.mailboxes().map(|mailbox| mailbox.id).collect();
        self.in_hand.retain(|id| open.contains(id));
        for heard in self.heard.values_mut() {
            heard.each.retain(|id| open.contains(id));
            let before = heard.shared.len();
            heard.shared.retain(|id| open.contains(id));
            heard.is_shared_lost |= heard.shared.len() < before;
        }
    }

    /// Takes what there is: with `has_all` what anybody has, everybody has who is to have it.
    /// Without a connection a part is held back.
    pub fn take_all(&mut self, client: &mut Harness, has_all: bool) {
        let open: Vec<u64> = client.mailboxes().map(|mailbox| mailbox.id).collect();
        for id in open {
            while self.take(client, id) {}
        }
        for (number, heard) in &self.heard {
            let is_heard = !heard.taken.is_empty();
            let is_with_each = heard.each.is_subset(&heard.taken);
            let is_shared = heard.shared.is_empty()
                || heard.is_shared_lost
                || !heard.shared.is_disjoint(&heard.taken);
            let is_missed = has_all && is_heard && !(is_with_each && is_shared);
            assert!(!is_missed, "{number} is missed by one");
        }
    }
}
