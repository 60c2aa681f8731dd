//! Sessions: what lasts of a connection, and is taken up again.

pub(crate) mod durable;
pub(crate) mod receipt;
pub(crate) mod replay_log;
pub(crate) mod seek;
pub(crate) mod sessions;
