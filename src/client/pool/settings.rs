//! A pool's bounds and times.

use crate::client::builder::no_time;
use std::time::Duration;
use tokio::time::Instant;

/// Bounds of how often idle connections are checked.
const UPKEEP_MIN: Duration = Duration::from_millis(10);
const UPKEEP_MAX: Duration = Duration::from_secs(1);

/// Stands for "never" in a deadline: tokio's clock has no such value.
const NEVER: Duration = Duration::from_secs(86_400 * 365 * 30);

/// This much later; or never, if that is beyond the clock's range.
pub(super) fn later(now: Instant, by: Duration) -> Instant {
    now + by.min(NEVER)
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub connections_max: usize,
    pub idle_min: usize,
    pub idle_timeout: Duration,
    pub lifetime_max: Option<Duration>,
    pub acquire_timeout: Duration,
    /// A connection silent for this long is checked before it is lent.
    pub check_after: Duration,
    /// How long the answer to that check may take.
    pub check_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            connections_max: 16,
            idle_min: 0,
            idle_timeout: Duration::from_secs(60),
            lifetime_max: Some(Duration::from_secs(30 * 60)),
            acquire_timeout: Duration::from_secs(5),
            check_after: Duration::from_secs(1),
            check_timeout: Duration::from_secs(1),
        }
    }
}

impl Settings {
    /// The first invalid setting, if any.
    pub fn mistake(&self) -> Option<String> {
        let Settings {
            connections_max,
            idle_min,
            ..
        } = self;
        if *connections_max == 0 {
            return Some("connections_max is 0: a pool needs at least one".to_owned());
        }
        let times = [
            ("idle_timeout", Some(self.idle_timeout)),
            ("lifetime_max", self.lifetime_max),
            ("acquire_timeout", Some(self.acquire_timeout)),
            ("check_timeout", Some(self.check_timeout)),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| *time == Some(Duration::ZERO)) {
            return Some(no_time(name));
        }
        (idle_min > connections_max).then(|| {
            format!("idle_min ({idle_min}) is more than connections_max ({connections_max})")
        })
    }

    /// A quarter of the time it has to notice, within bounds.
    pub fn upkeep_interval(&self) -> Duration {
        let shortest = self.lifetime_max.unwrap_or(self.idle_timeout);
        let shortest = shortest.min(self.idle_timeout);
        (shortest / 4).clamp(UPKEEP_MIN, UPKEEP_MAX)
    }
}
