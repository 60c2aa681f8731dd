//! When and where to reconnect: full jitter back-off, the delay and the address that a DRAIN
//! asked for. Numbers only: the clock and the sockets are the owner's.
//!
//! Full jitter (a delay drawn uniformly from zero to a bound that doubles) spreads the clients
//! of a restarted server better than a fixed delay with some noise.

use super::address::Address;
use super::link::Drain;
use crate::base::clock::Instant;
use std::time::Duration;

/// The longest time between two attempts at the first connection, for which a caller waits.
const FIRST_DELAY_MAX: Duration = Duration::from_secs(1);

/// How a client reconnects after its connection broke.
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
    /// 100 ms at first, at most 10 s, any number of attempts.
    fn default() -> Reconnect {
        Reconnect {
            delay_base: Duration::from_millis(100),
            delay_max: Duration::from_secs(10),
            attempts_max: None,
        }
    }
}

impl Reconnect {
    /// The bound of the delay before the first attempt; it doubles with each failed attempt.
    pub fn delay_base(mut self, delay: Duration) -> Reconnect {
        self.delay_base = delay;
        self
    }

    /// The largest bound of the delay.
    pub fn delay_max(mut self, delay: Duration) -> Reconnect {
        self.delay_max = delay;
        self
    }

    /// Failed attempts in a row before the client gives up; by default it never does.
    pub fn attempts_max(mut self, attempts: u32) -> Reconnect {
        self.attempts_max = Some(attempts);
        self
    }

    /// The bounds of the delay, at first and at most.
    pub(super) fn delays(&self) -> (Duration, Duration) {
        (self.delay_base, self.delay_max)
    }

    /// The delay before the attempt that follows this many failed ones.
    fn delay(&self, attempts: u32, random: &mut fastrand::Rng) -> Duration {
        let doubled = self.delay_base.saturating_mul(1 << attempts.min(20));
        let bound = doubled.min(self.delay_max).as_nanos();
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        Duration::from_nanos(random.u64(0..=bound))
    }
}

/// The schedule for the first connection, for this long from `now` on.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
    pace: Reconnect,
    random: fastrand::Rng,
    attempts: u32,
    is_last: bool,
}

impl Patience {
    pub(super) fn new(time: Duration, now: Instant, seed: u64) -> Patience {
        Patience {
            until: now + time,
            pace: Reconnect::default().delay_max(FIRST_DELAY_MAX),
            random: fastrand::Rng::with_seed(seed),
            attempts: 0,
            is_last: time.is_zero(),
        }
    }

    /// An attempt failed: when to make the next; `None` if that was the last one.
    pub(super) fn fail(&mut self, now: Instant) -> Option<Instant> {
        if self.is_last {
            return None;
        }
        let next = now + self.pace.delay(self.attempts, &mut self.random);
        self.attempts += 1;
        self.is_last = next >= self.until;
        Some(next.min(self.until).max(now))
    }
}

