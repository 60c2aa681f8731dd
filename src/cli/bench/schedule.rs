//! When an open loop means to send each message: decided before the first is sent.
//!
//! The schedule knows nothing of answers. A server that stalls therefore meets the load it
//! would have met anyway, and each latency runs from the intended time: that is what
//! makes the tail true (a closed loop waits politely while the server stalls, and so
//! "omits" the very requests that would have suffered).

use crate::base::clock::Instant;
use std::time::Duration;

/// How messages are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Spacing {
    /// One every 1/rate seconds.
    Constant,
    /// Independent arrivals: exponential gaps with a mean of 1/rate seconds.
    Poisson,
}

/// Messages of a schedule at most: eight bytes each are held.
pub const MESSAGES_MAX: f64 = (1u64 << 26) as f64;

/// Intended send times, in nanoseconds from the start, rising.
#[derive(Debug, PartialEq, Eq)]
pub struct Schedule(Vec<u64>);

impl Schedule {
    /// `rate` messages a second for `length`; the same `seed` gives the same schedule.
    ///
    /// `None` when that would be more than [`MESSAGES_MAX`].
    pub fn plan(spacing: Spacing, rate: f64, length: Duration, seed: u64) -> Option<Schedule> {
        let length_ns = length.as_nanos() as f64;
        let expected = rate * length.as_secs_f64();
        if expected > MESSAGES_MAX {
            return None;
        }
        let gap_ns = 1e9 / rate;
        let mut times = Vec::with_capacity(expected as usize + 1);
        match spacing {
            // Multiplied, not added up: the rate stays exact over any length.
            Spacing::Constant => times.extend(
                (0u32..)
                    .map(|n| f64::from(n) * gap_ns)
                    .take_while(|&at| at < length_ns)
                    .map(|at| at as u64),
            ),
            Spacing::Poisson => {
                let mut random = fastrand::Rng::with_seed(seed);
                // 1 - u lies in (0, 1], where the logarithm is finite.
                let mut next = || -(1.0 - random.f64()).ln() * gap_ns;
                let mut at = next();
                while at < length_ns {
                    times.push(at as u64);
                    at += next();
                }
            }
        }
        Some(Schedule(times))
    }

    pub fn times_ns(&self) -> &[u64] {
        &self.0
    }
}

/// A schedule from a moment on, and how far it has been followed.
pub struct Walk<'s> {
    times_ns: &'s [u64],
    begin: Instant,
    /// Messages handed out so far.
    count: usize,
}

impl<'s> Walk<'s> {
    pub fn new(schedule: &'s Schedule, begin: Instant) -> Walk<'s> {
        Walk {
            times_ns: schedule.times_ns(),
            begin,
            count: 0,
        }
    }

    pub fn is_done(&self) -> bool {
        self.count == self.times_ns.len()
    }

    /// When the next message is meant to go.
    #[inline]
    pub fn next(&self) -> Instant {
        match self.times_ns.get(self.count) {
            Some(&at) => self.begin + Duration::from_nanos(at),
            None => Instant::NEVER,
        }
    }

    /// The next message if it is due: its number and when it was meant to go.
    #[inline]
    pub fn due(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let intended = self.next();
        if intended > now || self.is_done() {
            return None;
        }
        self.count += 1;
        Some((self.count - 1, intended))
    }

    /// How long the last message has been meant to be gone, once all were handed out.
    pub fn waited(&self, now: Instant) -> Option<Duration> {
        let last = self.times_ns.last().filter(|_| self.is_done())?;
        Some(now - (self.begin + Duration::from_nanos(*last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn constant_messages_are_evenly_spaced() {
        let plan = Schedule::plan(Spacing::Constant, 3000.0, SECOND, 1).unwrap();
        let times = plan.times_ns();
        assert_eq!(times.len(), 3000);
        assert_eq!(times[0], 0);
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.into_iter().all(|gap| gap == 333_333 || gap == 333_334));
        assert_eq!(times[2999], 999_666_666);
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let plan = Schedule::plan(Spacing::Poisson, 10_000.0, Duration::from_secs(20), 42).unwrap();
        let gaps: Vec<f64> = plan
            .times_ns()
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // 200,000 draws: the mean is within 1 % by more than four standard deviations.
        assert!((mean / 100_000.0 - 1.0).abs() < 0.01, "mean {mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02);
        let longer = gaps.iter().filter(|&&gap| gap > mean).count() as f64;
        assert!((longer / gaps.len() as f64 - (-1f64).exp()).abs() < 0.01);
    }

    #[test]
    fn a_seed_fixes_the_schedule() {
        let plan = |seed| Schedule::plan(Spacing::Poisson, 500.0, SECOND, seed);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        assert!(plan(7).unwrap().times_ns().is_sorted());
    }

    #[test]
    fn a_schedule_too_long_to_hold_is_refused() {
        assert!(Schedule::plan(Spacing::Constant, 1e9, SECOND, 0).is_none());
    }
}
