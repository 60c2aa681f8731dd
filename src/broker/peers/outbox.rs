//! The outbox: what one connection has to send, as messages coalesced into chunks.
//!
//! ```text
//!   in flight          backlog (oldest first)          tail (being written)
//!   [ chunk ]──send    [ chunk ][ chunk ]              [ message message … |   room ]
//! ```
//!
//! One send is in flight at a time; everything queued meanwhile goes out with the following ones.
//! Usually an outbox is one small chunk that is lent, sent and returned within a turn or two. When
//! it is full it becomes the backlog, which continues in large chunks. Data that is already large
//! and owned (a deferred answer) is queued as it is, not copied.
//!
//! Invariant: `queued_bytes` is the length of the tail, of the backlog, and of the unsent part of
//! the chunk in flight.

use crate::base::chunk::Chunk;
use crate::base::clock::Instant;
use crate::broker::context::pool::Pool;
use crate::proto::output::Output;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// Bytes the pool counts for a shared chunk: its entry in the backlog.
pub(crate) const ENTRY_BYTES: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Capacity 0: no chunk is lent.
    tail: Vec<u8>,
    backlog: VecDeque<Chunk>,
    /// Bytes of the oldest chunk already sent: its send was cut short by a takeover.
    front_sent: usize,
    queued_bytes: usize,
    /// Since the outbox was last empty, a message has been split between two chunks.
    divided: bool,
    /// When the send in flight began: the low bits of milliseconds.
    sending_since_ms: u32,
}

impl Outbox {
    /// Bytes queued and not yet sent, including those in flight.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Bytes held up while it does not drain: a hardly used tail counts with its whole capacity.
    pub(in crate::broker) fn weight(&self) -> usize {
        match self.queued_bytes {
            0 => 0,
            queued => queued.max(self.tail.capacity()),
        }
    }

    /// Bytes the pool counts for it, except what is in flight.
    pub(in crate::broker) fn held_bytes(&self) -> usize {
        let backlog = self.backlog.iter().map(counted);
        self.tail.capacity() + backlog.sum::<usize>()
    }

    /// The next chunk is being sent.
    #[inline]
    pub(crate) fn begin_send(&mut self, now: Instant) {
        self.sending_since_ms = now.as_millis() as u32;
    }

    /// How long the chunk in flight, if any, has been sending, in whole milliseconds: its contents
    /// have waited at least that long.
    pub(crate) fn sending_age(&self, now: Instant) -> Duration {
        let age_ms = (now.as_millis() as u32).wrapping_sub(self.sending_since_ms);
        Duration::from_millis(u64::from(age_ms))
    }

    /// Nothing is queued and nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.queued_bytes == 0
    }

    /// Whether `bytes` bytes written now would be part of the next send.
    pub(in crate::broker) fn goes_next(&self, bytes: usize) -> bool {
        let room = self.tail.capacity() - self.tail.len();
        self.queued_bytes == 0 || (self.backlog.is_empty() && bytes <= room)
    }

    /// The next chunk to send, oldest first, and the offset to start from.
    pub(crate) fn next_chunk(&mut self) -> Option<(Chunk, usize)> {
        if let Some(chunk) = self.backlog.pop_front() {
            return Some((chunk, std::mem::take(&mut self.front_sent)));
        }
        if self.tail.is_empty() {
            return None;
        }
        Some((Chunk::Own(std::mem::take(&mut self.tail)), 0))
    }

    /// Puts a chunk back at the head, of which only `sent` bytes were sent.
    pub(crate) fn put_back(&mut self, chunk: Chunk, sent: usize) {
        debug_assert!(sent < chunk.len() && self.front_sent == 0);
        self.backlog.push_front(chunk);
        self.front_sent = sent;
    }

    /// Queues bytes that are sent from where they are, and that carry their own charge.
    pub(in crate::broker) fn push_shared(&mut self, bytes: Bytes, pool: &mut Pool) {
        self.queued_bytes += bytes.len();
        pool.count(0, ENTRY_BYTES);
        if !self.tail.is_empty() {
            let written = std::mem::take(&mut self.tail);
            self.backlog.push_back(Chunk::Own(written));
        }
        self.backlog.push_back(Chunk::Shared(bytes));
    }

    /// `bytes` of the chunk in flight have been sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.queued_bytes);
        self.queued_bytes -= bytes;
        // The queue is known to end between messages only when it is empty.
        self.divided &= self.queued_bytes > 0;
    }

    /// Drops what is queued (not what is in flight) and gives its chunks back.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        while let Some((chunk, from)) = self.next_chunk() {
            self.queued_bytes -= chunk.len() - from;
            give_back(chunk, pool);
        }
    }

    /// Frees what an idle connection does not need.
    pub(in crate::broker) fn shrink(&mut self) {
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
    }

    /// Like `clear`. True: what is sent last is a whole message.
    pub(in crate::broker) fn cut(&mut self, pool: &mut Pool) -> bool {
        let whole = !self.divided && self.front_sent == 0;
        self.clear(pool);
        whole
    }

    #[cold]
    fn start_chunk(&mut self, pool: &mut Pool) {
        if self.tail.capacity() == 0 {
            self.tail = pool.take();
        } else {
            self.divided = true;
            let full = std::mem::replace(&mut self.tail, pool.take_large());
            self.backlog.push_back(Chunk::Own(full));
        }
    }
}

