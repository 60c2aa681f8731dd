//! Timers of a shard: one per slab slot, armed, moved and cancelled in constant time.
//!
//! Every connection keeps a deadline that moves with nearly every message and almost never
//! comes due. A heap would pay log n for each move; a wheel unlinks the timer from one list
//! and links it into another.
//!
//! Time is counted in ticks of 2^20 ns (1.05 ms: a shift instead of a division). A tick's number is
//! read in digits of 6 bits, one level of 64 buckets for each digit. A timer is at the level of the
//! **highest digit in which its tick differs from the current one**, in the bucket of that digit:
//!
//! ```text
//!   current tick        … 0 │ 3 │ 12 │ 40        (digits, base 64)
//!
//!   timer for           … 0 │ 3 │ 12 │ 41   ──►  level 0, bucket 41   due in 1 tick
//!   timer for           … 0 │ 3 │ 13 │  7   ──►  level 1, bucket 13   due in 31 ticks
//!   timer for           … 0 │ 5 │  0 │  0   ──►  level 2, bucket  5   due in 7,384 ticks
//!
//!   level 2   [ 0  1  2  3▲ 4  5● …  63 ]     64² ticks a bucket    4.3 s
//!   level 1   [ 0  …  12▲ 13● …      63 ]     64  ticks a bucket    67 ms
//!   level 0   [ 0  …      40▲ 41● …  63 ]      1  tick  a bucket    1 ms
//!                          ▲ current digit     ● timers: always to the right of it
//!   due       [ ● ● ]                         tick ≤ current tick
//! ```
//!
//! Advancing from one tick to another finds the highest digit that changes, at level L:
//!
//! ```text
//!   levels below L            all of it is past            every bucket ──► due
//!   level L, digits between   past                         bucket       ──► due
//!   level L, the new digit    entered: the cascade         each timer   ──► a lower level,
//!                                                                           or due
//!   levels above L            the digits have not changed  nothing
//! ```
//!
//! A bucket goes to the due list whole, by joining two rings. A timer is moved only when its
//! bucket is entered, each time to a lower level, hence at most `LEVELS − 1` times in its
//! life. A bitmap for each level names the buckets that are not empty, so a jump over
//! an hour or a year of nothing costs no more than one over a tick.
//!
//! Ticks have 44 bits, so 8 levels give every instant a place: there is no range beyond which
//! deadlines must be clamped. A timer's list follows from its tick and the current one, so it is
//! not stored, and a timer takes 16 bytes.
//!
//! What it does not do: promise an order among timers that one `advance` makes due; bound a cascade
//! (the timers of one bucket move at once: those of 4.3 s at level 2). A caller whose deadline may
//! be late by some slack should round it up: timers on multiples of 64 ticks wake the shard less
//! often and skip the last cascade.
//!
//! Invariants: an armed timer is in the list that `list_of` gives for its tick, and in no
//! other; in each level only buckets right of the current digit are occupied; a bit in
//! `occupied` is set exactly when its list has a timer.

use crate::base::clock::Instant;
use crate::base::page::Paged;

/// A tick in nanoseconds: the wheel's resolution.
pub const TICK_NANOS: u64 = 1 << TICK_BITS;

const TICK_BITS: u32 = 20;
const DIGIT_BITS: u32 = 6;
const BUCKETS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = (u64::BITS - TICK_BITS).div_ceil(DIGIT_BITS) as usize;

/// Lists are numbered level by level, the list of due timers last. Level and bucket, or
/// word and bit in `occupied`, are a list number's upper and lower digits.
const DUE: usize = LEVELS * BUCKETS;

/// No timer: the head of an empty list. A slab has no such slot.
const NONE: u32 = u32::MAX;
/// The tick of a timer that is not armed: beyond every instant's.
const UNARMED: u64 = u64::MAX;

/// A timer, linked into a ring of those in the same list. `prev` and `next` mean nothing
/// while it is unarmed.
#[derive(Clone, Copy)]
struct Node {
    tick: u64,
    prev: u32,
    next: u32,
}

const _: () = assert!(size_of::<Node>() == 16);

