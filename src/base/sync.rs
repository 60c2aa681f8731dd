//! What threads meet at, under one name: `tests/concurrency` puts models in its place and tries the
//! orders that threads may come in.

pub use std::sync::atomic::{AtomicBool, Ordering, fence};
pub use std::sync::{Mutex, MutexGuard};
