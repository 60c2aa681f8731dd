//! Layer 2: counters and histograms. A shard writes its own; anyone may read.

pub mod counter;
pub mod histogram;
