//! The fuzz targets (`tests/fuzz/targets/mod.rs`) without libFuzzer: every input of a target's
//! corpus, and a fixed number of mutations of them, which one seed determines.
//!
//! Here, because this binary has the whole server under it and is built anyway. An input that
//! fails is written to a file, with the command that runs it again; one that was a fault stays
//! in the corpus under the fault's name. `RINGMAIL_SEED=n` makes other mutations, and
//! `RINGMAIL_SEEDS=n` so many.

use super::seed::number;
use std::cell::Cell;
use std::fs;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

#[path = "../fuzz/targets/mod.rs"]
mod target;

/// Bytes of an input, as `scripts/fuzz` has them.
const INPUT_BYTES_MAX: usize = 4096;

thread_local! {
    /// A panic on this thread, caught or not: the codec catches its own.
    static HAS_PANICKED: Cell<bool> = const { Cell::new(false) };
}

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            HAS_PANICKED.set(true);
            tell(panic);
        }));
    });
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = root().join("tests/fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no corpus of {name}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Another input, made of what there is by up to four changes.
fn mutated(corpus: &[Vec<u8>], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = rng.choice(corpus).cloned().unwrap_or_default();
    for _ in 0..rng.u8(1..=4) {
        let at = rng.usize(..=input.len());
        let count = rng.usize(1..=16);
        let end = (at + count).min(input.len());
        match rng.u8(..8) {
            0 => input.insert(at, rng.u8(..)),
            1 => drop(input.drain(at..end)),
            2 => {
                let piece = input[at..end].to_vec();
                let to = rng.usize(..=input.len());
                input.splice(to..to, piece);
            }
            3 => {
                let other = rng.choice(corpus).map_or(&[][..], |other| other);
                let from = rng.usize(..=other.len());
                let piece = other[from..(from + 4 * count).min(other.len())].to_vec();
                input.splice(at..end, piece);
            }
            4 => input[at..end].fill(*rng.choice(&[0, 0xFF, 0x80, 1]).unwrap_or(&0)),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    match rng.bool() {
                        true => *byte ^= 1 << rng.u8(..8),
                        false => *byte = rng.u8(..),
                    }
                }
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn run(target: &target::Target, input: &[u8]) {
    HAS_PANICKED.set(false);
    let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    if ran.is_ok() && !HAS_PANICKED.get() {
        return;
    }
    let folder = root().join("target/fuzz-failures");
    fs::create_dir_all(&folder).unwrap();
    let name = format!("{}-{:08x}", target.name, crc32fast::hash(input));
    fs::write(folder.join(&name), input).unwrap();
    panic!(
        "an input of {} bytes fails; again: scripts/fuzz {} --input target/fuzz-failures/{name}",
        input.len(),
        target.name
    );
}

fn trial(name: &str) {
    watch_panics();
    let target = target::find(name).unwrap();
    let corpus = corpus(name);
    corpus.iter().for_each(|input| run(target, input));
    let mut rng = fastrand::Rng::with_seed(number("RINGMAIL_SEED").unwrap_or(1));
    let count = number("RINGMAIL_SEEDS").unwrap_or(target.mutations.into());
    for _ in 0..count {
        run(target, &mutated(&corpus, &mut rng));
    }
}

macro_rules! trials {
    ($($name:ident)*) => {
        $(#[test] fn $name() { trial(stringify!($name)); })*

        #[test]
        fn every_target_is_tried() {
            let tried = [$(stringify!($name)),*];
            let targets: Vec<_> = target::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(targets, tried);
        }
    };
}

trials! {
    session pair envelope router rights token jwks pem config codec client admin server
}
