//! Whether what all clients together have seen is what the protocol promises.
//!
//! A judge knows every record, with virtual times, so that "subscribed before it was
//! published" and "confirmed" are facts. Each promise is one function that yields the first
//! breach as words: `delivery` judges plain subscriptions, `share` what goes to one of
//! several, `retained` and `will` those.
//!
//! What a client was owed ends where its membership does (see `Record`): one that ended
//! with CLOSE answered was owed all, one that was lost (its connection without a session, or
//! a session that is gone) an unbroken beginning of it.

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
    Label, Membership, Published, Record, Standing, Traffic,
};
use ringmail::ring::sim::client::{ClientId, Ending};
use std::time::Duration;

/// One client: its plan, as it was at the end, and what it has seen.
#[derive(Clone)]
pub struct Witness {
    pub id: ClientId,
    pub plan: Traffic,
    pub record: Record,
}

/// All that a run has left behind.
#[derive(Clone)]
pub struct Evidence {
    pub seed: u64,
    /// How long a session outlives its connection.
    pub linger: Duration,
    /// Sessions have room for all that comes: none is lost but by its linger.
    pub ample: bool,
    /// Who came may have been turned away.
    pub crowded: bool,
    pub witnesses: Vec<Witness>,
}

/// The first breach, in words.
pub type Verdict = Result<(), String>;

impl Evidence {
    /// The records of these clients.
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

    /// Everything that is promised.
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
    /// A promise was broken; with the seed.
    pub fn judge(&self) {
        if let Err(breach) = self.check() {
            panic!("seed {}: {breach}", self.seed);
        }
    }

    pub fn witness(&self, id: ClientId) -> Option<&Witness> {
        self.witnesses.iter().find(|witness| witness.id == id)
    }

    /// No server spoke nonsense, and none broke off without a reason it may have.
    pub fn check_words(&self) -> Verdict {
        for Witness { id, record, .. } in &self.witnesses {
            if let Some(wrong) = &record.wrong {
                return Err(format!("{id:?}: {wrong}"));
            }
            for (place, connection) in record.connections.iter().enumerate() {
                if let Some(reason) = connection.offended {
                    return Err(format!("{id:?}: the server spoke nonsense: {reason:?}"));
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

    /// A session is lost only when it may be: its linger is over, or its buffer was full.
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

    /// Every message made by anyone, with who made it.
    fn published(&self) -> impl Iterator<Item = (&Witness, Label, &Published)> {
        self.witnesses.iter().flat_map(|witness| {
            let published = witness.record.published.iter().enumerate();
            published.map(move |(number, one)| {
                let label = Label {
                    maker: witness.id,
                    number: number as u32,
                };
                (witness, label, one)
            })
        })
    }
}

impl Witness {
    /// By when the server is known to have taken a message: its OK, or the OK of one that
    /// was sent behind it on the same connection.
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

    /// Whether none of its memberships was lost: it stayed, or came back to its session.
    fn is_steady(&self) -> bool {
        (0..self.record.memberships.len()).all(|place| self.is_whole(place))
    }

    /// Whether a standing was there for all of the time from `from` up to `until`.
    fn stood(&self, standing: &Standing, from: Instant, until: Instant) -> bool {
        let before = standing.confirmed_at.is_some_and(|at| at < from);
        let closing = self.membership(standing.membership);
        let closing = closing.and_then(|membership| membership.closing_at);
        let left = [standing.left_at, closing].into_iter().flatten().min();
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

fn suits(standing: &Standing, topic: &str) -> bool {
    matches(&standing.filter.name, topic)
}