/// One timer for each slot of a slab. See the module's head.
pub struct Wheel {
    /// The current tick: that of the last `advance`.
    tick: u64,
    /// Which lists are not empty: a word for each level, and one bit for `DUE`.
    occupied: [u64; LEVELS + 1],
    /// The first timer of each list, or `NONE`; the last is its `prev`.
    heads: [u32; DUE + 1],
    nodes: Paged<Node>,
    /// Timers that cascades have moved: what idle timers cost.
    #[cfg(test)]
    moved_count: u64,
}

impl Wheel {
    /// An empty wheel at time `now`. Allocates nothing yet.
    pub const fn new(now: Instant) -> Wheel {
        Wheel {
            tick: now.as_nanos() >> TICK_BITS,
            occupied: [0; LEVELS + 1],
            heads: [NONE; DUE + 1],
            nodes: Paged::new(),
            #[cfg(test)]
            moved_count: 0,
        }
    }

    pub fn is_armed(&self, slot: u32) -> bool {
        self.tick_of(slot) != UNARMED
    }

    /// When the timer of `slot` comes due: the deadline it was given, rounded up to a tick.
    pub fn deadline(&self, slot: u32) -> Option<Instant> {
        match self.tick_of(slot) {
            UNARMED => None,
            tick => Some(instant(tick)),
        }
    }

    /// Until when the caller may sleep: never later than the earliest timer, and always a
    /// time that, given to `advance`, makes a timer due or brings it a level nearer. When
    /// timers are due already it is the wheel's current time, which is past.
    pub fn next_due(&self) -> Option<Instant> {
        if self.occupied[LEVELS] != 0 {
            return Some(instant(self.tick));
        }
        // The lower the level, the more digits a timer shares with the current tick.
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        let bucket = u64::from(self.occupied[level].trailing_zeros());
        let shift = level as u32 * DIGIT_BITS;
        let above = self.tick >> (shift + DIGIT_BITS) << DIGIT_BITS;
        Some(instant((above | bucket) << shift))
    }

    /// Sets the timer of `slot` to `at`, whether it was armed or not. A time that has
    /// passed is due at once; `Instant::NEVER` cancels, and so does the last tick before
    /// it, which cannot be rounded up.
    ///
    /// Allocates memory for all slots up to this one: slots are those of a slab, hence dense.
    pub fn arm(&mut self, slot: u32, at: Instant) {
        let Some(nanos) = at.as_nanos().checked_add(TICK_NANOS - 1) else {
            return self.cancel(slot);
        };
        debug_assert_ne!(slot, NONE, "a slab has no such slot");
        while self.nodes.len() <= u64::from(slot) {
            self.nodes.add_page(|_| Node {
                tick: UNARMED,
                prev: NONE,
                next: NONE,
            });
        }
        let tick = nanos >> TICK_BITS;
        let tick_before = self.nodes[slot].tick;
        // Common: a busy connection moves its deadline many times within a tick.
        if tick == tick_before {
            return;
        }
        if tick_before != UNARMED {
            self.unlink(slot);
        }
        self.nodes[slot].tick = tick;
        self.link(slot);
    }

    /// Disarms the timer of `slot`, if it is armed; also when it is due already.
    pub fn cancel(&mut self, slot: u32) {
        if self.is_armed(slot) {
            self.unlink(slot);
            self.nodes[slot].tick = UNARMED;
        }
    }

    /// Moves the wheel to `now`, which makes timers due; `pop_due` hands them out. A time
    /// before the current one is ignored.
    pub fn advance(&mut self, now: Instant) {
        let tick = now.as_nanos() >> TICK_BITS;
        if tick <= self.tick {
            return;
        }
        let level_entered = level_of(self.tick, tick);
        self.tick = tick;
        for level in 0..level_entered {
            self.expire(level, self.occupied[level]);
        }
        let bit = 1 << digit(tick, level_entered);
        self.expire(level_entered, self.occupied[level_entered] & (bit - 1));
        if self.occupied[level_entered] & bit != 0 {
            self.cascade(level_entered * BUCKETS + digit(tick, level_entered));
        }
    }

    /// Takes one due timer, longest due first, and disarms it. Those not taken stay due, so
    /// a caller may stop after some and go on in its next turn. One that is armed again for
    /// a time that has passed comes again: a caller that does so must bound its loop.
    pub fn pop_due(&mut self) -> Option<u32> {
        let slot = self.heads[DUE];
        if slot == NONE {
            return None;
        }
        self.unlink(slot);
        self.nodes[slot].tick = UNARMED;
        Some(slot)
    }

