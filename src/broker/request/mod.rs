//! Requests: answered by a service of this process, or by a connection on any shard.
//!
//! | file | idea |
//! |---|---|
//! | `service` | services of this process, and the ways they answer |
//! | `call` | requests in flight, as the requester's shard holds them |
//! | `forwarded` | requests in flight, as the server's shard holds them |
//! | `forward` | the way of a request to a connection that serves, and of its answer back |
//! | `seek`, `seeking` | the search for a server, where it takes several steps; its queue |

pub(crate) mod call;
pub(crate) mod forward;
pub(crate) mod forwarded;
pub(in crate::broker) mod seek;
pub(in crate::broker) mod seeking;
pub(crate) mod service;
