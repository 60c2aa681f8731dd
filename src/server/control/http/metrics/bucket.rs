//! From an HdrHistogram to Prometheus buckets with fixed bounds, so that they can be added over
//! shards, servers and time.

use hdrhistogram::Histogram;

/// Upper bounds in nanoseconds, three to a power of ten: from a microsecond, which is what a
/// stage takes, to half a minute, which is how long a request may be open by default.
const BOUNDS_NS: [u64; 23] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// Durations in seconds.
#[derive(Debug, PartialEq)]
pub(super) struct Buckets {
    /// The sum of all durations, as exact as the histogram: to one percent.
    pub(super) sum: f64,
    pub(super) count: u64,
    /// Upper bounds, and how many values lie between each and the previous one. The last bucket is
    /// unbounded.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Buckets {
    /// From a histogram in nanoseconds, in one pass over its recorded values (some 4,000 at most).
    /// A value within one percent of a bound counts below it. No figure ever decreases while the
    /// histogram grows.
    pub(super) fn of(histogram: &Histogram<u64>) -> Buckets {
        let bounds = BOUNDS_NS.iter().map(|&bound| bound as f64 / 1e9);
        let mut buckets: Vec<(f64, u64)> = bounds.map(|bound| (bound, 0)).collect();
        buckets.push((f64::INFINITY, 0));
        let (mut sum, mut count) = (0.0, 0);
        for recorded in histogram.iter_recorded() {
            let value = histogram.lowest_equivalent(recorded.value_iterated_to());
            let at = BOUNDS_NS.partition_point(|&bound| bound < value);
            let times = recorded.count_at_value();
            buckets[at].1 += times;
            sum += histogram.median_equivalent(value) as f64 * times as f64;
            count += times;
        }
        Buckets {
            sum: sum / 1e9,
            count,
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_max(60_000_000_000, 2).unwrap();
        for &value in values {
            histogram.saturating_record(value);
        }
        histogram
    }

    #[test]
    fn values_lie_in_the_bucket_whose_bound_is_just_above() {
        let buckets = Buckets::of(&histogram(&[0, 1_000, 1_100, 240_000_000, 59_000_000_000]));
        let filled: Vec<_> = buckets
            .buckets
            .iter()
            .filter(|(_, times)| *times > 0)
            .collect();
        assert_eq!(
            filled,
            [&(1e-6, 2), &(2.5e-6, 1), &(0.25, 1), &(f64::INFINITY, 1)]
        );
        assert_eq!(buckets.count, 5);
    }

    #[test]
    fn nothing_recorded_is_a_histogram_too() {
        let buckets = Buckets::of(&histogram(&[]));
        assert_eq!((buckets.sum, buckets.count), (0.0, 0));
        assert_eq!(buckets.buckets.len(), BOUNDS_NS.len() + 1);
    }

    proptest! {
        #[test]
        fn buckets_are_the_histogram_to_a_hundredth(values in proptest::collection::vec(0u64..60_000_000_000, 0..200)) {
            let buckets = Buckets::of(&histogram(&values));
            prop_assert_eq!(buckets.count, values.len() as u64);
            let sum = values.iter().sum::<u64>() as f64 / 1e9;
            prop_assert!((buckets.sum - sum).abs() <= sum * 0.01 + 1e-9 * values.len() as f64);
            let mut below = 0;
            for (bound, times) in buckets.buckets {
                below += times;
                let exactly = |factor: f64| values.iter().filter(|&&value| value as f64 / 1e9 <= bound * factor).count() as u64;
                prop_assert!(exactly(0.99) <= below && below <= exactly(1.01).max(exactly(1.0)));
            }
        }

        #[test]
        fn no_figure_goes_down_as_more_is_recorded(values in proptest::collection::vec(0u64..60_000_000_000, 1..100)) {
            let mut last = Buckets::of(&histogram(&[]));
            for end in 1..=values.len() {
                let next = Buckets::of(&histogram(&values[..end]));
                prop_assert!(next.sum >= last.sum && next.count > last.count);
                let pairs = next.buckets.iter().zip(&last.buckets);
                prop_assert!(pairs.into_iter().all(|(next, last)| next.1 >= last.1));
                last = next;
            }
        }
    }
}
