//! Retained messages: for each topic, the last one published with RETAIN.
//!
//! Every shard has all of them. It gets each from the topic's home shard, which puts those of
//! several publishers into one order and gives each a version (the time it took the message, and
//! which shard it is). The highest version wins everywhere, in whatever order versions arrive:
//!
//! ```text
//!   arrives       v1 "on"      v3 (empty)       v2 "off"           10 s after v3
//!   entry    –  ► v1 "on"  ►   v3 tombstone  ►  v3 tombstone   ►   –
//!                                               too late: refused
//! ```
//!
//! A cleared or expired message leaves a tombstone until its version is `TOMBSTONE` old; no message
//! takes that long between two shards.
//!
//! Topics are kept in one ordered map. SUBSCRIBE needs the reverse match: the topics that a filter
//! matches. The level separator sorts before every character of a name, so all topics beneath a
//! level are adjacent. A walk goes through them in order and seeks past those that cannot match. It
//! may stop anywhere and continue later ([`Walk`]), since a `#` may match more than other clients
//! of the shard should wait for:
//!
//! ```text
//!   site · site/1 · site/1/x · site/2 · site! · site!/1         (not: site · site! · site/1)
//!   site/#  =  site .. site/2, seek site!            site/+/x  =  seek site/1/x, site/2/x, …
//! ```
//!
//! What it does not do: bound its memory. The publishing code checks `bytes()` first.
//!
//! Invariants: `bytes` and `count` are the sums over the entries; a message is refused only if a
//! later version is known.

use crate::base::clock::Instant;
use crate::base::id::ShardId;
use crate::base::limits::{NAME_BYTES_MAX, SHARED_MESSAGE_BYTES};
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;

/// How long a cleared topic refuses messages published before it was cleared.
pub const TOMBSTONE: Duration = Duration::from_secs(10);

/// Bytes an entry costs besides topic and message: its slot in the map, whose nodes are two thirds
/// full, and its key's allocation.
const ENTRY_BYTES: usize = 208;

/// Messages retained between two sweeps, each of which covers twice as many entries: expired
/// entries go faster than new ones can come.
const SWEEP_INTERVAL: usize = 16;

/// The level separator in a key: below every character of a name.
const SEPARATOR: u8 = 1;
/// Above the separator, below every character of a name.
const BEYOND: u8 = 2;

/// When the topic's home shard took a message, and which shard that is: the later version stays.
/// Equal versions come from one shard in order: the last to arrive stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub at: Instant,
    pub shard: ShardId,
}

/// The last retained message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub message: Bytes,
    /// The same message in the other codec, if the topic has a schema.
    pub translated: Option<Bytes>,
}

impl Kept {
    fn bytes(&self) -> usize {
        let cost = |message: &Bytes| message.len() + SHARED_MESSAGE_BYTES;
        cost(&self.message) + self.translated.as_ref().map_or(0, cost)
    }
}

impl From<Bytes> for Kept {
    fn from(message: Bytes) -> Kept {
        Kept {
            message,
            translated: None,
        }
    }
}

/// How far the match of a filter has got, over several turns. A message retained meanwhile is found
/// if its topic sorts after this position.
#[derive(Clone, Debug, Default)]
pub struct Walk(Vec<u8>);

impl Walk {
    /// Whether the walk has passed this topic: a message retained there now is not found.
    pub fn has_passed(&self, topic: &str) -> bool {
        key(topic, &mut [0; NAME_BYTES_MAX]) < &*self.0
    }
}

struct Entry {
    version: Version,
    /// When the message expires.
    expires: Instant,
    /// `None`: a tombstone.
    message: Option<Kept>,
}

#[derive(Default)]
pub struct Retained {
    entries: BTreeMap<Box<[u8]>, Entry>,
    bytes: usize,
    /// The part of `bytes` that messages take.
    message_bytes: usize,
    count: usize,
    /// The key at which the sweep continues.
    swept: Vec<u8>,
    retained_since_sweep: usize,
}

