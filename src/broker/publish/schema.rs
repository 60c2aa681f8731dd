//! Topics whose payloads have a schema: which topics these are, who wants which codec, and
//! conversion of a publication to the codec it was not published in.
//!
//! ```text
//!   PUBLISH ─► schema? ─no──────────────────────────────────────────► route, verbatim
//!                └yes─► fits? ─no─► BAD_PAYLOAD, with the field
//!                         └yes─► route ─► subscriber wants it as it is ─► verbatim
//!                                      └► wants the other codec ────────► translated, once
//! ```
//!
//! A payload is checked on the shard where it is published, before any subscriber gets it. It is
//! translated when the first subscriber wants that, and all others on the shard share the bytes;
//! another shard gets them with the publication if they exist by then, and otherwise makes them
//! itself, once, if a subscriber there wants them. So a message that no one wants translated is
//! only checked. Two kinds are translated in advance, because later would be too late: retained
//! messages, of which a SUBSCRIBE may want thousands at once, and large ones, which a worker
//! translates (`check`) if anyone wants that codec at all ([`Demand`]).
//!
//! A subscriber gets its SUBSCRIBE's codec if that names one, else its connection's, and if that
//! has none, the published one. Of several matching filters the first one in this order counts:
//! without wildcards before with, `#` before what it includes, names before `+`.
//!
//! Each shard has its own copy of the schemas: each parsed payload holds a reference to its schema,
//! and a reference count written by all shards would be the only one of its kind.
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
    /// Bytes of the largest payload that may be produced, including the envelope.
    bytes_max: usize,
}

impl Schemas {
    /// Of several filters that match a topic the first in this order counts. Filters must be valid.
    /// A translated message has at most `message_bytes_max` bytes.
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

    /// The largest translated payload for this envelope, in bytes.
    pub(in crate::broker) fn payload_bytes_max(&self, envelope: &Envelope<'_>) -> usize {
        envelope.payload_bytes_max(self.bytes_max)
    }

    pub(in crate::broker) fn is_wanted(&self, codec: Codec) -> bool {
        self.demand
            .of(codec)
            .is_some_and(|count| count.load(Relaxed) > 0)
    }
}

/// How many connections of all shards want a codec: a hint, consulted before a large message is
/// translated; it need not be exact.
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

/// Whether checking the payload takes so long that a worker should do it.
pub(in crate::broker) fn is_long(envelope: &Envelope<'_>) -> bool {
    envelope.payload.len() > CHECKED_BYTES_MAX
}

impl Publication<'_> {
    /// The whole message in the other codec, converted now unless it already was. `None`: it would
    /// be too large.
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
