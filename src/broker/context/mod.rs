//! What all parts of a broker share: the time, limits, counters, the turn's work, and the ledger.
//!
//! | file | idea |
//! |---|---|
//! | `resource` | all of it together, as handlers receive it |
//! | `scheduler` | lanes and their shares of a turn, in units of work |
//! | `ledger`, `pool` | what memory is charged to; the chunks that are lent |
//! | `mailbox` | how other threads reach a shard |
//! | `sample` | where a message's time goes |
//! | `trace`, `arrival` | which messages and connections are traced; their spans |
//! | `entropy` | random numbers |
//!
//! Calls (`crate::broker::request::call`) are included too, because a service answers with two
//! references, which are passed in registers: its connection and this.

pub(crate) mod arrival;
pub(crate) mod entropy;
pub(crate) mod ledger;
pub(crate) mod mailbox;
pub(crate) mod pool;
pub(crate) mod resource;
pub(crate) mod sample;
pub(crate) mod scheduler;
pub(crate) mod trace;