impl Retained {
    /// Approximate bytes of memory that the entries take, including tombstones; accurate enough to
    /// bound memory.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The part of it that messages take.
    pub const fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    /// How many topics have a message, including expired ones that are not yet swept.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Retains a message for its topic, or clears the topic. False: a later version is known.
    pub fn retain(
        &mut self,
        topic: &str,
        version: Version,
        message: Option<Kept>,
        expires: Instant,
        now: Instant,
    ) -> bool {
        self.retained_since_sweep += 1;
        if self.retained_since_sweep == SWEEP_INTERVAL {
            self.retained_since_sweep = 0;
            self.sweep(now, 2 * SWEEP_INTERVAL);
        }
        let mut buffer = [0; NAME_BYTES_MAX];
        let key = key(topic, &mut buffer);
        let entry = Entry {
            version,
            expires,
            message,
        };
        let (cost, live) = (cost(key, &entry), usize::from(entry.message.is_some()));
        let message_bytes = entry.message.as_ref().map_or(0, Kept::bytes);
        match self.entries.get_mut(key) {
            Some(old) if old.version > version => return false,
            Some(old) => {
                self.bytes -= self::cost(key, old);
                self.message_bytes -= old.message.as_ref().map_or(0, Kept::bytes);
                self.count -= usize::from(old.message.is_some());
                *old = entry;
            }
            None => drop(self.entries.insert(key.into(), entry)),
        }
        self.bytes += cost;
        self.message_bytes += message_bytes;
        self.count += live;
        true
    }

    /// Calls `each` with the message of every topic that the filter matches, and its expiry,
    /// ordered by topic level by level, from `walk` on. Looks at no more than `looks` topics, and
    /// leaves in `looks` how many remain. `each` returns whether it takes the message; one that it
    /// refuses is the first of the next call. True: no more will follow. Removes what has expired.
    pub fn matching(
        &mut self,
        filter: &str,
        walk: &mut Walk,
        looks: &mut usize,
        now: Instant,
        mut each: impl FnMut(&Kept, Instant) -> bool,
    ) -> bool {
        let mut past = Vec::new();
        let is_done = 'seek: loop {
            let from = (Included(&*walk.0), Unbounded);
            let mut sought = false;
            for (key, entry) in self.entries.range::<[u8], _>(from) {
                // Often the key sought is the next one: a step costs a tenth of a search.
                if std::mem::take(&mut sought) && **key < *walk.0 {
                    continue 'seek;
                }
                if *looks == 0 {
                    walk.0.clear();
                    walk.0.extend_from_slice(key);
                    break 'seek false;
                }
                *looks -= 1;
                match look(filter, key, &mut walk.0) {
                    Look::Matches => match &entry.message {
                        Some(message) if entry.expires > now => {
                            if !each(message, entry.expires) {
                                walk.0.clear();
                                walk.0.extend_from_slice(key);
                                break 'seek false;
                            }
                        }
                        _ => past.push(key.clone()),
                    },
                    Look::Next => {}
                    Look::Seek => sought = true,
                    Look::End => break,
                }
            }
            break true;
        };
        for key in past {
            self.bury(&key, now);
        }
        is_done
    }

    /// Looks at the next `count` entries and removes expired ones; successive calls go round all
    /// entries. `retain` does it in passing; a timer has to call it too, for when no more messages
    /// are retained.
    pub fn sweep(&mut self, now: Instant, count: usize) {
        let from = Excluded(&*self.swept);
        let mut past = Vec::new();
        let mut last = None;
        let rest = self.entries.range::<[u8], _>((from, Unbounded));
        for (key, entry) in rest.take(count) {
            if entry.is_past(now) {
                past.push(key.clone());
            }
            last = Some(key);
        }
        // At the end it starts over.
        self.swept.clear();
        self.swept.extend_from_slice(last.map_or(&[], |key| key));
        for key in past {
            self.bury(&key, now);
        }
    }

    /// Drops the message of an expired entry, and the entry itself once its tombstone has expired.
    fn bury(&mut self, key: &[u8], now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if !entry.is_past(now) {
            return;
        }
        self.bytes -= cost(key, entry);
        self.message_bytes -= entry.message.as_ref().map_or(0, Kept::bytes);
        self.count -= usize::from(entry.message.take().is_some());
        if now >= entry.version.at + TOMBSTONE {
            self.entries.remove(key);
        } else {
            self.bytes += cost(key, entry);
        }
    }

    #[cfg(test)]
    fn check_invariants(&self) {
        let sum = self.entries.iter().map(|(key, entry)| cost(key, entry));
        assert_eq!(sum.sum::<usize>(), self.bytes);
        let messages = self.entries.values().filter_map(|e| e.message.as_ref());
        assert_eq!(messages.map(Kept::bytes).sum::<usize>(), self.message_bytes);
        let live = self.entries.values().filter(|e| e.message.is_some());
        assert_eq!(live.count(), self.count);
    }
}

