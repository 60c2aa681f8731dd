//! How long clients wait for the answers to their operations.

use super::{Evidence, Witness};
use ringmail::base::clock::Instant;
use ringmail::ring::sim::client::ClientId;
use ringmail::ring::sim::client::traffic::Registration;
use std::ptr;
use std::time::Duration;

/// One operation: when it was sent, when it was answered, and what it was.
type Wait = (Instant, Option<Instant>, String);

impl Evidence {
    /// The longest that one of these clients has waited by `now` for the answer to an operation,
    /// and which operation that was. Wills need no check of their own: operations are answered in
    /// order, so the next one waits for them.
    pub fn longest_wait(&self, of: &[ClientId], now: Instant) -> (Duration, String) {
        self.longest_wait_since(of, Instant::ZERO, now)
    }

    /// The same of operations that were sent at that time or later on connections that still
    /// stand, but not of REQUESTs to those that need not answer.
    pub fn longest_wait_since(
        &self,
        of: &[ClientId],
        since: Instant,
        now: Instant,
    ) -> (Duration, String) {
        let witnesses = of
            .iter()
            .filter_map(|&id| self.witness(id))
            .filter(|witness| {
                let last = witness.record.connections.last();
                last.is_some_and(|last| last.ended_at.is_none())
            });
        let waits = witnesses.flat_map(|witness| {
            let last = witness.record.connections.last();
            let from = last.map_or(since, |last| last.begun_at.max(since));
            let waits = waits(witness).into_iter();
            waits
                .filter(move |one| one.0 >= from && !one.2.ends_with("flaky"))
                .map(move |(from, to, what)| {
                    let waited = to.unwrap_or(now).since(from);
                    (waited, format!("{:?}: {what}, on {last:?}", witness.id))
                })
        });
        waits.max().unwrap_or_default()
    }
}

fn waits(witness: &Witness) -> Vec<Wait> {
    let record = &witness.record;
    let mut waits = Vec::new();
    for one in record
        .published
        .iter()
        .filter(|one| one.id != 0 && !one.is_will && one.refused.is_none())
    {
        let what = format!("PUBLISH {} to {}", one.id, one.plan.topic);
        waits.push((one.sent_at, one.confirmed_at, what));
    }
    let subscriptions = &record.subscriptions;
    let services = &record.services;
    let of = |what, all| move |one| (what, one, all);
    let every = subscriptions.iter().map(of("SUBSCRIBE", subscriptions));
    for (what, one, all) in every.chain(services.iter().map(of("SERVE", services))) {
        if one.refused.is_some() {
            continue;
        }
        let topic = &one.filter.name;
        waits.push((one.sent_at, one.confirmed_at, format!("{what} {topic}")));
        // One operation ends all that the client has of a filter; the last has its answer.
        let name = |one: &Registration| (one.filter.name.clone(), one.filter.group.clone());
        let is_last = |other: &&Registration| name(other) == name(one);
        let last = all.iter().rev().find(is_last);
        if let Some(left_at) = one
            .left_at
            .filter(|_| last.is_some_and(|last| ptr::eq(last, one)))
        {
            waits.push((left_at, one.left_confirmed_at, format!("UN{what} {topic}")));
        }
    }
    for one in &record.requested {
        let answered_at = one.answer.map(|answer| answer.at);
        waits.push((one.at, answered_at, format!("REQUEST to {}", one.service)));
    }
    waits
}
