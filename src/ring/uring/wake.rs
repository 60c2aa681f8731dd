//! Waking a shard that sleeps in its ring: an eventfd that the ring reads.
//!
//! Writing it costs the waker a system call, so it is written only on the transition from sleeping
//! to awake. Both sides order their accesses with a full fence, so that either the waker sees the
//! flag or the shard sees what the waker wrote before:
//!
//! ```text
//!   waker                          shard
//!   write what it shall find       sleeping = true
//!   fence                          fence
//!   read `sleeping`                look again: anything there? then do not sleep
//! ```
//!
//! The ring reads into a word of this struct, on the heap and of atomic type: the kernel may write
//! it while the driver that owns this is moved.

use crate::base::wake::Wake;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

pub(super) struct EventWake {
    event: OwnedFd,
    sleeping: AtomicBool,
    word: AtomicU64,
}

impl EventWake {
    pub(super) fn new() -> io::Result<EventWake> {
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(EventWake {
            event,
            sleeping: AtomicBool::new(false),
            word: AtomicU64::new(0),
        })
    }

    /// Where the ring's read puts the event's count; the value is ignored.
    pub(super) fn word(&self) -> *mut u8 {
        self.word.as_ptr().cast()
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// From now on wakers write the event; look again before sleeping.
    pub(super) fn going_to_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(super) fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }
}

impl Wake for EventWake {
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            // It fails only if the counter is full: then the event is readable already.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}
