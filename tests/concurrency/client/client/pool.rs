//! No pool.

#[path = "../../../../src/client/pool/status.rs"]
mod status;
pub use status::PoolStatus;
