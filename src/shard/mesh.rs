//! The mesh: what one shard says to another, without locks and almost without allocating.
//!
//! Between each ordered pair of shards run two rings of one producer and one consumer.
//! Everything said in a turn is written into one batch, which is pushed as a whole at the
//! turn's end; the receiver works through it and gives the empty batch back on the second
//! ring. So a batch that has come back is the receiver's word that all in it has been done
//! (`confirm` waits for that), and its memory is used again.
//!
//! ```text
//!   shard A  open batch ──turn's end──► outgoing ═══════════► incoming ──► reading   shard B
//!            spare ◄── collect ──────── returned ◄═══════════ returning ◄── done
//! ```
//!
//! A publication is one entry, whatever the number of subscribers there; small messages
//! lie in the batch, large ones are referred to.
//!
//! Full rings slow publishers, never a shard: while a link is pressed (too much of it is
//! not given back) connections that publish are not read from, and the open batch goes on
//! taking what cannot wait. The peer is woken only if it sleeps; this shard is woken for a
//! batch that comes back only if it waits for it.
//!
//! Invariants: batches of a link come back in the order they went; at most `BATCHES_MAX` of
//! them are out, so no push fails.

use super::parcel::Parcel;
use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::ring::driver::Waker;
use crate::router::{Count, ShardSet};
use bytes::Bytes;
use rtrb::{Consumer, Producer, RingBuffer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Batches of one link that may be out at a time.
const BATCHES_MAX: usize = 64;
/// Bytes of one link that may be out, or wait in its open batch, before publishers slow down.
const LINK_BYTES_MAX: usize = 4 << 20;
/// Batches kept for reuse on a link, and the memory one of them may hold on to.
const SPARES_MAX: usize = 4;
const SPARE_BYTES_MAX: usize = 1 << 18;

/// One thing said. Lengths refer to the batch's bytes, in order.
enum Entry {
    Publish {
        message: Span,
        picks: u32,
        terms: Terms,
    },
    Interest {
        filter_bytes: u8,
        /// Meaningful where `kind` is `Group`.
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
}

/// Where a message lies: in the batch's bytes, or (no length) next of its large ones.
type Span = Option<u32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InterestKind {
    Plain,
    Group,
    Servers,
}

/// What goes with a publication beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// For the plain subscribers there too, not only for the groups picked.
    pub(super) plain: bool,
    pub(super) retain: bool,
    /// When its publisher's shard took it.
    pub(super) at: Instant,
    pub(super) expires: Instant,
}

/// A call that waits for a RESPONSE, wherever it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// The shard it is open on.
    pub(super) shard: ShardId,
    pub(super) key: Key,
    pub(super) deadline: Instant,
}

/// A message as it comes out of a batch.
pub(super) enum Body<'a> {
    Small(&'a [u8]),
    Large(&'a Bytes),
}

impl<'a> Body<'a> {
    pub(super) fn parcel(&self) -> Parcel<'a> {
        match self {
            Body::Small(bytes) => Parcel::plain(bytes),
            Body::Large(bytes) => Parcel::shared(bytes),
        }
    }
}

/// What another shard said.
pub(super) enum Item<'a> {
    Publish {
        message: Body<'a>,
        picks: &'a [Key],
        terms: Terms,
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
}

#[derive(Default)]
struct Batch {
    /// The epoch in which it was begun.
    epoch: u64,
    /// Its sender waits for it.
    awaited: bool,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    large: Vec<Bytes>,
    large_bytes: usize,
    picks: Vec<Key>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn len_bytes(&self) -> usize {
        self.bytes.len() + self.large_bytes + self.entries.len() * size_of::<Entry>()
    }

    fn put(&mut self, parcel: &mut Parcel<'_>) -> Span {
        if parcel.is_large() {
            self.large_bytes += parcel.len();
            self.large.push(parcel.share());
            return None;
        }
        self.bytes.extend_from_slice(parcel.message());
        Some(parcel.len() as u32)
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.large.clear();
        self.picks.clear();
        (self.large_bytes, self.awaited) = (0, false);
    }
}

