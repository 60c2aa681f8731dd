//! Layer 4: everything around the shards.

pub mod budget;
pub mod config;
