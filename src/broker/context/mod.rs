//! What all parts of a broker share: the time, limits, counters, a turn's work, and the ledger.

pub(crate) mod arrival;
pub(crate) mod entropy;
pub(crate) mod ledger;
pub(crate) mod mailbox;
pub(crate) mod pool;
pub(crate) mod resource;
pub(crate) mod sample;
pub(crate) mod scheduler;
pub(crate) mod trace;
