//! One link of the mesh: a shard's ends of the rings to and from one neighbour.

use crate::base::id::ShardId;
use crate::base::wake::Waker;
use crate::broker::mesh::batch::{Batch, Reading};
use crate::broker::mesh::passage::Passage;
use rtrb::{Consumer, Producer, RingBuffer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Batches of one link that may be out at a time.
pub(in crate::broker) const BATCHES_MAX: usize = 64;
/// Bytes of one link that may be out, or wait in its open batch, before publishers slow down.
const LINK_BYTES_MAX: usize = 4 << 20;
/// How much one link may have out. Tests make it less.
#[derive(Clone, Copy, Debug)]
pub struct LinkSize {
    pub batches: usize,
    pub bytes: usize,
}

impl Default for LinkSize {
    fn default() -> LinkSize {
        LinkSize {
            batches: BATCHES_MAX,
            bytes: LINK_BYTES_MAX,
        }
    }
}

/// Bytes from which on a batch is heavy: it is charged until it comes back, and its return wakes
/// its sender. All lighter batches that a link may have out add up to at most `BATCHES_MAX` times
/// this.
const HEAVY_BYTES: usize = 16_384;
/// Batches kept for reuse on a link, and the memory one of them may hold on to.
const SPARES_MAX: usize = 4;
const SPARE_BYTES_MAX: usize = 1 << 18;

/// A batch that has been sent and has not come back.
pub(in crate::broker) struct Out {
    epoch: u64,
    bytes: usize,
    units: usize,
    /// `None`: it is light.
    cost_bytes: Option<usize>,
}

/// Whom a link leads to: other shards, by id, and behind them what is no shard. There is none such
/// yet; `let Neighbour::Shard(..)` is where the compiler will ask about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::broker) enum Neighbour {
    Shard(ShardId),
}

/// One shard's ends of the rings to and from one neighbour, its peer.
pub(in crate::broker) struct Link {
    pub(in crate::broker) peer: Neighbour,
    size: LinkSize,
    pub(in crate::broker) waker: Waker,
    pub(in crate::broker) outgoing: Producer<Batch>,
    pub(in crate::broker) returned: Consumer<Batch>,
    pub(in crate::broker) incoming: Consumer<Batch>,
    pub(in crate::broker) returning: Producer<Batch>,
    /// This shard waits for room: the peer wakes it with each batch that comes back.
    pub(in crate::broker) waits: Arc<AtomicBool>,
    pub(in crate::broker) peer_waits: Arc<AtomicBool>,
    pub(in crate::broker) open: Batch,
    pub(in crate::broker) spare: Vec<Batch>,
    /// The batches that are out.
    pub(in crate::broker) out: VecDeque<Out>,
    pub(in crate::broker) out_bytes: usize,
    out_units: usize,
    /// The number of heavy batches among them, and what is charged for those.
    heavy_out: usize,
    cost_out_bytes: usize,
    /// The last batch out is awaited: its return will wake this shard.
    pub(in crate::broker) last_awaited: bool,
    pub(in crate::broker) reading: Option<Reading>,
    /// Entries in all batches sent, and in all batches given back.
    said: u64,
    taken: u64,
    /// Of what was taken, from here on it is still on its way to many.
    held_at: Option<u64>,
    /// Of batches that came back: their epochs, and how much the peer had said by then, unless all
    /// of that has been handled.
    heard: VecDeque<(u64, u64)>,
    /// Publications on their way through the peer.
    pub(in crate::broker) passage: Passage,
}

impl Link {
    /// Whether all publishers have to wait, also those that say little.
    pub(in crate::broker) fn is_closed(&self, share: usize) -> bool {
        self.has_out(share, share + share / 2)
            || self.passage.has_more(share / 2)
            || !self.has_batches()
            || self.out_bytes + self.open.len_bytes() > self.size.bytes
    }

    /// Whether another batch may go out.
    pub(in crate::broker) fn has_batches(&self) -> bool {
        self.out.len() < self.size.batches
    }

