//! How long clients wait for the answers to their operations.

use super::{Evidence, Witness};
use ringmail::base::clock::Instant;
use ringmail::ring::sim::client::ClientId;
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
        let witnesses = of.iter().filter_map(|&id| self.witness(id));
        let waits = witnesses.flat_map(|witness| {
            let last = witness.record.connections.last();
            let from = last.map_or(since, |last| last.begun_at.max(since));
            let waits = waits(witness).into_iter();
            waits
                .filter(move |one| one.0 >= from && !one.2.ends_with("flaky"))
                .map(|(from, to, what)| {
                    let waited = to.unwrap_or(now).since(from);
                    (waited, format!("{:?}: {what}", witness.id))
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
    let subscriptions = record.subscriptions.iter().map(|one| ("SUBSCRIBE", one));
    let services = record.services.iter().map(|one| ("SERVE", one));
    for (what, one) in subscriptions.chain(services) {
        if one.refused.is_some() {
            continue;
        }
        let name = &one.filter.name;
        waits.push((one.sent_at, one.confirmed_at, format!("{what} {name}")));
        if let Some(left_at) = one.left_at {
            waits.push((left_at, one.left_confirmed_at, format!("UN{what} {name}")));
        }
    }
    for one in &record.requested {
        let answered_at = one.answer.map(|answer| answer.at);
        waits.push((one.at, answered_at, format!("REQUEST to {}", one.service)));
    }
    waits
}
