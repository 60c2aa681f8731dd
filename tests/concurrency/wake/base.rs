//! `src/base`, as far as it is modelled.

pub mod sync {
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
}
#[allow(dead_code, reason = "the shard's handle of a waker is not modelled")]
#[path = "../../../src/base/wake.rs"]
pub mod wake;
