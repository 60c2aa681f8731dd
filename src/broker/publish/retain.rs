//! Retained messages: each topic's last one, kept on every shard and delivered on SUBSCRIBE.
//!
//! They go to every shard from their topic's home (`home`), with a version by which all shards
//! eventually keep the same one. If the topic has a schema both forms are kept, because a SUBSCRIBE
//! may want thousands in the other codec at once.

use crate::base::clock::Instant;
use crate::base::limits::RETAINED_SWEPT;
use crate::broker::Broker;
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::publication::{Form, Publication, Translation};
use crate::broker::publish::replay::Brought;
use crate::proto::encoded::Encoded;
use crate::router::{Kept, Subscription, Version, Walk};
use bytes::Bytes;
use std::time::Duration;

/// Retained messages examined per unit of work.
const LOOKS_PER_UNIT: usize = 4;

impl Broker {
    /// Delivers the retained messages that match a new subscription, from the position of `walk`
    /// on: a turn's share of them, and no more than there is room for.
    pub(in crate::broker) fn deliver_retained(
        &mut self,
        filter: &str,
        subscription: Subscription,
        walk: &mut Walk,
    ) -> Brought {
        let mut found: Vec<(Kept, Instant)> = Vec::new();
        let (mut room, mut is_full) = (self.replay_room(subscription.connection), false);
        let (now, looks) = (
            self.resources.now,
            self.resources.limits.pace.retained_looks,
        );
        let mut left = looks;
        let is_done = self
            .router
            .retained(filter, walk, &mut left, now, |kept, expires| {
                is_full = !room.take(kept.message.len());
                if !is_full {
                    found.push((kept.clone(), expires));
                }
                !is_full
            });
        self.resources.work.spend(found.len());
        self.resources.work.spend((looks - left) / LOOKS_PER_UNIT);
        for (kept, expires) in found {
            let Kept {
                message,
                translated,
            } = kept;
            let Some(envelope) = Encoded::of(&message).publication() else {
                continue;
            };
            let mut publication = self.publication(&envelope, Parcel::shared(&message), expires);
            publication.retained = true;
            publication.translation = self.schema_of(&envelope).map(|schema| {
                // It was translated when the message was retained, if that was possible.
                let form = translated.map_or(Form::TooLarge, Form::Made);
                Translation::new(schema, form)
            });
            self.deliver(subscription, &mut publication);
        }
        match (is_done, is_full) {
            (true, _) => Brought::All,
            (false, true) => Brought::Full,
            (false, false) => Brought::Some,
        }
    }

    pub(in crate::broker) fn retain(
        &mut self,
        publication: &mut Publication<'_>,
        version: Version,
    ) {
        let envelope = publication.envelope;
        let translation = publication.translation.as_ref();
        let made = translation.and_then(|translation| translation.made());
        let ledger = &self.resources.pool.ledger;
        let message = match envelope.payload {
            [] => None,
            _ => Some(Kept {
                message: publication.parcel.share_retained(ledger),
                // A copy with its own charge: the original's belongs to those it is being delivered
                // to now.
                translated: made.map(|made| ledger.share_retained(Bytes::copy_from_slice(made))),
            }),
        };
        let (expires, now) = (publication.expires, self.resources.now);
        let is_last = self
            .router
            .retain(envelope.name, version, message, expires, now);
        if is_last && !self.replays.is_empty() {
            self.catch_up(publication);
        }
    }

    /// Frees some retained messages that have expired, if there are any: once a second, and when a
    /// publication was refused for lack of memory.
    pub(crate) fn sweep_retained(&mut self) {
        let now = self.resources.now;
        self.router.sweep_retained(now, RETAINED_SWEPT);
    }

    /// A timestamp for the version of a retained message; each one is unique on its shard.
    pub(in crate::broker) fn retain_version(&mut self) -> Instant {
        let next = self.retained_at + Duration::from_nanos(1);
        self.retained_at = self.resources.now.max(next);
        self.retained_at
    }
}
