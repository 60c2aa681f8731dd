//! The handles: `post.rs` is the client's; `client.rs` stands in for what it asks of a client. Beside
//! them what is claimed of both.

pub mod client;
pub mod model;
#[path = "../../../../src/client/handle/post.rs"]
mod post;
