//! Samples of the CPU's stacks, and giving memory back: what needs `unsafe`, and is therefore
//! in this folder.
//!
//! ITIMER_PROF has the kernel interrupt whichever thread is running (SIGPROF) at a frequency
//! of the process's CPU time. The handler walks that thread's stack and notes its addresses
//! in memory that was there before:
//!
//! ```text
//!   words  [ 3 | a0 a1 a2 | 2 | b0 b1 | 0 …      a count, then so many addresses
//! ```
//!
//! It takes its place by one addition: no lock, no allocation. Where there is no place left a
//! sample is lost, and counted. The memory is touched as it fills, and goes with the samples.
//!
//! Invariant: a stack's words are its handler's alone; they are read when the handler is gone.

use signal_hook::SigId;
use std::ffi::c_void;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Frames of a stack; what is above is left out.
pub const DEPTH_MAX: usize = 128;
/// Words there are: 16 MiB, some 50,000 stacks of 40 frames.
const WORDS: usize = 2 << 20;
/// The function below which, and below the trampoline under it, is what was interrupted.
pub const HANDLER: &str = "signal_hook_registry::handler";

struct Samples {
    words: Box<[AtomicUsize]>,
    next: AtomicUsize,
    lost: AtomicU64,
}

impl Samples {
    fn note(&self) {
        let (mut stack, mut depth) = ([0; DEPTH_MAX], 0);
        // SAFETY: it may run beside others that walk their stacks: each walks its own, and the
        // unwinder's tables are read only. `Sampler::begin` has had it made ready before.
        unsafe {
            backtrace::trace_unsynchronized(|frame| {
                let Some(place) = stack.get_mut(depth) else {
                    return false;
                };
                *place = frame.ip() as usize;
                depth += 1;
                true
            });
        }
        if depth == 0 {
            // It would look like the end.
            return;
        }
        let at = self.next.fetch_add(depth + 1, Relaxed);
        let Some(place) = self.words.get(at..at.saturating_add(depth + 1)) else {
            self.lost.fetch_add(1, Relaxed);
            return;
        };
        for (word, addr) in place[1..].iter().zip(&stack) {
            word.store(*addr, Relaxed);
        }
        place[0].store(depth, Relaxed);
    }
}

/// Takes samples until it is dropped.
pub struct Sampler {
    samples: Arc<Samples>,
    action: SigId,
}

impl Sampler {
    /// Begins, with so many samples in a second of CPU time. One at a time in a process: the
    /// timer is its.
    ///
    /// # Errors
    /// The handler cannot be installed or the timer not set.
    pub fn begin(frequency: u32) -> io::Result<Sampler> {
        // What the first walk has to load and allocate is there from now on.
        backtrace::trace(|_| true);
        let samples = Arc::new(Samples {
            words: zeros(WORDS),
            next: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        });
        let noting = samples.clone();
        // SAFETY: the action neither locks nor allocates, and leaves errno alone (signal-hook
        // restores it).
        let action =
            unsafe { signal_hook::low_level::register(libc::SIGPROF, move || noting.note()) }?;
        let sampler = Sampler { samples, action };
        set_timer((1_000_000 / i64::from(frequency.max(1))).max(1))?;
        Ok(sampler)
    }

    /// Ends: the stacks, innermost address first, and how many were lost.
    pub fn end(self) -> (Vec<Vec<usize>>, u64) {
        let samples = self.samples.clone();
        // No more are noted once this has returned.
        drop(self);
        let mut stacks = Vec::new();
        let mut words = samples.words.iter().map(|word| word.load(Relaxed));
        while let Some(depth @ 1..) = words.next() {
            stacks.push(words.by_ref().take(depth).collect());
        }
        (stacks, samples.lost.load(Relaxed))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // If it cannot be stopped, nobody notes what it brings.
        let _ = set_timer(0);
        signal_hook::low_level::unregister(self.action);
    }
}

/// Memory that is touched only when it is written to.
fn zeros(count: usize) -> Box<[AtomicUsize]> {
    let words: Box<[usize]> = vec![0; count].into();
    // SAFETY: an AtomicUsize has the size, the alignment and the bytes of a usize.
    unsafe { Box::from_raw(Box::into_raw(words) as *mut [AtomicUsize]) }
}

fn set_timer(micros: i64) -> io::Result<()> {
    let period = libc::timeval {
        tv_sec: micros / 1_000_000,
        tv_usec: micros % 1_000_000,
    };
    let timer = libc::itimerval {
        it_interval: period,
        it_value: period,
    };
    // SAFETY: it reads a value that lives as long as the call, and writes nothing.
    match unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives what jemalloc has free to the system at once: after a profile, a hundred megabytes.
/// Nothing, in a program that has another allocator.
pub fn give_back() {
    // jemalloc(3): all arenas (MALLCTL_ARENAS_ALL).
    const PURGE: &std::ffi::CStr = c"arena.4096.purge";
    let null = std::ptr::null_mut::<c_void>();
    // SAFETY: a name with a zero at its end, and nothing read or written. If it is refused,
    // what is free goes in time.
    unsafe {
        tikv_jemalloc_sys::mallctl(PURGE.as_ptr(), null, null.cast(), null, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn a_thread_that_works_is_sampled_and_one_begins_where_another_ended() {
        for _ in 0..2 {
            let sampler = Sampler::begin(1000).expect("begun");
            let mut sum = 0u64;
            // CPU time, not time: until there are some.
            while sampler.samples.next.load(Relaxed) < 500 {
                sum = black_box(sum.wrapping_mul(31).wrapping_add(7));
            }
            let (stacks, lost) = sampler.end();
            assert_eq!(lost, 0);
            assert!(stacks.len() > 2, "{}", stacks.len());
            assert!(stacks.iter().any(|stack| stack.len() > 4), "{stacks:x?}");
        }
    }

    #[test]
    fn what_finds_no_place_is_counted() {
        let samples = Samples {
            words: zeros(DEPTH_MAX + 1),
            next: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        };
        for _ in 0..200 {
            samples.note();
        }
        assert!(samples.lost.load(Relaxed) > 100);
        assert!(samples.words[0].load(Relaxed) > 0, "the first one fits");
    }
}
