//! The fuzz targets under libFuzzer: one program, which `RINGMAIL_FUZZ` tells its target.
//!
//! One and not one a target, so that the crate is built and linked once: what libFuzzer looks
//! at after each input grows with the program, by some microseconds (tests/README.md has the
//! numbers). Built and run by `scripts/fuzz`, whose flags it needs; no part of the project's own
//! build, so it stands outside its workspace.

#![no_main]

#[path = "../../proto/pair.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod pair;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "."]
mod routing {
    #[path = "../../simulation/routing/judge/mod.rs"]
    pub mod judge;
}
#[path = "../../simulation/server.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod server;
#[path = "../targets/mod.rs"]
#[allow(dead_code, reason = "how often the tests run a target")]
mod target;

use std::sync::LazyLock;

static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("RINGMAIL_FUZZ").unwrap_or_default();
    let found = target::find(&name);
    found
        .unwrap_or_else(|| {
            let names: Vec<_> = target::TARGETS.iter().map(|target| target.name).collect();
            panic!("RINGMAIL_FUZZ={name:?}: give one of {}", names.join(", "))
        })
        .run
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| RUN(input));
