//! How often each address came and failed: connections open, connections made lately,
//! credentials refused lately.
//!
//! Addresses count by [`Prefix`]. Two maps: connections open, of which there are as many
//! entries as the caller has connections at most; and what happened lately, bounded by
//! `PREFIXES_MAX`. An entry of the latter says nothing any more once its buckets are full
//! again; such are swept every minute or when room is needed. If that is not enough,
//! because a flood comes from more addresses than there is room for, the half that would
//! fall silent first is forgotten: who did worst is remembered longest.
//!
//! A limit of 0 is none, and what is not limited is not counted.
//!
//! What it does not do: know of other shards. Each has its own tally.

use super::address::Prefix;
use super::bucket::Limit;
use crate::base::clock::Instant;
use crate::base::limits::PREFIXES_MAX;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Of one address; 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TallyLimits {
    pub connections_max: u32,
    pub connects_per_s: u32,
    pub auth_failures_per_min: u32,
}

/// Why an address is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// It has as many connections open as it may.
    Connections,
    /// It connected too often; until then.
    Connects(Instant),
    /// Its credentials were refused too often; until then.
    Failures(Instant),
}

#[derive(Debug)]
pub struct Tally {
    connections_max: u32,
    connects: Limit,
    failures: Limit,
    open: HashMap<Prefix, u32>,
    recent: HashMap<Prefix, Recent>,
    sweep_at: Instant,
}

/// When its two buckets will be full again.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    connects: Instant,
    failures: Instant,
}

impl Recent {
    /// From then on it says nothing any more.
    fn silent_at(&self) -> Instant {
        self.connects.max(self.failures)
    }
}

impl Tally {
    pub fn new(limits: TallyLimits) -> Tally {
        Tally {
            connections_max: limits.connections_max,
            connects: Limit::per_second(limits.connects_per_s.into(), 0),
            failures: Limit::per_minute(limits.auth_failures_per_min.into()),
            open: HashMap::new(),
            recent: HashMap::new(),
            sweep_at: Instant::ZERO,
        }
    }

    /// Counts a new connection, for which [`leave`](Tally::leave) is called when it ends.
    ///
    /// # Errors
    /// Why it may not be; then it is not counted as open.
    pub fn admit(&mut self, address: IpAddr, now: Instant) -> Result<(), Turned> {
        let prefix = Prefix::of(address);
        if let Some(until) = self.barred(prefix, now) {
            return Err(Turned::Failures(until));
        }
        if !self.connects.is_none() {
            let limit = self.connects;
            let entry = self.recent_entry(prefix, now);
            let spent = limit.spend(&mut entry.connects, 1, now);
            spent.map_err(Turned::Connects)?;
        }
        if self.connections_max > 0 {
            let open = self.open.entry(prefix).or_default();
            if *open >= self.connections_max {
                return Err(Turned::Connections);
            }
            *open += 1;
        }
        Ok(())
    }

