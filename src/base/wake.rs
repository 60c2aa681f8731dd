//! Waking a shard that sleeps: what whoever has written something for it does next.

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

    /// Call it after what the shard shall find has been written to where it looks.
    pub fn wake(&self) {
        self.0.wake();
    }
}
