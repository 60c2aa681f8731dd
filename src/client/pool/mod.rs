//! A pool of connections, opened and kept as they are needed, lent out one by one.
//!
//! # Why it is our own
//! It is built on tokio: clock, tasks, channels. We looked at two generic pools, and neither
//! provides what this one promises:
//! - bb8 0.9: a caller that arrives just as a connection is returned gets it before those who
//!   wait for it, and a caller that got a dead one goes to the end of the queue: no order. It
//!   reads its times from the machine's clock, so none of them can be tested under a paused
//!   clock; its lifetimes have no jitter; its timeout does not say why.
//! - deadpool 0.13: fair, but it keeps no connections ready, has no lifetimes, ends nothing by
//!   itself, and a caller that is dialing cannot take a connection returned meanwhile. A wrapper
//!   that adds this would be most of what is here.
//!
//! # How it is made
//! ```text
//!   Pool, PooledClient     the public surface, over Clients (clients.rs)
//!     ▼
//!   lease                  acquire, try out, give back
//!     ▼
//!   shared                 every change of the books; dial, close, upkeep: tasks that follow
//!     ▼
//!   stock                  the books: who is idle, who waits, what is counted; no I/O
//!     ▼
//!   maker                  what is asked of a connection
//! ```

mod builder;
mod clients;
mod handle;
mod lease;
mod maker;
mod settings;
mod shared;
mod status;
mod stock;
#[cfg(test)]
mod tests;

pub use builder::PoolBuilder;
pub use handle::{Pool, PooledClient};
pub use status::{Closed, PoolStatus};
