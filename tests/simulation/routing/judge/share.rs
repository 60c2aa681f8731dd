//! Messages that go to one of several: a group's to one member, a request to one server.

use super::{Evidence, Verdict, Witness, suits};
use ringmail::base::clock::Instant;
use ringmail::proto::error::Code;
use ringmail::proto::name::matches;
use ringmail::ring::sim::client::ClientId;
use ringmail::ring::sim::client::traffic::{Answering, Label, Registration, Requested};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

type GroupName = (String, String);

/// How long there and back may take, with every delay among the faults.
const LONGEST_WAY: Duration = Duration::from_millis(20);

impl Evidence {
    /// Of all members of (filter, group), one gets each message. Another gets it only if the first
    /// has ended without acknowledging it; at least one gets it while a member is subscribed and
    /// none was lost.
    pub fn check_groups(&self) -> Verdict {
        let mut groups: BTreeSet<GroupName> = BTreeSet::new();
        for witness in &self.witnesses {
            for registration in &witness.record.subscriptions {
                if let Some(group) = &registration.filter.group {
                    groups.insert((registration.filter.name.clone(), group.clone()));
                }
            }
        }
        groups.iter().try_for_each(|group| self.check_group(group))
    }

    fn check_group(&self, group: &GroupName) -> Verdict {
        let takers = self.takers(group);
        let had = self.had_by_members(group);
        let mut members: Vec<(&Witness, &Registration)> = Vec::new();
        for witness in &self.witnesses {
            let of = witness.record.subscriptions.iter();
            let of = of.filter(|registration| is_member(registration, group));
            members.extend(of.map(|registration| (witness, registration)));
        }
        let steady = members.iter().all(|(witness, _)| witness.is_steady());
        for (sender, label, published) in self.published() {
            let plan = &published.plan;
            if published.is_will || plan.retain || !matches(&group.0, &plan.topic) {
                continue;
            }
            let found = takers.get(&label).map_or(&[][..], Vec::as_slice);
            // A client that has ended its stream may still receive what was on its way.
            let is_late = |taker: &Taker| taker.had_gone_by(taker.at);
            let passed_on = found
                .windows(2)
                .all(|pair| pair[0].had_gone_by(pair[1].at) || is_late(&pair[1]));
            if !passed_on {
                let found: Vec<_> = found.iter().map(|taker| taker.id).collect();
                return Err(format!(
                    "{group:?}: {label:?} taken by {found:?}: {published:?}"
                ));
            }
            let stood = |taken_at: Instant| {
                let mut members = members.iter();
                members.any(|(witness, one)| witness.stood(one, published.sent_at, taken_at))
            };
            let accepted = members.iter().all(|one| one.0.accepts(published));
            let owed = steady && accepted && plan.expires_ms.is_none() && !had.contains(&label);
            if found.is_empty() && owed && sender.taken_at(label.number).is_some_and(stood) {
                return Err(format!("{group:?}: {label:?} taken by none: {published:?}"));
            }
        }
        Ok(())
    }

    /// Who got each message as a member of a group, in order of time; a member that may have it
    /// through another of its filters does not count.
    fn takers(&self, group: &GroupName) -> HashMap<Label, Vec<Taker>> {
        let mut takers: HashMap<Label, Vec<Taker>> = HashMap::new();
        for witness in &self.witnesses {
            for one in &witness.record.delivered {
                let all = witness.record.subscriptions.iter().filter(|registration| {
                    registration.membership == one.membership && suits(registration, &one.topic)
                });
                let mut all = all.peekable();
                if all.peek().is_some() && all.all(|registration| is_member(registration, group)) {
                    takers.entry(one.label).or_default().push(Taker {
                        id: witness.id,
                        at: one.at,
                        gone_at: gone_at(witness, one.membership),
                    });
                }
            }
        }
        for found in takers.values_mut() {
            found.sort_by_key(|taker| taker.at);
        }
        takers
    }

    /// The messages that members of a group have, through any of their filters.
    fn had_by_members(&self, group: &GroupName) -> BTreeSet<Label> {
        let is_of = |one: &Registration| is_member(one, group);
        let members = self.witnesses.iter();
        let members = members.filter(|one| one.record.subscriptions.iter().any(is_of));
        let delivered = members.flat_map(|one| &one.record.delivered);
        delivered.map(|one| one.label).collect()
    }

