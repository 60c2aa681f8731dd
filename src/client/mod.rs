//! Layer 4: the clients, over the same sans-I/O session as the server.
//!
//! - `blocking`: a client for one thread that waits for each answer.
//! - `link`: what any client does with the bytes it receives, however it waits for them.
//! - `address`, `request`, `error`: what callers give and get.
//!
//! Not here yet: subscriptions, credentials, reconnecting, TLS.

mod address;
pub mod blocking;
mod error;
mod link;
mod request;

pub use crate::base::limits::{MESSAGE_BYTES_CEILING, PING_BYTES_MAX};
pub use crate::proto::envelope::Codec;
pub use crate::proto::error::{Code, Refusal};
pub use address::Address;
pub use error::Error;
pub use link::{Drain, ServerInfo};
pub use request::{Request, Response};
