//! A batch: everything one shard says to another in a turn, and how it is read.
//!
//! Entries have a fixed size; their variable-length parts follow each other in the batch's bytes,
//! in the same order, so that a reader needs no offsets, only its position. A cleared batch keeps
//! its memory for the next turn.

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::broker::context::ledger::Ledger;
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::publication::{Sent, Terms};
use crate::router::Count;
use bytes::Bytes;

/// One entry. Lengths refer to the batch's bytes, in order.
pub(in crate::broker) enum Entry {
    Publish {
        message: Span,
        picks: u32,
        terms: Terms,
    },
    Interest {
        filter_bytes: u8,
        /// Only meaningful if `kind` is `Group`.
        group_bytes: u8,
        kind: InterestKind,
        number: Key,
        count: Count,
    },
    Request {
        message: Span,
        call: Call,
        servers: Key,
    },
    Response {
        message: Span,
        call: Key,
    },
    Withdraw {
        call: Key,
    },
    /// A publication whose topic's home is the receiving shard. The batch's `counts` has one count
    /// per other shard for it.
    Home {
        message: Span,
        terms: Terms,
    },
    /// The next entry must not be handled before this many entries of that shard.
    After {
        from: ShardId,
        count: u64,
    },
    /// This many publications, of this many bytes, have been delivered by their home.
    Homed {
        count: u32,
        bytes: usize,
    },
}

/// Where a message is: this many of the batch's bytes, or (`None`) the next of its large messages.
pub(in crate::broker) type Span = Option<u32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum InterestKind {
    Plain,
    Group,
    Servers,
}

/// A call waiting for a RESPONSE, on whichever shard it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) struct Call {
    /// The shard on which it is open.
    pub(in crate::broker) shard: ShardId,
    pub(in crate::broker) key: Key,
    pub(in crate::broker) deadline: Instant,
    /// Whether its REQUEST has grown: see `Parcel::grown`.
    pub(in crate::broker) grown: bool,
}

/// A message as read from a batch.
pub(in crate::broker) enum Body<'a> {
    Small(&'a [u8]),
    Large(&'a Bytes),
}

impl<'a> Body<'a> {
    /// A `retained` message comes without a charge.
    pub(in crate::broker) fn parcel(&self, retained: bool) -> Parcel<'a> {
        match self {
            Body::Small(bytes) => Parcel::plain(bytes),
            Body::Large(bytes) if retained => Parcel::bare(bytes),
            Body::Large(bytes) => Parcel::shared(bytes),
        }
    }
}

/// An entry as read by the receiving shard.
pub(in crate::broker) enum Item<'a> {
    Publish {
        message: Body<'a>,
        picks: &'a [Key],
        terms: Terms,
        /// Present if `terms` say so.
        translated: Option<&'a Bytes>,
    },
    Interest {
        filter: &'a str,
        group: &'a [u8],
        kind: InterestKind,
        number: Key,
        count: Count,
    },
    Request {
        message: Body<'a>,
        call: Call,
        servers: Key,
    },
    Response {
        message: Body<'a>,
        call: Key,
    },
    /// No one waits for the answer any more.
    Withdraw {
        call: Key,
    },
    Home {
        message: Body<'a>,
        terms: Terms,
        translated: Option<&'a Bytes>,
        counts: &'a [u64],
    },
    /// Already handled through `Reading::after`.
    After,
    Homed {
        count: u32,
        bytes: usize,
    },
}

#[derive(Default)]
pub(in crate::broker) struct Batch {
    /// The epoch in which it was begun.
    pub(in crate::broker) epoch: u64,
    /// Its sender is waiting for it to come back.
    pub(in crate::broker) awaited: bool,
    pub(in crate::broker) entries: Vec<Entry>,
    pub(in crate::broker) bytes: Vec<u8>,
    large: Vec<Bytes>,
    large_bytes: usize,
    /// Bytes of large messages that carry their own charge.
    charged_bytes: usize,
    pub(in crate::broker) picks: Vec<Key>,
    /// For each `Home` entry: how much its sender had said to each other shard.
    pub(in crate::broker) counts: Vec<u64>,
    /// How much its reader had said to its sender when the batch was given back.
    pub(in crate::broker) said: u64,
    /// An estimate of the work it makes for its reader.
    pub(in crate::broker) units: usize,
}

impl Batch {
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(in crate::broker) fn len_bytes(&self) -> usize {
        self.bytes.len() + self.large_bytes + self.entries.len() * size_of::<Entry>()
    }

    /// What to charge for the batch while it is out; messages with a charge of their own are
    /// excluded.
    pub(in crate::broker) fn cost_bytes(&self) -> usize {
        self.len_bytes() - self.charged_bytes
    }

    pub(in crate::broker) fn put(&mut self, parcel: &mut Parcel<'_>, ledger: &Ledger) -> Span {
        if parcel.is_large() {
            self.put_shared(parcel.share(ledger));
            return None;
        }
        self.bytes.extend_from_slice(parcel.bytes());
        Some(parcel.len() as u32)
    }

