//! Waking a sleeping shard, after writing something for it.

use std::sync::Arc;

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
