//! Requests: answered here, by a service of this process or by a connection of any shard.
//!
//! | file | idea |
//! |---|---|
//! | `service` | services of this process, and the ways they answer |
//! | `call` | requests in flight, as the caller's shard holds them |
//! | `forwarded` | requests in flight, as the server's shard holds them |
//! | `forward` | a request to a connection that serves, and its answer back |

pub(crate) mod call;
pub(crate) mod forward;
pub(crate) mod forwarded;
pub(crate) mod service;
