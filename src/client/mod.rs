//! Layer 4: the clients, over the same sans-I/O session as the server.
//!
//! - `blocking`: a client for one thread that waits for each answer.
//! - `conversation`: what any client does over its connections, however it waits: `link` (one
//!   connection), `ledger` (what outlives it), `inbox`, `flight`, `registry`, `reconnect`.
//! - `credential`, `access`, `tls`: who a client is, when it says so, and over what.
//! - `address`, `request`, `publish`, `subscribe`, `incoming`, `error`: what callers give and get.
//!
//! Not here yet: an async client.

mod access;
mod address;
mod block;
pub mod blocking;
mod conversation;
mod credential;
mod error;
mod flight;
mod inbox;
mod incoming;
mod ledger;
mod link;
mod pool;
mod publish;
mod reconnect;
mod registry;
mod request;
mod subscribe;
mod tls;

pub use crate::base::limits::{MESSAGE_BYTES_CEILING, PING_BYTES_MAX};
pub use crate::proto::envelope::{Codec, Headers, SlowPolicy, header};
pub use crate::proto::error::{Code, Refusal};
pub use address::Address;
pub use credential::{Credential, Login, Secret};
pub use error::Error;
pub use incoming::{Incoming, IncomingRequest, Message};
pub use link::{Drain, ServerInfo};
pub use publish::Publish;
pub use reconnect::Reconnect;
pub use request::{Request, Response};
pub use subscribe::{Serve, Subscribe};
pub use tls::Tls;
