//! Which values of a type are sensible. A rule returns what the value must be ("must be …"), and
//! is named beside its key in the schema.

use std::collections::HashSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use super::setting::Shards;

pub type Verdict = Result<(), String>;

fn ensure(holds: bool, demand: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(demand()) }
}

pub fn within<T: PartialOrd + Display>(range: RangeInclusive<T>) -> impl Fn(&T) -> Verdict {
    move |value| {
        ensure(range.contains(value), || {
            format!("must be from {} to {}", range.start(), range.end())
        })
    }
}

/// A power of two in `range`: sizes of rings that the kernel indexes with a mask.
pub fn power_of_two(range: RangeInclusive<u32>) -> impl Fn(&u32) -> Verdict {
    move |value| {
        ensure(range.contains(value) && value.is_power_of_two(), || {
            format!(
                "must be a power of two from {} to {}",
                range.start(),
                range.end()
            )
        })
    }
}

/// At least one core, none twice.
pub fn cores(shards: &Shards) -> Verdict {
    let distinct = match shards {
        Shards::All => true,
        Shards::Range(range) => !range.is_empty() && range.end() - range.start() < CORES_MAX,
        Shards::List(cores) => {
            let set: HashSet<_> = cores.iter().collect();
            !cores.is_empty() && set.len() == cores.len() && cores.len() <= CORES_MAX as usize
        }
    };
    ensure(distinct, || {
        format!("must name at least one and at most {CORES_MAX} cores, each once")
    })
}

/// A shard's number is 16 bits on the wire (PROTOCOL.md §1, SHARD); no host has that many.
const CORES_MAX: u32 = 1024;

/// `info`, or `info,ringmail::shard=debug`.
#[expect(clippy::ptr_arg, reason = "a rule takes the type of its field")]
pub fn log_level(text: &String) -> Verdict {
    is_log_level(text)
}

/// Whether `log.level` accepts this, for levels from other sources.
pub fn is_log_level(text: &str) -> Verdict {
    let level =
        |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word.trim());
    let holds = text.split(',').all(|part| match part.split_once('=') {
        Some((target, word)) => !target.trim().is_empty() && level(word),
        None => level(part),
    });
    ensure(holds, || {
        "must be off, error, warn, info, debug or trace, \
         or several, as in \"info,ringmail::shard=debug\""
            .to_owned()
    })
}

/// A SHA-256 in hexadecimal, or nothing.
#[expect(clippy::ptr_arg, reason = "a rule takes the type of its field")]
pub fn sha256(text: &String) -> Verdict {
    let holds = text.is_empty() || text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    ensure(holds, || "must be 64 hexadecimal digits".to_owned())
}