/// A batch being worked through.
pub(super) struct Reading {
    batch: Batch,
    entry: usize,
    byte: usize,
    large: usize,
    pick: usize,
}

impl Reading {
    pub(super) fn is_done(&self) -> bool {
        self.entry == self.batch.entries.len()
    }

    pub(super) fn next(&mut self) -> Option<Item<'_>> {
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
                Item::Publish {
                    message: body(batch, message, &mut self.byte, &mut self.large),
                    picks: &batch.picks[first..self.pick],
                    terms,
                }
            }
            Entry::Interest {
                filter_bytes,
                group_bytes,
                kind,
                number,
                count,
            } => {
                let filter = take(batch, usize::from(filter_bytes), &mut self.byte);
                Item::Interest {
                    // Written from a str.
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
        None => {
            *large += 1;
            Body::Large(&batch.large[*large - 1])
        }
    }
}

/// One shard's ends of the rings to and from one other.
struct Link {
    peer: ShardId,
    waker: Waker,
    outgoing: Producer<Batch>,
    returned: Consumer<Batch>,
    incoming: Consumer<Batch>,
    returning: Producer<Batch>,
    /// This shard waits for room: the peer wakes it with each batch that comes back.
    waits: Arc<AtomicBool>,
    peer_waits: Arc<AtomicBool>,
    open: Batch,
    spare: Vec<Batch>,
    /// Epochs and bytes of the batches that are out.
    out: VecDeque<(u64, usize)>,
    out_bytes: usize,
    /// The last batch out is awaited: its return will wake this shard.
    last_awaited: bool,
    reading: Option<Reading>,
}

impl Link {
    fn is_pressed(&self) -> bool {
        self.out.len() >= BATCHES_MAX || self.out_bytes + self.open.len_bytes() > LINK_BYTES_MAX
    }

    /// Nothing said to the peer up to `mark` is still to be done.
    fn is_done(&self, mark: u64) -> bool {
        let out = self.out.front().is_some_and(|&(epoch, _)| epoch <= mark);
        let open = !self.open.is_empty() && self.open.epoch <= mark;
        !out && !open
    }

    fn collect(&mut self) {
        if self.out.is_empty() {
            return;
        }
        while let Ok(mut batch) = self.returned.pop() {
            if let Some((_, bytes)) = self.out.pop_front() {
                self.out_bytes -= bytes;
            }
            batch.clear();
            if self.spare.len() < SPARES_MAX && batch.bytes.capacity() <= SPARE_BYTES_MAX {
                self.spare.push(batch);
            }
        }
        if self.outgoing.is_abandoned() {
            // The peer has ended: nobody is left there to do anything for.
            self.out.clear();
            self.out_bytes = 0;
            self.open.clear();
        }
    }

    fn flush(&mut self, epoch: u64, awaited: bool) {
        let ask = awaited && !self.out.is_empty() && !self.last_awaited;
        if self.open.is_empty() && !ask {
            return;
        }
        if self.out.len() >= BATCHES_MAX {
            // It stays open and goes with a later turn's; the peer tells when.
            return;
        }
        let next = self.spare.pop().unwrap_or_default();
        let mut batch = std::mem::replace(&mut self.open, next);
        self.open.epoch = epoch + 1;
        batch.awaited = awaited;
        // Its first: what was said later in it is waited for as long as that.
        let (first, bytes) = (batch.epoch, batch.len_bytes());
        if self.outgoing.push(batch).is_ok() {
            self.out.push_back((first, bytes));
            self.out_bytes += bytes;
            self.last_awaited = awaited;
            self.waker.wake();
        }
    }

    fn give_back(&mut self, batch: Batch) {
        let awaited = batch.awaited;
        // There is room: the peer has no more than this many out. If it has ended, nobody
        // misses it.
        let _ = self.returning.push(batch);
        fence(Ordering::SeqCst);
        if awaited || self.peer_waits.load(Ordering::Relaxed) {
            self.waker.wake();
        }
    }
}

