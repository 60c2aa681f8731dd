//! Whole servers in one thread, on simulated drivers: seeds, faults, virtual time.
//!
//! Each run ends by healing and must converge: each well-behaved client got exactly one
//! right answer to each request, each connection one close reason, and every slot, buffer,
//! chunk, timer, call and descriptor is back. A failure names its seed and the command to
//! see it again; `scripts/simulate` runs more of them.

#[path = "simulation/access.rs"]
mod access;
#[path = "simulation/chaos.rs"]
mod chaos;
#[path = "simulation/drain.rs"]
mod drain;
#[path = "simulation/idle.rs"]
mod idle;
#[path = "simulation/met.rs"]
mod met;
#[path = "simulation/peer.rs"]
mod peer;
#[path = "simulation/routing.rs"]
mod routing;
#[path = "simulation/seed.rs"]
mod seed;
#[path = "simulation/server.rs"]
mod server;
#[path = "simulation/shortage.rs"]
mod shortage;
#[path = "simulation/survey.rs"]
mod survey;
#[path = "simulation/tls.rs"]
mod tls;