/// The schedule of one client's attempts.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    policy: Reconnect,
    random: fastrand::Rng,
    /// The address that the user gave, and the one that a DRAIN named, tried in turns.
    home: Address,
    alternative: Option<Address>,
    /// Attempts since the connection was last established for a while.
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

    /// The connection is established.
    pub(super) fn open(&mut self, now: Instant) {
        self.opened = now;
    }

    /// The connection broke, or an attempt failed: when to make the next, or `None` to give up. A
    /// connection that lasted less than the longest delay does not reset the series, so that a
    /// server that ends each connection at once is not hammered. `drain` is the server's DRAIN, and
    /// when it arrived.
    pub(super) fn fail(
        &mut self,
        drain: Option<(&Drain, Instant)>,
        now: Instant,
    ) -> Option<Instant> {
        if self.opened != Instant::NEVER && now.since(self.opened) >= self.policy.delay_max {
            self.attempts = 0;
        }
        self.opened = Instant::NEVER;
        if let Some((drain, told)) = drain {
            if !drain.alternative.is_empty() {
                // Wherever a server sends its clients, those connected with TLS use TLS.
                let secure = self.home.secure;
                let alternative = Address::parse(&drain.alternative).ok();
                self.alternative = alternative.map(|address| Address {
                    secure: secure || address.secure,
                    ..address
                });
            }
            self.attempts = 1;
            return Some(now.max(told + drain.reconnect_after));
        }
        let attempts_max = self.policy.attempts_max.unwrap_or(u32::MAX);
        if self.attempts >= attempts_max {
            return None;
        }
        let delay = self.jitter();
        self.attempts += 1;
        Some(now + delay)
    }

    /// The address of the next attempt.
    pub(super) fn address(&self) -> &Address {
        match &self.alternative {
            Some(alternative) if self.attempts % 2 == 1 => alternative,
            _ => &self.home,
        }
    }

    fn jitter(&mut self) -> Duration {
        self.policy.delay(self.attempts, &mut self.random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(policy: Reconnect) -> Schedule {
        Schedule::new(policy, Address::parse("home:1").unwrap(), 7)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn drain(alternative: &str) -> Drain {
        Drain {
            deadline: Duration::from_secs(5),
            reconnect_after: Duration::from_millis(300),
            alternative: alternative.to_owned(),
        }
    }

    #[test]
    fn delays_are_drawn_from_the_whole_of_a_doubling_bound() {
        let mut bounds = [0; 12];
        for seed in 0..500 {
            let mut schedule = Schedule::new(
                Reconnect::default(),
                Address::parse("home:1").unwrap(),
                seed,
            );
            for bound in &mut bounds {
                let delay = schedule.fail(None, Instant::ZERO).unwrap() - Instant::ZERO;
                *bound = delay.as_millis().max(*bound);
            }
        }
        for (attempt, longest) in bounds.into_iter().enumerate() {
            let bound = (100 << attempt).min(10_000);
            assert!(longest <= bound, "attempt {attempt}: {longest} ms");
            assert!(longest > bound * 9 / 10, "attempt {attempt}: {longest} ms");
        }
    }

    #[test]
    fn the_first_connection_is_retried_until_its_time_is_over_and_then_once_more() {
        assert_eq!(Patience::new(Duration::ZERO, at(5), 1).fail(at(5)), None);
        for seed in 0..200 {
            let mut patience = Patience::new(Duration::from_secs(10), at(0), seed);
            let (mut now, mut attempts) = (at(0), 0);
            while let Some(next) = patience.fail(now) {
                assert!(next >= now && next - now <= FIRST_DELAY_MAX);
                (now, attempts) = (next, attempts + 1);
            }
            assert_eq!(now, at(10_000));
            assert!((10..100).contains(&attempts), "{attempts}");
        }
        let mut patient = Patience::new(Duration::MAX, at(0), 1);
        assert!((0..1000).all(|_| patient.fail(at(1)).is_some()));
        // An attempt that took longer than the remaining time was the last but one.
        let mut patience = Patience::new(Duration::from_secs(1), at(0), 1);
        assert_eq!(patience.fail(at(6000)), Some(at(6000)));
        assert_eq!(patience.fail(at(6001)), None);
    }

    #[test]
    fn attempts_in_a_row_are_bounded_and_start_over_after_an_established_connection() {
        let mut schedule = schedule(Reconnect::default().attempts_max(2));
        assert!(schedule.fail(None, at(0)).is_some());
        schedule.open(at(10));
        assert!(schedule.fail(None, at(20)).is_some(), "it stood too short");
        assert!(schedule.fail(None, at(30)).is_none());
        schedule.open(at(40));
        assert!(schedule.fail(None, at(10_040)).is_some(), "10 s are enough");
        let once = Reconnect::default().attempts_max(0);
        assert!(self::schedule(once).fail(None, at(0)).is_none());
    }

    #[test]
    fn a_drain_names_delay_and_address_and_home_is_tried_in_turns() {
        let mut schedule = schedule(Reconnect::default());
        schedule.open(at(0));
        let told = drain("other:2");
        assert_eq!(
            schedule.fail(Some((&told, at(1000))), at(1100)),
            Some(at(1300))
        );
        assert_eq!(schedule.address().host, "other");
        assert!(schedule.fail(None, at(1400)).is_some());
        assert_eq!(schedule.address().host, "home");
        assert!(schedule.fail(None, at(1500)).is_some());
        assert_eq!(schedule.address().host, "other");
    }

    #[test]
    fn a_drain_never_leads_out_of_tls() {
        for alternative in ["other:2", "ringmail://other:2"] {
            let home = Address::parse("ringmails://home:1").unwrap();
            let mut schedule = Schedule::new(Reconnect::default(), home, 7);
            schedule.fail(Some((&drain(alternative), at(0))), at(900));
            let address = schedule.address();
            assert!(address.host == "other" && address.secure, "{address}");
        }
    }

    #[test]
    fn a_drain_without_an_address_or_with_none_that_could_be_leads_home() {
        for alternative in ["", "port is missing", "http://other:2"] {
            let mut schedule = schedule(Reconnect::default());
            let told = drain(alternative);
            // Its time has already passed: it is made at once.
            assert_eq!(schedule.fail(Some((&told, at(0))), at(900)), Some(at(900)));
            assert_eq!(schedule.address().host, "home");
        }
    }
}
