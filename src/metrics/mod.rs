//! Layer 2: counters, gauges, histograms, spans, the busiest topics. A shard writes its own;
//! anyone may read.

pub mod counter;
pub mod gauge;
pub mod histogram;
pub mod span;
pub mod topics;
