//! Sessions: what outlives a connection and can be resumed (by `crate::shard::resume`).
//!
//! | file | idea |
//! |---|---|
//! | `sessions` | the sessions of a shard, by key and by when they expire |
//! | `durable` | a session's beginning, acknowledgements and end |
//! | `replay_log` | messages that a session's client has not acknowledged |
//! | `receipt` | which of a session's PUBLISHes were accepted |
//! | `seek` | a session to be resumed, as a value |

pub(crate) mod durable;
pub(crate) mod receipt;
pub(crate) mod replay_log;
pub(crate) mod seek;
pub(crate) mod sessions;
