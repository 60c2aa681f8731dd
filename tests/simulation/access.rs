//! Access on simulated shards: who gets in, what is delivered to whom and until when,
//! judged over whole runs, and rule by rule.

#[path = "access/guarded.rs"]
mod guarded;
#[path = "access/random.rs"]
mod random;
#[path = "access/rule.rs"]
mod rule;
