//! When to connect again, and where: full jitter back-off, the delay and the address that a
//! DRAIN asked for. Numbers only: the clock and the sockets are the owner's.
//!
//! Full jitter (a delay drawn evenly from zero to a bound that doubles) spreads the clients
//! of a server that came back better than a fixed delay with some noise on it.

use super::address::Address;
use super::link::Drain;
use crate::base::clock::Instant;
use std::time::Duration;

/// How a client connects again after its connection broke.
///
/// ```
/// use ringmail::client::Reconnect;
/// use std::time::Duration;
///
/// let patient = Reconnect::default().delay_max(Duration::from_secs(60));
/// let once = Reconnect::default().attempts_max(1);
/// # let _ = (patient, once);
/// ```
#[derive(Clone, Debug)]
pub struct Reconnect {
    delay_base: Duration,
    delay_max: Duration,
    attempts_max: Option<u32>,
}

impl Default for Reconnect {
    /// 100 ms at first, 10 s at most, without end.
    fn default() -> Reconnect {
        Reconnect {
            delay_base: Duration::from_millis(100),
            delay_max: Duration::from_secs(10),
            attempts_max: None,
        }
    }
}

impl Reconnect {
    /// The bound of the delay before the first attempt; it doubles with each one that fails.
    pub fn delay_base(mut self, delay: Duration) -> Reconnect {
        self.delay_base = delay;
        self
    }

    /// The bound of the delay at most.
    pub fn delay_max(mut self, delay: Duration) -> Reconnect {
        self.delay_max = delay;
        self
    }

    /// Attempts in a row before the client gives up; without end by default.
    pub fn attempts_max(mut self, attempts: u32) -> Reconnect {
        self.attempts_max = Some(attempts);
        self
    }
}

/// The schedule of one client's attempts.
#[derive(Debug)]
pub(super) struct Schedule {
    policy: Reconnect,
    random: fastrand::Rng,
    /// Where the user asked to connect to, and where a DRAIN sent us, tried in turns.
    home: Address,
    alternative: Option<Address>,
    /// Attempts since the connection last stood for a while.
    attempts: u32,
    opened: Instant,
}

impl Schedule {
    pub(super) fn new(policy: Reconnect, home: Address, seed: u64) -> Schedule {
        Schedule {
            policy,
            random: fastrand::Rng::with_seed(seed),
            home,
            alternative: None,
            attempts: 0,
            opened: Instant::NEVER,
        }
    }

    /// The connection stands.
    pub(super) fn open(&mut self, now: Instant) {
        self.opened = now;
    }

    /// The connection broke, or an attempt failed: when to make the next, or `None` to give
    /// up. A connection that stood for less than the longest delay does not start the
    /// series anew: a server that ends each connection at once is not hammered.
    pub(super) fn fail(&mut self, drain: Option<&Drain>, now: Instant) -> Option<Instant> {
        if now.since(self.opened) >= self.policy.delay_max && self.opened != Instant::NEVER {
            self.attempts = 0;
        }
        self.opened = Instant::NEVER;
        if self
            .policy
            .attempts_max
            .is_some_and(|max| self.attempts >= max)
        {
            return None;
        }
        let delay = match drain {
            Some(drain) => {
                self.attempts = 0;
                if !drain.alternative.is_empty() {
                    self.alternative = Address::parse(&drain.alternative).ok();
                }
                drain.reconnect_after
            }
            None => self.jitter(),
        };
        self.attempts += 1;
        Some(now + delay)
    }

    /// Where the next attempt goes.
    pub(super) fn address(&self) -> &Address {
        match &self.alternative {
            Some(alternative) if self.attempts % 2 == 1 => alternative,
            _ => &self.home,
        }
    }

    fn jitter(&mut self) -> Duration {
        let doubled = self
            .policy
            .delay_base
            .saturating_mul(1 << self.attempts.min(20));
        let bound = doubled.min(self.policy.delay_max).as_nanos();
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        Duration::from_nanos(self.random.u64(0..=bound))
    }
}
