//! Runs a scenario for many seeds on two threads, and prints how to reproduce a failure.
//!
//! `RINGMAIL_SEED=n` runs that seed alone; `RINGMAIL_SEEDS=n` (from `RINGMAIL_FROM=n` on)
//! replaces the number of seeds, `RINGMAIL_SECONDS=n` runs as many as there is time for:
//! `scripts/simulate` sets them.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

const THREADS: usize = 2;
/// A run stops after this many failures.
const FAILURES_MAX: usize = 5;

pub fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
    )
}

/// Whether the environment overrides the tests' seeds.
pub fn are_overridden() -> bool {
    [
        "RINGMAIL_SEED",
        "RINGMAIL_SEEDS",
        "RINGMAIL_FROM",
        "RINGMAIL_SECONDS",
    ]
    .iter()
    .any(|name| number(name).is_some())
}

/// Runs `scenario` for `count` seeds, or for those set in the environment. `test` is the name of
/// the test, for the command that reproduces a seed.
pub fn each(test: &str, count: u64, scenario: impl Fn(u64) + Sync) {
    if let Some(seed) = number("RINGMAIL_SEED") {
        return scenario(seed);
    }
    let from = number("RINGMAIL_FROM").unwrap_or(0);
    let seconds = number("RINGMAIL_SECONDS");
    let count = number("RINGMAIL_SEEDS").unwrap_or(seconds.map_or(count, |_| u64::MAX >> 1));
    let begun = Instant::now();
    let is_over = || seconds.is_some_and(|most| begun.elapsed().as_secs() >= most);
    let next = AtomicU64::new(from);
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            if is_over() || failed.lock().unwrap().len() >= FAILURES_MAX {
                return;
            }
            let seed = next.fetch_add(1, Relaxed);
            if seed >= from + count {
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| scenario(seed))).is_err() {
                failed.lock().unwrap().push(seed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    if seconds.is_some() {
        println!("{test}: {} seeds from {from} on", next.load(Relaxed) - from);
    }
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    if let Some(first) = failed.first() {
        panic!(
            "seeds {failed:?} failed; again: RINGMAIL_SEED={first} cargo test --test simulation {test}"
        );
    }
}
