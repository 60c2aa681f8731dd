//! The provided-buffer ring: memory lent to the kernel, which fills it as data arrives, so
//! that an idle connection needs no buffer of its own.
//!
//! The kernel takes buffers from the ring in order. With all of them in it, each receive would
//! touch the coldest memory, and all of it would soon be resident. So only a window of them is in
//! the ring and the rest on a stack: the buffer used last is lent next. The window doubles whenever
//! the kernel finds it empty.
//!
//! ```text
//!   stack (last in, first out)          ring (kernel takes from the left)
//!   [ b9 b8 b7 … ] ──replenish──►  … [ b3 b5 b1 ]  ──► filled ──► lent to the shard
//!        ▲                                                            │
//!        └───────────────────────── release ──────────────────────────┘
//! ```
//!
//! Invariant: `stack + in_ring + lent = count`; each id is in one of the three places.

use super::pages::Pages;
use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// The only group of provided buffers of a ring.
pub(super) const GROUP: u16 = 0;

/// Buffers in the ring at first: more than one enter can fill (20), few enough for their memory to
/// stay in the core's cache.
const WINDOW_START: usize = 64;

pub(super) struct BufferRing {
    ring: Pages,
    memory: Pages,
    count: usize,
    buffer_bytes: usize,
    stack: Vec<u16>,
    in_ring: usize,
    window: usize,
    found_empty: bool,
    tail: u16,
}

impl BufferRing {
    /// Maps `count` (a power of two, at most 32,768) buffers and registers their ring.
    ///
    /// # Errors
    /// Out of memory, or the kernel refuses (memlock, an old kernel).
    pub(super) fn register(
        submitter: &Submitter<'_>,
        count: u16,
        buffer_bytes: u32,
    ) -> io::Result<BufferRing> {
        let (entries, bytes) = (usize::from(count), buffer_bytes as usize);
        let ring = Pages::map(entries * size_of::<BufRingEntry>())?;
        let memory = Pages::map(entries * bytes)?;
        let address = ring.base().as_ptr() as u64;
        // SAFETY: `ring` is page-aligned, holds `count` entries, and outlives the ring's
        // file: the driver drops the io_uring first.
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, 0)? };
        let mut buffers = BufferRing {
            ring,
            memory,
            count: entries,
            buffer_bytes: bytes,
            stack: (0..count).rev().collect(),
            in_ring: 0,
            window: WINDOW_START.min(entries),
            found_empty: false,
            tail: 0,
        };
        buffers.replenish();
        Ok(buffers)
    }

    /// Buffers the kernel can still fill.
    pub(super) fn in_ring(&self) -> usize {
        self.in_ring
    }

    /// Buffers that are not lent to the shard.
    pub(super) fn free(&self) -> usize {
        self.stack.len() + self.in_ring
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The kernel has filled a buffer: it is out of the ring.
    pub(super) fn taken(&mut self) {
        debug_assert!(
            self.in_ring > 0,
            "the kernel filled a buffer it was not lent"
        );
        self.in_ring -= 1;
    }

    /// The kernel found the ring empty: the window doubles, once per turn however many receives
    /// found it empty.
    pub(super) fn exhausted(&mut self) {
        self.found_empty = true;
    }

    pub(super) fn give_back(&mut self, id: u16) {
        self.stack.push(id);
        debug_assert!(
            self.stack.len() + self.in_ring <= self.count,
            "a buffer came back twice"
        );
    }

    /// Refills the window from the stack.
    pub(super) fn replenish(&mut self) {
        if std::mem::take(&mut self.found_empty) {
            self.window = (self.window * 2).min(self.count);
        }
        if self.in_ring >= self.window || self.stack.is_empty() {
            return;
        }
        while self.in_ring < self.window {
            let Some(id) = self.stack.pop() else { break };
            self.provide(id);
        }
        // SAFETY: the ring's first entry holds the tail in its reserved field
        // (io_uring_register_buf_ring(3)); it is aligned, inside the mapping, and only
        // ever accessed atomically after registration.
        let tail = unsafe {
            let first = self.ring.base().as_ptr().cast::<BufRingEntry>();
            AtomicU16::from_ptr(BufRingEntry::tail(first).cast_mut())
        };
        tail.store(self.tail, Ordering::Release);
    }

    fn provide(&mut self, id: u16) {
        let index = usize::from(self.tail) & (self.count - 1);
        let address = self.memory.at(usize::from(id) * self.buffer_bytes).as_ptr() as u64;
        let entry = self
            .ring
            .at(index * size_of::<BufRingEntry>())
            .cast::<BufRingEntry>();
        // SAFETY: the entry is inside the mapping; the kernel reads it only after the tail
        // has moved past it. Field by field, because the first entry's reserved field is
        // the tail itself.
        unsafe {
            let entry = &mut *entry.as_ptr();
            entry.set_addr(address);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
        self.in_ring += 1;
    }

    /// What the kernel put into a buffer.
    #[inline]
    pub(super) fn bytes(&self, id: u16, len: u32) -> &[u8] {
        let len = (len as usize).min(self.buffer_bytes);
        let start = self.memory.at(usize::from(id) * self.buffer_bytes);
        // SAFETY: the buffer is inside the mapping and zeroed when mapped. Between its
        // completion and `give_back` it is not in the ring, so the kernel does not write
        // to it; `give_back` takes the only `Buffer` that names it, which cannot happen
        // while this borrow of the driver lives.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }
}
