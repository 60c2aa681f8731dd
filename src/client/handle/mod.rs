//! The async client: handles on one connection, which a task of its own maintains.
//!
//! - `client`: connecting, requests, closing; `publish`; `payload`: values in JSON and protobuf.
//! - `subscription`, `serve`: incoming messages and requests, each through a `post`.

mod client;
mod payload;
mod post;
mod publish;
mod serve;
mod subscription;

pub use client::Client;
pub(super) use client::connect;
pub use serve::{OpenRequest, Requests, Service};
pub use subscription::Subscription;
