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

use super::exchange::Exchange;
use super::parcel::Parcel;
use super::publication::{Form, Publication, SchemaId, Translation, other};
use super::resource::Resources;
use super::station::Wants;
use crate::base::id::Key;
use crate::base::limits::{CHECKED_BYTES_MAX, MESSAGE_HEADER_BYTES};
use crate::codec::Schema;
use crate::metrics::counter::Counter;
use crate::proto::envelope::{Codec, Envelope, FLAG_RETAIN};
use crate::proto::error::{Code, Refusal};
use crate::proto::message::{copy_head, set_length};
use crate::router::{Subscription, Trie};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A shard's schemas by topic.
pub struct Schemas {
    filters: Trie<SchemaId>,
    schemas: Vec<Schema>,
    demand: Arc<Demand>,
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

    pub(super) fn find(&self, topic: &str) -> Option<SchemaId> {
        let mut found: Option<SchemaId> = None;
        self.filters.matching(topic, &mut |&id| {
            found = Some(found.map_or(id, |first| first.min(id)));
        });
        found
    }

    pub(super) fn schema(&self, id: SchemaId) -> &Schema {
        &self.schemas[id.0 as usize]
    }

    /// Bytes a payload may have when translated, behind what stands before it.
    pub(super) fn payload_bytes_max(&self, head_bytes: usize) -> usize {
        (self.bytes_max + MESSAGE_HEADER_BYTES).saturating_sub(head_bytes)
    }

    pub(super) fn is_wanted(&self, codec: Codec) -> bool {
        self.demand
            .of(codec)
            .is_some_and(|count| count.load(Relaxed) > 0)
    }
}

/// How many connections of all shards want a codec: a hint, asked before a large message is
/// translated and never needed to be right.
#[derive(Debug, Default)]
pub struct Demand {
    json: AtomicUsize,
    protobuf: AtomicUsize,
}

impl Demand {
    fn of(&self, codec: Codec) -> Option<&AtomicUsize> {
        match codec {
            Codec::Bytes => None,
            Codec::Json => Some(&self.json),
            Codec::Protobuf => Some(&self.protobuf),
        }
    }
}

/// It has no payload. In protobuf that is a message too, of which every field has its default,
/// unless it is to be retained.
fn is_clear(envelope: &Envelope<'_>) -> bool {
    let is_message = envelope.codec == Codec::Protobuf && envelope.flags & FLAG_RETAIN == 0;
    envelope.payload.is_empty() && !is_message
}

/// A payload that takes so long to check that a worker does it.
pub(super) fn is_long(envelope: &Envelope<'_>) -> bool {
    envelope.payload.len() > CHECKED_BYTES_MAX
}

impl Publication<'_> {
    /// The whole message in the other codec, made now if it has not been. `None`: it would be
    /// too large.
    pub(super) fn translate(
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
        let message = self.parcel.message();
        let head = &message[..message.len() - payload.len()];
        let mut out = Vec::with_capacity(message.len() + payload.len() / 2);
        copy_head(head, codec, &mut out);
        let most = schemas.payload_bytes_max(head.len());
        let written = match form {
            Form::Made(_) | Form::TooLarge => return None,
            Form::Payload(payload) => {
                out.extend_from_slice(&payload);
                true
            }
            Form::Unmade(Some(checked)) => {
                resources.spend(payload.len());
                resources.spend_values(payload.len(), checked.values());
                checked.write(codec, most, &mut out).is_ok()
            }
            Form::Unmade(None) => {
                resources.spend(2 * payload.len());
                let schema = schemas.schema(translation.schema);
                let checked = schema.check(self.envelope.codec, payload).ok();
                checked.is_some_and(|checked| {
                    resources.spend_values(2 * payload.len(), 2 * checked.values());
                    checked.write(codec, most, &mut out).is_ok()
                })
            }
        };
        if !written {
            return None;
        }
        set_length(&mut out);
        out.shrink_to_fit();
        let counter = match codec {
            Codec::Protobuf => Counter::TranslatedToProtobuf,
            Codec::Bytes | Codec::Json => Counter::TranslatedToJson,
        };
        resources.counters.add(counter, 1);
        let made = Bytes::from(out);
        translation.form = Form::Made(made.clone());
        Some(made)
    }
}

impl Exchange {
    /// The schema of what is published, if its topic has one and it is not the empty payload
    /// that clears a retained message.
    #[inline]
    pub(super) fn schema_of(&self, envelope: &Envelope<'_>) -> Option<SchemaId> {
        match &self.schemas {
            None => None,
            Some(_) if is_clear(envelope) => None,
            Some(schemas) => schemas.find(envelope.name),
        }
    }