    /// An admitted connection has ended.
    pub fn leave(&mut self, address: IpAddr) {
        let prefix = Prefix::of(address);
        if let Some(open) = self.open.get_mut(&prefix) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&prefix);
            }
        }
    }

    /// Connections open, if they are limited.
    pub fn connections(&self) -> u64 {
        self.open.values().map(|&open| u64::from(open)).sum()
    }

    /// A credential from there was refused.
    pub fn fail(&mut self, address: IpAddr, now: Instant) {
        if self.failures.is_none() {
            return;
        }
        let limit = self.failures;
        let entry = self.recent_entry(Prefix::of(address), now);
        // An address that is barred already is not barred for longer.
        let _ = limit.spend(&mut entry.failures, 1, now);
    }

    /// Until when credentials from there are refused unseen, because too many were wrong.
    pub fn barred_until(&self, address: IpAddr, now: Instant) -> Option<Instant> {
        self.barred(Prefix::of(address), now)
    }

    fn barred(&self, prefix: Prefix, now: Instant) -> Option<Instant> {
        let mut failures = self.recent.get(&prefix)?.failures;
        self.failures.spend(&mut failures, 1, now).err()
    }

    fn recent_entry(&mut self, prefix: Prefix, now: Instant) -> &mut Recent {
        if !self.recent.contains_key(&prefix) {
            self.make_room(now);
        }
        self.recent.entry(prefix).or_default()
    }

    /// Room for one more.
    fn make_room(&mut self, now: Instant) {
        if self.recent.len() < PREFIXES_MAX && now < self.sweep_at {
            return;
        }
        self.sweep_at = now + SWEEP_INTERVAL;
        self.recent.retain(|_, entry| entry.silent_at() > now);
        if self.recent.len() > PREFIXES_MAX / 2 {
            self.forget_half();
        } else if self.recent.is_empty() {
            self.recent = HashMap::new();
        }
    }

    /// Half of them, so that the next half's worth comes in without looking again.
    fn forget_half(&mut self) {
        let mut ends: Vec<Instant> = self.recent.values().map(Recent::silent_at).collect();
        let middle = ends.len() / 2;
        let (_, &mut median, _) = ends.select_nth_unstable(middle);
        let mut excess = middle;
        // Of those that end together, no more than it takes.
        self.recent.retain(|_, entry| {
            let end = entry.silent_at();
            let goes = end < median || end == median && excess > 0;
            excess -= usize::from(goes && excess > 0);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    const NOW: Instant = Instant::from_nanos(5_000_000_000);

    fn tally(connections: u32, connects: u32, failures: u32) -> Tally {
        Tally::new(TallyLimits {
            connections_max: connections,
            connects_per_s: connects,
            auth_failures_per_min: failures,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A host in the `n`th /64.
    fn host(n: u64) -> IpAddr {
        Ipv6Addr::from_bits(0x2001 << 112 | u128::from(n) << 64 | 1).into()
    }

    #[test]
    fn connections_are_capped_for_an_address_and_for_a_whole_64() {
        let mut tally = tally(2, 0, 0);
        assert_eq!(tally.admit(ip("2001:db8::1"), NOW), Ok(()));
        assert_eq!(tally.admit(ip("2001:db8::2"), NOW), Ok(()));
        assert_eq!(
            tally.admit(ip("2001:db8::3"), NOW),
            Err(Turned::Connections)
        );
        assert_eq!(tally.admit(ip("2001:db8:0:1::1"), NOW), Ok(()));
        tally.leave(ip("2001:db8::9"));
        assert_eq!(tally.admit(ip("2001:db8::3"), NOW), Ok(()));
        for text in ["2001:db8::1", "2001:db8::1", "2001:db8:0:1::1"] {
            tally.leave(ip(text));
        }
        assert!(tally.open.is_empty());
        tally.leave(ip("2001:db8::1"));
        assert!(tally.open.is_empty());
    }

    #[test]
    fn a_flood_from_the_hosts_of_one_64_counts_as_one() {
        let mut tally = tally(20, 10, 5);
        let hosts = |from: u64| (0..10_000_u64).map(move |host| from + host * 0x1_0001);
        let address = |host: u64| {
            let bits = 0x2001_0db8 << 96 | 7 << 64 | u128::from(host);
            IpAddr::from(Ipv6Addr::from_bits(bits))
        };
        let admitted = hosts(1).filter(|&host| tally.admit(address(host), NOW).is_ok());
        assert_eq!(admitted.count(), 10);
        assert_eq!((tally.recent.len(), tally.open.len()), (1, 1));
        hosts(9).for_each(|host| tally.fail(address(host), NOW));
        assert!(tally.barred_until(address(5), NOW).is_some());
        assert_eq!((tally.recent.len(), tally.connections()), (1, 10));
        assert_eq!(tally.admit(host(8), NOW), Ok(()));
    }

    #[test]
    fn connects_of_a_second_are_counted_and_each_address_has_its_own() {
        let mut tally = tally(0, 3, 0);
        for _ in 0..3 {
            assert_eq!(tally.admit(host(1), NOW), Ok(()));
        }
        let Err(Turned::Connects(until)) = tally.admit(host(1), NOW) else {
            panic!("the fourth in a second is admitted");
        };
        assert_eq!(tally.admit(host(2), NOW), Ok(()));
        assert_eq!(tally.admit(host(1), until), Ok(()));
    }

    #[test]
    fn guessing_is_barred_after_so_many_failures_and_for_a_time() {
        let mut tally = tally(0, 0, 30);
        for _ in 0..30 {
            assert_eq!(tally.barred_until(host(1), NOW), None);
            tally.fail(host(1), NOW);
        }
        let until = tally.barred_until(host(1), NOW).expect("barred");
        assert_eq!(tally.admit(host(1), NOW), Err(Turned::Failures(until)));
        assert_eq!(tally.admit(host(2), NOW), Ok(()));
        // Failures while barred do not prolong it.
        tally.fail(host(1), NOW);
        assert_eq!(tally.barred_until(host(1), NOW), Some(until));
        assert_eq!(tally.barred_until(host(1), until), None);
        assert_eq!(tally.admit(host(1), until), Ok(()));
    }

    #[test]
    fn what_is_not_limited_is_not_counted() {
        let mut tally = tally(0, 0, 0);
        for n in 0..100 {
            assert_eq!(tally.admit(host(n), NOW), Ok(()));
            tally.fail(host(n), NOW);
        }
        assert!(tally.open.is_empty() && tally.recent.is_empty());
    }

    #[test]
    fn what_says_nothing_any_more_is_swept() {
        let mut tally = tally(0, 10, 30);
        for n in 0..1000 {
            tally.fail(host(n), NOW);
        }
        assert_eq!(tally.recent.len(), 1000);
        let later = NOW + Duration::from_secs(61);
        assert_eq!(tally.admit(host(5000), later), Ok(()));
        assert_eq!(tally.recent.len(), 1);
    }

    #[test]
    fn a_flood_from_many_addresses_stays_within_the_bound_and_the_worst_are_remembered() {
        let mut tally = tally(0, 0, 30);
        let worst = host(u64::from(u32::MAX));
        for _ in 0..30 {
            tally.fail(worst, NOW);
        }
        let entries = PREFIXES_MAX as u64 * 5;
        for n in 0..entries {
            tally.fail(host(n), NOW);
            assert!(tally.recent.len() <= PREFIXES_MAX);
        }
        assert!(tally.barred_until(worst, NOW).is_some());
        assert!(tally.recent.len() > PREFIXES_MAX / 2);
        let bytes = tally.recent.capacity() * (size_of::<(Prefix, Recent)>() + 1);
        assert!(bytes <= 2 << 20, "{bytes}");
    }

    proptest! {
        /// Open connections against a list of them.
        #[test]
        fn open_connections_are_those_that_came_and_did_not_leave(
            ops in prop::collection::vec((any::<bool>(), 0u64..4), 0..200),
        ) {
            let mut tally = tally(3, 0, 0);
            let mut open = [0u32; 4];
            for (comes, n) in ops {
                let count = &mut open[n as usize];
                if comes {
                    let admitted = tally.admit(host(n), NOW).is_ok();
                    prop_assert_eq!(admitted, *count < 3);
                    *count += u32::from(admitted);
                } else if *count > 0 {
                    tally.leave(host(n));
                    *count -= 1;
                }
                prop_assert_eq!(tally.open.len(), open.iter().filter(|count| **count > 0).count());
            }
        }
    }
}