/// All links of one shard.
#[derive(Default)]
pub struct Mesh {
    links: Vec<Link>,
    /// The number of the batches being written.
    epoch: u64,
    pressed: bool,
}

/// Makes the links between shards that these wakers wake, in the order of their ids.
pub fn weave(wakers: &[Waker]) -> Vec<Mesh> {
    let mut meshes: Vec<Mesh> = wakers.iter().map(|_| Mesh::default()).collect();
    for one in 0..wakers.len() {
        for other in one + 1..wakers.len() {
            let (to_other, from_one) = RingBuffer::new(BATCHES_MAX);
            let (to_one, from_other) = RingBuffer::new(BATCHES_MAX);
            let (back_to_one, back_from_other) = RingBuffer::new(BATCHES_MAX);
            let (back_to_other, back_from_one) = RingBuffer::new(BATCHES_MAX);
            let waits: [Arc<AtomicBool>; 2] = Default::default();
            let link = |peer: usize, outgoing, returned, incoming, returning, first: usize| Link {
                peer: ShardId(peer as u16),
                waker: wakers[peer].clone(),
                outgoing,
                returned,
                incoming,
                returning,
                waits: waits[first].clone(),
                peer_waits: waits[1 - first].clone(),
                open: Batch::default(),
                spare: Vec::new(),
                out: VecDeque::new(),
                out_bytes: 0,
                last_awaited: false,
                reading: None,
            };
            meshes[one].links.push(link(
                other,
                to_other,
                back_from_other,
                from_other,
                back_to_other,
                0,
            ));
            meshes[other]
                .links
                .push(link(one, to_one, back_from_one, from_one, back_to_one, 1));
        }
    }
    for mesh in &mut meshes {
        mesh.links.sort_by_key(|link| link.peer);
    }
    meshes
}

impl Mesh {
    /// Links to other shards.
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    // ---- writing ----

    fn open(&mut self, shard: ShardId) -> Option<&mut Batch> {
        // Sorted by peer, and all but this shard are there.
        let index = self
            .links
            .binary_search_by_key(&shard, |link| link.peer)
            .ok()?;
        Some(&mut self.links[index].open)
    }

    /// Sends a publication to the shards that have plain subscribers for it (`plain`), to
    /// those where a group's member was picked, and to all if it is retained.
    pub(super) fn publish(
        &mut self,
        parcel: &mut Parcel<'_>,
        plain: &ShardSet,
        picks: &[(ShardId, Key)],
        terms: Terms,
    ) {
        for link in &mut self.links {
            let batch = &mut link.open;
            let first = batch.picks.len();
            let here = picks.iter().filter(|pick| pick.0 == link.peer);
            batch.picks.extend(here.map(|pick| pick.1));
            let picks = (batch.picks.len() - first) as u32;
            let plain = plain.contains(link.peer);
            if !plain && !terms.retain && picks == 0 {
                continue;
            }
            let message = batch.put(parcel);
            batch.entries.push(Entry::Publish {
                message,
                picks,
                terms: Terms { plain, ..terms },
            });
        }
        self.press();
    }

    /// Tells all other shards what members this one has.
    pub(super) fn tell(
        &mut self,
        filter: &str,
        group: &[u8],
        kind: InterestKind,
        number: Key,
        count: Count,
    ) {
        for link in &mut self.links {
            let batch = &mut link.open;
            batch.bytes.extend_from_slice(filter.as_bytes());
            batch.bytes.extend_from_slice(group);
            batch.entries.push(Entry::Interest {
                // Names have at most 255 bytes, groups 64.
                filter_bytes: filter.len() as u8,
                group_bytes: group.len() as u8,
                kind,
                number,
                count,
            });
        }
    }