    /// The same for a message to be retained: each shard charges it separately.
    pub(in crate::broker) fn put_retained(
        &mut self,
        parcel: &mut Parcel<'_>,
        ledger: &Ledger,
    ) -> Span {
        if parcel.is_large() {
            self.large_bytes += parcel.len();
            self.large.push(parcel.share_bare());
            return None;
        }
        self.put(parcel, ledger)
    }

    /// Adds a message that carries its own charge.
    pub(in crate::broker) fn put_shared(&mut self, message: Bytes) {
        self.large_bytes += message.len();
        self.charged_bytes += message.len();
        self.large.push(message);
    }

    pub(in crate::broker) fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.large.clear();
        self.picks.clear();
        self.counts.clear();
        (self.large_bytes, self.charged_bytes, self.awaited) = (0, 0, false);
        self.units = 0;
    }
}

/// A batch being read.
pub(in crate::broker) struct Reading {
    pub(in crate::broker) batch: Batch,
    entry: usize,
    byte: usize,
    large: usize,
    pick: usize,
    count: usize,
    /// Number of counts with each `Home`.
    others: usize,
}

impl Reading {
    /// `others`: the number of shards besides sender and receiver.
    pub(in crate::broker) fn new(batch: Batch, others: usize) -> Reading {
        Reading {
            batch,
            entry: 0,
            byte: 0,
            large: 0,
            pick: 0,
            count: 0,
            others,
        }
    }

    /// Entries read so far.
    pub(in crate::broker) fn taken(&self) -> u64 {
        self.entry as u64
    }

    /// What the next entry has to wait for, if anything: this many entries of that shard.
    #[inline]
    pub(in crate::broker) fn after(&self) -> Option<(ShardId, u64)> {
        match self.batch.entries.get(self.entry)? {
            Entry::After { from, count } => Some((*from, *count)),
            _ => None,
        }
    }

    /// The next message, if the next entry is a publication for all plain subscribers.
    pub(in crate::broker) fn publication(&self) -> Option<&[u8]> {
        let batch = &self.batch;
        match *batch.entries.get(self.entry)? {
            Entry::Publish { message, terms, .. } if terms.plain && !terms.again => {
                let (mut byte, mut large) = (self.byte, self.large);
                match body(batch, message, &mut byte, &mut large) {
                    Body::Small(bytes) => Some(bytes),
                    Body::Large(bytes) => Some(bytes),
                }
            }
            _ => None,
        }
    }

    pub(in crate::broker) fn is_done(&self) -> bool {
        self.entry == self.batch.entries.len()
    }

    pub(in crate::broker) fn next(&mut self) -> Option<Item<'_>> {
        let batch = &self.batch;
        let entry = batch.entries.get(self.entry)?;
        self.entry += 1;
        let item = match *entry {
            Entry::Publish {
                message,
                picks,
                terms,
            } => {
                let first = self.pick;
                self.pick += picks as usize;
                let message = body(batch, message, &mut self.byte, &mut self.large);
                let translated = translated(batch, &terms, &mut self.large);
                Item::Publish {
                    message,
                    picks: &batch.picks[first..self.pick],
                    terms,
                    translated,
                }
            }
            Entry::Home { message, terms } => {
                let first = self.count;
                self.count += self.others;
                let message = body(batch, message, &mut self.byte, &mut self.large);
                Item::Home {
                    message,
                    terms,
                    translated: translated(batch, &terms, &mut self.large),
                    counts: &batch.counts[first..self.count],
                }
            }
            Entry::After { .. } => Item::After,
            Entry::Homed { count, bytes } => Item::Homed { count, bytes },
            Entry::Interest {
                filter_bytes,
                group_bytes,
                kind,
                number,
                count,
            } => {
                let filter = take(batch, usize::from(filter_bytes), &mut self.byte);
                Item::Interest {
                    // Was written from a `str`.
                    filter: std::str::from_utf8(filter).unwrap_or_default(),
                    group: take(batch, usize::from(group_bytes), &mut self.byte),
                    kind,
                    number,
                    count,
                }
            }
            Entry::Request {
                message,
                call,
                servers,
            } => Item::Request {
                message: body(batch, message, &mut self.byte, &mut self.large),
                call,
                servers,
            },
            Entry::Response { message, call } => Item::Response {
                message: body(batch, message, &mut self.byte, &mut self.large),
                call,
            },
            Entry::Withdraw { call } => Item::Withdraw { call },
        };
        Some(item)
    }
}

fn take<'a>(batch: &'a Batch, length: usize, byte: &mut usize) -> &'a [u8] {
    let from = *byte;
    *byte += length;
    &batch.bytes[from..*byte]
}

fn body<'a>(batch: &'a Batch, span: Span, byte: &mut usize, large: &mut usize) -> Body<'a> {
    match span {
        Some(length) => Body::Small(take(batch, length as usize, byte)),
        None => Body::Large(self::large(batch, large)),
    }
}

fn translated<'a>(batch: &'a Batch, terms: &Terms, next: &mut usize) -> Option<&'a Bytes> {
    match terms.translation {
        Sent::Made(_) => Some(large(batch, next)),
        Sent::None | Sent::Unmade(_) | Sent::TooLarge(_) => None,
    }
}

fn large<'a>(batch: &'a Batch, next: &mut usize) -> &'a Bytes {
    *next += 1;
    &batch.large[*next - 1]
}
