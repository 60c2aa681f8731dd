//! Waking a sleeping shard, after writing something for it.
//!
//! Waking costs a system call, so it is done only on the transition from sleeping to awake. Both
//! sides order their accesses with a full fence, so that either the waker sees the flag or the shard
//! sees what the waker wrote before:
//!
//! ```text
//!   waker                          shard
//!   write what it shall find       sleeping = true
//!   fence                          fence
//!   read `sleeping`                look again: anything there? then do not sleep
//! ```

use super::sync::{AtomicBool, Ordering, fence};
use std::sync::Arc;

/// Whether a shard sleeps, or is about to.
#[derive(Default)]
pub struct Sleeping(AtomicBool);

impl Sleeping {
    /// The shard: from now on wakers wake it; look again before sleeping.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The shard: it is awake.
    pub fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// A waker, after it has written: whether it is the one that has to wake the shard.
    pub fn take(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// Wakes a sleeping shard from any thread; cheap while it is awake.
#[derive(Clone)]
pub struct Waker(Arc<dyn Wake>);

/// How a driver is woken.
pub trait Wake: Send + Sync {
    fn wake(&self);
}

impl Waker {
    pub fn new(wake: Arc<dyn Wake>) -> Waker {
        Waker(wake)
    }

    /// Wakes the shard. Call it after writing what the shard has to find.
    pub fn wake(&self) {
        self.0.wake();
    }
}
