//! Retained messages: of each topic the last one that was published with RETAIN.
//!
//! Every shard has all of them, told by the shard of the publisher. Two publishers on two
//! shards may be told in either order, so each message has a version (when it was
//! published, and on which shard) and the last version wins everywhere:
//!
//! ```text
//!   told          v1 "on"      v3 (empty)       v2 "off"           10 s after v3
//!   entry    –  ► v1 "on"  ►   v3 tombstone  ►  v3 tombstone   ►   –
//!                                               too late: refused
//! ```
//!
//! What has been cleared or has expired leaves a tombstone until its version is `TOMBSTONE`
//! old; nothing takes that long between two shards.
//!
//! Topics are kept in one ordered map. SUBSCRIBE asks the other way round, for the topics a
//! filter matches; with the level separator sorted before every character that a name may
//! have, all topics beneath a level are neighbours, and a wildcard is a range:
//!
//! ```text
//!   site · site/1 · site/1/x · site/2 · site! · site!/1         (not: site · site! · site/1)
//!   site/#  =  [site]  [site/ .. )            site/+/x  =  seek site/1, site/2, …
//! ```
//!
//! What it does not do: bound itself. Who publishes asks `bytes()` first.
//!
//! Invariants: `bytes` and `count` are the sums over the entries; an entry is refused only
//! for a later version.

use crate::base::clock::Instant;
use crate::base::id::ShardId;
use crate::base::limits::NAME_BYTES_MAX;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;

/// How long a cleared topic refuses messages that were published before that.
pub const TOMBSTONE: Duration = Duration::from_secs(10);

/// Bytes an entry costs besides topic and message: its place in the map and its allocation.
const ENTRY_BYTES: usize = 144;

/// Messages retained between two sweeps, each over twice as many entries: what is past
/// goes faster than anything can come.
const SWEEP_INTERVAL: usize = 16;

/// The level separator in a key: below every character of a name.
const SEPARATOR: u8 = 1;
/// Above the separator, below every character of a name.
const BEYOND: u8 = 2;

/// When a message was published, and where: the later one is the one that stays. Equal
/// versions are of one shard, which tells them in order: the last one told stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub at: Instant,
    pub shard: ShardId,
}

/// What is kept of a topic: its last retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub message: Bytes,
    /// The same message in another codec, where whoever publishes it can make one.
    pub translated: Option<Bytes>,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.message.len() + self.translated.as_ref().map_or(0, Bytes::len)
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

struct Entry {
    version: Version,
    /// Past this there is no message any more.
    expires: Instant,
    /// Without one, it is a tombstone.
    message: Option<Kept>,
}

#[derive(Default)]
pub struct Retained {
    entries: BTreeMap<Box<[u8]>, Entry>,
    bytes: usize,
    count: usize,
    /// Where the sweep goes on.
    swept: Vec<u8>,
    retained_since_sweep: usize,
}

impl Retained {
    /// Bytes of memory that the entries take, tombstones included; near enough to bound it.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Topics that have a message, or had one and nobody has noticed that it has expired.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Keeps a message for its topic, or clears the topic. False: a later version is there.
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
        match self.entries.get_mut(key) {
            Some(old) if old.version > version => return false,
            Some(old) => {
                self.bytes -= self::cost(key, old);
                self.count -= usize::from(old.message.is_some());
                *old = entry;
            }
            None => drop(self.entries.insert(key.into(), entry)),
        }
        self.bytes += cost;
        self.count += live;
        true
    }

    /// Calls `each` with the messages, and when they expire, of all topics that the filter
    /// matches, in the order of the topics' levels. What has expired is removed.
    pub fn matching(&mut self, filter: &str, now: Instant, mut each: impl FnMut(&Kept, Instant)) {
        let mut past = Vec::new();
        let mut walk = Walk {
            entries: &self.entries,
            prefix: Vec::new(),
            each: |key: &[u8], entry: &Entry| match &entry.message {
                Some(message) if entry.expires > now => each(message, entry.expires),
                _ => past.push(Box::from(key)),
            },
        };
        walk.descend(Some(filter));
        for key in past {
            self.bury(&key, now);
        }
    }

    /// Looks at the next `count` entries, all in turn, and removes what is past. Called for
    /// each message retained; when none comes any more, a timer may call it.
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
        // At the end it begins again from the start.
        self.swept.clear();
        self.swept.extend_from_slice(last.map_or(&[], |key| key));
        for key in past {
            self.bury(&key, now);
        }
    }

    /// Drops the message of an entry that is past, and the entry when its time has come.
    fn bury(&mut self, key: &[u8], now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if !entry.is_past(now) {
            return;
        }
        self.bytes -= cost(key, entry);
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

/// A topic as a key. Longer than a name may be, it would be cut; `proto::name` sees to that.
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

/// A walk over the topics a filter matches.
struct Walk<'a, F> {
    entries: &'a BTreeMap<Box<[u8]>, Entry>,
    /// The key of the levels so far.
    prefix: Vec<u8>,
    each: F,
}

