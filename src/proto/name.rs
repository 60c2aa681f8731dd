//! Names: topics, filters and services (PROTOCOL.md, Topics and filters).
//!
//! A level may be empty: `/a`, `a//b` and `a/` have one, which is a level like any other.
//!
//! A service is named like a topic. Names starting with `$` are reserved for the server; who may
//! use them is decided by the router, not by the syntax.

use super::error::{Code, Refusal};
use crate::base::limits::{NAME_BYTES_MAX, NAME_LEVELS_MAX};

/// Checks a topic or service name.
///
/// # Errors
/// BAD_NAME, with what is wrong.
#[inline]
pub fn check_topic(name: &str) -> Result<(), Refusal> {
    if is_plain(name) {
        return Ok(());
    }
    refuse_topic(name)
}

/// Whether a topic is valid, checked in one pass: the fast path of every PUBLISH.
#[inline]
fn is_plain(name: &str) -> bool {
    let (mut slashes, mut wrong) = (0, false);
    for &byte in name.as_bytes() {
        wrong |= byte < 0x20 || byte == b'+' || byte == b'#';
        slashes += usize::from(byte == b'/');
    }
    !wrong && slashes < NAME_LEVELS_MAX && (1..=NAME_BYTES_MAX).contains(&name.len())
}

#[cold]
fn refuse_topic(name: &str) -> Result<(), Refusal> {
    check_levels(name)?;
    if name.contains(['+', '#']) {
        return Err(bad("topic and service names must not contain wildcards"));
    }
    Ok(())
}

/// Checks a filter: a topic in which `+` may stand for one level and a final `#` for any
/// number of them.
///
/// # Errors
/// BAD_NAME, with what is wrong.
pub fn check_filter(filter: &str) -> Result<(), Refusal> {
    check_levels(filter)?;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.len() > 1 && level.contains(['+', '#']) {
            return Err(bad("a wildcard must be a whole level"));
        }
        if level == "#" && levels.peek().is_some() {
            return Err(bad("# is allowed only as the last level"));
        }
    }
    Ok(())
}

/// Whether a valid filter matches a valid topic.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

fn check_levels(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(bad("the name is empty"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(bad("name too long (max 255 bytes)"));
    }
    if name.bytes().any(|byte| byte < 0x20) {
        return Err(bad("names must not contain control characters"));
    }
    if name.split('/').count() > NAME_LEVELS_MAX {
        return Err(bad("name has too many levels (max 32)"));
    }
    Ok(())
}

const fn bad(text: &'static str) -> Refusal {
    Refusal::new(Code::BadName, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_255_bytes_and_32_levels_at_most() {
        assert!(check_topic(&"x".repeat(255)).is_ok());
        assert!(check_topic(&"x".repeat(256)).is_err());
        // Bytes, not characters.
        assert!(check_topic(&"ü".repeat(128)).is_err());
        assert!(check_filter(&["+"; 32].join("/")).is_ok());
        assert!(check_filter(&["+"; 33].join("/")).is_err());
        // Empty levels count.
        assert!(check_topic(&"/".repeat(31)).is_ok());
        assert!(check_topic(&"/".repeat(32)).is_err());
        assert!(check_topic("").is_err());
    }

    #[test]
    fn a_name_has_no_control_characters() {
        for byte in 0..0x80u8 {
            let name = format!("a{}b", char::from(byte));
            let allowed = byte >= 0x20 && !b"+#".contains(&byte);
            assert_eq!(check_topic(&name).is_ok(), allowed, "{byte:#x}");
            assert_eq!(check_filter(&name).is_ok(), allowed, "{byte:#x}");
        }
    }
}
