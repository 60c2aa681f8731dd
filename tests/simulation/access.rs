//! Access control on simulated shards: who is admitted, and what is delivered to whom until when;
//! judged over whole random runs, and rule by rule.

#[path = "access/guarded.rs"]
pub(crate) mod guarded;
#[path = "access/random.rs"]
pub(crate) mod random;
#[path = "access/rule.rs"]
mod rule;
