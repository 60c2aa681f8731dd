//! Connections and failures per address: open connections, recent connections, recently refused
//! credentials.
//!
//! Addresses count by [`Prefix`]. There are two maps: open connections, with at most as many
//! entries as the caller has connections; and recent events, bounded by `PREFIXES_MAX`. An entry of
//! the latter is meaningless once its buckets are full again; such entries are swept every minute
//! or when room is needed. If that is not enough, because a flood comes from more addresses than
//! there is room for, the half whose buckets would fill first is dropped: the worst offenders are
//! remembered longest.
//!
//! **Failures** are counted so that guessing is slow, and no client pays for others behind the
//! same address. Each address has a budget, and so has each existing API key from that address:
//!
//! | wrong credential | counts against | over that budget |
//! |---|---|---|
//! | the same again | that credential, from that address | it is refused unchecked |
//! | an API key of a known id | that id from that address, and the address | all for that id from there are refused unchecked |
//! | any other | the address | a wrong credential is refused as too frequent, not as wrong |
//!
//! So a device that keeps presenting an old key locks out only itself; a guesser locks out the
//! key it guesses at; and a valid credential is accepted whatever else came from its address.
//! Once an address is over its budget, one wrong secret blocks its key, from there, for a
//! minute: a guesser has the budget plus one guess a minute at each key, no more.
//!
//! A limit of 0 means no limit, and nothing is counted for it.
//!
//! What it does not do: share counts between shards. Each shard has its own tally.

use super::address::Prefix;
use super::bucket::Limit;
use crate::base::clock::Instant;
use crate::base::limits::PREFIXES_MAX;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Limits per address; 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TallyLimits {
    pub connections_max: u32,
    pub connects_per_s: u32,
    pub auth_failures_per_min: u32,
}

/// Why a connection from an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// The address has as many connections open as it may.
    Connections,
    /// It connected too often; refused until then.
    Connects(Instant),
}

/// A presented credential in the form in which it is counted, which reveals nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    prefix: Prefix,
    /// A hash of the known API key that it claims to be; 0: none.
    id: u64,
    print: u64,
}

#[derive(Debug)]
pub struct Tally {
    connections_max: u32,
    connects: Limit,
    failures: Limit,
    open: HashMap<Prefix, u32>,
    /// Recent events of an address (0), and of each API key claimed from there.
    recent: HashMap<(Prefix, u64), Recent>,
    /// Seeded at random, so that no one can construct two credentials with the same print.
    prints: RandomState,
    sweep_at: Instant,
}

/// When each bucket will be full again.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    connects: Instant,
    failures: Instant,
    /// The print of the last wrong credential, and how often it came.
    print: u64,
    repeats: Instant,
}

