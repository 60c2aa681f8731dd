//! Judges whether what all clients together have seen is what the protocol promises.
//!
//! A judge sees every record, with virtual times, so that "subscribed before it was published" and
//! "confirmed" are facts. Each promise is one function that describes the first breach: `delivery`
//! judges plain subscriptions, `share` groups and services, `retained` and `will` retained messages
//! and wills.
//!
//! What a client is owed ends with its membership (see `Record`): a membership that ended with
//! CLOSE answered is owed everything, a lost one (a connection without a session, or a session that
//! ended) a prefix without gaps.

mod delivery;
mod patience;
mod retained;
mod share;
mod will;

use ringmail::base::clock::Instant;
use ringmail::proto::error::Code;
use ringmail::proto::name::matches;
use ringmail::ring::sim::World;
use ringmail::ring::sim::client::traffic::{
    Label, Membership, Published, Record, Registration, Traffic,
};
use ringmail::ring::sim::client::{ClientId, Ending};
use std::time::Duration;

/// One client: its plan as of the end of the run, and what it has seen.
#[derive(Clone)]
pub struct Witness {
    pub id: ClientId,
    pub plan: Traffic,
    pub record: Record,
}

/// Everything a run leaves for the judge.
#[derive(Clone)]
pub struct Evidence {
    pub seed: u64,
    /// How long a session outlives its connection.
    pub linger: Duration,
    /// Sessions have room for everything: none is lost except by its linger.
    pub ample: bool,
    /// Clients may have been refused for lack of slots.
    pub crowded: bool,
    pub witnesses: Vec<Witness>,
}

/// A description of the first breach.
pub type Verdict = Result<(), String>;

impl Evidence {
    /// Collects the records of these clients.
    pub fn gather(world: &World, clients: &[ClientId], linger: Duration, ample: bool) -> Evidence {
        let witness = |&id: &ClientId| Witness {
            id,
            plan: world.traffic(id),
            record: world.record(id),
        };
        Evidence {
            seed: world.seed(),
            linger,
            ample,
            crowded: false,
            witnesses: clients.iter().map(witness).collect(),
        }
    }

    /// Checks every promise.
    pub fn check(&self) -> Verdict {
        self.check_words()?;
        self.check_sessions()?;
        self.check_bytes()?;
        self.check_order()?;
        self.check_plain()?;
        self.check_holes()?;
        self.check_groups()?;
        self.check_requests()?;
        self.check_wills()
    }

    /// As `check`.
    ///
    /// # Panics
    /// If a promise was broken; with the seed.
    pub fn judge(&self) {
        if let Err(breach) = self.check() {
            panic!("seed {}: {breach}", self.seed);
        }
    }

    pub fn witness(&self, id: ClientId) -> Option<&Witness> {
        self.witnesses.iter().find(|witness| witness.id == id)
    }

    /// The server violated the protocol nowhere, and ended no connection without a valid reason.
    pub fn check_words(&self) -> Verdict {
        for Witness { id, record, .. } in &self.witnesses {
            if let Some(wrong) = &record.violation {
                return Err(format!("{id:?}: {wrong}"));
            }
            for (place, connection) in record.connections.iter().enumerate() {
                if let Some(reason) = connection.protocol_error {
                    return Err(format!(
                        "{id:?}: the server violated the protocol: {reason:?}"
                    ));
                }
                let allowed = match connection.refused {
                    None | Some(Code::SessionTaken) => true,
                    Some(Code::SlowConsumer) => !self.ample,
                    Some(Code::TooManyConnections) => self.crowded,
                    _ => false,
                };
                if !allowed {
                    return Err(format!("{id:?}: connection {place}: {connection:?}"));
                }
            }
        }
        Ok(())
    }

    /// A session is lost only after its linger, or because its buffer was full.
    pub fn check_sessions(&self) -> Verdict {
        for Witness { id, record, .. } in &self.witnesses {
            for (place, membership) in record.memberships.iter().enumerate() {
                let Some(lost_at) = membership.lost_at.filter(|_| membership.unknown) else {
                    continue;
                };
                let ends = record.connections.iter().filter_map(|connection| {
                    let of = connection.membership == place;
                    connection.ended_at.filter(|&at| of && at <= lost_at)
                });
                let away = ends.max().map_or(Duration::ZERO, |at| lost_at.since(at));
                if self.ample && away < self.linger {
                    return Err(format!(
                        "{id:?}: session {place} is unknown after {away:?}: {membership:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Every message of every client, with its sender.
    fn published(&self) -> impl Iterator<Item = (&Witness, Label, &Published)> {
        self.witnesses.iter().flat_map(|witness| {
            let published = witness.record.published.iter().enumerate();
            published.map(move |(number, one)| {
                let label = Label {
                    sender: witness.id,
                    number: number as u32,
                };
                (witness, label, one)
            })
        })
    }
}

impl Witness {
    /// The time by which the server has certainly taken a message: its OK, or the OK to a later one
    /// on the same connection.
    fn taken_at(&self, number: u32) -> Option<Instant> {
        let one = self.record.published.get(number as usize)?;
        if one.is_will || one.refused.is_some() {
            return None;
        }
        if one.id != 0 {
            return one.confirmed_at;
        }
        let behind = self.record.published[number as usize..].iter();
        let behind = behind.filter(|other| {
            other.connection == one.connection && other.sent == 1 && !other.is_will
        });
        behind.filter_map(|other| other.confirmed_at).min()
    }

    fn membership(&self, place: usize) -> Option<&Membership> {
        self.record.memberships.get(place)
    }

    /// Whether a membership ended with CLOSE answered: it was owed everything.
    fn is_whole(&self, place: usize) -> bool {
        let membership = self.membership(place);
        membership.is_some_and(|membership| membership.closed_at.is_some())
    }

    /// Whether none of its memberships was lost: it stayed, or resumed its session.
    fn is_steady(&self) -> bool {
        (0..self.record.memberships.len()).all(|place| self.is_whole(place))
    }

    /// Whether a registration was in force from `from` to `until` throughout.
    fn stood(&self, registration: &Registration, from: Instant, until: Instant) -> bool {
        let before = registration.confirmed_at.is_some_and(|at| at < from);
        let closing = self.membership(registration.membership);
        let closing = closing.and_then(|membership| membership.closing_at);
        let left = [registration.left_at, closing].into_iter().flatten().min();
        before && left.is_none_or(|at| until < at)
    }

    /// Whether a connection ended with the client's CLOSE answered.
    fn ended_in_order(&self, place: usize) -> bool {
        let connection = self.record.connections.get(place);
        connection.is_some_and(|connection| {
            connection.close_answered && connection.ending == Some(Ending::Close)
        })
    }
}

fn suits(registration: &Registration, topic: &str) -> bool {
    matches(&registration.filter.name, topic)
}
