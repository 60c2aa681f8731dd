//! A bounded number of slots for connections, which no client can keep others out of.
//!
//! - If all slots are taken, a new connection gets the slot of one that only waits for its peer
//!   (between two requests, or for the end of a head): of the address with the most connections,
//!   the one that has waited longest. So an address that holds all slots makes room for any other.
//! - If all are being answered, there are [`HEALTH_MAX`] more slots, which answer health checks
//!   only.

use crate::auth::address::Prefix;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

pub const CONNECTIONS_MAX: usize = 64;
/// Additional slots, for health checks only.
pub const HEALTH_MAX: usize = 8;

#[derive(Default)]
pub struct Places {
    taken: Mutex<Taken>,
    /// Notified when a slot may be free.
    changed: Notify,
}

#[derive(Default)]
struct Taken {
    places: HashMap<u64, Place>,
    /// A counter of events: the lower, the longer ago.
    count: u64,
}

struct Place {
    address: Prefix,
    /// The event since which it waits for its peer; `None`: it is being answered.
    waits_since: Option<u64>,
    /// Notified when its connection has to end.
    end: Arc<Notify>,
}

/// A taken slot; dropping it frees the slot.
pub struct Ticket {
    places: Arc<Places>,
    id: u64,
    end: Arc<Notify>,
    pub is_for_health: bool,
}

impl Taken {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// The connection that makes room for another.
    fn idlest(&self) -> Option<u64> {
        let mut held: HashMap<Prefix, usize> = HashMap::new();
        for place in self.places.values() {
            *held.entry(place.address).or_default() += 1;
        }
        let waiting = self.places.iter().filter_map(|(id, place)| {
            let longest = std::cmp::Reverse(place.waits_since?);
            Some((held[&place.address], longest, *id))
        });
        waiting.max().map(|(_, _, id)| id)
    }
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a new connection would get a slot now.
    pub fn has_room(&self) -> bool {
        let taken = self.taken();
        taken.places.len() < CONNECTIONS_MAX + HEALTH_MAX || taken.idlest().is_some()
    }

    /// Waits until that may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes a slot for a connection from this address; requires [`Places::has_room`].
    pub fn take(self: &Arc<Places>, address: IpAddr) -> Ticket {
        let mut taken = self.taken();
        if taken.places.len() >= CONNECTIONS_MAX
            && let Some(id) = taken.idlest()
            && let Some(place) = taken.places.remove(&id)
        {
            place.end.notify_one();
        }
        let is_for_health = taken.places.len() >= CONNECTIONS_MAX;
        let (id, end) = (taken.next(), Arc::new(Notify::new()));
        let place = Place {
            address: Prefix::of(address),
            waits_since: Some(id),
            end: end.clone(),
        };
        taken.places.insert(id, place);
        Ticket {
            places: self.clone(),
            id,
            end,
            is_for_health,
        }
    }
}

impl Ticket {
    /// Waits until another connection needs the slot, which then gets it.
    pub async fn end(&self) {
        self.end.notified().await;
    }

    /// A request has arrived: the connection counts as being answered until the returned value is
    /// dropped.
    pub fn answer(self: &Arc<Ticket>) -> Answering {
        self.put(|_| None);
        Answering(self.clone())
    }

    fn put(&self, since: impl FnOnce(u64) -> Option<u64>) {
        let mut taken = self.places.taken();
        let now = taken.next();
        if let Some(place) = taken.places.get_mut(&self.id) {
            place.waits_since = since(now);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.places.taken().places.remove(&self.id);
        self.places.changed.notify_one();
    }
}

pub struct Answering(Arc<Ticket>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.put(Some);
        self.0.places.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn from(host: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, host).into()
    }

    /// Whether it has been notified to end.
    async fn is_gone(ticket: &Ticket) -> bool {
        tokio::select! {
            biased;
            () = ticket.end() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn a_new_connection_replaces_the_longest_waiting_of_the_largest_holder() {
        let places = Arc::new(Places::default());
        let mut other = Arc::new(places.take(from(2)));
        let many: Vec<_> = (1..CONNECTIONS_MAX)
            .map(|_| Arc::new(places.take(from(1))))
            .collect();
        let busy = many[0].answer();
        drop(many[1].answer());
        let mut next = Vec::new();
        for (round, gone) in [2, 3, 4].into_iter().enumerate() {
            assert!(places.has_room());
            next.push(places.take(from(3)));
            assert!(!next[round].is_for_health, "round {round}");
            assert!(is_gone(&many[gone]).await, "round {round}");
        }
        assert!(!is_gone(&other).await && !is_gone(&many[0]).await && !is_gone(&many[1]).await);
        drop(busy);
        other = Arc::new(places.take(from(2)));
        assert!(!is_gone(&other).await);
    }

    #[tokio::test]
    async fn with_all_slots_busy_there_is_room_for_health_checks() {
        let places = Arc::new(Places::default());
        let take = || Arc::new(places.take(from(1)));
        let all: Vec<_> = (0..CONNECTIONS_MAX + HEALTH_MAX)
            .map(|_| {
                assert!(places.has_room());
                let ticket = take();
                let answering = ticket.answer();
                (ticket, answering)
            })
            .collect();
        let few = all.iter().filter(|(ticket, _)| ticket.is_for_health);
        assert_eq!(few.count(), HEALTH_MAX);
        assert!(!places.has_room());
        drop(all);
        assert!(places.has_room() && !take().is_for_health);
    }
}
