//! Rate limit per second: a token bucket in one number.
//!
//! It stores when the bucket will be full again. Spending moves that moment on by the time in which
//! the spent amount flows in again; it may be ahead of now by at most the time to fill a whole
//! bucket.
//!
//! ```text
//!        now          full_at        now + burst
//!  ───────┼──────────────┼───────────────┼──────► time
//!         └─ still owed ─┴─ may be spent ┘
//! ```
//!
//! Over any span of time, at most `burst` plus the inflow is spent, with one exception: an
//! amount larger than the bucket passes when the bucket is full, and is owed (otherwise a large
//! message would never pass).
//!
//! Times are whole nanoseconds: spending one by one at a million per second may yield a
//! thousandth more.
//!
//! No clock: `now` comes in.

use crate::base::clock::Instant;
use std::time::Duration;

/// Binary digits of a nanosecond's fraction in which a unit's time is counted.
const FRACTION: u32 = 16;

/// How many units flow in per time, and how many the bucket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The time in which one unit flows in, in 2^-16 ns, rounded up; 0: no limit.
    time_per_unit: u64,
    /// The time in which a whole bucket flows in, in nanoseconds.
    burst: u64,
}

impl Limit {
    pub const NONE: Limit = Limit {
        time_per_unit: 0,
        burst: 0,
    };

    /// `rate` units a second (0: no limit), `burst` at once (0: one second's worth).
    pub fn per_second(rate: u64, burst: u64) -> Limit {
        Limit::per(Duration::from_secs(1), rate, burst)
    }

    /// `rate` units a minute (0: no limit), all of them at once if need be.
    pub fn per_minute(rate: u64) -> Limit {
        Limit::per(Duration::from_secs(60), rate, 0)
    }

    fn per(period: Duration, rate: u64, burst: u64) -> Limit {
        if rate == 0 {
            return Limit::NONE;
        }
        let period = period.as_nanos() << FRACTION;
        let mut limit = Limit {
            time_per_unit: narrow(period.div_ceil(rate.into())),
            burst: 0,
        };
        limit.burst = limit.time_of(if burst == 0 { rate } else { burst });
        limit
    }

    pub const fn is_none(self) -> bool {
        self.time_per_unit == 0
    }

    /// Nanoseconds in which `units` flow in. Rounded down, so that units spent one by one take no
    /// longer than all at once; but never zero.
    #[inline]
    fn time_of(self, units: u64) -> u64 {
        let parts = u128::from(units) * u128::from(self.time_per_unit);
        narrow(parts >> FRACTION).max(u64::from(units > 0))
    }

    /// [`Bucket::spend`] on a bucket of which only `full_at` is stored: for many buckets under one
    /// limit.
    ///
    /// # Errors
    /// When there will be enough.
    #[inline]
    pub fn spend(self, full_at: &mut Instant, units: u64, now: Instant) -> Result<(), Instant> {
        if self.is_none() {
            return Ok(());
        }
        // In plain nanoseconds: converting to `Duration` and back takes divisions, twice for each
        // message.
        let (time, now) = (self.time_of(units), now.as_nanos());
        let owed = full_at.as_nanos().max(now);
        let room = owed.saturating_add(time.min(self.burst));
        if room > now.saturating_add(self.burst) {
            return Err(Instant::from_nanos(room.saturating_sub(self.burst)));
        }
        *full_at = Instant::from_nanos(owed.saturating_add(time));
        Ok(())
    }

    /// Empties such a bucket, so that it has nothing for the time in which a whole bucket flows in.
    pub fn close(self, full_at: &mut Instant, now: Instant) {
        let owed = self.burst.saturating_sub(self.time_of(1));
        *full_at = now + Duration::from_nanos(self.burst) + Duration::from_nanos(owed);
    }
}

#[inline]
fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// A bucket, initially full: 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    full_at: Instant,
    limit: Limit,
}

impl Bucket {
    pub const fn new(limit: Limit) -> Bucket {
        Bucket {
            full_at: Instant::ZERO,
            limit,
        }
    }

    /// Spends `units`, or nothing.
    ///
    /// # Errors
    /// When there will be enough, if nothing else is spent until then.
    #[inline]
    pub fn spend(&mut self, units: u64, now: Instant) -> Result<(), Instant> {
        self.limit.spend(&mut self.full_at, units, now)
    }
}

