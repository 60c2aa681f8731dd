//! A pool of connections: made as they are needed, kept while they are, lent one by one.
//!
//! # Why it is our own
//! What it stands on is tokio: clock, tasks, channels. Two pools for any kind of connection
//! were looked at, and neither gives what this one promises:
//! - bb8 0.9: whoever calls when a connection has just come back takes it before those who
//!   wait for it, and who got a dead one goes to the end of the line: no order. Its times are
//!   read from the machine's clock, so that none of them can be tried under a paused one; its
//!   lifetimes have no jitter; its timeout does not say why.
//! - deadpool 0.13: fair, but nothing is kept ready, nothing grows old or ends by itself, and
//!   who dials cannot take a connection that comes back meanwhile. What there would be to
//!   write around it is most of what is here.
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
