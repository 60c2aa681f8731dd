//! Heap profiles: from the start of the process, jemalloc records the stack of about one
//! allocation per 512 KiB, and drops it when the allocation is freed.
//!
//! Only the binary uses jemalloc (`main.rs`): a program that embeds the server has its own
//! allocator, and no such profile. Memory of C libraries (aws-lc) and of rings (mmap) is not
//! included.

use super::{Format, ProfileError, is_in, write};
use jemalloc_pprof::PROF_CTL;

/// Bytes in use by stack. Takes a while, to resolve names.
///
/// # Errors
/// If the allocator is not profiling, another profile is being taken, or its file cannot be written
/// (TMPDIR).
pub fn take(format: Format) -> Result<Vec<u8>, ProfileError> {
    let control = PROF_CTL.as_ref().ok_or(ProfileError::NoHeap)?;
    let mut control = control.try_lock().map_err(|_| ProfileError::Busy)?;
    if !control.activated() {
        return Err(ProfileError::NoHeap);
    }
    let mut stacks = control
        .dump_profile()
        .map_err(|error| ProfileError::Failed(error.to_string()))?;
    drop(control);
    for (stack, _) in &mut stacks.stacks {
        let own = allocating(&stack.addrs);
        stack.addrs.truncate(own);
    }
    write(&stacks, ("inuse_space", "bytes"), format)
}

/// The index in a stack, root first, at which the allocator's frames begin.
fn allocating(addrs: &[usize]) -> usize {
    // Return addresses: the call is just before each.
    let is_allocator = |addr: &usize| {
        is_in(addr.saturating_sub(1), |name| {
            let name = name.rsplit("::").next().unwrap_or_default();
            ["_rjem_", "__rust_alloc", "__rust_realloc"]
                .iter()
                .any(|own| name.starts_with(own))
        })
    };
    addrs.iter().position(is_allocator).unwrap_or(addrs.len())
}
