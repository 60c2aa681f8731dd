//! How a shard authenticates its clients.

use crate::auth::Authority;
use crate::auth::ask::Asks;
use crate::base::clock::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a shard needs for authentication.
#[derive(Clone)]
pub struct Access {
    /// Immutable: new keys and revocations arrive as a new one (`Command::Authority`).
    pub authority: Arc<Authority>,
    /// The control thread, which issues tokens and fetches keys; `None` in simulations without one.
    pub asks: Option<Asks>,
    /// API keys and refresh tokens are answered with a pair of tokens.
    pub is_issuer: bool,
    pub wall: Wall,
}

/// Unix time, which tokens are dated in.
#[derive(Clone, Copy, Debug)]
pub enum Wall {
    System,
    /// In a simulation: the Unix time at its `Instant::ZERO`; it changes when the clock is stepped.
    Simulated(&'static AtomicU64),
}

impl Wall {
    /// Unix seconds.
    pub(in crate::broker) fn now(self, now: Instant) -> u64 {
        match self {
            Wall::System => crate::base::clock::unix_nanos() / 1_000_000_000,
            Wall::Simulated(begin) => begin.load(Relaxed) + now.as_millis() / 1000,
        }
    }
}