    /// The peer has more to do than it does in one turn, or than in half of one of what is said
    /// now.
    pub(in crate::broker) fn is_pressed(&self, share: usize) -> bool {
        self.has_out(share / 2, share) || self.passage.has_more(share / 4)
    }

    fn has_out(&self, open_max: usize, all_max: usize) -> bool {
        self.open.units > open_max || self.out_units + self.open.units > all_max
    }

    /// Entries said to the peer so far.
    pub(in crate::broker) fn said(&self) -> u64 {
        self.said + self.open.entries.len() as u64
    }

    /// Whether this many of the peer's entries have been handled, or no more will come.
    pub(in crate::broker) fn has_taken(&self, count: u64) -> bool {
        let read = self.reading.as_ref().map_or(0, Reading::taken);
        self.held_at.unwrap_or(self.taken + read) >= count
            || (self.reading.is_none() && self.incoming.is_abandoned() && self.incoming.is_empty())
    }

    /// What has been read of the batch in hand, but for the first so many entries, is still on
    /// its way to many.
    pub(in crate::broker) fn hold(&mut self, read: u64) {
        self.held_at.get_or_insert(self.taken + read);
    }

    /// No more.
    pub(in crate::broker) fn release(&mut self) {
        self.held_at = None;
    }

    /// The peer has ended.
    pub(in crate::broker) fn is_gone(&self) -> bool {
        self.outgoing.is_abandoned()
    }

    /// Like `is_done`, and what the peer had said before it handled the last of that is handled
    /// here.
    pub(in crate::broker) fn is_heard(&self, mark: u64) -> bool {
        let mut heard = self.heard.iter().take_while(|one| one.0 <= mark);
        self.is_done(mark) && heard.all(|one| self.has_taken(one.1))
    }

    /// Bytes to charge: the heavy batches that are out, and the open one if it is heavy.
    pub(in crate::broker) fn cost_bytes(&self) -> usize {
        self.cost_out_bytes + heavy_bytes(&self.open).unwrap_or(0)
    }

    /// A batch that comes back will wake this shard, or should be seen before it sleeps.
    pub(in crate::broker) fn expects_return(&self) -> bool {
        self.last_awaited || self.heavy_out > 0 || self.waits.load(Ordering::Relaxed)
    }

    /// Everything said to the peer up to `mark` has been handled.
    pub(in crate::broker) fn is_done(&self, mark: u64) -> bool {
        let out = self.out.front().is_some_and(|out| out.epoch <= mark);
        let open = !self.open.is_empty() && self.open.epoch <= mark;
        !out && !open
    }

    pub(in crate::broker) fn collect(&mut self) {
        while let Some(&(_, said)) = self.heard.front()
            && self.has_taken(said)
        {
            self.heard.pop_front();
        }
        if self.out.is_empty() {
            return;
        }
        while let Ok(mut batch) = self.returned.pop() {
            if let Some(out) = self.out.pop_front() {
                self.out_bytes -= out.bytes;
                self.out_units -= out.units;
                self.heavy_out -= usize::from(out.cost_bytes.is_some());
                self.cost_out_bytes -= out.cost_bytes.unwrap_or(0);
                self.note_heard(out.epoch, batch.said);
            }
            batch.clear();
            if self.spare.len() < SPARES_MAX && batch.bytes.capacity() <= SPARE_BYTES_MAX {
                self.spare.push(batch);
            }
        }
        if self.outgoing.is_abandoned() {
            // The peer has ended: there is no one left to handle anything for.
            self.out.clear();
            (self.out_bytes, self.heavy_out, self.cost_out_bytes) = (0, 0, 0);
            self.out_units = 0;
            self.open.clear();
            self.heard.clear();
        }
    }

    fn note_heard(&mut self, epoch: u64, said: u64) {
        let is_known = self.heard.back().is_some_and(|last| last.1 == said);
        if !is_known && !self.has_taken(said) {
            self.heard.push_back((epoch, said));
        }
    }

