//! Payloads of topics with a schema: checked where they are published, translated when due; and the
//! count of connections that want each codec. The schemas themselves are in `schema`.

use crate::base::id::Key;
use crate::broker::Broker;
use crate::broker::peers::client_state::Wants;
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::publication::{Form, Publication, SchemaId, Translation, other};
use crate::metrics::counter::Counter;
use crate::proto::envelope::{Codec, Envelope, FLAG_RETAIN};
use crate::proto::error::{Code, Refusal};
use crate::router::Subscription;
use std::sync::atomic::Ordering::Relaxed;

impl Broker {
    /// The schema of a publication, if its topic has one and it is not the empty payload that
    /// clears a retained message.
    #[inline]
    pub(in crate::broker) fn schema_of(&self, envelope: &Envelope<'_>) -> Option<SchemaId> {
        match &self.schemas {
            None => None,
            Some(_) if is_clear(envelope) => None,
            Some(schemas) => schemas.find(envelope.name),
        }
    }

    /// Checks a payload on this shard's thread.
    ///
    /// # Errors
    /// BAD_PAYLOAD, naming the field that does not fit.
    pub(in crate::broker) fn check_payload(
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
    pub(in crate::broker) fn refuse_payload(&self, text: String) -> Refusal {
        self.resources.counters.add(Counter::SchemaRefused, 1);
        Refusal::with(Code::BadPayload, text)
    }

    /// Translates a will in advance: when wills are published there may be thousands of them.
    pub(in crate::broker) fn translate_will(
        &self,
        translation: Box<Translation>,
        envelope: &Envelope<'_>,
    ) -> Box<Translation> {
        let (Some(schemas), Form::Unmade(Some(checked))) = (&self.schemas, &translation.form)
        else {
            return translation;
        };
        let mut payload = Vec::new();
        let most = schemas.payload_bytes_max(envelope);
        let written = checked.write(other(envelope.codec), most, &mut payload);
        let form = match written {
            Ok(()) => Form::Payload(payload),
            Err(_) => Form::TooLarge,
        };
        Translation::new(translation.schema, form)
    }

    /// Translates a publication now, if it needs a translation.
    pub(in crate::broker) fn translate(&mut self, publication: &mut Publication<'_>) {
        if let Some(schemas) = &self.schemas
            && publication.translation.is_some()
        {
            publication.translate(schemas, &mut self.resources);
        }
    }

    /// The same, if any connection wants that codec.
    pub(in crate::broker) fn translate_if_wanted(&mut self, publication: &mut Publication<'_>) {
        let codec = other(publication.envelope.codec);
        if (self.schemas.as_ref()).is_some_and(|schemas| schemas.is_wanted(codec)) {
            self.translate(publication);
        }
    }

    /// Whether a subscriber wants the codec that the publication is not in.
    pub(in crate::broker) fn wants_other(
        &self,
        to: Subscription,
        publication: &Publication<'_>,
    ) -> bool {
        let wanted = match to.codec {
            Codec::Bytes => match self.connections.get(to.connection) {
                Some(connection) => connection.transport.session.codec(),
                None => return false,
            },
            codec => codec,
        };
        wanted != Codec::Bytes && wanted != publication.envelope.codec
    }

    /// Delivers a publication in the other codec.
    #[inline(never)]
    pub(in crate::broker) fn deliver_translated(
        &mut self,
        to: Subscription,
        publication: &mut Publication<'_>,
    ) {
        let (Some(connection), Some(schemas)) =
            (self.connections.get_mut(to.connection), &self.schemas)
        else {
            return;
        };
        if connection.member.has_taken(publication) {
            return;
        }
        let Some(message) = publication.translate(schemas, &mut self.resources) else {
            connection.member.note_taken(publication);
            return self.resources.counters.add(Counter::DeliveriesTooLarge, 1);
        };
        // Name and headers are the same, and nothing else in the envelope is read.
        let mut translated = Publication {
            parcel: Parcel::shared(&message).grown(publication.parcel.is_grown()),
            envelope: publication.envelope,
            translation: None,
            span: None,
            ..*publication
        };
        self.deliver(to, &mut translated);
    }

    /// A connection wants its subscriptions in a codec: counts it, once per codec.
    pub(in crate::broker) fn note_wanted(&mut self, key: Key, codec: Codec) {
        let (Some(connection), Some(schemas)) = (self.connections.get_mut(key), &self.schemas)
        else {
            return;
        };
        let Some(count) = schemas.demand.of(codec) else {
            return;
        };
        let wants = &mut connection.member.state_mut().wants;
        let counted = match codec {
            Codec::Protobuf => &mut wants.protobuf,
            Codec::Bytes | Codec::Json => &mut wants.json,
        };
        if !std::mem::replace(counted, true) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// It no longer wants any codec.
    pub(in crate::broker) fn forget_wanted(&self, wants: Wants) {
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

/// The empty payload that clears a retained message. In protobuf an empty payload is also a message
/// (with every field at its default), unless it is to be retained.
fn is_clear(envelope: &Envelope<'_>) -> bool {
    let is_message = envelope.codec == Codec::Protobuf && envelope.flags & FLAG_RETAIN == 0;
    envelope.payload.is_empty() && !is_message
}