const _: () = assert!(size_of::<Bucket>() == 24);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn a_burst_goes_at_once_and_then_as_much_as_flows_in() {
        let mut bucket = Bucket::new(Limit::per_second(10, 5));
        let start = at(77 * SECOND);
        for _ in 0..5 {
            assert_eq!(bucket.spend(1, start), Ok(()));
        }
        let next = start + Duration::from_millis(100);
        assert_eq!(bucket.spend(1, start), Err(next));
        assert_eq!(bucket.spend(1, at(next.as_nanos() - 1)), Err(next));
        assert_eq!(bucket.spend(1, next), Ok(()));
        assert_eq!(
            bucket.spend(2, next),
            Err(next + Duration::from_millis(200))
        );
    }

    #[test]
    fn without_a_burst_it_is_one_seconds_worth() {
        let mut bucket = Bucket::new(Limit::per_second(1000, 0));
        assert_eq!(bucket.spend(1000, at(SECOND)), Ok(()));
        assert_eq!(bucket.spend(1, at(SECOND)), Err(at(SECOND + 1_000_000)));
    }

    #[test]
    fn zero_is_no_limit() {
        for limit in [
            Limit::per_second(0, 0),
            Limit::per_second(0, 9),
            Limit::per_minute(0),
        ] {
            let mut bucket = Bucket::new(limit);
            for _ in 0..100 {
                assert_eq!(bucket.spend(u64::MAX, at(0)), Ok(()));
            }
        }
    }

    #[test]
    fn an_amount_larger_than_the_bucket_waits_for_a_full_one() {
        let mut bucket = Bucket::new(Limit::per_second(100, 10));
        let start = at(SECOND);
        assert_eq!(bucket.spend(1, start), Ok(()));
        let full = start + Duration::from_millis(10);
        assert_eq!(bucket.spend(1000, start), Err(full));
        assert_eq!(bucket.spend(1000, full), Ok(()));
        // It is owed: ten seconds until it is full again.
        let enough = full + Duration::from_secs(10) - Duration::from_millis(90);
        assert_eq!(bucket.spend(1, full), Err(enough));
    }

    #[test]
    fn thirty_a_minute_are_thirty_and_then_one_in_two_seconds() {
        let mut bucket = Bucket::new(Limit::per_minute(30));
        for _ in 0..30 {
            assert_eq!(bucket.spend(1, at(0)), Ok(()));
        }
        assert_eq!(bucket.spend(1, at(0)), Err(at(2 * SECOND)));
    }

    #[test]
    fn extreme_rates_neither_overflow_nor_stop_it() {
        for rate in [1, 3, u64::from(u32::MAX), u64::MAX] {
            for burst in [0, 1, u64::MAX] {
                let mut bucket = Bucket::new(Limit::per_second(rate, burst));
                assert_eq!(bucket.spend(1, at(SECOND)), Ok(()), "{rate} {burst}");
                let _ = bucket.spend(u64::MAX, at(u64::MAX - 1));
                let _ = bucket.spend(u64::MAX, Instant::NEVER);
            }
        }
    }

    #[test]
    fn a_burst_can_be_spent_one_by_one() {
        for rate in [3, 7, 30, 999, 1_000_003] {
            let mut bucket = Bucket::new(Limit::per_second(rate, 0));
            for n in 0..rate {
                assert_eq!(bucket.spend(1, at(SECOND)), Ok(()), "{n} of {rate}");
            }
            // Less than a nanosecond of each may be left over.
            let more = (0..rate / 500 + 1).take_while(|_| bucket.spend(1, at(SECOND)).is_ok());
            assert!(more.count() as u64 <= rate / 1000, "{rate}");
        }
    }

    proptest! {
        /// Never more than a whole bucket plus the inflow, whatever the order.
        #[test]
        fn no_span_of_time_yields_more_than_the_bucket_and_the_inflow(
            rate in 1u64..2_000_000,
            burst in 1u64..5_000,
            steps in prop::collection::vec((0u64..2_000_000_000, 1u64..5_000), 1..100),
        ) {
            let mut bucket = Bucket::new(Limit::per_second(rate, burst));
            let mut spent: Vec<(u64, u64)> = Vec::new();
            let mut now = 0;
            for (pause, units) in steps {
                now += pause;
                let units = units.min(burst);
                match bucket.spend(units, at(now)) {
                    Ok(()) => spent.push((now, units)),
                    Err(when) => {
                        prop_assert!(when > at(now));
                        // The returned moment is exact: a moment earlier is too early, that moment
                        // is enough.
                        let mut early = bucket;
                        prop_assert!(early.spend(units, when - Duration::from_nanos(1)).is_err());
                        let mut later = bucket;
                        prop_assert_eq!(later.spend(units, when), Ok(()));
                    }
                }
            }
            for (index, (from, _)) in spent.iter().enumerate() {
                let mut sum = 0u128;
                for (until, units) in &spent[index..] {
                    sum += u128::from(*units);
                    let inflow = u128::from(until - from) * u128::from(rate) / u128::from(SECOND);
                    // Part of a unit, and less than a nanosecond per spending.
                    let limit = u128::from(burst) + inflow + 2;
                    prop_assert!(sum <= limit, "{} > {}", sum, limit);
                }
            }
        }

        /// And not less either: a consumer that spends what has flowed in is not refused.
        #[test]
        fn a_steady_consumer_at_the_rate_is_never_refused(
            rate in 1u64..1_000_000,
            count in 1u64..500,
        ) {
            let mut bucket = Bucket::new(Limit::per_second(rate, 1));
            let step = SECOND.div_ceil(rate) + 1;
            for n in 0..count {
                prop_assert_eq!(bucket.spend(1, at(n * step)), Ok(()));
            }
        }
    }
}