    /// Each REQUEST has one RESPONSE, with its server's answer or the reason why there is none; at
    /// most one server has seen the REQUEST.
    pub fn check_requests(&self) -> Verdict {
        let mut seen: HashMap<Label, ClientId> = HashMap::new();
        for server in &self.witnesses {
            for one in &server.record.served {
                if let Some(other) = seen.insert(one.label, server.id) {
                    let by = server.id;
                    return Err(format!("{by:?} and {other:?} were asked {one:?}"));
                }
            }
        }
        for asker in &self.witnesses {
            for (number, asked) in asker.record.requested.iter().enumerate() {
                let label = Label {
                    sender: asker.id,
                    number: number as u32,
                };
                let server = seen.get(&label).copied();
                if let Err(wrong) = self.check_request(asker, asked, server) {
                    return Err(format!("{label:?}: {wrong}: {asked:?}"));
                }
            }
        }
        Ok(())
    }

    fn check_request(
        &self,
        asker: &Witness,
        asked: &Requested,
        server: Option<ClientId>,
    ) -> Result<(), &'static str> {
        let Some(answer) = asked.answer else {
            return match asker.ended_in_order(asked.connection) {
                true => Err("never answered"),
                false => Ok(()),
            };
        };
        if asked.service.starts_with('$') {
            return Ok(());
        }
        match answer.failed {
            None if answer.by != server.map(|id| id.0) => Err("answered by one that was not asked"),
            None => Ok(()),
            Some(code) => self.may_fail(asked, code, answer.at),
        }
    }

    /// Whether a REQUEST may have failed with this code.
    fn may_fail(&self, asked: &Requested, code: Code, at: Instant) -> Result<(), &'static str> {
        let serves = |registration: &Registration| suits(registration, &asked.service);
        let stood = self.witnesses.iter().any(|witness| {
            let mut services = witness.record.services.iter();
            let stood = |one: &Registration| serves(one) && witness.stood(one, asked.at, at);
            services.any(stood) && witness.is_steady()
        });
        if code == Code::NoService && stood {
            return Err("there was a server all the while");
        }
        let mut servers = self.witnesses.iter().filter(|witness| {
            let services = &witness.record.services;
            services.iter().any(serves)
        });
        if code == Code::RequestTimeout {
            let terms = &self.terms;
            let ms = |ms| Duration::from_millis(u64::from(ms));
            let asked_for = asked.timeout_ms.map_or(terms.timeout, ms);
            return match at.since(asked.at) < asked_for.min(terms.timeout_max) {
                true => Err("it had more time"),
                false => Ok(()),
            };
        }
        let terms = &self.terms;
        let allowed = match code {
            Code::Overloaded => !terms.ample || terms.few_calls,
            Code::TooManyRequests => terms.few_calls,
            Code::RateLimited => terms.limits_rates,
            Code::TooLarge => self.is_too_large(asked),
            _ => false,
        };
        if allowed {
            return Ok(());
        }
        if stood && servers.all(is_reliable) {
            return Err("its servers answer, and never broke off");
        }
        match code {
            Code::NoService | Code::ServiceGone => Ok(()),
            Code::Overloaded | Code::TooManyRequests | Code::Application(_) => Ok(()),
            _ => Err("not a failure that it may have"),
        }
    }
}

impl Evidence {
    /// Whether a client that may have been brought this, or its answer, accepts no message so
    /// large.
    fn is_too_large(&self, asked: &Requested) -> bool {
        let most = asked.bytes + 700;
        let maxima = self.witnesses.iter().filter_map(|one| one.plan.message_max);
        maxima.min().is_some_and(|max| most > max as usize)
    }
}

/// A member that has received a group's message.
struct Taker {
    id: ClientId,
    at: Instant,
    /// When it sent CLOSE, or last lost the connection of its membership. If the server ended that:
    /// when it may first have done so, since another, who is nearer, may have received since then
    /// what this one was still to read.
    gone_at: Option<Instant>,
}

impl Taker {
    fn had_gone_by(&self, at: Instant) -> bool {
        self.gone_at.is_some_and(|gone_at| gone_at <= at)
    }
}

fn gone_at(witness: &Witness, place: usize) -> Option<Instant> {
    let closing = witness.record.memberships[place].closing_at;
    let of = witness.record.connections.iter();
    let of = of.filter(|one| one.membership == place);
    let ended = of.filter_map(|one| {
        let seen_at = one.left_at.or(one.ended_at)?;
        Some(match one.refused {
            Some(_) => seen_at - LONGEST_WAY,
            None => seen_at,
        })
    });
    closing.or(ended.max())
}

/// Whether a server answers every request and stayed on its first connection.
fn is_reliable(server: &Witness) -> bool {
    let answers = |one: &Answering| !matches!(one, Answering::Never | Answering::Fails(_));
    let mut services = server.record.services.iter();
    server.plan.answering.iter().all(answers)
        && server.record.connections.len() == 1
        && server.is_steady()
        && services.all(|one| one.left_at.is_none())
}

fn is_member(registration: &Registration, group: &GroupName) -> bool {
    registration.filter.name == group.0 && registration.filter.group.as_ref() == Some(&group.1)
}