impl Entry {
    fn is_past(&self, now: Instant) -> bool {
        self.message.is_none() || self.expires <= now
    }
}

fn cost(key: &[u8], entry: &Entry) -> usize {
    ENTRY_BYTES + key.len() + entry.message.as_ref().map_or(0, Kept::bytes)
}

/// A topic as a key. A topic longer than a name may be would be cut; `proto::name` rules that out.
fn key<'a>(topic: &str, buffer: &'a mut [u8; NAME_BYTES_MAX]) -> &'a [u8] {
    let len = topic.len().min(buffer.len());
    for (byte, character) in buffer.iter_mut().zip(topic.bytes()) {
        *byte = if character == b'/' {
            SEPARATOR
        } else {
            character
        };
    }
    &buffer[..len]
}

/// How a topic's key compares to a filter.
enum Look {
    Matches,
    /// It does not match; the next key may.
    Next,
    /// It does not match, and no key before the one in `seek` does.
    Seek,
    /// Neither it nor any later key matches.
    End,
}

/// Compares a key with a filter, level by level. For `Seek`, `seek` is set to the key to continue
/// at, which is always after this one.
fn look(filter: &str, key: &[u8], seek: &mut Vec<u8>) -> Look {
    let mut go_on = |prefix: &[u8], rest: &[u8]| {
        seek.clear();
        seek.extend_from_slice(prefix);
        seek.extend_from_slice(rest);
        Look::Seek
    };
    // Where the key's next level begins, if it has one.
    let mut next = Some(0);
    for wanted in filter.split('/') {
        if matches!(wanted, "+" | "#") && next == Some(0) && key.starts_with(b"$") {
            return go_on(b"", &[b'$' + 1]); // the server's own
        }
        if wanted == "#" {
            return Look::Matches;
        }
        let Some(start) = next else {
            return Look::Next; // what is beneath it
        };
        let rest = &key[start..];
        let end = rest.iter().position(|byte| *byte == SEPARATOR);
        let level = &rest[..end.unwrap_or(rest.len())];
        if wanted != "+" {
            match level.cmp(wanted.as_bytes()) {
                Ordering::Less => return go_on(&key[..start], wanted.as_bytes()),
                Ordering::Equal => {}
                Ordering::Greater if start == 0 => return Look::End,
                Ordering::Greater => return go_on(&key[..start - 1], &[BEYOND]),
            }
        }
        next = end.map(|end| start + end + 1);
    }
    match next {
        None => Look::Matches,
        Some(start) => go_on(&key[..start - 1], &[BEYOND]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::name::matches;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const ALWAYS: Instant = Instant::NEVER;

    fn second(second: u64) -> Instant {
        Instant::from_nanos(second * 1_000_000_000)
    }

    fn version(at: u64, shard: u16) -> Version {
        Version {
            at: second(at),
            shard: ShardId(shard),
        }
    }

    fn message(text: &'static str) -> Option<Kept> {
        Some(Bytes::from_static(text.as_bytes()).into())
    }

    /// What a filter finds, looking at two topics at a time.
    fn found(retained: &mut Retained, filter: &str, now: Instant) -> Vec<Bytes> {
        found_by(retained, filter, 2, now)
    }

    fn found_by(retained: &mut Retained, filter: &str, looks: usize, now: Instant) -> Vec<Bytes> {
        let (mut found, mut walk) = (Vec::new(), Walk::default());
        let mut is_offered = false;
        let mut each = |kept: &Kept, _| {
            // Each message is refused once and taken the second time.
            let takes = std::mem::replace(&mut is_offered, false);
            if takes {
                found.push(kept.message.clone());
            } else {
                is_offered = true;
            }
            takes
        };
        while !retained.matching(filter, &mut walk, &mut looks.clone(), now, &mut each) {}
        retained.check_invariants();
        found
    }

    #[test]
    fn the_highest_version_wins_in_whatever_order_versions_arrive() {
        let told = [(1, 0, "a"), (2, 1, "b"), (2, 0, "c"), (3, 0, "d")];
        for rotation in 0..told.len() {
            let mut retained = Retained::default();
            for n in 0..told.len() {
                let (at, shard, text) = told[(n + rotation) % told.len()];
                let later = retained
                    .entries
                    .values()
                    .any(|e| e.version > version(at, shard));
                let kept =
                    retained.retain("t", version(at, shard), message(text), ALWAYS, second(3));
                assert_eq!(kept, !later);
            }
            assert_eq!(found(&mut retained, "t", second(3)), ["d"]);
            assert_eq!(retained.count(), 1);
        }
    }

    #[test]
    fn of_equal_versions_the_last_to_arrive_stays() {
        let mut retained = Retained::default();
        for text in ["a", "b"] {
            assert!(retained.retain("t", version(1, 0), message(text), ALWAYS, second(1)));
        }
        assert_eq!(found(&mut retained, "#", second(1)), ["b"]);
    }

    #[test]
    fn a_cleared_topic_does_not_come_back_with_a_late_message() {
        let mut retained = Retained::default();
        retained.retain("t", version(5, 0), message("old"), ALWAYS, second(5));
        assert!(retained.retain("t", version(7, 0), None, ALWAYS, second(7)));
        assert_eq!(retained.count(), 0);
        let late = retained.retain("t", version(6, 1), message("late"), ALWAYS, second(8));
        assert!(!late);
        assert!(found(&mut retained, "t", second(8)).is_empty());
        assert!(retained.bytes() > 0, "the tombstone stays");
        assert!(found(&mut retained, "t", second(16)).is_empty());
        assert!(retained.bytes() > 0);
        assert!(found(&mut retained, "t", second(17)).is_empty());
        assert_eq!(retained.bytes(), 0, "and is gone after ten seconds");
        let new = retained.retain("t", version(18, 0), message("new"), ALWAYS, second(18));
        assert!(new);
        assert_eq!(found(&mut retained, "t", second(18)), ["new"]);
    }

    #[test]
    fn an_expired_message_is_not_given_and_frees_its_memory() {
        let mut retained = Retained::default();
        let message = Some(Bytes::from(vec![0; 1000]).into());
        retained.retain("a/t", version(1, 0), message, second(2), second(1));
        let mut expiries = Vec::new();
        let mut walk = Walk::default();
        retained.matching("a/+", &mut walk, &mut 1, second(1), |_, expires| {
            expiries.push(expires);
            true
        });
        assert_eq!(expiries, [second(2)]);
        assert!(retained.bytes() > 1000);
        assert!(found(&mut retained, "a/+", second(2)).is_empty());
        assert_eq!(retained.count(), 0);
        assert!(retained.bytes() < 1000);
        assert!(found(&mut retained, "a/+", second(11)).is_empty());
        assert_eq!(retained.bytes(), 0);
    }

    #[test]
    fn expired_messages_are_swept_away_as_new_ones_come() {
        let mut retained = Retained::default();
        for n in 0..10_000 {
            let topic = format!("short/{n}");
            retained.retain(&topic, version(0, 0), message("x"), second(1), second(0));
        }
        for n in 0..6000 {
            let now = second(20);
            retained.retain(&format!("{n}"), version(20, 0), message("y"), ALWAYS, now);
        }
        retained.check_invariants();
        assert_eq!(retained.entries.len(), 6000);
        // A timer does the same.
        for n in 0..6000 {
            retained.retain(&format!("{n}"), version(21, 0), None, ALWAYS, second(21));
        }
        // It starts somewhere in the middle, and spends one call on reaching the end.
        for _ in 0..6000 / 100 + 2 {
            retained.sweep(second(40), 100);
        }
        assert_eq!((retained.entries.len(), retained.bytes()), (0, 0));
    }

    #[test]
    fn reserved_topics_are_hidden_from_a_leading_wildcard() {
        let mut retained = Retained::default();
        for topic in ["$sys/a", "$sys", "$x/a", "a", "!", "%/a"] {
            let text = Some(Bytes::copy_from_slice(topic.as_bytes()).into());
            retained.retain(topic, version(1, 0), text, ALWAYS, second(1));
        }
        let mut ask = |filter| found(&mut retained, filter, second(1));
        assert_eq!(ask("#"), ["!", "%/a", "a"]);
        assert_eq!(ask("+"), ["!", "a"]);
        assert_eq!(ask("+/a"), ["%/a"]);
        assert_eq!(ask("$sys/#"), ["$sys", "$sys/a"]);
        assert_eq!(ask("$sys/+"), ["$sys/a"]);
    }

    /// A filter looks at little beside what it matches, wherever its wildcards are.
    #[test]
    fn topics_that_cannot_match_are_passed_over() {
        let mut retained = Retained::default();
        for (device, part) in (0..100).flat_map(|device| (0..100).map(move |part| (device, part))) {
            let topic = format!("site/{device:02}/{part:02}");
            retained.retain(&topic, version(1, 0), message("x"), ALWAYS, second(1));
        }
        for (filter, matches) in [
            ("site/+/50", 100),
            ("site/50/+", 100),
            ("+/50/50", 1),
            ("site/50/50", 1),
            ("site/+", 0),
            ("other/+/50", 0),
            ("site/#", 10_000),
        ] {
            let (mut found, mut looks) = (0, 1_000_000);
            let each = |_: &Kept, _| {
                found += 1;
                true
            };
            let walk = &mut Walk::default();
            assert!(retained.matching(filter, walk, &mut looks, second(1), each));
            let looked = 1_000_000 - looks;
            assert_eq!(found, matches, "{filter}");
            assert!(looked <= 2 * (found + 101), "{filter}: {looked} looks");
        }
    }

    fn name(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
        let level = prop::sample::select(levels);
        let name = prop::collection::vec(level, 1..5).prop_map(|levels| levels.join("/"));
        name.prop_filter("a name is not empty", |name| !name.is_empty())
    }

    proptest! {
        #[test]
        fn a_filter_finds_the_topics_it_matches(
            // `!` and `.` sort before the separator of names, `0` right after it.
            topics in prop::collection::btree_set(name(&["a", "a!", "a.", "a0", "$b", "ü", ""]), 0..40),
            filters in prop::collection::vec(
                (name(&["a", "+", "a!", "+", "$b", "ü", ""]), any::<bool>()), 10),
            looks in 1usize..20,
        ) {
            let mut retained = Retained::default();
            for topic in &topics {
                let text = Some(Bytes::copy_from_slice(topic.as_bytes()).into());
                retained.retain(topic, version(1, 0), text, ALWAYS, second(1));
            }
            for (levels, rest) in filters {
                let filter = if rest { format!("{levels}/#") } else { levels };
                let mut wanted: Vec<&String> =
                    topics.iter().filter(|topic| matches(&filter, topic)).collect();
                wanted.sort_by_key(|topic| topic.split('/').collect::<Vec<_>>());
                let found = found_by(&mut retained, &filter, looks, second(1));
                prop_assert_eq!(found, wanted, "{}", filter);
            }
        }

        /// A message retained during a walk is either found by it or on a topic it has passed, so
        /// that the subscriber can be given it exactly once.
        #[test]
        fn a_change_during_a_walk_is_found_unless_its_topic_is_passed(
            before in prop::collection::btree_set(name(&["a", "a!", "b", "ü", ""]), 0..40),
            meanwhile in prop::collection::vec(name(&["a", "a!", "b", "ü", ""]), 1..40),
            filter in prop::sample::select(vec!["#", "a/#", "+/b", "+/+/#", "b", "/#", "a/"]),
        ) {
            let mut retained = Retained::default();
            for topic in &before {
                let old = Some(Bytes::from(format!("old {topic}")).into());
                retained.retain(topic, version(1, 0), old, ALWAYS, second(1));
            }
            let mut walk = Walk::default();
            let mut told = Vec::new();
            let mut meanwhile = meanwhile.iter().enumerate();
            loop {
                let done = retained.matching(filter, &mut walk, &mut 1, second(1), |kept, _| {
                    told.push(kept.message.clone());
                    true
                });
                if done {
                    break;
                }
                let Some((n, topic)) = meanwhile.next() else { continue };
                let text = Bytes::from(format!("{n}"));
                let kept = Some(text.clone().into());
                retained.retain(topic, version(2, 0), kept, ALWAYS, second(2));
                if matches(filter, topic) && walk.has_passed(topic) {
                    told.push(text);
                }
            }
            let texts: BTreeSet<&Bytes> = told.iter().collect();
            prop_assert_eq!(texts.len(), told.len(), "{:?}: one is told twice", told);
            for (key, entry) in &retained.entries {
                let topic = String::from_utf8_lossy(key).replace(char::from(SEPARATOR), "/");
                let last = entry.message.as_ref().map(|kept| &kept.message);
                let is_told = last.is_some_and(|last| told.contains(last));
                prop_assert!(is_told || !matches(filter, &topic), "{} {:?}", topic, last);
            }
        }
    }
}
