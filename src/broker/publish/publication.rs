//! A publication on its way, as a value: its origin, its bytes, and its form in the other codec.
//! `publish`, `deliver` and `schema` decide what happens to it.

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::broker::context::trace::Open;
use crate::broker::publish::parcel::Parcel;
use crate::codec::Checked;
use crate::proto::envelope::{Codec, Envelope};
use bytes::Bytes;

/// Whose input continues once a publication has been delivered to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Origin {
    Connection(Key),
    /// Another shard, on which it was published.
    Link(ShardId),
    /// Another shard, on which it was published and for which this shard is the topic's home.
    Home(ShardId),
    /// A will, or a publication followed by more of its connection's: no one waits.
    Nobody,
}

/// A publication on its way to this shard's subscribers.
pub(in crate::broker) struct Publication<'a> {
    pub(in crate::broker) parcel: Parcel<'a>,
    pub(in crate::broker) envelope: &'a Envelope<'a>,
    pub(in crate::broker) expires: Instant,
    /// See `Broker::publications`.
    pub(in crate::broker) number: u64,
    /// Delivered on SUBSCRIBE.
    pub(in crate::broker) retained: bool,
    /// See `fanout`.
    pub(in crate::broker) sliced: bool,
    /// The group through which it goes to the member it is being delivered to.
    pub(in crate::broker) group: Option<Key>,
    /// If its topic has a schema: its form in the other codec.
    pub(in crate::broker) translation: Option<Box<Translation>>,
    /// Its `deliver` span, if it is sampled.
    pub(in crate::broker) span: Option<Open>,
}

impl<'a> Publication<'a> {
    /// Its bytes, and those in the other codec if they exist.
    pub(in crate::broker) fn forms(&mut self) -> (&mut Parcel<'a>, Option<&Bytes>) {
        let translation = self.translation.as_ref();
        (&mut self.parcel, translation.and_then(|one| one.made()))
    }

    /// Its fate may still change while it waits in an outbox: it may expire, or have to go to
    /// another member.
    #[inline]
    pub(in crate::broker) fn is_special(&self) -> bool {
        self.group.is_some() || self.expires != Instant::NEVER
    }

    /// Its delivery terms for other shards, except `plain`, which the mesh sets itself.
    pub(in crate::broker) fn terms(&self, retain: bool, again: bool, at: Instant) -> Terms {
        let (translation, grown) = (self.translation.as_deref(), self.parcel.is_grown());
        Terms {
            retain,
            again,
            ..Terms::new(translation, grown, at, self.expires)
        }
    }
}

/// What is sent to another shard with a publication, besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct Terms {
    /// Also for the plain subscribers there, not only for the picked groups.
    pub(in crate::broker) plain: bool,
    pub(in crate::broker) retain: bool,
    /// For a member of the picked groups that has not received it as a plain subscriber; others
    /// there have.
    pub(in crate::broker) again: bool,
    /// See `Parcel::grown`.
    pub(in crate::broker) grown: bool,
    pub(in crate::broker) translation: Sent,
    /// When the shard that delivers it received it.
    pub(in crate::broker) at: Instant,
    pub(in crate::broker) expires: Instant,
}

impl Terms {
    /// Terms for a publication that is not retained.
    pub(in crate::broker) fn new(
        translation: Option<&Translation>,
        grown: bool,
        at: Instant,
        expires: Instant,
    ) -> Terms {
        Terms {
            plain: false,
            retain: false,
            again: false,
            grown,
            translation: translation.map_or(Sent::None, Translation::sent),
            at,
            expires,
        }
    }
}

/// A schema's number, the same on all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::broker) struct SchemaId(pub(in crate::broker) u32);

/// A publication in the other codec, as far as it has been converted.
pub(in crate::broker) struct Translation {
    pub(in crate::broker) schema: SchemaId,
    pub(in crate::broker) form: Form,
}

pub(in crate::broker) enum Form {
    /// Not wanted so far; parsed, if that was done on this shard.
    Unmade(Option<Box<Checked>>),
    /// The payload, converted by a worker.
    Payload(Vec<u8>),
    /// The whole message.
    Made(Bytes),
    /// It would be larger than any message this server accepts.
    TooLarge,
}

/// What another shard is told of a translation; `Made` is sent with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Sent {
    /// The topic has no schema.
    None,
    Unmade(SchemaId),
    Made(SchemaId),
    TooLarge(SchemaId),
}

impl Translation {
    /// Boxed, so that a publication without one is no larger.
    pub(in crate::broker) fn new(schema: SchemaId, form: Form) -> Box<Translation> {
        Box::new(Translation { schema, form })
    }

    /// A translation as another shard has sent it.
    pub(in crate::broker) fn received(
        sent: Sent,
        made: Option<&Bytes>,
    ) -> Option<Box<Translation>> {
        let (schema, form) = match sent {
            Sent::None => return None,
            Sent::Unmade(schema) => (schema, Form::Unmade(None)),
            Sent::TooLarge(schema) => (schema, Form::TooLarge),
            Sent::Made(schema) => {
                debug_assert!(made.is_some());
                let form = made.map_or(Form::Unmade(None), |made| Form::Made(made.clone()));
                (schema, form)
            }
        };
        Some(Translation::new(schema, form))
    }

    /// The same for another holder of the publication, as far as it can be shared.
    pub(in crate::broker) fn share(&self) -> Box<Translation> {
        let form = match &self.form {
            Form::Made(message) => Form::Made(message.clone()),
            Form::TooLarge => Form::TooLarge,
            Form::Unmade(_) | Form::Payload(_) => Form::Unmade(None),
        };
        Translation::new(self.schema, form)
    }

    fn sent(&self) -> Sent {
        match &self.form {
            Form::Made(_) => Sent::Made(self.schema),
            Form::TooLarge => Sent::TooLarge(self.schema),
            Form::Unmade(_) | Form::Payload(_) => Sent::Unmade(self.schema),
        }
    }

    /// It should be made at once: a worker has done most of it, or the message will be kept.
    pub(in crate::broker) fn is_due(&self, retain: bool) -> bool {
        retain || matches!(self.form, Form::Payload(_))
    }

    /// Bytes of a converted payload held separately.
    pub(in crate::broker) fn payload_bytes(&self) -> usize {
        match &self.form {
            Form::Payload(payload) => payload.len(),
            _ => 0,
        }
    }

    pub(in crate::broker) fn made(&self) -> Option<&Bytes> {
        match &self.form {
            Form::Made(message) => Some(message),
            _ => None,
        }
    }
}

/// The other codec for a payload with a schema.
pub(in crate::broker) const fn other(codec: Codec) -> Codec {
    match codec {
        Codec::Json => Codec::Protobuf,
        Codec::Bytes | Codec::Protobuf => Codec::Json,
    }
}
