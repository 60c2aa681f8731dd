//! Who takes part in an exchange, and on which connections: opens them, gives them their
//! parts, and lets the load begin when all are confirmed.
//!
//! The server decides which of its shards a connection is on. `--placement` asks for more
//! connections than are needed, keeps those that are where they should be, and leaves the
//! others idle: closed, they would be given the same place again.

use super::connections::Connections;
use super::dialect::ringmail::Ringmail;
use super::dialect::{Actor, Dialect, Protocol, Role, Script, mqtt, nats, redis};
use super::engine::Pace;
use super::exchange::{self, Parts, Sender};
use super::fault::{Fault, Halt};
use super::meter::Outcome;
use super::run::{Run, Subject};
use super::slow_readers;
use super::speaker;
use super::target::{Site, Target};
use crate::base::clock::Instant;
use crate::cli::failure::Failure;
use crate::proto::envelope::Envelope;
use std::rc::Rc;

/// Connections opened at most for each that is needed, to find one on the right shard.
const SPARES_MAX: usize = 32;

/// Where senders and receivers are, by the server's shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Placement {
    /// Wherever the server puts them.
    Any,
    /// All on one shard.
    Same,
    /// Senders on one shard, receivers on another.
    Apart,
}

impl Placement {
    pub fn name(self) -> &'static str {
        match self {
            Placement::Any => "any",
            Placement::Same => "same",
            Placement::Apart => "apart",
        }
    }
}

/// The parts of an exchange.
#[derive(Debug)]
pub struct Participants<'a> {
    /// Each sender, and how many copies arrive of each of its messages.
    pub senders: Vec<(Role, u32)>,
    pub receivers: Vec<Role>,
    /// Those who are only there; wherever the server puts them.
    pub bystanders: Vec<Role>,
    pub payload: Vec<u8>,
    pub is_confirmed: bool,
    pub placement: Placement,
    /// Slow readers, beside the run's connections.
    pub slow_readers: Option<&'a slow_readers::Args>,
}

impl Participants<'_> {
    pub fn connections(&self) -> usize {
        let connections = self.placed() + self.bystanders.len();
        connections + self.slow_readers.map_or(0, slow_readers::Args::connections)
    }

    /// Descriptors to make room for.
    fn connections_max(&self) -> usize {
        let spares = match self.placement {
            Placement::Any => 0,
            _ => self.placed() * (SPARES_MAX - 1),
        };
        self.connections() + spares
    }

    /// Those whose place matters.
    fn placed(&self) -> usize {
        self.senders.len() + self.receivers.len()
    }

    /// Runs the benchmark in the server's protocol, and reports what comes of it.
    ///
    /// # Errors
    /// As `super::run`.
    pub fn conduct(
        &self,
        protocol: Protocol,
        run: &Run,
        target: &Target,
        subject: Subject,
    ) -> Result<(), Failure> {
        run.conduct(target, subject, self.connections_max(), |site, pace| {
            self.play(protocol, run, target, site, pace)
        })
    }

    /// Plays the exchange.
    ///
    /// # Errors
    /// As `exchange::run`, and connections that cannot be opened or placed.
    fn play(
        &self,
        protocol: Protocol,
        run: &Run,
        target: &Target,
        site: &Site,
        pace: &Pace,
    ) -> Result<Outcome, Halt> {
        let stage = Stage {
            participants: self,
            run,
            target,
            site,
            pace,
        };
        match protocol {
            Protocol::Ringmail => {
                let bytes = Envelope::body_bytes_max(self.payload.len());
                let settings = speaker::settings(bytes, target.timeout);
                stage.play(|now, out| {
                    let actor = Ringmail::open(&settings, bytes, now, out)?;
                    Ok(actor.proving_by(site.credential.as_ref()))
                })
            }
            Protocol::Redis => stage.play(|_, _| Ok(redis::Redis::default())),
            Protocol::Nats => stage.play(|_, _| Ok(nats::Nats::default())),
            Protocol::Mqtt => stage.play(|_, out| Ok(mqtt::Mqtt::open(out))),
        }
    }
}

/// All that one run needs.
struct Stage<'a> {
    participants: &'a Participants<'a>,
    run: &'a Run,
    target: &'a Target,
    site: &'a Site,
    pace: &'a Pace,
}

