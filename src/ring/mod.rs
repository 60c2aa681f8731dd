//! Layer 2: what is under a shard. A driver takes operations and yields completions; there
//! is one on io_uring and one that is a seeded simulation.
//!
//! The only folder with `unsafe` in it.
#![allow(unsafe_code)]

pub mod driver;
pub mod probe;
pub mod sample;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
pub mod uring;