/// Returns a sent chunk's memory.
pub(crate) fn give_back(chunk: Chunk, pool: &mut Pool) {
    match chunk {
        Chunk::Own(bytes) => pool.give(bytes),
        Chunk::Shared(_) => pool.count(ENTRY_BYTES, 0),
    }
}

/// Bytes the pool counts for a chunk.
fn counted(chunk: &Chunk) -> usize {
    match chunk {
        Chunk::Own(bytes) => bytes.capacity(),
        Chunk::Shared(_) => ENTRY_BYTES,
    }
}

/// Writes encoded messages into an outbox, borrowing chunks as needed.
pub(in crate::broker) struct Writer<'a> {
    pub(in crate::broker) outbox: &'a mut Outbox,
    pub(in crate::broker) pool: &'a mut Pool,
}

impl Output for Writer<'_> {
    #[inline]
    fn put(&mut self, mut bytes: &[u8]) {
        self.outbox.queued_bytes += bytes.len();
        loop {
            let tail = &mut self.outbox.tail;
            let room = tail.capacity() - tail.len();
            if bytes.len() <= room {
                tail.extend_from_slice(bytes);
                return;
            }
            let (head, rest) = bytes.split_at(room);
            tail.extend_from_slice(head);
            bytes = rest;
            self.outbox.start_chunk(self.pool);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::{CHUNK_BYTES, CHUNK_LARGE_BYTES};

    #[test]
    fn bytes_leave_in_order_and_every_chunk_comes_back() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new(1 << 20));
        let message: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let mut expected = Vec::new();
        for _ in 0..100 {
            Writer {
                outbox: &mut outbox,
                pool: &mut pool,
            }
            .put(&message);
            expected.extend_from_slice(&message);
        }
        assert_eq!(outbox.queued_bytes(), expected.len());
        assert_eq!(pool.charged_bytes(), CHUNK_BYTES + 2 * CHUNK_LARGE_BYTES);

        let mut sent = Vec::new();
        while let Some((chunk, _)) = outbox.next_chunk() {
            sent.extend_from_slice(chunk.as_slice());
            outbox.sent(chunk.len());
            give_back(chunk, &mut pool);
        }
        assert!(sent == expected && outbox.is_empty());
        assert_eq!(pool.charged_bytes(), 0);
    }

    #[test]
    fn shared_bytes_leave_in_order_from_where_they_are() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new(1 << 20));
        let large = Bytes::from(vec![7; 100_000]);
        let put = |outbox: &mut Outbox, pool: &mut Pool, bytes: &[u8]| {
            Writer { outbox, pool }.put(bytes);
        };
        put(&mut outbox, &mut pool, b"head");
        outbox.push_shared(large.clone(), &mut pool);
        put(&mut outbox, &mut pool, b"tail");
        assert_eq!(outbox.queued_bytes(), 100_008);
        assert_eq!(pool.charged_bytes(), ENTRY_BYTES + 2 * CHUNK_BYTES);

        let mut chunks = std::iter::from_fn(|| outbox.next_chunk().map(|next| next.0));
        let (head, shared, tail) = (chunks.next(), chunks.next(), chunks.next());
        assert_eq!(head.as_ref().unwrap().as_slice(), b"head");
        assert_eq!(shared.as_ref().unwrap().as_slice().as_ptr(), large.as_ptr());
        assert_eq!(tail.as_ref().unwrap().as_slice(), b"tail");
        assert!(chunks.next().is_none());
        for chunk in [head, shared, tail].into_iter().flatten() {
            give_back(chunk, &mut pool);
        }
        assert_eq!(pool.charged_bytes(), 0);
    }

    #[test]
    fn clearing_keeps_the_count_of_what_is_in_flight() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new(1 << 20));
        Writer {
            outbox: &mut outbox,
            pool: &mut pool,
        }
        .put(b"first");
        let (in_flight, _) = outbox.next_chunk().unwrap();
        Writer {
            outbox: &mut outbox,
            pool: &mut pool,
        }
        .put(b"second");
        outbox.clear(&mut pool);
        assert_eq!(outbox.queued_bytes(), 5);
        outbox.sent(in_flight.len());
        give_back(in_flight, &mut pool);
        assert!(outbox.is_empty() && pool.charged_bytes() == 0);
    }

    #[test]
    fn a_chunk_that_came_back_goes_on_where_it_stopped() {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new(1 << 20));
        let put = |outbox: &mut Outbox, pool: &mut Pool, bytes: &[u8]| {
            Writer { outbox, pool }.put(bytes);
        };
        put(&mut outbox, &mut pool, b"first");
        let (chunk, from) = outbox.next_chunk().unwrap();
        assert_eq!(from, 0);
        outbox.sent(2);
        outbox.put_back(chunk, 2);
        put(&mut outbox, &mut pool, b"second");
        assert_eq!(outbox.queued_bytes(), 9);
        let (chunk, from) = outbox.next_chunk().unwrap();
        assert_eq!(&chunk.as_slice()[from..], b"rst");
        outbox.put_back(chunk, from);
        outbox.clear(&mut pool);
        assert!(outbox.is_empty() && pool.charged_bytes() == 0);
    }
}
