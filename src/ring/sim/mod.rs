//! A seeded simulation under the shards: one thread, a virtual clock, a network and clients.
//!
//! Shards run on it as on the real driver, but nothing happens by itself: the harness calls
//! [`World::next`], which picks the shard that turns next, at random among those that would be
//! awake; time passes only there. The same seed, plans and calls make the same run, to the last
//! completion ([`World::trace`]). [`Faults`] says what the kernel does to a shard, and how often;
//! [`client::Plan`] and [`client::traffic::Traffic`] say what clients do.
//!
//! ```text
//!  harness:  while let Some(shard) = world.next(until) { shards[shard].turn() }
//!
//!   Shard ──► SimDriver ──poll──► kernel: rings, descriptors ◄──► links ◄──► clients
//!               checks                     │                                   │
//!                                          └────────── event_queue (time) ──────────┘
//! ```
//!
//! It checks each shard against the driver's contract (see `socket` and `driver`): two receives or
//! two sends of a key, a close with something in flight, a descriptor closed twice or used after
//! its close, a buffer released that was not lent. [`World::check_no_leaks`] checks the rest at the
//! end of a run. A breach panics with the seed.
//!
//! What it does not do: threads, wall-clock time, packet loss (TCP hides it).

mod accept;
pub mod client;
mod descriptor;
mod driver;
mod event_queue;
mod fault;
mod id;
mod kernel;
mod link;
mod outside;
mod remote;
mod ring;
mod socket;
#[cfg(test)]
mod tests;
mod world;

pub use driver::SimDriver;
pub use fault::Faults;
pub use outside::{Fate, Outside};
pub use ring::RingSize;
pub use world::World;
