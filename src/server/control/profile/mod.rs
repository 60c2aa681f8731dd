//! CPU and heap profiles of this process, as pprof's gzipped protobuf for `go tool pprof`, or as
//! a flame graph for people.
//!
//! Both are stacks with a weight; `jemalloc_pprof` gives them names and writes them.

pub mod cpu;
pub mod heap;

use crate::ring::sample;
use jemalloc_pprof::{FlamegraphOptions, StackProfile};

/// What a profile is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// pprof's `profile.proto`, gzipped.
    Proto,
    /// A flame graph.
    Svg,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("another profile is being taken; try again when it is done")]
    Busy,
    #[error(
        "nothing was sampled because the server was idle; try again while it works, or for \
             longer"
    )]
    Nothing,
    #[error(
        "the allocator of this program is not profiled; run the ringmail binary, and not with \
         _RJEM_MALLOC_CONF=prof:false"
    )]
    NoHeap,
    #[error("no profile could be taken: {0}; try again")]
    Failed(String),
}

/// Writes stacks whose weights are a quantity such as `("cpu", "nanoseconds")`.
fn write(
    stacks: &StackProfile,
    quantity: (&str, &str),
    format: Format,
) -> Result<Vec<u8>, ProfileError> {
    let written = named(stacks, quantity, format);
    // Frees the symbol cache, 90 MB for this binary, and then returns the memory from the allocator
    // to the system.
    backtrace::clear_symbol_cache();
    sample::give_back();
    written
}

fn named(
    stacks: &StackProfile,
    quantity: (&str, &str),
    format: Format,
) -> Result<Vec<u8>, ProfileError> {
    if format == Format::Proto {
        return Ok(stacks.to_pprof(quantity, quantity, None));
    }
    if stacks.stacks.is_empty() {
        return Err(ProfileError::Nothing);
    }
    let mut options = FlamegraphOptions::default();
    options.title = format!("ringmail: {}", quantity.0);
    quantity.1.clone_into(&mut options.count_name);
    stacks
        .to_flamegraph(&mut options)
        .map_err(|error| ProfileError::Failed(error.to_string()))
}

/// Whether an address is in a function with such a name, including inlined ones.
fn is_in(addr: usize, is_named: impl Fn(&str) -> bool) -> bool {
    let mut found = false;
    backtrace::resolve(addr as *mut std::ffi::c_void, |symbol| {
        let name = symbol.name().map(|name| format!("{name:#}"));
        found |= name.is_some_and(|name| is_named(&name));
    });
    found
}
