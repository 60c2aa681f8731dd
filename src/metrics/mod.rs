//! Layer 2: counters, gauges and histograms. A shard writes its own; anyone may read.

pub mod counter;
pub mod gauge;
pub mod histogram;