    pub(in crate::broker) fn flush(&mut self, epoch: u64, awaited: bool) {
        let ask = awaited && !self.out.is_empty() && !self.last_awaited;
        if self.open.is_empty() && !ask {
            return;
        }
        if !self.has_batches() {
            // It stays open and goes with a later turn's. Nobody may have asked for any of
            // those that are out: the peer has to tell when one is back.
            self.waits.store(true, Ordering::Relaxed);
            return fence(Ordering::SeqCst);
        }
        let next = self.spare.pop().unwrap_or_default();
        let mut batch = std::mem::replace(&mut self.open, next);
        self.open.epoch = epoch + 1;
        // The batch's first epoch: entries added in later epochs are waited for just as long.
        let (first, bytes, units) = (batch.epoch, batch.len_bytes(), batch.units);
        let cost_bytes = heavy_bytes(&batch);
        let awaited = awaited || cost_bytes.is_some();
        batch.awaited = awaited;
        let count = batch.entries.len() as u64;
        if self.outgoing.push(batch).is_ok() {
            self.said += count;
            self.out.push_back(Out {
                epoch: first,
                bytes,
                units,
                cost_bytes,
            });
            self.out_bytes += bytes;
            self.out_units += units;
            self.heavy_out += usize::from(cost_bytes.is_some());
            self.cost_out_bytes += cost_bytes.unwrap_or(0);
            self.last_awaited = awaited;
            self.waker.wake();
        }
    }

    pub(in crate::broker) fn give_back(&mut self, mut batch: Batch) {
        let awaited = batch.awaited;
        self.taken += batch.entries.len() as u64;
        batch.said = self.said();
        // There is room: the peer has no more than this many out. If it has ended, no one needs the
        // batch.
        let _ = self.returning.push(batch);
        fence(Ordering::SeqCst);
        if awaited || self.peer_waits.load(Ordering::Relaxed) {
            self.waker.wake();
        }
    }
}

/// Of a shard's links those to other shards, every one of them, in the order of their ids.
pub(in crate::broker) fn shards(links: &[Link]) -> impl ExactSizeIterator<Item = (ShardId, &Link)> {
    links.iter().map(|link| {
        let Neighbour::Shard(shard) = link.peer;
        (shard, link)
    })
}

pub(in crate::broker) fn shards_mut(
    links: &mut [Link],
) -> impl Iterator<Item = (ShardId, &mut Link)> {
    links.iter_mut().map(|link| {
        let Neighbour::Shard(shard) = link.peer;
        (shard, link)
    })
}

/// What is charged for a batch, if it is heavy.
fn heavy_bytes(batch: &Batch) -> Option<usize> {
    (batch.len_bytes() >= HEAVY_BYTES).then(|| batch.cost_bytes())
}

/// Both ends of the link between two neighbours, which these wakers wake.
pub(in crate::broker) fn connect(
    one: (Neighbour, &Waker),
    other: (Neighbour, &Waker),
    size: LinkSize,
) -> (Link, Link) {
    let (there, from_one) = RingBuffer::new(size.batches);
    let (back, from_other) = RingBuffer::new(size.batches);
    let (returning_to_one, returned_to_one) = RingBuffer::new(size.batches);
    let (returning_to_other, returned_to_other) = RingBuffer::new(size.batches);
    let waits: (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
    let end = |(peer, waker): (Neighbour, &Waker), out, back, waits, peer_waits| {
        let ((outgoing, returned), (incoming, returning)) = (out, back);
        Link {
            peer,
            size,
            waker: waker.clone(),
            outgoing,
            returned,
            incoming,
            returning,
            waits,
            peer_waits,
            open: Batch::default(),
            spare: Vec::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            out_units: 0,
            heavy_out: 0,
            cost_out_bytes: 0,
            last_awaited: false,
            reading: None,
            said: 0,
            taken: 0,
            held_at: None,
            heard: VecDeque::new(),
            passage: Passage::default(),
        }
    };
    (
        end(
            other,
            (there, returned_to_one),
            (from_other, returning_to_other),
            waits.0.clone(),
            waits.1.clone(),
        ),
        end(
            one,
            (back, returned_to_other),
            (from_one, returning_to_one),
            waits.1,
            waits.0,
        ),
    )
}
