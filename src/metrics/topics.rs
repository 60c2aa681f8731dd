//! The busiest topics of a shard, in memory that does not grow with their number.
//!
//! ```text
//!   PUBLISH ─► one in n ─► sketch of this minute ─┐
//!                          sketch of the last one ┴─► merged, over all shards ─► GET /topics
//! ```
//!
//! **Sketch.** Space-Saving (Metwally, Agrawal, El Abbadi, 2005): a count for each of a few
//! hundred topics. A topic without a count replaces the one with the lowest, and continues from
//! that count, which becomes its error. So a count is never too low, and too high by at most its
//! error; every topic more frequent than one in the number of counts is included. Everything is
//! inline, and a lookup scans adjacent hashes: two kilobytes, which is faster than maintaining a
//! table.
//!
//! **Sampling.** A publish costs a decrement. The first thousand of a minute are all counted; then
//! one in 2, in 4, up to one in [`STRIDE_MAX`], at random distances, because publishers may take
//! turns: every 64th message of 64 devices could come from the same device. A sample counts for all
//! messages since the previous one.
//!
//! **Forgetting.** The answer covers this minute and the last one, so that a topic that was busy
//! yesterday does not hide one that is busy now. The minutes are those of the shards' common
//! clock, so all shards report the same time.

use crate::base::clock::Instant;
use crate::base::limits::NAME_BYTES_MAX;
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::time::Duration;

/// Topics that a shard counts in each of its two windows.
const TOPICS_MAX: usize = 256;
/// One window.
const WINDOW: Duration = Duration::from_secs(60);
/// The number of samples after which the sampling rate is halved.
const SAMPLES_PER_STRIDE: u32 = 1024;
/// The largest average number of publishes from one sample to the next.
pub const STRIDE_MAX: u32 = 64;

#[derive(Clone, Copy)]
struct Name {
    len: u8,
    bytes: [u8; NAME_BYTES_MAX],
}

impl Name {
    /// `None` if the topic is longer than a name may be.
    fn of(topic: &str) -> Option<Name> {
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes
            .get_mut(..topic.len())?
            .copy_from_slice(topic.as_bytes());
        let len = u8::try_from(topic.len()).ok()?;
        Some(Name { len, bytes })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Counts of the most frequent of many topics. See the module's head.
///
/// Invariants: the four tables have the same length; the counts sum to the weights added; each
/// topic has at most one count.
#[derive(Clone)]
pub struct Sketch {
    hashes: Vec<u64>,
    counts: Vec<u64>,
    errors: Vec<u64>,
    names: Vec<Name>,
    topics_max: usize,
}

impl Sketch {
    /// A sketch of this many topics, at least one. Allocates nothing later.
    pub fn new(topics_max: usize) -> Sketch {
        let topics_max = topics_max.max(1);
        Sketch {
            hashes: Vec::with_capacity(topics_max),
            counts: Vec::with_capacity(topics_max),
            errors: Vec::with_capacity(topics_max),
            names: Vec::with_capacity(topics_max),
            topics_max,
        }
    }

    /// Counts `weight` messages on a topic.
    pub fn add(&mut self, topic: &str, weight: u64) {
        let hash = FixedState::with_seed(0).hash_one(topic);
        if let Some(at) = self.find(hash, topic) {
            self.counts[at] += weight;
            return;
        }
        let Some(name) = Name::of(topic) else {
            debug_assert!(false, "topics are checked before they are routed");
            return;
        };
        if self.counts.len() < self.topics_max {
            self.hashes.push(hash);
            self.counts.push(weight);
            self.errors.push(0);
            self.names.push(name);
            return;
        }
        let least = self
            .counts
            .iter()
            .enumerate()
            .min_by_key(|&(_, count)| count);
        let Some((at, &error)) = least else { return };
        self.hashes[at] = hash;
        self.counts[at] = error + weight;
        self.errors[at] = error;
        self.names[at] = name;
    }

    fn find(&self, hash: u64, topic: &str) -> Option<usize> {
        let mut hashes = self.hashes.iter().enumerate();
        hashes
            .find(|&(at, &one)| one == hash && self.names[at].as_bytes() == topic.as_bytes())
            .map(|(at, _)| at)
    }

    /// The most that a topic which is not in the sketch may have been counted for.
    fn floor(&self) -> u64 {
        match self.counts.len() < self.topics_max {
            true => 0,
            false => self.counts.iter().copied().min().unwrap_or(0),
        }
    }

    fn clear(&mut self) {
        self.hashes.clear();
        self.counts.clear();
        self.errors.clear();
        self.names.clear();
    }
}

/// How busy a topic was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    pub topic: String,
    /// Never fewer than were counted.
    pub messages: u64,
    /// By how much `messages` may be too high.
    pub error: u64,
}

/// The `most` busiest topics of several sketches together, the busiest first.
pub fn merge<'a>(sketches: impl IntoIterator<Item = &'a Sketch>, most: usize) -> Vec<Busy> {
    let mut floors = 0;
    // Counts beyond the floors: a topic that is not in a sketch counts with the sketch's floor.
    let mut beyond: HashMap<&[u8], (u64, i128)> = HashMap::new();
    for sketch in sketches {
        let floor = sketch.floor();
        floors += floor;
        for (at, name) in sketch.names.iter().enumerate() {
            let (count, error) = beyond.entry(name.as_bytes()).or_default();
            *count += sketch.counts[at] - floor;
            *error += i128::from(sketch.errors[at]) - i128::from(floor);
        }
    }
    let busy = |(name, (count, error)): (&[u8], (u64, i128))| Busy {
        topic: String::from_utf8_lossy(name).into_owned(),
        messages: floors + count,
        // Cannot be negative: each sketch subtracts at most the floor it added.
        error: u64::try_from(i128::from(floors) + error).unwrap_or(0),
    };
    let mut all: Vec<Busy> = beyond.into_iter().map(busy).collect();
    all.sort_unstable_by(|a, b| b.messages.cmp(&a.messages).then(a.topic.cmp(&b.topic)));
    all.truncate(most);
    all
}

