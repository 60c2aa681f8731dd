//! A message on its way from one connection to others: whole, without CRC, as its sender encoded
//! it. Small messages are copied into outboxes; one that has to wait or is large is shared by
//! reference, and the copy that makes it shareable is made once. Shared bytes carry their charge
//! (see `ledger`); a retained message has a separate charge on each shard, so it travels between
//! shards without one, charged to the batch on its way.

use crate::broker::context::ledger::Ledger;
use crate::proto::encoded::Encoded;
use bytes::Bytes;

/// Messages of this size or more get a send of their own rather than a copy.
pub(in crate::broker) const SHARED_BYTES_MIN: usize = 16_384;

pub(in crate::broker) struct Parcel<'a> {
    message: Encoded<'a>,
    /// With its charge.
    shared: Option<Bytes>,
    /// Without a charge.
    bare: Option<Bytes>,
    /// Longer than its sender made it, because of a TRACEPARENT (see `trace`).
    grown: bool,
}

impl<'a> Parcel<'a> {
    /// A message without CRC.
    pub(in crate::broker) fn plain(message: &'a [u8]) -> Parcel<'a> {
        Parcel::of(Encoded::of(message))
    }

    #[inline]
    pub(in crate::broker) fn of(message: Encoded<'a>) -> Parcel<'a> {
        Parcel {
            message,
            shared: None,
            bare: None,
            grown: false,
        }
    }

    /// A message without CRC that has other holders.
    pub(in crate::broker) fn shared(message: &'a Bytes) -> Parcel<'a> {
        Parcel {
            message: Encoded::of(message),
            shared: Some(message.clone()),
            bare: None,
            grown: false,
        }
    }

    /// A message without CRC that has other holders and is not charged to this shard.
    pub(in crate::broker) fn bare(message: &'a Bytes) -> Parcel<'a> {
        Parcel {
            message: Encoded::of(message),
            shared: None,
            bare: Some(message.clone()),
            grown: false,
        }
    }

    /// The same message, `grown` or not.
    pub(in crate::broker) fn grown(mut self, grown: bool) -> Parcel<'a> {
        self.grown = grown;
        self
    }

    pub(in crate::broker) fn is_grown(&self) -> bool {
        self.grown
    }

    /// The message as its sender made it, if it has grown.
    #[cold]
    pub(in crate::broker) fn ungrown(&self) -> Option<Vec<u8>> {
        match self.grown {
            true => self.message.without_trace(),
            false => None,
        }
    }

    #[inline]
    pub(in crate::broker) fn message(&self) -> Encoded<'a> {
        self.message
    }

    #[inline]
    pub(in crate::broker) fn bytes(&self) -> &'a [u8] {
        self.message.bytes()
    }

    #[inline]
    pub(in crate::broker) fn len(&self) -> usize {
        self.message.len()
    }

    #[inline]
    pub(in crate::broker) fn is_large(&self) -> bool {
        self.message.len() >= SHARED_BYTES_MIN
    }

    /// The message by reference, charged to this shard.
    pub(in crate::broker) fn share(&mut self, ledger: &Ledger) -> Bytes {
        let (message, bare) = (self.message.bytes(), &self.bare);
        let shared = self.shared.get_or_insert_with(|| {
            let bare = bare.clone();
            ledger.share(bare.unwrap_or_else(|| Bytes::copy_from_slice(message)))
        });
        shared.clone()
    }

    /// The message by reference, charged as retained.
    pub(in crate::broker) fn share_retained(&mut self, ledger: &Ledger) -> Bytes {
        ledger.share_retained(self.share_bare())
    }

    /// The message by reference, without a charge.
    pub(in crate::broker) fn share_bare(&mut self) -> Bytes {
        let message = self.message.bytes();
        let bare = self
            .bare
            .get_or_insert_with(|| Bytes::copy_from_slice(message));
        bare.clone()
    }
}
