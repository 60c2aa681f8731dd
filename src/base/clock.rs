//! Monotonic time as a plain number, so that it can be passed as an argument, stored in
//! eight bytes and driven by a simulation.
//!
//! Nothing below the drivers reads a clock: `now` is always an argument. Wall-clock steps
//! cannot move this time (`CLOCK_MONOTONIC`).

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

static EPOCH: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

/// Nanoseconds since the process's epoch (or the simulation's): comparable between all
/// shards of one process, meaningless outside it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    pub const ZERO: Instant = Instant(0);
    /// Later than any time this process will see: "no deadline".
    pub const NEVER: Instant = Instant(u64::MAX);

    /// Reads the machine's monotonic clock (about 20 ns).
    pub fn now() -> Instant {
        Instant(EPOCH.elapsed().as_nanos() as u64)
    }

    /// Time from this moment to now.
    pub fn age(self) -> Duration {
        Instant::now().since(self)
    }

    /// The same moment, read elsewhere from the machine's monotonic clock.
    pub fn of(moment: std::time::Instant) -> Instant {
        Instant(moment.saturating_duration_since(*EPOCH).as_nanos() as u64)
    }

    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time from `earlier` to `self`; zero when `earlier` is the later one.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Wall-clock time in nanoseconds since 1970, for people and other machines: never for
/// deadlines.
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

/// Wall-clock time in whole seconds since 1970, as tokens count it.
pub fn unix_seconds() -> u64 {
    unix_nanos() / 1_000_000_000
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_sub(nanos))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Instant::NEVER => f.write_str("never"),
            Instant(nanos) => write!(f, "{:?}", Duration::from_nanos(nanos)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_stays_never_and_no_age_is_negative() {
        assert_eq!(Instant::NEVER + Duration::from_secs(1), Instant::NEVER);
        assert_eq!(Instant::ZERO - Instant::from_nanos(5), Duration::ZERO);
    }
}
