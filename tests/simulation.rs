//! Whole servers in one thread, on simulated drivers: seeds, faults, virtual time.
//!
//! Each run ends by healing and must converge: each well-behaved client has had exactly one correct
//! answer to each request, each connection has one close reason, and every slot, buffer, chunk,
//! timer, call and descriptor is released. A failure prints its seed and the command that
//! reproduces it; `scripts/simulate` runs more seeds.

#[path = "simulation/access.rs"]
mod access;
#[path = "simulation/chaos.rs"]
mod chaos;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/coverage.rs"]
mod coverage;
#[path = "simulation/drain.rs"]
mod drain;
#[path = "simulation/fuzz.rs"]
mod fuzz;
#[path = "simulation/idle.rs"]
mod idle;
#[path = "simulation/listing.rs"]
mod listing;
#[path = "proto/pair.rs"]
#[allow(
    dead_code,
    reason = "the fuzz targets have one end, and wires of their own"
)]
mod pair;
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
#[path = "simulation/tls.rs"]
mod tls;