impl Recent {
    /// When the entry becomes meaningless.
    fn silent_at(&self) -> Instant {
        self.connects.max(self.failures).max(self.repeats)
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
            prints: RandomState::new(),
            sweep_at: Instant::ZERO,
        }
    }

    /// Counts a new connection, for which [`leave`](Tally::leave) is called when it ends.
    ///
    /// # Errors
    /// Why it is refused; then it is not counted as open.
    pub fn admit(&mut self, address: IpAddr, now: Instant) -> Result<(), Turned> {
        let prefix = Prefix::of(address);
        if !self.connects.is_none() {
            let limit = self.connects;
            let entry = self.recent_entry((prefix, 0), now);
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

    /// How many connections are open, if they are limited.
    pub fn connections(&self) -> u64 {
        self.open.values().map(|&open| u64::from(open)).sum()
    }

    /// A credential presented from an address. `id`: the known API key that it claims to be.
    pub fn shown(&self, address: IpAddr, id: Option<&str>, credential: &[u8]) -> Shown {
        Shown {
            prefix: Prefix::of(address),
            id: id.map_or(0, |id| self.prints.hash_one(id).max(1)),
            print: self.prints.hash_one(credential),
        }
    }

    /// Until when it is refused unchecked, because of too many failures.
    pub fn barred_until(&self, shown: &Shown, now: Instant) -> Option<Instant> {
        let entry = self.recent.get(&(shown.prefix, shown.id))?;
        let over = |mut full_at| self.failures.spend(&mut full_at, 1, now).err();
        let same = (entry.print == shown.print).then(|| over(entry.repeats));
        let claimed = (shown.id != 0).then(|| over(entry.failures));
        same.flatten().max(claimed.flatten())
    }

    /// Counts a wrong credential. True: its address is over its budget.
    pub fn fail(&mut self, shown: &Shown, now: Instant) -> bool {
        let limit = self.failures;
        if limit.is_none() {
            return false;
        }
        let own = self.recent_entry((shown.prefix, shown.id), now);
        let is_repeated = own.print == shown.print && own.repeats > Instant::ZERO;
        if !is_repeated {
            own.print = shown.print;
            own.repeats = Instant::ZERO;
        }
        let _ = limit.spend(&mut own.repeats, 1, now);
        if is_repeated {
            return self.is_over(shown.prefix, now);
        }
        let address = self.recent_entry((shown.prefix, 0), now);
        let is_over = limit.spend(&mut address.failures, 1, now).is_err();
        if shown.id != 0 {
            let own = self.recent_entry((shown.prefix, shown.id), now);
            match is_over {
                true => limit.close(&mut own.failures, now),
                // A key that is barred already is not barred for longer.
                false => drop(limit.spend(&mut own.failures, 1, now)),
            }
        }
        is_over
    }

    fn is_over(&self, prefix: Prefix, now: Instant) -> bool {
        let entry = self.recent.get(&(prefix, 0));
        let over = |mut full_at| self.failures.spend(&mut full_at, 1, now).is_err();
        entry.is_some_and(|entry| over(entry.failures))
    }

    fn recent_entry(&mut self, of: (Prefix, u64), now: Instant) -> &mut Recent {
        if !self.recent.contains_key(&of) {
            self.make_room(now);
        }
        self.recent.entry(of).or_default()
    }

    /// Makes room for one more entry.
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

    /// Drops half of the entries, so that as many new ones fit before the next scan.
    fn forget_half(&mut self) {
        let mut ends: Vec<Instant> = self.recent.values().map(Recent::silent_at).collect();
        let middle = ends.len() / 2;
        let (_, &mut median, _) = ends.select_nth_unstable(middle);
        let mut excess = middle;
        // Of entries that become meaningless at the same time, no more than needed.
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
        let over = hosts(9).filter(|&host| fail(&mut tally, address(host), None, host));
        assert_eq!(over.count(), 10_000 - 5);
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

    /// Presents the `nth` wrong credential for the API key `id`. True: over the address's budget.
    fn fail(tally: &mut Tally, from: IpAddr, id: Option<&str>, nth: u64) -> bool {
        let shown = tally.shown(from, id, &nth.to_be_bytes());
        tally.fail(&shown, NOW)
    }

    /// Whether a new credential for the key `id` would be checked.
    fn is_looked_at(tally: &Tally, from: IpAddr, id: Option<&str>, now: Instant) -> bool {
        let shown = tally.shown(from, id, b"fresh");
        tally.barred_until(&shown, now).is_none()
    }

    #[test]
    fn guessing_at_a_key_bars_that_key_from_there_and_nothing_else() {
        let mut tally = tally(0, 0, 30);
        for nth in 0..30 {
            assert!(is_looked_at(&tally, host(1), Some("a"), NOW));
            assert!(!fail(&mut tally, host(1), Some("a"), nth));
        }
        let good = tally.shown(host(1), Some("a"), b"good");
        let until = tally.barred_until(&good, NOW).expect("barred");
        for (from, id) in [(1, None), (1, Some("b")), (2, Some("a"))] {
            assert!(is_looked_at(&tally, host(from), id, NOW), "{from} {id:?}");
        }
        assert_eq!(tally.admit(host(1), NOW), Ok(()));
        assert!(is_looked_at(&tally, host(1), Some("a"), until));
        // The address is over its budget: one more guess bars the key guessed at.
        assert!(fail(&mut tally, host(1), Some("b"), 0));
        assert!(!is_looked_at(
            &tally,
            host(1),
            Some("b"),
            NOW + Duration::from_secs(57)
        ));
        assert!(is_looked_at(
            &tally,
            host(1),
            Some("b"),
            NOW + Duration::from_secs(60)
        ));
        assert!(is_looked_at(&tally, host(1), Some("c"), NOW));
    }

    #[test]
    fn the_same_wrong_credential_again_counts_against_itself_alone() {
        for id in [None, Some("a")] {
            let mut tally = tally(0, 0, 30);
            let old = tally.shown(host(1), id, b"an old key");
            let mut seen = 0;
            for _ in 0..1000 {
                if tally.barred_until(&old, NOW).is_none() {
                    seen += 1;
                    assert!(!tally.fail(&old, NOW));
                }
            }
            assert_eq!(seen, 30, "{id:?}");
            assert!(is_looked_at(&tally, host(1), id, NOW), "{id:?}");
            let later = NOW + Duration::from_secs(3);
            assert_eq!(tally.barred_until(&old, later), None);
        }
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let mut tally = tally(0, 0, 0);
        for n in 0..100 {
            assert_eq!(tally.admit(host(n), NOW), Ok(()));
            assert!(!fail(&mut tally, host(n), Some("a"), n));
        }
        assert!(tally.open.is_empty() && tally.recent.is_empty());
    }

    #[test]
    fn meaningless_entries_are_swept() {
        let mut tally = tally(0, 10, 30);
        for n in 0..1000 {
            fail(&mut tally, host(n), None, n);
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
        for nth in 0..30 {
            fail(&mut tally, worst, Some("a"), nth);
        }
        let entries = PREFIXES_MAX as u64 * 5;
        for n in 0..entries {
            fail(&mut tally, host(n), None, n);
            assert!(tally.recent.len() <= PREFIXES_MAX);
        }
        assert!(!is_looked_at(&tally, worst, Some("a"), NOW));
        assert!(tally.recent.len() > PREFIXES_MAX / 2);
        let bytes = tally.recent.capacity() * (size_of::<((Prefix, u64), Recent)>() + 1);
        assert!(bytes <= 2 << 20, "{bytes}");
    }

    proptest! {
        /// Open connections, compared with a list of them.
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
