//! Untrusted text for a terminal: control characters are shown, not executed.
//!
//! A topic, a client's name or a server's reason may contain characters that a terminal acts on:
//! controls (ESC, and C1's CSI, which needs no ESC), and those that change the writing direction,
//! which can make a line appear to say something else (Unicode TR 36).

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a terminal would act on the character. A tab counts as a blank.
pub const fn is_active(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}'
            | '\n'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// The text with active characters escaped, as `\u{9b}`.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_active(c) {
            // Writing to a string cannot fail.
            true => drop(write!(shown, "\\u{{{:x}}}", u32::from(c))),
            false => shown.push(c),
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_characters_are_escaped_and_the_rest_stays() {
        for (text, shown) in [
            ("site/7/Tür µ 温度 שלום 👍🏽", "site/7/Tür µ 温度 שלום 👍🏽"),
            ("a\u{1b}[2J", "a\\u{1b}[2J"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
            (
                "a\u{202e}b\u{2066}\u{200f}",
                "a\\u{202e}b\\u{2066}\\u{200f}",
            ),
            ("a\nb\tc\u{2028}", "a\\u{a}b\tc\\u{2028}"),
        ] {
            assert_eq!(escaped(text), shown);
        }
    }
}
