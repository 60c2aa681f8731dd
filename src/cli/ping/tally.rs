//! Results of the pings: counts and the distribution of the round trips.
//!
//! Minimum, mean, maximum and deviation are exact; percentiles come from a histogram of
//! three significant digits.

use hdrhistogram::Histogram;
use std::fmt::Write;
use std::time::Duration;

/// The longest round trip the histogram tells apart, in nanoseconds: an hour.
const TRIP_NS_MAX: u64 = 3_600_000_000_000;

pub struct Tally {
    pub sent: u64,
    /// The time from the first ping to the end.
    pub time: Duration,
    /// Nanoseconds.
    trips: Histogram<u64>,
    sum_ms: f64,
    squares_ms: f64,
    min: Duration,
    max: Duration,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            sent: 0,
            time: Duration::ZERO,
            // Recording saturates at the bound; a growing histogram would saturate at 2.
            trips: Histogram::new_with_bounds(1, TRIP_NS_MAX, 3)
                .unwrap_or_else(|error| unreachable!("constant bounds: {error}")),
            sum_ms: 0.0,
            squares_ms: 0.0,
            min: Duration::MAX,
            max: Duration::ZERO,
        }
    }
}

impl Tally {
    pub fn record(&mut self, time: Duration) {
        self.trips.saturating_record(time.as_nanos() as u64);
        self.sum_ms += ms(time);
        self.squares_ms += ms(time).powi(2);
        self.min = self.min.min(time);
        self.max = self.max.max(time);
    }

    pub fn received(&self) -> u64 {
        self.trips.len()
    }

    /// Pings that were not answered in time, or not at all, count as lost.
    fn loss_percent(&self) -> f64 {
        let lost = self.sent - self.received();
        100.0 * lost as f64 / self.sent.max(1) as f64
    }

    fn mean_ms(&self) -> f64 {
        self.sum_ms / self.received() as f64
    }

    /// The standard deviation, under ping(8)'s name.
    fn mdev_ms(&self) -> f64 {
        let variance = self.squares_ms / self.received() as f64 - self.mean_ms().powi(2);
        variance.max(0.0).sqrt()
    }

    fn percentile_ms(&self, percentile: f64) -> f64 {
        ms(Duration::from_nanos(
            self.trips.value_at_percentile(percentile),
        ))
    }

    pub fn to_text(&self, peer: &str) -> String {
        let (sent, received) = (self.sent, self.received());
        let mut text = format!(
            "\n--- {peer} ping statistics ---\n\
             {sent} sent, {received} received, {:.3}% loss, time {:.0} ms\n",
            self.loss_percent(),
            ms(self.time)
        );
        if received > 0 {
            let _ = writeln!(
                text,
                "round trip min/avg/max/mdev = {:.3}/{:.3}/{:.3}/{:.3} ms, p50/p99 = {:.3}/{:.3} ms",
                ms(self.min),
                self.mean_ms(),
                ms(self.max),
                self.mdev_ms(),
                self.percentile_ms(50.0),
                self.percentile_ms(99.0)
            );
        }
        text
    }

    /// One object and a newline; without answers there are no times in it.
    pub fn to_json(&self, peer: &str) -> String {
        let mut record = serde_json::json!({
            "type": "summary",
            "address": peer,
            "sent": self.sent,
            "received": self.received(),
            "loss_percent": self.loss_percent(),
            "time_ms": ms(self.time),
        });
        if self.received() > 0 {
            for (name, value) in [
                ("min_ms", ms(self.min)),
                ("avg_ms", rounded(self.mean_ms())),
                ("max_ms", ms(self.max)),
                ("mdev_ms", rounded(self.mdev_ms())),
                ("p50_ms", self.percentile_ms(50.0)),
                ("p99_ms", self.percentile_ms(99.0)),
            ] {
                record[name] = value.into();
            }
        }
        format!("{record}\n")
    }
}

/// Milliseconds, from whole nanoseconds, so that no digits are invented.
pub fn ms(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}

/// Rounded to a nanosecond, the resolution of the measurement.
fn rounded(ms: f64) -> f64 {
    (ms * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(sent: u64, trips_ms: &[u64]) -> Tally {
        let mut tally = Tally {
            sent,
            ..Tally::default()
        };
        for &trip in trips_ms {
            tally.record(Duration::from_millis(trip));
        }
        tally
    }

    #[test]
    fn the_summary_is_the_arithmetic_of_the_trips() {
        let text = tally(4, &[1, 2, 3]).to_text("peer");
        assert!(text.contains("4 sent, 3 received, 25.000% loss"), "{text}");
        // The deviation of 1, 2, 3 is the root of two thirds.
        assert!(text.contains("= 1.000/2.000/3.000/0.816 ms"), "{text}");
        let json: serde_json::Value =
            serde_json::from_str(&tally(4, &[1, 2, 3]).to_json("peer")).unwrap();
        assert_eq!(json["loss_percent"], 25.0);
        let p50 = json["p50_ms"].as_f64().unwrap();
        assert!((p50 - 2.0).abs() < 0.01, "{p50}");
    }

    #[test]
    fn nothing_received_is_all_lost_and_has_no_times() {
        let text = tally(2, &[]).to_text("peer");
        assert!(text.contains("2 sent, 0 received, 100.000% loss"), "{text}");
        assert!(
            !text.contains("round trip") && !text.contains("NaN"),
            "{text}"
        );
        let json = tally(0, &[]).to_json("peer");
        assert!(!json.contains("min_ms") && !json.contains("null"), "{json}");
    }
}
