//! Topics whose payloads have a schema: which they are, who wants what codec, and a
//! publication in the codec that it was not published in.
//!
//! ```text
//!   PUBLISH ─► schema? ─no──────────────────────────────────────────► route, verbatim
//!                └yes─► fits? ─no─► BAD_PAYLOAD, with the field
//!                         └yes─► route ─► subscriber wants it as it is ─► verbatim
//!                                      └► wants the other codec ────────► translated, once
//! ```
//!
//! A payload is checked where it is published, before anybody gets it. It is translated when
//! the first subscriber wants that, and all others of the shard share the bytes; another
//! shard gets them with the publication if they are there by then, and else makes them for
//! itself, once, if somebody there wants them. So a message that nobody wants translated is
//! checked and no more. Two cases are translated before, because later would be too late:
//! retained messages, of which a SUBSCRIBE may want thousands at once, and large ones, which
//! a worker takes (`check`), if anybody wants that codec at all ([`Demand`]).
//!
//! What a subscriber gets: its SUBSCRIBE's codec if that has one, else its connection's, and
//! where that has none, as published. Of several filters that match, the first counts: one
//! without wildcards before one with, `#` before what it includes, names before `+`.
//!
//! Each shard has schemas of its own: each payload that is taken apart counts as a reference to
//! its schema, and a count that all shards write is what they otherwise do not have.
//!
//! What it does not do: translate requests and responses, or topics without a schema.

use crate::base::limits::CHECKED_BYTES_MAX;
use crate::broker::context::resource::Resources;
use crate::broker::publish::publication::{Form, Publication, SchemaId, other};
use crate::codec::Schema;
use crate::metrics::counter::Counter;
use crate::proto::envelope::{Codec, Envelope};
use crate::router::Trie;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A shard's schemas by topic.
pub struct Schemas {
    pub(in crate::broker) filters: Trie<SchemaId>,
    pub(in crate::broker) schemas: Vec<Schema>,
    pub(in crate::broker) demand: Arc<Demand>,
    /// Bytes of the largest payload that is made, envelope and all.
    bytes_max: usize,
}

impl Schemas {
    /// Of several filters that match a topic the first in this order counts. Filters are
    /// valid. What is translated is as large as `message_bytes_max`, at most.
    pub fn new(
        topics: Vec<(String, Schema)>,
        demand: Arc<Demand>,
        message_bytes_max: u32,
    ) -> Schemas {
        let mut filters = Trie::new();
        let mut schemas = Vec::with_capacity(topics.len());
        for (filter, schema) in topics {
            let id = SchemaId(schemas.len() as u32);
            filters.insert(&filter, || id);
            schemas.push(schema);
        }
        Schemas {
            filters,
            schemas,
            demand,
            bytes_max: message_bytes_max as usize,
        }
    }

    pub(in crate::broker) fn find(&self, topic: &str) -> Option<SchemaId> {
        let mut found: Option<SchemaId> = None;
        self.filters.matching(topic, &mut |&id| {
            found = Some(found.map_or(id, |first| first.min(id)));
        });
        found
    }

    pub(in crate::broker) fn schema(&self, id: SchemaId) -> &Schema {
        &self.schemas[id.0 as usize]
    }

    /// Bytes this one's payload may have when translated.
    pub(in crate::broker) fn payload_bytes_max(&self, envelope: &Envelope<'_>) -> usize {
        envelope.payload_bytes_max(self.bytes_max)
    }

    pub(in crate::broker) fn is_wanted(&self, codec: Codec) -> bool {
        self.demand
            .of(codec)
            .is_some_and(|count| count.load(Relaxed) > 0)
    }
}

/// How many connections of all shards want a codec: a hint, asked before a large message is
/// translated and never needed to be right.
#[derive(Debug, Default)]
pub struct Demand {
    pub(in crate::broker) json: AtomicUsize,
    pub(in crate::broker) protobuf: AtomicUsize,
}

impl Demand {
    pub(in crate::broker) fn of(&self, codec: Codec) -> Option<&AtomicUsize> {
        match codec {
            Codec::Bytes => None,
            Codec::Json => Some(&self.json),
            Codec::Protobuf => Some(&self.protobuf),
        }
    }
}

/// A payload that takes so long to check that a worker does it.
pub(in crate::broker) fn is_long(envelope: &Envelope<'_>) -> bool {
    envelope.payload.len() > CHECKED_BYTES_MAX
}

impl Publication<'_> {
    /// The whole message in the other codec, made now if it has not been. `None`: it would be
    /// too large.
    pub(in crate::broker) fn translate(
        &mut self,
        schemas: &Schemas,
        resources: &mut Resources,
    ) -> Option<Bytes> {
        let translation = self.translation.as_mut()?;
        if let Form::Made(message) = &translation.form {
            return Some(message.clone());
        }
        let form = std::mem::replace(&mut translation.form, Form::TooLarge);
        let codec = other(self.envelope.codec);
        let payload = self.envelope.payload;
        let most = schemas.payload_bytes_max(self.envelope);
        let write = |out: &mut Vec<u8>| match form {
            Form::Made(_) | Form::TooLarge => None,
            Form::Payload(payload) => {
                out.extend_from_slice(&payload);
                Some(())
            }
            Form::Unmade(Some(checked)) => {
                resources.spend(payload.len());
                resources.spend_values(payload.len(), checked.values());
                checked.write(codec, most, out).ok()
            }
            Form::Unmade(None) => {
                resources.spend(2 * payload.len());
                let schema = schemas.schema(translation.schema);
                let checked = schema.check(self.envelope.codec, payload).ok()?;
                resources.spend_values(2 * payload.len(), 2 * checked.values());
                checked.write(codec, most, out).ok()
            }
        };
        let message = self.parcel.message();
        let message = message.with_payload(payload.len(), codec, write)?;
        let counter = match codec {
            Codec::Protobuf => Counter::TranslatedToProtobuf,
            Codec::Bytes | Codec::Json => Counter::TranslatedToJson,
        };
        resources.counters.add(counter, 1);
        let made = resources.pool.ledger.share(Bytes::from(message));
        translation.form = Form::Made(made.clone());
        Some(made)
    }
}
