//! `src/client`, as far as its threads meet in it; what is left out is stood in for.

#[path = "../../../src/client/access.rs"]
mod access;
#[path = "../../../src/client/address.rs"]
mod address;
#[path = "../../../src/client/block.rs"]
mod block;
#[path = "../../../src/client/budget.rs"]
mod budget;
#[path = "../../../src/client/builder.rs"]
mod builder;
mod conversation;
#[path = "../../../src/client/credential.rs"]
mod credential;
#[path = "../../../src/client/error.rs"]
mod error;
#[path = "../../../src/client/flight.rs"]
mod flight;
mod inbox;
#[path = "../../../src/client/incoming.rs"]
mod incoming;
mod ledger;
#[path = "../../../src/client/link.rs"]
mod link;
#[path = "../../../src/client/reconnect.rs"]
mod reconnect;
#[path = "../../../src/client/registry.rs"]
mod registry;
#[path = "../../../src/client/request.rs"]
mod request;
#[path = "../../../src/client/status.rs"]
mod status;
#[path = "../../../src/client/subscribe.rs"]
mod subscribe;
#[path = "../../../src/client/wildcard.rs"]
mod wildcard;
#[path = "../../../src/client/withdrawal.rs"]
mod withdrawal;

pub use address::Address;
pub use incoming::{Incoming, IncomingRequest, Message};
pub use link::Drain;
pub use request::{Request, Response};
pub use subscribe::{Serve, Subscribe};

mod clock;
mod driver;
pub mod handle;
mod pool;
mod tls;
