//! `src/base`, as far as the client stands on it.

pub mod sync {
    pub use shuttle::sync::{Mutex, MutexGuard};
}
#[path = "../../../src/base/clock.rs"]
pub mod clock;
#[path = "../../../src/base/limits.rs"]
pub mod limits;
#[path = "../../../src/base/protobuf.rs"]
pub mod protobuf;
#[path = "../../../src/base/reason.rs"]
pub mod reason;
#[path = "../../../src/base/terminal.rs"]
pub mod terminal;
