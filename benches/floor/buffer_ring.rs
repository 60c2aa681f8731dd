//! Provided receive buffers: memory that the kernel fills by its own choice, and the ring through which it gets them.
//!
//! ```text
//!               publish                  a receive completes (take)
//!   given back ─────────► offered ──────────────────────────────────► taken
//!       ▲                                                               │
//!       └─────────────────────────── give_back ─────────────────────────┘
//! ```
//!
//! Invariant: every buffer is in exactly one of the three states, so the ring of `count` entries cannot overflow.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

const PAGE_BYTES: usize = 4096;

/// The one group there is.
pub const GROUP: u16 = 0;

#[derive(Clone, Copy)]
pub struct Size {
    pub count: u16,
    pub each_bytes: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            count: 4096,
            each_bytes: 4096,
        }
    }
}

/// Lives as long as the process: the kernel may write into it until the ring is gone, so it is never freed.
pub struct BufferRing {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    each_bytes: u32,
    mask: u16,
    /// What the kernel may fill; the rest is taken.
    offered: u16,
    /// Ours; the kernel sees it as it was at the last `publish`.
    tail: u16,
}

impl BufferRing {
    /// Registers the buffers with the ring and offers the first of them.
    pub fn register(submitter: &Submitter<'_>, size: Size) -> io::Result<Self> {
        if !size.count.is_power_of_two() || size.count > 32768 {
            return Err(io::Error::other("--buffers: a power of two up to 32768"));
        }
        if size.each_bytes == 0 {
            return Err(io::Error::other("--buffer-bytes: at least 1"));
        }
        let count = usize::from(size.count);
        let entries = pages(count * size_of::<BufRingEntry>())?.cast();
        let memory = pages(count * size.each_bytes as usize)?;
        // SAFETY: `entries` is page-aligned, holds `count` zeroed entries, and is never freed.
        unsafe {
            submitter.register_buf_ring_with_flags(
                entries.as_ptr() as u64,
                size.count,
                GROUP,
                0,
            )?;
        }
        let mut ring = Self {
            entries,
            memory,
            each_bytes: size.each_bytes,
            mask: size.count - 1,
            offered: 0,
            tail: 0,
        };
        for buffer in 0..size.count {
            ring.give_back(buffer);
        }
        ring.publish();
        Ok(ring)
    }

    /// How many the kernel can fill before it runs out.
    pub fn offered(&self) -> u16 {
        self.offered
    }

    /// Where the bytes of a taken buffer begin.
    pub fn address(&self, buffer: u16) -> *const u8 {
        let offset = usize::from(buffer & self.mask) * self.each_bytes as usize;
        // SAFETY: the mask keeps the offset inside the one allocation of `count` buffers.
        unsafe { self.memory.as_ptr().add(offset) }
    }

    /// A completion brought this buffer: it is the caller's until `give_back`.
    pub fn take(&mut self) {
        self.offered -= 1;
    }

    /// The caller reads it no more. The kernel gets it at the next `publish`.
    pub fn give_back(&mut self, buffer: u16) {
        let address = self.address(buffer) as u64;
        // SAFETY: the mask keeps the index inside the ring; the kernel reads an entry only once the published tail has passed
        // it, and at most `count` buffers exist, so this one is ours. The fields are written one by one: the first
        // entry's last field is the tail itself.
        unsafe {
            let entry = self
                .entries
                .add(usize::from(self.tail & self.mask))
                .as_mut();
            entry.set_addr(address);
            entry.set_len(self.each_bytes);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        self.offered += 1;
    }

    /// Lets the kernel have what was given back: once a turn.
    pub fn publish(&self) {
        // SAFETY: the tail is an aligned u16 inside the registered ring, which lives as long as the process; the kernel
        // only reads it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

fn pages(bytes: usize) -> io::Result<NonNull<u8>> {
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).map_err(io::Error::other)?;
    if layout.size() == 0 {
        return Err(io::Error::other("no memory asked for"));
    }
    // SAFETY: the layout's size is not zero.
    let start = unsafe { alloc_zeroed(layout) };
    Ok(NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)))
}