/// What a shard reports of its topics.
#[derive(Clone)]
pub struct Tally {
    /// The sketches of this window and the last one.
    pub sketches: [Sketch; 2],
    /// Messages published in that time, including those between samples.
    pub messages: u64,
    /// The current average number of publishes per sample.
    pub stride: u32,
    /// How long that time is.
    pub covered: Duration,
}

/// Samples a shard's publishes. See the module's head.
pub struct Topics {
    /// Publishes to the next sample.
    left: u32,
    /// Publishes from the last sample to the next.
    gap: u32,
    stride: u32,
    /// Samples taken at this stride.
    samples: u32,
    random: fastrand::Rng,
    started: Instant,
    /// The number of the window, counted by the clock.
    window: u64,
    this: Window,
    last: Window,
}

struct Window {
    sketch: Sketch,
    messages: u64,
}

impl Window {
    fn new() -> Window {
        Window {
            sketch: Sketch::new(TOPICS_MAX),
            messages: 0,
        }
    }

    fn clear(&mut self) {
        self.sketch.clear();
        self.messages = 0;
    }
}

fn window_of(now: Instant) -> u64 {
    now.as_nanos() / WINDOW.as_nanos() as u64
}

impl Topics {
    /// Bytes of memory, for the memory budget.
    pub const BYTES: usize = 2 * TOPICS_MAX * (3 * size_of::<u64>() + size_of::<Name>());

    pub fn new(seed: u64, now: Instant) -> Topics {
        Topics {
            left: 1,
            gap: 1,
            stride: 1,
            samples: 0,
            random: fastrand::Rng::with_seed(seed),
            started: now,
            window: window_of(now),
            this: Window::new(),
            last: Window::new(),
        }
    }

    /// Records a publish.
    #[inline]
    pub fn note(&mut self, topic: &str, now: Instant) {
        self.left -= 1;
        if self.left == 0 {
            self.sample(topic, now);
        }
    }

    #[inline(never)]
    fn sample(&mut self, topic: &str, now: Instant) {
        self.roll(now);
        self.this.sketch.add(topic, u64::from(self.gap));
        self.this.messages += u64::from(self.gap);
        self.samples += 1;
        if self.samples >= SAMPLES_PER_STRIDE && self.stride < STRIDE_MAX {
            (self.stride, self.samples) = (self.stride * 2, 0);
        }
        self.gap = self.random.u32(1..2 * self.stride);
        self.left = self.gap;
    }

    /// Begins another window if the current one is over.
    fn roll(&mut self, now: Instant) {
        let window = window_of(now);
        if window <= self.window {
            return;
        }
        std::mem::swap(&mut self.this, &mut self.last);
        self.this.clear();
        if window > self.window + 1 {
            self.last.clear();
        }
        self.window = window;
        (self.stride, self.samples) = (1, 0);
    }

