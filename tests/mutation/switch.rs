//! What a mutated expression asks: is my mutant on? Stands in the mutated copy only, as
//! `base::mutant`, behind the constant `COUNT`.
//!
//! `RINGMAIL_MUTANT=7,9` turns mutants on. `RINGMAIL_REACHED=FILE` notes in a file of `COUNT`
//! bytes which have been asked; it is mapped, for a test may count allocations, descriptors or
//! system calls. Both are read before `main`, so that being off costs a load and a branch.

use std::ops::{Add, Sub};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering::Relaxed};

const OFF: u8 = 0;
const ON: u8 = 1;
const ASKED: u8 = 2;

static STATES: [AtomicU8; COUNT] = [const { AtomicU8::new(OFF) }; COUNT];
static REACHED: AtomicPtr<AtomicU8> = AtomicPtr::new(std::ptr::null_mut());

// SAFETY: the loader calls what stands in this section, once, before `main`; a function without
// arguments may take no notice of those it is given.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    for number in std::env::var("RINGMAIL_MUTANT").unwrap_or_default().split(',') {
        if let Some(state) = number.parse::<usize>().ok().and_then(|number| STATES.get(number)) {
            state.store(ON, Relaxed);
        }
    }
    let Some(path) = std::env::var_os("RINGMAIL_REACHED") else { return };
    let Ok(file) = std::fs::File::options().read(true).write(true).open(path) else { return };
    // SAFETY: a new mapping, as long as the process; the file has `COUNT` bytes.
    let map = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), COUNT, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if map != libc::MAP_FAILED {
        REACHED.store(map.cast(), Relaxed);
        for state in STATES.iter().filter(|state| state.load(Relaxed) == OFF) {
            state.store(ASKED, Relaxed);
        }
    }
}

#[inline(always)]
pub fn on(number: usize) -> bool {
    match STATES[number].load(Relaxed) {
        OFF => false,
        state => state == ON || note(number),
    }
}

#[cold]
#[inline(never)]
fn note(number: usize) -> bool {
    STATES[number].store(OFF, Relaxed);
    // SAFETY: in ASKED, which `begin` sets once `COUNT` bytes are mapped.
    unsafe { (*REACHED.load(Relaxed).add(number)).store(1, Relaxed) };
    false
}

pub fn lt<A: PartialOrd<B> + ?Sized, B: ?Sized>(number: usize, a: &A, b: &B) -> bool {
    if on(number) { a <= b } else { a < b }
}

pub fn le<A: PartialOrd<B> + ?Sized, B: ?Sized>(number: usize, a: &A, b: &B) -> bool {
    if on(number) { a < b } else { a <= b }
}

pub fn gt<A: PartialOrd<B> + ?Sized, B: ?Sized>(number: usize, a: &A, b: &B) -> bool {
    if on(number) { a >= b } else { a > b }
}

pub fn ge<A: PartialOrd<B> + ?Sized, B: ?Sized>(number: usize, a: &A, b: &B) -> bool {
    if on(number) { a > b } else { a >= b }
}

pub fn add<A: Add<B> + Sub<B, Output = <A as Add<B>>::Output>, B>(number: usize, a: A, b: B) -> <A as Add<B>>::Output {
    if on(number) { a - b } else { a + b }
}

pub fn sub<A: Sub<B> + Add<B, Output = <A as Sub<B>>::Output>, B>(number: usize, a: A, b: B) -> <A as Sub<B>>::Output {
    if on(number) { a + b } else { a - b }
}

/// A constant, or 2^30 (the type's most, if that is less), or one more, or one less.
pub fn limit<T: Limit>(number: usize, value: T) -> T {
    if on(number) {
        T::LARGE
    } else if on(number + 1) {
        value.more()
    } else if on(number + 2) {
        value.less()
    } else {
        value
    }
}

pub trait Limit {
    const LARGE: Self;
    fn more(self) -> Self;
    fn less(self) -> Self;
}

macro_rules! limits {
    ($($kind:ty),*) => {$(
        impl Limit for $kind {
            const LARGE: $kind = if (<$kind>::MAX as u128) < 1 << 30 { <$kind>::MAX } else { (1_u128 << 30) as $kind };
            fn more(self) -> $kind { self.saturating_add(1) }
            fn less(self) -> $kind { self.saturating_sub(1) }
        }
    )*};
}
limits!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);