    fn tick_of(&self, slot: u32) -> u64 {
        self.nodes.get(slot).map_or(UNARMED, |node| node.tick)
    }

    /// The list of a timer for `tick` while the wheel is at its current tick.
    fn list_of(&self, tick: u64) -> usize {
        if tick <= self.tick {
            return DUE;
        }
        let level = level_of(self.tick, tick);
        level * BUCKETS + digit(tick, level)
    }

    /// Moves the timers of the named buckets to the due list, whole buckets at a time.
    fn expire(&mut self, level: usize, buckets: u64) {
        let mut rest = buckets;
        while rest != 0 {
            let head = self.take(level * BUCKETS + rest.trailing_zeros() as usize);
            self.join(head, DUE);
            rest &= rest - 1;
        }
    }

    /// Distributes the timers of a bucket that has been entered to lower levels.
    fn cascade(&mut self, list: usize) {
        // At level 0 all timers of a bucket have the same tick, which is now.
        if list < BUCKETS {
            return self.expire(0, 1 << list);
        }
        let head = self.take(list);
        let last = self.nodes[head].prev;
        let mut slot = head;
        loop {
            let next = self.nodes[slot].next;
            self.link(slot);
            #[cfg(test)]
            {
                self.moved_count += 1;
            }
            if slot == last {
                break;
            }
            slot = next;
        }
    }

    /// Empties a list that is not empty and returns the ring it held.
    fn take(&mut self, list: usize) -> u32 {
        self.occupied[list / BUCKETS] &= !(1 << (list % BUCKETS));
        std::mem::replace(&mut self.heads[list], NONE)
    }

    /// Appends the timer of `slot` to the list of its tick.
    fn link(&mut self, slot: u32) {
        let node = &mut self.nodes[slot];
        (node.prev, node.next) = (slot, slot);
        let tick = node.tick;
        self.join(slot, self.list_of(tick));
    }

    /// Appends a ring of timers to a list:
    ///
    /// ```text
    ///   head … tail ─┐   first … last ─┐         head … tail first … last ─┐
    ///     ▲──────────┘     ▲───────────┘   ──►     ▲───────────────────────┘
    /// ```
    fn join(&mut self, first: u32, list: usize) {
        let head = self.heads[list];
        if head == NONE {
            self.heads[list] = first;
            self.occupied[list / BUCKETS] |= 1 << (list % BUCKETS);
            return;
        }
        let (tail, last) = (self.nodes[head].prev, self.nodes[first].prev);
        self.nodes[tail].next = first;
        self.nodes[first].prev = tail;
        self.nodes[last].next = head;
        self.nodes[head].prev = last;
    }

    /// Takes an armed timer out of its list.
    fn unlink(&mut self, slot: u32) {
        let Node { tick, prev, next } = self.nodes[slot];
        let list = self.list_of(tick);
        if next == slot {
            debug_assert_eq!(self.heads[list], slot, "a ring of one is its list's head");
            self.take(list);
            return;
        }
        self.nodes[prev].next = next;
        self.nodes[next].prev = prev;
        if self.heads[list] == slot {
            self.heads[list] = next;
        }
    }
}

/// The level of the highest digit in which two ticks differ; 0 when they do not.
const fn level_of(a: u64, b: u64) -> usize {
    ((a ^ b | 1).ilog2() / DIGIT_BITS) as usize
}

const fn digit(tick: u64, level: usize) -> usize {
    (tick >> (level as u32 * DIGIT_BITS)) as usize % BUCKETS
}