impl<F: FnMut(&[u8], &Entry)> Walk<'_, F> {
    fn descend(&mut self, filter: Option<&str>) {
        let Some(filter) = filter else {
            return self.visit();
        };
        let (level, rest) = match filter.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (filter, None),
        };
        let depth = self.prefix.len();
        if level == "#" {
            self.visit();
            self.beneath();
            return;
        }
        if depth > 0 {
            self.prefix.push(SEPARATOR);
        }
        if level == "+" {
            self.each_level(rest);
        } else {
            self.prefix.extend_from_slice(level.as_bytes());
            self.descend(rest);
        }
        self.prefix.truncate(depth);
    }

    /// The topic that the prefix is, if there is one.
    fn visit(&mut self) {
        if let Some(entry) = self.entries.get(&*self.prefix) {
            (self.each)(&self.prefix, entry);
        }
    }

    /// All topics beneath the prefix; from the root, all but the server's own.
    fn beneath(&mut self) {
        let mut from = self.prefix.clone();
        let mut to = self.prefix.clone();
        if from.is_empty() {
            let entries = self.entries.iter();
            for (key, entry) in entries.filter(|(key, _)| !key.starts_with(b"$")) {
                (self.each)(key, entry);
            }
            return;
        }
        from.push(SEPARATOR);
        to.push(BEYOND);
        let range = (Included(&*from), Excluded(&*to));
        for (key, entry) in self.entries.range::<[u8], _>(range) {
            (self.each)(key, entry);
        }
    }

    /// Goes on with each level that there is beneath the prefix, which ends in a separator
    /// or is empty.
    fn each_level(&mut self, rest: Option<&str>) {
        let depth = self.prefix.len();
        let mut seek = self.prefix.clone();
        loop {
            let range = (Included(&*seek), Unbounded);
            let Some((key, _)) = self.entries.range::<[u8], _>(range).next() else {
                break;
            };
            let Some(beneath) = key.strip_prefix(&*self.prefix) else {
                break;
            };
            let end = beneath.iter().position(|byte| *byte == SEPARATOR);
            let level = &beneath[..end.unwrap_or(beneath.len())];
            if depth > 0 || !level.starts_with(b"$") {
                self.prefix.extend_from_slice(level);
                self.descend(rest);
            }
            seek.truncate(depth);
            seek.extend_from_slice(level);
            seek.push(BEYOND);
            self.prefix.truncate(depth);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::name::matches;
    use proptest::prelude::*;

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

    fn found(retained: &mut Retained, filter: &str, now: Instant) -> Vec<Bytes> {
        let mut found = Vec::new();
        retained.matching(filter, now, |kept, _| found.push(kept.message.clone()));
        retained.check_invariants();
        found
    }

    #[test]
    fn the_last_version_wins_in_whatever_order_it_is_told() {
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
    fn of_equal_versions_the_one_told_last_stays() {
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
        retained.matching("a/+", second(1), |_, expires| expiries.push(expires));
        assert_eq!(expiries, [second(2)]);
        assert!(retained.bytes() > 1000);
        assert!(found(&mut retained, "a/+", second(2)).is_empty());
        assert_eq!(retained.count(), 0);
        assert!(retained.bytes() < 1000);
        assert!(found(&mut retained, "a/+", second(11)).is_empty());
        assert_eq!(retained.bytes(), 0);
    }

    #[test]
    fn what_nobody_asks_for_is_swept_away_by_those_that_come() {
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
        // It begins somewhere, and notices the end once.
        for _ in 0..6000 / 100 + 2 {
            retained.sweep(second(40), 100);
        }
        assert_eq!((retained.entries.len(), retained.bytes()), (0, 0));
    }

    #[test]
    fn the_servers_own_topics_are_hidden_from_a_leading_wildcard() {
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

    fn name(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
        let level = prop::sample::select(levels);
        prop::collection::vec(level, 1..5).prop_map(|levels| levels.join("/"))
    }

    proptest! {
        #[test]
        fn a_filter_finds_the_topics_it_matches(
            // `!` and `.` sort before the separator of names, `0` right after it.
            topics in prop::collection::btree_set(name(&["a", "a!", "a.", "a0", "$b", "ü"]), 0..40),
            filters in prop::collection::vec(
                (name(&["a", "+", "a!", "+", "$b", "ü"]), any::<bool>()), 10),
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
                prop_assert_eq!(found(&mut retained, &filter, second(1)), wanted, "{}", filter);
            }
        }
    }
}