impl Stage<'_> {
    fn play<D: Dialect>(
        &self,
        mut open: impl FnMut(Instant, &mut Vec<u8>) -> Result<D, Fault>,
    ) -> Result<Outcome, Halt> {
        let participants = self.participants;
        let (to, timeout) = (&self.site.endpoint, self.target.timeout);
        let mut speak = |now, out: &mut Vec<u8>| open(now, out).map(Actor::new);
        let count = participants.placed();
        let interrupted = &self.site.interrupted;
        let mut connections =
            Connections::open(to.clone(), count, timeout, interrupted, &mut speak)?;
        let mut placed = place(participants, &connections);
        while placed.is_none() {
            if connections.all.len() >= count * SPARES_MAX {
                return Err(Halt::Placement(participants.placement.name()));
            }
            connections.grow(to.clone(), count, &mut speak)?;
            placed = place(participants, &connections);
        }
        let mut parts = placed.unwrap_or_default();
        let first = connections.all.len();
        connections.grow(to.clone(), participants.bystanders.len(), &mut speak)?;
        parts.extend(first..connections.all.len());
        self.assign(&mut connections, &parts)?;

        let senders: Vec<Sender> = (participants.senders.iter().zip(&parts))
            .map(|(&(_, copies), &connection)| Sender { connection, copies })
            .collect();
        let mut slow_readers = match &participants.slow_readers {
            Some(slow_readers) => slow_readers.gather(self.target, self.site)?,
            None => None,
        };
        let now = Instant::now();
        let meter = self.run.meter(now, self.target, self.site);
        let parts = Parts {
            senders: &senders,
            is_confirmed: participants.is_confirmed,
            slow_readers: slow_readers.as_mut(),
        };
        let mut outcome = exchange::run(&mut connections, parts, self.pace, meter, now, timeout)?;
        if let Some(slow_readers) = slow_readers {
            outcome.slow = Some(slow_readers.finish(Instant::now(), self.site, timeout)?);
        }
        connections.close();
        Ok(outcome)
    }

    /// Gives each connection its part; `parts` names their connections in the order of the participants.
    fn assign<D: Dialect>(
        &self,
        connections: &mut Connections<Actor<D>>,
        parts: &[usize],
    ) -> Result<(), Halt> {
        let participants = self.participants;
        let roles = (participants.senders.iter().map(|sender| &sender.0))
            .chain(&participants.receivers)
            .chain(&participants.bystanders);
        let mut by_connection: Vec<Option<(u32, &Role)>> = vec![None; connections.all.len()];
        for (origin, (role, &connection)) in (0..).zip(roles.zip(parts)) {
            by_connection[connection] = Some((origin, role));
        }
        let mut scripts: Vec<(&Role, Rc<Script>)> = Vec::new();
        connections.settle(|index, actor, out| {
            let Some((origin, role)) = by_connection[index] else {
                return;
            };
            // Whoever has an address of its own has a script of its own.
            let is_shared = !matches!(role, Role::Requester { .. } | Role::Holder { .. });
            let known = scripts.iter().find(|(known, _)| *known == role);
            let script = match known {
                Some((_, script)) if is_shared => Rc::clone(script),
                _ => {
                    let script = Rc::new(D::script(role, origin, &participants.payload));
                    if is_shared {
                        scripts.push((role, Rc::clone(&script)));
                    }
                    script
                }
            };
            actor.assume(role, origin, origin, &script, out);
        })
    }
}

/// The connections of senders and receivers, in this order, if there are enough of them
/// in the right places.
fn place<D: Dialect>(
    participants: &Participants,
    connections: &Connections<Actor<D>>,
) -> Option<Vec<usize>> {
    let shards = connections.all.iter().map(|c| c.speaker().shard());
    let shards: Vec<Option<u16>> = shards.collect();
    choose(
        participants.placement,
        participants.senders.len(),
        participants.receivers.len(),
        &shards,
    )
}

fn choose(
    placement: Placement,
    senders: usize,
    receivers: usize,
    shards: &[Option<u16>],
) -> Option<Vec<usize>> {
    let count = senders + receivers;
    if placement == Placement::Any {
        return (shards.len() >= count).then(|| (0..count).collect());
    }
    let home = (*shards.first()?)?;
    let at = |wanted: u16| {
        let found = shards.iter().enumerate();
        found
            .filter(move |(_, shard)| **shard == Some(wanted))
            .map(|(index, _)| index)
    };
    if placement == Placement::Same {
        let all: Vec<usize> = at(home).take(count).collect();
        return (all.len() == count).then_some(all);
    }
    let away = shards.iter().flatten().find(|&&shard| shard != home)?;
    let mut all: Vec<usize> = at(home).take(senders).collect();
    if all.len() < senders {
        return None;
    }
    all.extend(at(*away).take(receivers));
    (all.len() == count).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_given_to_connections_of_the_right_shards() {
        let shards = [3, 1, 3, 3, 1, 1].map(Some);
        let choose = |placement, senders, receivers| choose(placement, senders, receivers, &shards);
        assert_eq!(choose(Placement::Any, 2, 1), Some(vec![0, 1, 2]));
        assert_eq!(choose(Placement::Same, 1, 2), Some(vec![0, 2, 3]));
        assert_eq!(choose(Placement::Same, 2, 2), None);
        assert_eq!(choose(Placement::Apart, 2, 2), Some(vec![0, 2, 1, 4]));
        assert_eq!(choose(Placement::Apart, 1, 4), None);
    }

    #[test]
    fn a_server_of_one_shard_cannot_separate_participants() {
        let one = vec![Some(0); 100];
        assert_eq!(choose(Placement::Apart, 1, 1, &one), None);
        assert_eq!(choose(Placement::Same, 1, 1, &[None; 4]), None);
    }
}
