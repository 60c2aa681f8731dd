//! Layer 2: counters, histograms, the busiest topics. A shard writes its own; anyone may read.

pub mod counter;
pub mod histogram;
pub mod topics;