    /// Checks a payload here and now.
    ///
    /// # Errors
    /// BAD_PAYLOAD, with the field that does not fit.
    pub(super) fn check_payload(
        &mut self,
        id: SchemaId,
        envelope: &Envelope<'_>,
    ) -> Result<Box<Translation>, Refusal> {
        let Some(schemas) = &self.schemas else {
            return Ok(Translation::new(id, Form::Unmade(None)));
        };
        self.resources.spend(envelope.payload.len());
        match schemas.schema(id).check(envelope.codec, envelope.payload) {
            Ok(checked) => {
                let bytes = envelope.payload.len();
                self.resources.spend_values(bytes, checked.values());
                let form = Form::Unmade(Some(Box::new(checked)));
                Ok(Translation::new(id, form))
            }
            Err(misfit) => Err(self.refuse_payload(misfit.text)),
        }
    }

    #[cold]
    pub(super) fn refuse_payload(&self, text: String) -> Refusal {
        self.resources.counters.add(Counter::SchemaRefused, 1);
        Refusal::with(Code::BadPayload, text)
    }

    /// Makes a will's translation: when it is published there may be thousands of them.
    pub(super) fn translate_will(
        &self,
        translation: Box<Translation>,
        envelope: &Envelope<'_>,
    ) -> Box<Translation> {
        let (Some(schemas), Form::Unmade(Some(checked))) = (&self.schemas, &translation.form)
        else {
            return translation;
        };
        let head = MESSAGE_HEADER_BYTES + envelope.encoded_len() - envelope.payload.len();
        let mut payload = Vec::new();
        let most = schemas.payload_bytes_max(head);
        let written = checked.write(other(envelope.codec), most, &mut payload);
        let form = match written {
            Ok(()) => Form::Payload(payload),
            Err(_) => Form::TooLarge,
        };
        Translation::new(translation.schema, form)
    }

    /// Makes a publication's translation now, if there is one to be made.
    pub(super) fn translate(&mut self, publication: &mut Publication<'_>) {
        if let Some(schemas) = &self.schemas
            && publication.translation.is_some()
        {
            publication.translate(schemas, &mut self.resources);
        }
    }

    /// The same, if anybody wants that codec.
    pub(super) fn translate_if_wanted(&mut self, publication: &mut Publication<'_>) {
        let codec = other(publication.envelope.codec);
        if (self.schemas.as_ref()).is_some_and(|schemas| schemas.is_wanted(codec)) {
            self.translate(publication);
        }
    }

    /// Whether a subscriber wants the codec that the publication is not in.
    pub(super) fn wants_other(&self, to: Subscription, publication: &Publication<'_>) -> bool {
        let wanted = match to.codec {
            Codec::Bytes => match self.connections.get(to.connection) {
                Some(connection) => connection.line.session.codec(),
                None => return false,
            },
            codec => codec,
        };
        wanted != Codec::Bytes && wanted != publication.envelope.codec
    }

    /// Delivers a publication in the other codec.
    #[inline(never)]
    pub(super) fn deliver_translated(
        &mut self,
        to: Subscription,
        publication: &mut Publication<'_>,
    ) {
        let (Some(connection), Some(schemas)) =
            (self.connections.get_mut(to.connection), &self.schemas)
        else {
            return;
        };
        if connection.line.has_taken(publication) {
            return;
        }
        let Some(message) = publication.translate(schemas, &mut self.resources) else {
            connection.line.note_taken(publication);
            return self.resources.counters.add(Counter::DeliveriesTooLarge, 1);
        };
        // Name and headers are the same; of the envelope nothing else is asked for.
        let mut translated = Publication {
            parcel: Parcel::shared(&message).grown(publication.parcel.is_grown()),
            envelope: publication.envelope,
            translation: None,
            span: None,
            ..*publication
        };
        self.deliver(to, &mut translated);
    }

    /// A connection wants what it subscribes to in a codec: it is counted, once for each.
    pub(super) fn note_wanted(&mut self, key: Key, codec: Codec) {
        let (Some(connection), Some(schemas)) = (self.connections.get_mut(key), &self.schemas)
        else {
            return;
        };
        let Some(count) = schemas.demand.of(codec) else {
            return;
        };
        let wants = &mut connection.line.station_mut().wants;
        let counted = match codec {
            Codec::Protobuf => &mut wants.protobuf,
            Codec::Bytes | Codec::Json => &mut wants.json,
        };
        if !std::mem::replace(counted, true) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// It wants nothing any more.
    pub(super) fn forget_wanted(&self, wants: Wants) {
        let Some(schemas) = &self.schemas else { return };
        for (counted, count) in [
            (wants.json, &schemas.demand.json),
            (wants.protobuf, &schemas.demand.protobuf),
        ] {
            if counted {
                count.fetch_sub(1, Relaxed);
            }
        }
    }
}
