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
    pub terms: Terms,
    pub witnesses: Vec<Witness>,
}

/// What a run's setup allows the server.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Sessions have room for everything: none is lost except by its linger.
    pub ample: bool,
    /// Clients may be refused for lack of slots.
    pub crowded: bool,
    /// Codes that connections may end with besides.
    pub may_end: Vec<Code>,
    /// Sessions may end before their linger does.
    pub loses_sessions: bool,
    /// Requests may be refused for lack of calls.
    pub few_calls: bool,
    pub limits_rates: bool,
    /// A request's deadline, and the latest that it may ask for.
    pub timeout: Duration,
    pub timeout_max: Duration,
    /// The server drained in the end.
    pub drained: bool,
    /// A client that is owed nothing: it did not behave.
    pub bad: Option<ClientId>,
    /// It breaks messages off: the server takes what it sends next for their rest, and answers that.
    pub bad_garbles: bool,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            ample: true,
            crowded: false,
            may_end: Vec::new(),
            loses_sessions: false,
            few_calls: false,
            limits_rates: false,
            timeout: Duration::from_secs(10),
            timeout_max: Duration::from_secs(600),
            drained: false,
            bad: None,
            bad_garbles: false,
        }
    }
}

/// A description of the first breach.
pub type Verdict = Result<(), String>;

impl Evidence {
    /// Collects the records of these clients.
    pub fn gather(world: &World, clients: &[ClientId], linger: Duration, terms: Terms) -> Evidence {
        let witness = |&id: &ClientId| Witness {
            id,
            plan: world.traffic(id),
            record: world.record(id),
        };
        Evidence {
            seed: world.seed(),
            linger,
            terms,
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
            let is_bad = self.terms.bad == Some(*id);
            let garbles = is_bad && self.terms.bad_garbles;
            if let Some(wrong) = record.violation.as_ref().filter(|_| !garbles) {
                return Err(format!("{id:?}: {wrong}"));
            }
            for (place, connection) in record.connections.iter().enumerate() {
                // One that does not read takes the server for dead.
                if let Some(reason) = connection.protocol_error.filter(|_| !is_bad) {
                    return Err(format!(
                        "{id:?}: the server violated the protocol: {reason:?}"
                    ));
                }
                if !self.may_end(record, connection.refused) && !is_bad {
                    return Err(format!("{id:?}: connection {place}: {connection:?}"));
                }
            }
        }
        Ok(())
    }

    fn may_end(&self, record: &Record, refused: Option<Code>) -> bool {
        let terms = &self.terms;
        match refused {
            None | Some(Code::SessionTaken) => true,
            Some(Code::SlowConsumer | Code::Overloaded) if !terms.ample => true,
            Some(Code::SlowConsumer) => false,
            Some(Code::TooManyConnections) => terms.crowded,
            Some(Code::Draining) => terms.drained,
            // The eleventh error of a second is fatal.
            Some(code) if !code.is_fatal() => {
                record
                    .errors
                    .iter()
                    .filter(|one| one.1.counts_as_error())
                    .count()
                    >= 10
            }
            Some(code) => terms.may_end.contains(&code),
        }
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
                let keeps = self.terms.ample && !self.terms.loses_sessions;
                if keeps && away < self.linger && self.terms.bad != Some(*id) {
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
        if self.may_be_refused(one) {
            return None;
        }
        let behind = self.record.published[number as usize..].iter();
        let behind = behind.filter(|other| {
            other.connection == one.connection && other.sent == 1 && !other.is_will
        });
        behind.filter_map(|other| other.confirmed_at).min()
    }

    /// Whether an ERROR without an id may have been about this message.
    fn may_be_refused(&self, one: &Published) -> bool {
        one.id == 0 && self.record.errors.iter().any(|error| error.0 == 0)
    }

    fn membership(&self, place: usize) -> Option<&Membership> {
        self.record.memberships.get(place)
    }

    /// Whether a membership ended with CLOSE answered: it was owed everything.
    fn is_whole(&self, place: usize) -> bool {
        let membership = self.membership(place);
        membership.is_some_and(|membership| membership.closed_at.is_some())
    }

    /// Whether the server ended it in order, and until then brought all it was owed.
    fn was_drained(&self, place: usize) -> bool {
        let mut of = self.record.connections.iter().rev();
        let last = of.find(|connection| connection.membership == place);
        last.is_some_and(|last| {
            last.drains == 1 && last.close_received == Some(Code::Shutdown) && !last.broken
        })
    }

    /// Whether it accepts messages of this size.
    fn accepts(&self, published: &Published) -> bool {
        let Some(max) = self.plan.message_max else {
            return true;
        };
        let plan = &published.plan;
        let headers = plan
            .headers
            .iter()
            .map(|one| one.1.len() + 3)
            .sum::<usize>();
        let key = plan.key.as_ref().map_or(0, Vec::len);
        // As JSON the payload is larger by a third, and TRACEPARENT may be added.
        let most = 100 + plan.topic.len() + headers + key + (plan.bytes + 8) * 4 / 3;
        most <= max as usize
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
