//! Legacies: what departed connections leave: their wills, and group messages that had not been
//! sent to them or that they had not acknowledged, which go to other members.
//!
//! ```text
//!   session, connection ends ─► [ will │ will │ … ] ───────► published, some each turn
//!     (perhaps within a delivery)
//!                            └► [ message │ message │ … ] ─► a ready member, a few kilobytes
//!                                                            at a time
//! ```
//!
//! They wait, because what ends a connection may be a delivery: a publication within another
//! would use its numbers and matches (see `Broker::publications`). And what a session has
//! kept, or a program that hangs, may be more than another member can take at once: given at
//! once it would make that one a slow consumer. So messages wait for a member that keeps up,
//! and no more go to other shards than those have room for: they tell when members stall.
//!
//! Waiting messages carry their charge, as everywhere.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::HANDED_ON_BYTES;
use crate::broker::Broker;
use crate::broker::context::scheduler::{LEGACY_UNITS, Lane};
use crate::broker::peers::client_state::ClientState;
use crate::broker::publish::audience::Audience;
use crate::broker::publish::backlog::Legacy;
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::publication::{Form, Origin, Publication, Translation};
use crate::broker::publish::trail::Trail;
use crate::metrics::counter::Counter;
use crate::proto::encoded::Encoded;
use bytes::Bytes;
use std::time::Duration;

/// Between two shares of messages, and between looks for members that keep up.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_LONG: Duration = Duration::from_millis(100);

impl Broker {
    /// Publishes wills and hands messages on: a turn's share of them. False: none was due.
    pub(crate) fn reconcile_legacies(&mut self) -> bool {
        let now = self.resources.now;
        if self.legacies.next_due() > now {
            return false;
        }
        self.resources.work.begin(Lane::Legacy);
        while !self.resources.work.is_over()
            && let Some((key, will)) = self.legacies.wills.pop_front()
        {
            self.resources.work.spend(LEGACY_UNITS);
            self.publish_will(key, will);
        }
        if self.legacies.next_share <= now {
            self.hand_share_on();
        }
        true
    }

    /// Hands on about as much as members that keep up have room for.
    fn hand_share_on(&mut self) {
        let now = self.resources.now;
        let mut left_bytes = match self.mesh.is_done(self.legacies.mark) {
            true => HANDED_ON_BYTES,
            false => 0,
        };
        let mut passed_over = 0;
        let most = self.resources.limits.pace.legacies;
        let looks = self.legacies.messages.len().min(most);
        let mut looked = 0;
        while looked < looks && left_bytes > 0 && !self.resources.work.is_over() {
            let Some(legacy) = self.legacies.messages.pop_front() else {
                break;
            };
            looked += 1;
            let is_ready = self.router.is_ready(legacy.group);
            if legacy.expires > now && is_ready == Some(false) {
                passed_over += 1;
                self.legacies.messages.push_back(legacy);
                continue;
            }
            let bytes = legacy.message.len();
            left_bytes = left_bytes.saturating_sub(bytes);
            self.hand_on(&legacy);
        }
        let legacies = &mut self.legacies;
        (legacies.stuck, legacies.mark) = match looked {
            0 => (legacies.stuck, legacies.mark),
            _ => (passed_over == looks, self.mesh.mark()),
        };
        legacies.next_share = now + if legacies.stuck { PAUSE_LONG } else { PAUSE };
    }

    fn hand_on(&mut self, legacy: &Legacy) {
        let Legacy {
            group,
            message,
            expires,
        } = legacy;
        self.resources.work.spend(LEGACY_UNITS);
        if *expires <= self.resources.now {
            return self.resources.counters.add(Counter::DeliveriesExpired, 1);
        }
        let Some(envelope) = Encoded::of(message).publication() else {
            return;
        };
        let mut publication = self.publication(&envelope, Parcel::shared(message), *expires);
        publication.translation = self
            .schema_of(&envelope)
            .map(|schema| Translation::new(schema, Form::Unmade(None)));
        let handed_on = match self.note_plain(&publication) {
            true => self.deliver_again(*group, false, &mut publication),
            false => {
                let audience = Audience::Again {
                    picks: std::slice::from_ref(group),
                };
                self.fan_out(Origin::Nobody, audience, &mut publication);
                true
            }
        };
        let counters = &self.resources.counters;
        counters.add(Counter::GroupHandedOn, u64::from(handed_on));
    }

    /// Leaves a group's message to another member.
    pub(in crate::broker) fn leave_message(
        &mut self,
        group: Key,
        expires: Instant,
        message: Bytes,
    ) {
        self.legacies.stuck = false;
        self.legacies.messages.push_back(Legacy {
            group,
            message,
            expires,
        });
    }

    /// A publication cannot be delivered to the chosen member: leaves it to another.
    #[cold]
    pub(in crate::broker) fn leave_to_others(&mut self, publication: &mut Publication<'_>) {
        if let Some(group) = publication.group {
            let message = publication.parcel.share(&self.resources.pool.ledger);
            self.leave_message(group, publication.expires, message);
        }
    }

    /// Leaves what waits on a member's pending queue, or has not been acknowledged to its session,
    /// to other members.
    pub(in crate::broker) fn bequeath(&mut self, state: &mut ClientState) {
        let now = self.resources.now;
        if let Some(durable) = &mut state.durable {
            durable.log.take_grouped(&mut |group, expires, message| {
                let message = self.resources.pool.ledger.share(message);
                self.leave_message(group, expires, message);
            });
        }
        while let Some(held) = state.pending.next(now) {
            if let Some(group) = held.group {
                self.leave_message(group, held.expires, held.message);
            }
        }
        let expired = u64::from(state.pending.take_expired());
        let counters = &self.resources.counters;
        counters.add(Counter::DeliveriesExpired, expired);
    }

    /// The same for what its machine has not acknowledged; the kernel holds `held` bytes of that.
    pub(crate) fn bequeath_trail(&mut self, trail: Trail, held: usize) {
        let ledger = self.resources.pool.ledger.clone();
        trail.take_rest(held, &ledger, |group, expires, message| {
            self.leave_message(group, expires, message);
        });
    }
}
