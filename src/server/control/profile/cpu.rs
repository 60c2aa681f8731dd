//! CPU profiles: the kernel interrupts whichever thread is running (SIGPROF), at a frequency of
//! the process's CPU time, and its stack is recorded (`ring::sample`). An idle server has no
//! samples.
//!
//! The signal ends a wait in a ring early (EINTR): the shard's turn then finds nothing to do
//! and waits again. Without a profile there is no timer.

use super::{Format, ProfileError, is_in, write};
use crate::ring::sample::{HANDLER, Sampler};
use jemalloc_pprof::{StackProfile, WeightedStack};
use mappings::MAPPINGS;
use std::collections::HashMap;

/// A profile that is being taken, until it is dropped.
pub struct Sampling {
    sampler: Sampler,
    frequency: u32,
}

impl Sampling {
    /// Begins, with `frequency` samples in a second of CPU time, 1 to 1000. One at a time.
    ///
    /// # Errors
    /// The handler cannot be installed.
    pub fn begin(frequency: u32) -> Result<Sampling, ProfileError> {
        let sampler = Sampler::begin(frequency);
        let sampler = sampler.map_err(|error| ProfileError::Failed(error.to_string()))?;
        Ok(Sampling { sampler, frequency })
    }

    /// Ends sampling and writes the profile: nanoseconds by stack. Takes a while, to resolve names.
    ///
    /// # Errors
    /// If nothing was sampled, which a flame graph needs.
    pub fn end(self, format: Format) -> Result<Vec<u8>, ProfileError> {
        // Ended first, so that the following is not sampled.
        let (stacks, lost) = self.sampler.end();
        if lost > 0 {
            tracing::warn!(
                lost,
                "samples were lost because the profile was full: ask for fewer seconds or a \
                 lower frequency"
            );
        }
        let nanos = 1e9 / f64::from(self.frequency.max(1));
        write(&profile(stacks, nanos), ("cpu", "nanoseconds"), format)
    }
}

fn profile(stacks: Vec<Vec<usize>>, nanos: f64) -> StackProfile {
    let mut profile = StackProfile::default();
    for mapping in MAPPINGS.iter().flatten() {
        profile.push_mapping(mapping.clone());
    }
    // Many stacks are identical.
    let mut counts: HashMap<Vec<usize>, u64> = HashMap::new();
    for stack in stacks {
        *counts.entry(stack).or_default() += 1;
    }
    let mut handlers = HashMap::new();
    for (stack, count) in counts {
        let mut addrs = interrupted(&stack, &mut handlers).to_vec();
        // All addresses but the first are return addresses, for which the writer looks up the call
        // before it; the first is the instruction itself.
        if let Some(first) = addrs.first_mut() {
            *first += 1;
        }
        addrs.retain(|addr| *addr > 0);
        addrs.reverse();
        let weight = count as f64 * nanos;
        profile.push_stack(WeightedStack { addrs, weight }, None);
    }
    profile
}

/// The stack without the handler's frames and the kernel's signal trampoline. `known` caches which
/// addresses belong to the handler.
fn interrupted<'s>(addrs: &'s [usize], known: &mut HashMap<usize, bool>) -> &'s [usize] {
    let mut is_handler = |addr: &usize| {
        // A return address: the call is just before it.
        let named = |name: &str| name.ends_with(HANDLER);
        *known
            .entry(*addr)
            .or_insert_with(|| is_in(addr.saturating_sub(1), named))
    };
    let handler = addrs.iter().position(&mut is_handler);
    let below = handler.map_or(0, |at| at + 2);
    addrs.get(below..).unwrap_or_default()
}