    pub(super) fn request(
        &mut self,
        shard: ShardId,
        parcel: &mut Parcel<'_>,
        call: Call,
        servers: Key,
    ) {
        if let Some(batch) = self.open(shard) {
            let message = batch.put(parcel);
            batch.entries.push(Entry::Request {
                message,
                call,
                servers,
            });
            self.press();
        }
    }

    pub(super) fn response(&mut self, shard: ShardId, parcel: &mut Parcel<'_>, call: Key) {
        if let Some(batch) = self.open(shard) {
            let message = batch.put(parcel);
            batch.entries.push(Entry::Response { message, call });
            self.press();
        }
    }

    fn press(&mut self) {
        self.pressed = self.links.iter().any(Link::is_pressed);
    }

    // ---- turns ----

    /// Takes back what other shards are done with. True when publishers may go on that had
    /// to wait.
    pub(super) fn collect(&mut self) -> bool {
        for link in &mut self.links {
            link.collect();
        }
        let was_pressed = self.pressed;
        self.press();
        if was_pressed && !self.pressed {
            for link in &self.links {
                link.waits.store(false, Ordering::Relaxed);
            }
            return true;
        }
        false
    }

    /// Publishers have to wait. Whoever lets them must see to it that `wait` is called
    /// before this shard sleeps.
    #[inline]
    pub(super) fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// Somebody waits for room: peers wake this shard when they give batches back.
    pub(super) fn wait(&self) {
        for link in &self.links {
            link.waits.store(true, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    /// Sends what was said this turn. `awaited`: somebody waits until it is done.
    pub(super) fn flush(&mut self, awaited: bool) {
        for link in &mut self.links {
            link.flush(self.epoch, awaited);
        }
        self.epoch += 1;
        for link in &mut self.links {
            if link.open.is_empty() {
                link.open.epoch = self.epoch;
            }
        }
    }

    /// What is said now belongs to this epoch.
    pub(super) fn mark(&self) -> u64 {
        self.epoch
    }

    /// Everything said up to `mark` has been done by whom it was said to.
    #[inline]
    pub(super) fn is_done(&self, mark: u64) -> bool {
        self.links.iter().all(|link| link.is_done(mark))
    }

    /// Nothing waits to be read, nor for an awaited return.
    pub(super) fn is_quiet(&self) -> bool {
        let quiet = |link: &Link| {
            let returns = link.last_awaited || link.waits.load(Ordering::Relaxed);
            link.reading.is_none()
                && link.incoming.is_empty()
                && (link.returned.is_empty() || !returns)
        };
        self.links.iter().all(quiet)
    }

    /// Something was said that has not been sent.
    pub(super) fn has_open(&self) -> bool {
        let open = |link: &Link| !link.open.is_empty() && link.out.len() < BATCHES_MAX;
        self.links.iter().any(open)
    }

    // ---- reading ----

    /// The next batch of a link to work through, or the one begun.
    pub(super) fn receive(&mut self, index: usize) -> Option<(ShardId, Reading)> {
        let link = &mut self.links[index];
        let reading = link.reading.take().or_else(|| {
            Some(Reading {
                batch: link.incoming.pop().ok()?,
                entry: 0,
                byte: 0,
                large: 0,
                pick: 0,
            })
        })?;
        Some((link.peer, reading))
    }

    /// The turn's share is used up; the rest of the batch waits.
    pub(super) fn put_back(&mut self, index: usize, reading: Reading) {
        self.links[index].reading = Some(reading);
    }

    /// Everything in the batch is done.
    pub(super) fn give_back(&mut self, index: usize, reading: Reading) {
        self.links[index].give_back(reading.batch);
    }

    /// Ends all links: peers stop waiting for this shard.
    pub(super) fn close(&mut self) {
        let links = std::mem::take(&mut self.links);
        let wakers: Vec<Waker> = links.iter().map(|link| link.waker.clone()).collect();
        drop(links);
        wakers.iter().for_each(Waker::wake);
        self.pressed = false;
    }
}
