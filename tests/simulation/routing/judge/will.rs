//! Wills: published once if their membership ended without CLOSE, otherwise never.

use super::delivery::keeps_all;
use super::{Evidence, Verdict, Witness, suits};
use ringmail::base::clock::Instant;
use ringmail::ring::sim::client::traffic::{ConnectionRecord, Label, Membership};
use std::time::Duration;

/// The server detects a vanished connection within this time.
const FOUND_DEAD: Duration = Duration::from_secs(95);

impl Evidence {
    /// Each membership's last confirmed will is published if it ended without CLOSE (a
    /// session's after its linger), all others never.
    pub fn check_wills(&self) -> Verdict {
        for sender in &self.witnesses {
            for (place, membership) in sender.record.memberships.iter().enumerate() {
                let sure = membership.wills.iter().rposition(|will| will.confirmed);
                for (index, will) in membership.wills.iter().enumerate() {
                    let Some(number) = will.number else { continue };
                    let label = Label {
                        sender: sender.id,
                        number,
                    };
                    let replaced = sure.is_some_and(|sure| index < sure);
                    let last = index + 1 == membership.wills.len() && will.confirmed;
                    let checked = self.check_will(sender, place, label, replaced, last);
                    if let Err(wrong) = checked {
                        return Err(format!("the will {label:?}: {wrong}: {membership:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_will(
        &self,
        sender: &Witness,
        place: usize,
        label: Label,
        replaced: bool,
        last: bool,
    ) -> Verdict {
        let membership = &sender.record.memberships[place];
        let gone_at = gone_at(sender, place);
        let withdrawn = replaced || sender.is_whole(place);
        let due = last && !withdrawn && membership.closing_at.is_none();
        let will = &sender.record.published[label.number as usize];
        for watcher in &self.witnesses {
            let mut received = watcher
                .record
                .delivered
                .iter()
                .filter(|one| one.label == label);
            let first = received.next();
            if withdrawn && let Some(first) = first {
                return Err(format!("published, to {:?}: {first:?}", watcher.id));
            }
            // If a fault broke it, only the server knows when.
            let broken = last_connection(sender, place).is_some_and(|last| last.broken);
            if let (Some(first), Some(gone_at), false) = (first, gone_at, broken)
                && self.is_early(membership, first.at, gone_at)
            {
                return Err(format!("before its time, to {:?}: {first:?}", watcher.id));
            }
            let Some(gone_at) = gone_at.filter(|_| due && first.is_none()) else {
                continue;
            };
            let until = gone_at + FOUND_DEAD + self.linger;
            let watched = watcher.record.subscriptions.iter().any(|registration| {
                suits(registration, &will.plan.topic)
                    && keeps_all(registration)
                    && watcher.stood(registration, will.sent_at, until)
                    && watcher.is_whole(registration.membership)
                    && watcher.accepts(will)
            });
            if watched {
                return Err(format!("not published, to {:?}: {will:?}", watcher.id));
            }
        }
        Ok(())
    }

    fn is_early(&self, membership: &Membership, at: Instant, gone_at: Instant) -> bool {
        let keeps = self.terms.ample && !self.terms.loses_sessions;
        let lingers = membership.key.is_some() && keeps;
        let wait = if lingers { self.linger } else { Duration::ZERO };
        at.since(gone_at) < wait
    }
}

fn last_connection(sender: &Witness, place: usize) -> Option<&ConnectionRecord> {
    let mut of = sender.record.connections.iter().rev();
    of.find(|connection| connection.membership == place)
}

/// When a membership's last connection began to end, if it did.
fn gone_at(sender: &Witness, place: usize) -> Option<Instant> {
    let last = last_connection(sender, place)?;
    last.left_at.or(last.ended_at)
}
