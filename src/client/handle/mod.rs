//! The async client: handles on one connection, which a task of its own keeps.
//!
//! - `client`: connecting, requests, closing; `publish`; `payload`: values in JSON and protobuf.
//! - `subscription`, `serve`: what is brought, each over a `post`.

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
