//! Layer 4: the clients, over the same sans-I/O session as the server.
//!
//! [`Client`] is a handle on one connection that many tasks share; [`blocking::Client`] is the
//! same for programs without a runtime.
//!
//! - `handle`: what tasks hold; `blocking`: what threads hold.
//! - `driver`: the task that owns a connection's socket, and what it shares with the handles.
//! - `pool`: several connections, lent one by one.
//! - `conversation`: what any client does over its connections, however it waits: `link` (one
//!   connection), `ledger` (what outlives it), `inbox`, `flight`, `registry`, `withdrawal`,
//!   `reconnect`.
//! - `credential`, `access`, `tls`: who a client is, when it says so, and over what.
//! - `address`, `builder`, `request`, `publish`, `subscribe`, `incoming`, `payload`, `status`,
//!   `error`: what callers give and get.

mod access;
mod address;
mod block;
pub mod blocking;
mod builder;
mod conversation;
mod credential;
mod driver;
mod error;
mod flight;
mod handle;
mod inbox;
mod incoming;
mod ledger;
mod link;
mod payload;
mod pool;
mod publish;
mod reconnect;
mod registry;
mod request;
mod status;
mod subscribe;
mod tls;
mod withdrawal;

pub use crate::base::limits::{MESSAGE_BYTES_CEILING, PING_BYTES_MAX};
pub use crate::proto::envelope::{Codec, Headers, SlowPolicy, header};
pub use crate::proto::error::{Code, Refusal};
pub use address::Address;
pub use builder::Builder;
pub use credential::{Credential, Login, Secret};
pub use error::{Error, Fault};
pub use handle::{Client, OpenRequest, Requests, Service, Subscription};
pub use incoming::{Incoming, IncomingRequest, Message};
pub use link::{Drain, ServerInfo};
pub use pool::{Closed, Pool, PoolBuilder, PoolStatus, PooledClient};
pub use publish::Publish;
pub use reconnect::Reconnect;
pub use request::{Request, Response};
pub use status::{Phase, Status};
pub use subscribe::{Serve, Subscribe};
pub use tls::Tls;
