//! Retained messages: each topic's last one, kept on every shard and delivered on SUBSCRIBE.
//!
//! They go to every shard, with a version that makes all shards keep the same one in the end.
//! Where the topic has a schema both forms are kept, because a SUBSCRIBE may want thousands
//! in the other codec at once.

use super::exchange::Exchange;
use super::parcel::Parcel;
use super::publish::Publication;
use super::schema::{Form, Translation};
use crate::base::clock::Instant;
use crate::base::limits::MESSAGE_HEADER_BYTES;
use crate::proto::envelope::Envelope;
use crate::proto::message::MessageType;
use crate::router::{Kept, Subscription, Version};
use std::time::Duration;

impl Exchange {
    /// Delivers the retained messages that a new subscription matches.
    pub(super) fn deliver_retained(&mut self, filter: &str, subscription: Subscription) {
        let mut found: Vec<(Kept, Instant)> = Vec::new();
        self.router
            .retained(filter, self.resources.now, |kept, expires| {
                found.push((kept.clone(), expires));
            });
        for (kept, expires) in found {
            let Kept {
                message,
                translated,
            } = kept;
            let body = &message[MESSAGE_HEADER_BYTES..];
            let Ok(envelope) = Envelope::parse(MessageType::Publish, body) else {
                debug_assert!(false, "it was parsed before it was retained");
                continue;
            };
            let mut publication = self.publication(&envelope, Parcel::shared(&message), expires);
            publication.retained = true;
            publication.translation = self.schema_of(&envelope).map(|schema| {
                // It was made when the message was retained, if it can be.
                let form = translated.map_or(Form::TooLarge, Form::Made);
                Translation::new(schema, form)
            });
            self.deliver(subscription, &mut publication);
        }
    }

    pub(super) fn retain(&mut self, publication: &mut Publication<'_>, version: Version) {
        let envelope = publication.envelope;
        let translation = publication.translation.as_ref();
        let translated = translation.and_then(|translation| translation.made().cloned());
        let message = match envelope.payload {
            [] => None,
            _ => Some(Kept {
                message: publication.parcel.share(),
                translated,
            }),
        };
        let (expires, now) = (publication.expires, self.resources.now);
        self.router
            .retain(envelope.name, version, message, expires, now);
    }

    /// A time for the version of a retained message: two of one shard never have the same.
    pub(super) fn retain_version(&mut self) -> Instant {
        let next = self.retained_at + Duration::from_nanos(1);
        self.retained_at = self.resources.now.max(next);
        self.retained_at
    }
}
