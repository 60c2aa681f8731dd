//! Requests: answered here, by a service of this process or by a connection of any shard.

pub(crate) mod call;
pub(crate) mod forward;
pub(crate) mod forwarded;
pub(crate) mod service;
