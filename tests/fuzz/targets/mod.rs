//! What is fuzzed: one function a target, from bytes to claims that must hold for all bytes.
//!
//! The same functions run in two places. libFuzzer calls them in a crate of its own
//! (`tests/fuzz/src/main.rs`, built by `scripts/fuzz`); `tests/simulation/fuzz.rs` feeds them the
//! corpora and a fixed number of mutations, in a test binary that CI builds anyway. So they
//! reach what is public, or hidden from the documentation, and nothing else: the client's
//! conversation and the admin address have a door each, behind the feature `sim`.
//!
//! A target panics when a claim breaks. Bytes that mean nothing to it end early; they are
//! read by [`Draw`], so that each change of a byte changes one decision.

mod admin;
mod client;
mod codec;
mod config;
mod draw;
mod envelope;
mod jwks;
mod pair;
mod pem;
mod rights;
mod router;
mod server;
mod session;
mod speech;
mod token;

use draw::Draw;

/// One target by its name, which its corpus has as well.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Inputs made by mutation in a run of the tests: as many as take half a second or so.
    pub mutations: u32,
}

const fn target(name: &'static str, run: fn(&[u8]), mutations: u32) -> Target {
    Target {
        name,
        run,
        mutations,
    }
}

pub const TARGETS: &[Target] = &[
    target("session", session::run, 20_000),
    target("pair", pair::run, 20_000),
    target("envelope", envelope::run, 100_000),
    target("router", router::run, 4_000),
    target("rights", rights::run, 6_000),
    target("token", token::run, 20_000),
    target("jwks", jwks::run, 2_000),
    target("pem", pem::run, 5_000),
    target("config", config::run, 3_500),
    target("codec", codec::run, 20_000),
    target("client", client::run, 12_000),
    target("admin", admin::run, 2_000),
    target("server", server::run, 250),
];

/// The target of that name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
