//! Waking a shard that sleeps in its ring: an eventfd that the ring reads. Who writes it, and when,
//! is [`Sleeping`]'s.
//!
//! The ring reads into a word of this struct, on the heap and of atomic type: the kernel may write
//! it while the driver that owns this is moved.

use crate::base::wake::{Sleeping, Wake};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU64;

pub(super) struct EventWake {
    event: OwnedFd,
    sleeping: Sleeping,
    word: AtomicU64,
}

impl EventWake {
    pub(super) fn new() -> io::Result<EventWake> {
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(EventWake {
            event,
            sleeping: Sleeping::default(),
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
        self.sleeping.begin();
    }

    pub(super) fn awake(&self) {
        self.sleeping.end();
    }
}

impl Wake for EventWake {
    fn wake(&self) {
        if self.sleeping.take() {
            // It fails only if the counter is full: then the event is readable already.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}
