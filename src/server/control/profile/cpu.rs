//! Where the CPU's time goes: the kernel interrupts whichever thread is running (SIGPROF)
//! at a frequency of the process's CPU time, and its stack is noted. An idle server has no
//! samples.
//!
//! The signal ends a wait in a ring early (EINTR): the shard's turn then finds nothing to do
//! and waits again. Without a profile there is neither timer nor handler.

use super::{Format, ProfileError, is_in, write};
use jemalloc_pprof::{StackProfile, WeightedStack};
use mappings::MAPPINGS;
use pprof::{ProfilerGuard, ProfilerGuardBuilder, UnresolvedReport};

/// The function of the `pprof` crate that notes a stack.
const HANDLER: &str = "perf_signal_handler";

/// A profile that is being taken, until it is dropped.
pub struct Sampling {
    guard: ProfilerGuard<'static>,
    frequency: u32,
}

impl Sampling {
    /// Begins, with `frequency` samples in a second of CPU time, 1 to 1000.
    ///
    /// # Errors
    /// Another one is being taken, or the handler cannot be installed.
    pub fn begin(frequency: u32) -> Result<Sampling, ProfileError> {
        // The rule is that of the caller: it fits.
        let hertz = i32::try_from(frequency).unwrap_or(i32::MAX);
        let guard = ProfilerGuardBuilder::default().frequency(hertz).build();
        let guard = guard.map_err(|error| match error {
            pprof::Error::Running => ProfileError::Busy,
            other => ProfileError::Failed(other.to_string()),
        })?;
        Ok(Sampling { guard, frequency })
    }

    /// Ends, and writes the profile: nanoseconds by stack. Takes a while, for names.
    ///
    /// # Errors
    /// Nothing was sampled, for a flame graph; the samples cannot be had.
    pub fn end(self, format: Format) -> Result<Vec<u8>, ProfileError> {
        let report = self.guard.report().build_unresolved();
        // No more samples: not of the following.
        drop(self.guard);
        let report = report.map_err(|error| ProfileError::Failed(error.to_string()))?;
        let nanos = 1e9 / f64::from(self.frequency.max(1));
        write(&stacks(&report, nanos), ("cpu", "nanoseconds"), format)
    }
}

fn stacks(report: &UnresolvedReport, nanos: f64) -> StackProfile {
    let mut profile = StackProfile::default();
    for mapping in MAPPINGS.iter().flatten() {
        profile.push_mapping(mapping.clone());
    }
    for (sample, count) in &report.data {
        let addrs: Vec<usize> = sample
            .frames
            .iter()
            .map(|frame| frame.ip() as usize)
            .collect();
        let mut addrs = interrupted(&addrs).to_vec();
        // Each but the first is where a call returns to, and the writer looks before it for
        // the call; the first is the instruction itself.
        if let Some(first) = addrs.first_mut() {
            *first += 1;
        }
        addrs.retain(|addr| *addr > 0);
        addrs.reverse();
        let weight = *count as f64 * nanos;
        profile.push_stack(WeightedStack { addrs, weight }, None);
    }
    profile
}

/// The stack without the noting of it: the handler and what the kernel puts below it.
fn interrupted(addrs: &[usize]) -> &[usize] {
    let is_handler = |addr: &usize| is_in(*addr, |name| name.ends_with(HANDLER));
    let handler = addrs.iter().position(is_handler);
    let below = handler.map_or(0, |at| at + 2);
    addrs.get(below..).unwrap_or_default()
}
