//! A seeded simulation under the shards: one thread, a virtual clock, a network and clients.
//!
//! Shards run on it as on the real driver, but nothing happens by itself: the harness lets
//! [`World::next`] pick which shard turns next, by chance among those that would be awake,
//! and time passes only in there. The same seed, plans and calls make the same run, to the
//! last completion ([`World::trace`]). What the kernel does to a shard, and how often, is
//! in [`Faults`]; what clients do in [`client::Plan`] and [`client::traffic::Traffic`].
//!
//! ```text
//!  harness:  while let Some(shard) = world.next(until) { shards[shard].turn() }
//!
//!   Shard ──► SimDriver ──poll──► kernel: rings, descriptors ◄──► links ◄──► clients
//!               checks                     │                                   │
//!                                          └────────── agenda (time) ──────────┘
//! ```
//!
//! It holds each shard to the driver's contract (see `socket` and `driver`): two receives
//! or two sends of a key, a close with something in flight, a descriptor closed twice or
//! used after, a buffer released that was not lent. [`World::check_no_leaks`] asks for the
//! rest once all is over. A breach panics with the seed.
//!
//! What it does not do: threads, wall-clock time, packet loss (TCP hides it).

mod accept;
mod agenda;
pub mod client;
mod descriptor;
mod driver;
mod fault;
mod id;
mod kernel;
mod link;
mod remote;
mod ring;
mod socket;
#[cfg(test)]
mod tests;
mod world;

pub use driver::SimDriver;
pub use fault::Faults;
pub use ring::RingSize;
pub use world::World;