/// The moment a tick begins.
const fn instant(tick: u64) -> Instant {
    Instant::from_nanos(tick << TICK_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    const START: Instant = Instant::from_nanos(123_456_789_012_345);
    const TICK: Duration = Duration::from_nanos(TICK_NANOS);

    fn drain(wheel: &mut Wheel) -> Vec<u32> {
        let mut slots: Vec<u32> = std::iter::from_fn(|| wheel.pop_due()).collect();
        slots.sort_unstable();
        slots
    }

    /// The invariants of the module's head, and the number of timers.
    fn check_invariants(wheel: &Wheel) -> usize {
        let mut count = 0;
        for (list, &head) in wheel.heads.iter().enumerate() {
            let bit = wheel.occupied[list / BUCKETS] >> (list % BUCKETS) & 1;
            assert_eq!(bit == 1, head != NONE, "list {list}");
            if head == NONE {
                continue;
            }
            if list != DUE {
                let (level, bucket) = (list / BUCKETS, list % BUCKETS);
                assert!(bucket > digit(wheel.tick, level), "level {level}");
            }
            let mut slot = head;
            loop {
                let node = wheel.nodes[slot];
                assert_eq!(wheel.list_of(node.tick), list, "slot {slot}");
                assert_eq!(wheel.nodes[node.next].prev, slot);
                count += 1;
                slot = node.next;
                if slot == head {
                    break;
                }
            }
        }
        let armed = wheel.nodes.iter().filter(|(_, node)| node.tick != UNARMED);
        assert_eq!(armed.count(), count);
        count
    }

    #[test]
    fn a_timer_is_never_early_and_at_most_one_tick_late() {
        for nanos in [
            1,
            2,
            TICK_NANOS - 1,
            TICK_NANOS,
            TICK_NANOS + 1,
            1 << 40,
            (1 << 41) + 7,
        ] {
            let at = START + Duration::from_nanos(nanos);
            let mut wheel = Wheel::new(START);
            wheel.arm(3, at);
            let due = wheel.deadline(3).unwrap();
            assert!(due >= at && due < at + TICK);
            wheel.advance(Instant::from_nanos(at.as_nanos() - 1));
            assert_eq!(wheel.pop_due(), None, "{nanos} ns");
            wheel.advance(Instant::from_nanos(due.as_nanos() - 1));
            assert_eq!(wheel.pop_due(), None, "{nanos} ns");
            wheel.advance(due);
            assert_eq!(wheel.pop_due(), Some(3), "{nanos} ns");
            assert_eq!(wheel.pop_due(), None);
            assert!(!wheel.is_armed(3));
        }
    }

    #[test]
    fn a_deadline_that_has_passed_is_due_at_once() {
        let mut wheel = Wheel::new(START);
        wheel.arm(0, Instant::ZERO);
        assert!(wheel.next_due().unwrap() <= START);
        assert_eq!(wheel.pop_due(), Some(0));
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn arming_again_moves_the_timer_also_out_of_the_due_ones() {
        let mut wheel = Wheel::new(START);
        wheel.arm(0, START + HOUR);
        wheel.arm(0, START + TICK);
        wheel.advance(START + TICK * 2);
        wheel.arm(0, START + HOUR);
        assert_eq!(wheel.pop_due(), None);
        assert_eq!(check_invariants(&wheel), 1);
        wheel.advance(START + HOUR + TICK);
        assert_eq!(drain(&mut wheel), [0]);
    }

    #[test]
    fn a_cancelled_timer_does_not_fire_whether_due_or_not() {
        let mut wheel = Wheel::new(START);
        wheel.arm(0, START + TICK);
        wheel.arm(1, START + HOUR);
        wheel.arm(2, START + TICK);
        wheel.arm(3, START + HOUR);
        wheel.cancel(1);
        wheel.arm(3, Instant::NEVER);
        wheel.advance(START + TICK * 2);
        wheel.cancel(0);
        wheel.cancel(0);
        wheel.cancel(1_000_000);
        assert_eq!(wheel.deadline(1), None);
        assert_eq!(check_invariants(&wheel), 1);
        wheel.advance(START + YEAR);
        assert_eq!(drain(&mut wheel), [2]);
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn timers_may_be_armed_while_due_ones_are_drained() {
        let mut wheel = Wheel::new(START);
        for slot in 0..100 {
            wheel.arm(slot, START + TICK * slot);
        }
        let mut fired = [0; 100];
        for turn in 1..=1000u32 {
            let now = START + TICK * turn;
            wheel.advance(now);
            while let Some(slot) = wheel.pop_due() {
                fired[slot as usize] += 1;
                wheel.arm(slot, now + TICK * 99);
            }
        }
        assert_eq!(check_invariants(&wheel), 100);
        // Once at its start, then every 100 ticks: the 99 rounded up.
        assert!(
            fired.iter().all(|count| (10..=11).contains(count)),
            "{fired:?}"
        );
    }

    #[test]
    fn timers_not_taken_stay_due_and_the_oldest_comes_first() {
        let mut wheel = Wheel::new(START);
        for slot in 0..10 {
            wheel.arm(slot, START + TICK);
        }
        wheel.advance(START + TICK * 2);
        assert!((0..5).all(|slot| wheel.pop_due() == Some(slot)));
        wheel.arm(20, START + TICK * 3);
        wheel.advance(START + TICK * 9);
        assert!(wheel.next_due().unwrap() <= START + TICK * 9);
        assert!((5..10).all(|slot| wheel.pop_due() == Some(slot)));
        assert_eq!(wheel.pop_due(), Some(20));
        assert_eq!(wheel.pop_due(), None);
    }

    #[test]
    fn time_does_not_run_backwards() {
        let mut wheel = Wheel::new(START);
        wheel.arm(0, START + HOUR);
        wheel.advance(Instant::ZERO);
        assert_eq!(wheel.tick, START.as_nanos() >> TICK_BITS);
        assert_eq!(check_invariants(&wheel), 1);
    }

    #[test]
    fn every_instant_has_its_place_up_to_the_last_tick() {
        let last = Instant::from_nanos(u64::MAX >> TICK_BITS << TICK_BITS);
        let mut wheel = Wheel::new(Instant::ZERO);
        wheel.arm(0, last);
        wheel.arm(1, Instant::from_nanos(last.as_nanos() + 1));
        wheel.arm(2, Instant::ZERO + YEAR * 500);
        assert!(wheel.is_armed(0) && !wheel.is_armed(1));
        assert_eq!(check_invariants(&wheel), 2);
        wheel.advance(Instant::from_nanos(last.as_nanos() - 1));
        assert_eq!(drain(&mut wheel), [2]);
        wheel.advance(Instant::NEVER);
        assert_eq!(drain(&mut wheel), [0]);
    }

    #[test]
    fn sleeping_until_next_due_reaches_each_timer_in_a_few_steps() {
        for shift in 0..63 {
            let mut wheel = Wheel::new(START);
            let at = START + Duration::from_nanos(1 << shift);
            wheel.arm(0, at);
            let mut steps = 0;
            while let Some(wake) = wheel.next_due() {
                assert!(wake <= wheel.deadline(0).unwrap());
                wheel.advance(wake);
                steps += 1;
                assert!(steps <= LEVELS, "{steps} steps for 2^{shift} ns");
                if wheel.pop_due().is_some() {
                    assert!(wake >= at && wake < at + TICK);
                    break;
                }
            }
            assert!(
                (1..=LEVELS).contains(&steps),
                "{steps} steps for 2^{shift} ns"
            );
        }
    }

    #[test]
    fn a_million_idle_timers_cost_nothing_but_their_cascades() {
        let timer_count = 1_000_000u32;
        let mut wheel = Wheel::new(Instant::ZERO);
        // Heartbeats of 30 s, spread over as long: between 2^14 and 2^16 ticks away.
        for slot in 0..timer_count {
            let jitter = u64::from(slot) * 30_000;
            wheel.arm(slot, Instant::from_nanos(30_000_000_000 + jitter));
        }
        // Within one bucket of level 2, through 64 turns of level 0: none is touched.
        for tick in 0..4096 {
            wheel.advance(instant(tick));
            assert_eq!(wheel.pop_due(), None);
        }
        assert_eq!(wheel.moved_count, 0);
        let mut due_count = 0;
        for tick in 4096..=(60_000_000_000 >> TICK_BITS) + 1 {
            wheel.advance(instant(tick));
            while wheel.pop_due().is_some() {
                due_count += 1;
            }
        }
        assert_eq!(due_count, timer_count);
        // At most from level 2 to 1 and from 1 to 0.
        assert!(wheel.moved_count <= 2 * u64::from(timer_count));
    }

    #[test]
    fn a_jump_over_everything_touches_no_timer() {
        let mut wheel = Wheel::new(START);
        for slot in 0..10_000 {
            wheel.arm(slot, START + TICK * slot * 50);
        }
        wheel.advance(START + YEAR * 3);
        assert_eq!(wheel.moved_count, 0);
        assert_eq!(check_invariants(&wheel), 10_000);
        assert!(drain(&mut wheel).into_iter().eq(0..10_000));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Arm(u32, i64),
        Cancel(u32),
        Advance(u64),
        Sleep,
        Pop(usize),
    }

    /// Spans of every magnitude, from a nanosecond to about a year.
    fn span() -> impl Strategy<Value = u64> {
        (0u32..55, any::<u64>()).prop_map(|(bits, random)| random & ((1 << bits) - 1))
    }

    fn op() -> impl Strategy<Value = Op> {
        let slot = || prop_oneof![0u32..8, 0u32..600];
        prop_oneof![
            8 => (slot(), span()).prop_map(|(slot, ahead)| Op::Arm(slot, ahead as i64)),
            1 => (slot(), span()).prop_map(|(slot, ago)| Op::Arm(slot, -(ago as i64))),
            2 => slot().prop_map(Op::Cancel),
            3 => span().prop_map(Op::Advance),
            3 => Just(Op::Sleep),
            2 => (0usize..6).prop_map(Op::Pop),
        ]
    }

    /// A wheel beside the map it must agree with: slot to deadline as it was given.
    struct Pair {
        wheel: Wheel,
        model: BTreeMap<u32, Instant>,
        now: Instant,
    }

    impl Pair {
        fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
            match *op {
                Op::Arm(slot, ahead) => {
                    let at = self.now.as_nanos().saturating_add_signed(ahead);
                    self.wheel.arm(slot, Instant::from_nanos(at));
                    self.model.insert(slot, Instant::from_nanos(at));
                }
                Op::Cancel(slot) => {
                    self.wheel.cancel(slot);
                    self.model.remove(&slot);
                }
                Op::Advance(nanos) => {
                    self.now = self.now + Duration::from_nanos(nanos);
                    self.wheel.advance(self.now);
                }
                Op::Sleep => {
                    if let Some(wake) = self.wheel.next_due() {
                        self.now = self.now.max(wake);
                        self.wheel.advance(self.now);
                    }
                }
                Op::Pop(count) => {
                    for _ in 0..count {
                        self.pop()?;
                    }
                }
            }
            Ok(())
        }

        fn pop(&mut self) -> Result<bool, TestCaseError> {
            let Some(slot) = self.wheel.pop_due() else {
                let late = self.model.values().find(|at| **at + TICK <= self.now);
                prop_assert_eq!(late, None, "should be due at {:?}", self.now);
                return Ok(false);
            };
            let at = self.model.remove(&slot);
            prop_assert!(at.is_some(), "{} is not armed", slot);
            prop_assert!(at <= Some(self.now), "{} is early", slot);
            Ok(true)
        }

        fn compare(&self) -> Result<(), TestCaseError> {
            prop_assert_eq!(check_invariants(&self.wheel), self.model.len());
            for (&slot, &at) in &self.model {
                let due = self.wheel.deadline(slot);
                prop_assert!(due >= Some(at) && due < Some(at + TICK));
            }
            let wake = self.wheel.next_due();
            prop_assert_eq!(wake.is_some(), !self.model.is_empty());
            if let Some(wake) = wake {
                let earliest = self.model.values().min().copied().unwrap_or(Instant::NEVER);
                prop_assert!(wake < earliest.max(self.now) + TICK);
                let due = self
                    .model
                    .keys()
                    .filter_map(|slot| self.wheel.deadline(*slot))
                    .min();
                prop_assert!(Some(wake) <= due.max(Some(self.now)), "sleeps too long");
                let idle = self.wheel.heads[DUE] == NONE;
                prop_assert_eq!(wake > self.now, idle, "does not make progress");
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn a_wheel_fires_what_a_map_of_deadlines_says(
            start in 0u64..1 << 60,
            ops in prop::collection::vec(op(), 0..200),
        ) {
            let now = Instant::from_nanos(start);
            let mut pair = Pair { wheel: Wheel::new(now), model: BTreeMap::new(), now };
            for op in &ops {
                pair.apply(op)?;
                pair.compare()?;
            }
            // By sleeping until each next_due, every armed timer fires, in a bounded number of
            // steps.
            for _ in 0..=LEVELS * (ops.len() + 1) {
                pair.apply(&Op::Sleep)?;
                while pair.pop()? {}
            }
            prop_assert!(pair.model.is_empty());
            prop_assert_eq!(check_invariants(&pair.wheel), 0);
        }
    }
}
