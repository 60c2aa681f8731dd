//! Sessions: what lasts of a connection, and is taken up again (by `crate::shard::resume`).
//!
//! | file | idea |
//! |---|---|
//! | `sessions` | those of a shard, by their keys, and by when they end |
//! | `durable` | a session's begin, acknowledgements and end |
//! | `replay_log` | what a session's client has not acknowledged |
//! | `receipt` | which of a session's PUBLISHes were taken |
//! | `seek` | a session that is to be resumed, as a value |

pub(crate) mod durable;
pub(crate) mod receipt;
pub(crate) mod replay_log;
pub(crate) mod seek;
pub(crate) mod sessions;
