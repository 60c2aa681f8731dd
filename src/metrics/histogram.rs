//! Histograms of one shard: recorded privately, swapped out as a whole once a second.
//!
//! The stats thread hands a shard an empty set and gets the full one back, so neither ever
//! waits for the other and nothing is allocated on the shard.

use hdrhistogram::Histogram;
use std::time::Duration;

/// The longest duration recorded as such, in nanoseconds.
const DURATION_NS_MAX: u64 = 60_000_000_000;
/// Significant decimal digits: enough for a percentile, a tenth of the memory of three.
const DIGITS: u8 = 2;

macro_rules! timings {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// What a shard times, in nanoseconds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Timing { $($(#[$doc])* $name,)* }

        impl Timing {
            pub const ALL: &'static [Timing] = &[$(Timing::$name,)*];

            pub const fn label(self) -> &'static str {
                match self { $(Timing::$name => $label,)* }
            }
        }
    };
}

timings! {
    /// One turn that had something to do, without the sleep before it.
    Turn = "turn",
    /// From a REQUEST to its answer, for requests not answered at once: deferred calls, and
    /// services of other connections.
    Call = "call",
    /// From accept to established.
    Handshake = "handshake",
    /// How late connections' timers were handled.
    TimerLate = "timer_late",
    // Of one message in each sampled turn (see `broker::context::sample`):
    /// From the completion that delivered the message to the start of its handling.
    Receive = "receive",
    /// Parsing it.
    Parse = "parse",
    /// Finding its receivers, and putting it into their outboxes or on the mesh.
    Route = "route",
    /// From there to the next send that is handed to the kernel.
    Queue = "queue",
    /// From that send to its completion.
    Send = "send",
}

const TIMINGS: usize = Timing::ALL.len();

/// One histogram for each [`Timing`].
#[derive(Clone, Debug)]
pub struct Histograms([Histogram<u64>; TIMINGS]);

impl Default for Histograms {
    fn default() -> Histograms {
        Histograms(std::array::from_fn(|_| {
            // Cannot fail: the bounds are constant, with 1 ≤ max/2 and at most 5 digits.
            Histogram::new_with_max(DURATION_NS_MAX, DIGITS)
                .unwrap_or_else(|error| unreachable!("constant bounds: {error}"))
        }))
    }
}

impl Histograms {
    /// Bytes of one set, for the memory budget: one count of 8 bytes for each bucket.
    pub fn bytes(&self) -> usize {
        self.0
            .iter()
            .map(|histogram| histogram.distinct_values() * 8)
            .sum()
    }

    /// Records one duration; one beyond the bound counts as the bound.
    #[inline]
    pub fn record(&mut self, timing: Timing, duration: Duration) {
        self.0[timing as usize].saturating_record(duration.as_nanos() as u64);
    }

    pub fn of(&self, timing: Timing) -> &Histogram<u64> {
        &self.0[timing as usize]
    }

    /// Adds another set's counts.
    pub fn merge(&mut self, other: &Histograms) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            // Both have the same bounds, so every value fits.
            let added = mine.add(theirs);
            debug_assert!(added.is_ok());
        }
    }

    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(Histogram::clear);
    }
}
