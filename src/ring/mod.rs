//! Layer 2: what a shard runs on. A driver takes operations and yields completions; one driver uses
//! io_uring, the other is a seeded simulation.
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
