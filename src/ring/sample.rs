//! CPU profiling by stack samples, and returning memory to the system: both need `unsafe` and are
//! therefore in this folder.
//!
//! ITIMER_PROF has the kernel interrupt whichever thread is running (SIGPROF) at a frequency of the
//! process's CPU time. The handler walks that thread's stack and writes its addresses into memory
//! allocated beforehand:
//!
//! ```text
//!   words  [ 3 | a0 a1 a2 | 2 | b0 b1 | 0 …      a count, then so many addresses
//! ```
//!
//! It reserves its words with one atomic addition: no lock, no allocation. Without room left, a
//! sample is lost, and counted. Pages become resident as they fill, and are freed with the samples.
//!
//! Invariant: only the handler that reserved a stack's words writes them; they are read once the
//! handler is removed.

use signal_hook::SigId;
use std::ffi::c_void;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Frames of a stack; those beyond are left out.
pub const DEPTH_MAX: usize = 128;
/// Words of sample memory: 16 MiB, some 50,000 stacks of 40 frames.
const WORDS: usize = 2 << 20;
/// The handler's function: below it, and below the signal trampoline, is the interrupted stack.
pub const HANDLER: &str = "signal_hook_registry::handler";

struct Samples {
    words: Box<[AtomicUsize]>,
    next: AtomicUsize,
    lost: AtomicU64,
}

impl Samples {
    fn note(&self) {
        let (mut stack, mut depth) = ([0; DEPTH_MAX], 0);
        // SAFETY: other threads may walk their stacks at the same time: each walks its own, and the
        // unwinder's tables are only read. `Sampler::begin` has initialised the unwinder.
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
            // A zero would look like the end of the stack.
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
    /// Starts sampling, this many times in a second of CPU time. One at a time in a process, since
    /// the process has one such timer.
    ///
    /// # Errors
    /// The handler cannot be installed or the timer not set.
    pub fn begin(frequency: u32) -> io::Result<Sampler> {
        // The first walk loads and allocates; later ones do not.
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

    /// Ends sampling. Returns the stacks, innermost address first, and how many were lost.
    pub fn end(self) -> (Vec<Vec<usize>>, u64) {
        let samples = self.samples.clone();
        // No sample is written once this has returned.
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
        // If the timer cannot be stopped, its signals are ignored.
        let _ = set_timer(0);
        signal_hook::low_level::unregister(self.action);
    }
}

/// Memory that becomes resident only when it is written to.
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

/// Returns the memory that jemalloc has free to the system at once: a hundred megabytes after a
/// profile. Does nothing in a program with another allocator.
pub fn give_back() {
    // jemalloc(3): all arenas (MALLCTL_ARENAS_ALL).
    const PURGE: &std::ffi::CStr = c"arena.4096.purge";
    let null = std::ptr::null_mut::<c_void>();
    // SAFETY: the name ends with a zero, and nothing is read or written. If it is refused, jemalloc
    // returns the memory in time.
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
            // The timer counts CPU time: work until there are enough.
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
    fn a_sample_without_room_is_counted() {
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