    /// The busiest topics of this window and the last one.
    pub fn tally(&mut self, now: Instant) -> Tally {
        self.roll(now);
        let into_window = Duration::from_nanos(now.as_nanos() % WINDOW.as_nanos() as u64);
        Tally {
            sketches: [self.this.sketch.clone(), self.last.sketch.clone()],
            messages: self.this.messages + self.last.messages + u64::from(self.gap - self.left),
            stride: self.stride,
            covered: now.since(self.started).min(WINDOW + into_window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn exact(stream: &[(u8, u8)]) -> HashMap<String, u64> {
        let mut exact = HashMap::new();
        for &(topic, weight) in stream {
            *exact.entry(format!("t/{topic}")).or_default() += u64::from(weight);
        }
        exact
    }

    fn sketch(stream: &[(u8, u8)], topics_max: usize) -> Sketch {
        let mut sketch = Sketch::new(topics_max);
        for &(topic, weight) in stream {
            sketch.add(&format!("t/{topic}"), u64::from(weight));
        }
        sketch
    }

    fn stream() -> impl Strategy<Value = Vec<(u8, u8)>> {
        // Some topics are far busier than others.
        let topic = prop_oneof![0u8..4, 0u8..40, any::<u8>()];
        prop::collection::vec((topic, 1u8..20), 0..600)
    }

    proptest! {
        #[test]
        fn no_count_is_too_low_nor_too_high_by_more_than_its_error(
            stream in stream(), topics_max in 1usize..60,
        ) {
            let (sketch, exact) = (sketch(&stream, topics_max), exact(&stream));
            let sum: u64 = exact.values().sum();
            prop_assert_eq!(sketch.counts.iter().sum::<u64>(), sum);
            prop_assert!(sketch.counts.len() <= topics_max);
            for busy in merge([&sketch], usize::MAX) {
                let count = exact[&busy.topic];
                prop_assert!(count <= busy.messages, "{busy:?}: {count}");
                prop_assert!(busy.messages - busy.error <= count, "{busy:?}: {count}");
            }
            // Every topic with more than its share of all messages is present.
            for (topic, &count) in &exact {
                let found = sketch.find(FixedState::with_seed(0).hash_one(topic.as_str()), topic);
                prop_assert!(found.is_some() || count <= sum / topics_max as u64);
            }
        }

        #[test]
        fn merged_sketches_keep_the_bounds_of_each(
            streams in prop::collection::vec(stream(), 0..4), topics_max in 1usize..60,
        ) {
            let sketches: Vec<Sketch> =
                streams.iter().map(|stream| sketch(stream, topics_max)).collect();
            let exact = exact(&streams.concat());
            let all = merge(&sketches, usize::MAX);
            prop_assert!(all.is_sorted_by(|a, b| a.messages >= b.messages));
            for busy in &all {
                let count = exact[&busy.topic];
                prop_assert!(count <= busy.messages, "{busy:?}: {count}");
                prop_assert!(busy.messages - busy.error <= count, "{busy:?}: {count}");
            }
            if topics_max > exact.len() {
                prop_assert_eq!(all.len(), exact.len());
                prop_assert!(all.iter().all(|busy| busy.error == 0));
            }
            prop_assert_eq!(&merge(&sketches, 3)[..], &all[..all.len().min(3)]);
        }
    }

    #[test]
    fn the_first_of_a_window_are_counted_one_by_one() {
        let mut topics = Topics::new(1, at(0));
        for number in 0..1000 {
            topics.note(["a", "b", "b", "c"][number % 4], at(1));
        }
        let tally = topics.tally(at(2));
        assert_eq!((tally.messages, tally.stride), (1000, 1));
        assert_eq!(tally.covered, Duration::from_secs(2));
        let all = merge(&tally.sketches, 2);
        let busy = |topic: &str, messages| Busy {
            topic: topic.to_owned(),
            messages,
            error: 0,
        };
        assert_eq!(all, [busy("b", 500), busy("a", 250)]);
    }

    #[test]
    fn many_publishes_are_sampled_and_alternating_publishers_all_appear() {
        let mut topics = Topics::new(2, at(0));
        let names: Vec<String> = (0..64).map(|device| format!("device/{device}")).collect();
        const COUNT: usize = 1_000_000;
        for number in 0..COUNT {
            topics.note(&names[number % names.len()], at(1));
        }
        let tally = topics.tally(at(1));
        assert_eq!((tally.messages, tally.stride), (COUNT as u64, STRIDE_MAX));
        let all = merge(&tally.sketches, usize::MAX);
        assert_eq!(all.len(), names.len());
        let share = COUNT as u64 / names.len() as u64;
        for busy in &all {
            // Some 220 samples of each: half off would be seven standard deviations.
            assert!(busy.messages > share / 2, "{busy:?}");
            assert!(busy.messages < share * 2, "{busy:?}");
        }
    }

    #[test]
    fn only_this_window_and_the_last_are_reported() {
        let mut topics = Topics::new(3, at(30));
        let told = |topics: &mut Topics, now: Instant| {
            let tally = topics.tally(now);
            let all = merge(&tally.sketches, usize::MAX);
            let names: Vec<String> = all.into_iter().map(|busy| busy.topic).collect();
            (names.join(" "), tally.messages, tally.covered.as_secs())
        };
        assert_eq!(told(&mut topics, at(31)), (String::new(), 0, 1));
        topics.note("first", at(40));
        topics.note("first", at(59));
        assert_eq!(told(&mut topics, at(59)), ("first".to_owned(), 2, 29));
        topics.note("second", at(61));
        assert_eq!(
            told(&mut topics, at(90)),
            ("first second".to_owned(), 3, 60)
        );
        assert_eq!(told(&mut topics, at(125)), ("second".to_owned(), 1, 65));
        topics.note("third", at(130));
        // Nothing came for more than a window.
        assert_eq!(told(&mut topics, at(250)), (String::new(), 0, 70));
    }

    #[test]
    fn a_sketch_never_allocates_again_and_takes_the_longest_topics() {
        let mut sketch = Sketch::new(4);
        let names = sketch.names.as_ptr();
        let long = "x".repeat(NAME_BYTES_MAX);
        for number in 0..100 {
            sketch.add(&long[..NAME_BYTES_MAX - number], 1);
        }
        sketch.clear();
        sketch.add(&long, 1);
        assert_eq!(sketch.names.as_ptr(), names);
        assert_eq!(merge([&sketch], 1)[0].topic, long);
    }
}
