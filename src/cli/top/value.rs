//! One field of a table: how it is written, compared, and given to programs.

use crate::base::terminal;
use serde_json::json;
use std::cmp::Ordering;
use std::fmt;

/// A number with its unit, a text, or nothing if the server did not report it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Absent,
    Text(String),
    Count(u64),
    /// A rate per second.
    Rate(f64),
    Bytes(f64),
    /// A share of 1.
    Share(f64),
    Microseconds(f64),
    Seconds(f64),
}

impl Value {
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// Applies `value`, if there is something.
    pub fn of<T>(some: Option<T>, value: impl FnOnce(T) -> Value) -> Value {
        some.map_or(Value::Absent, value)
    }

    fn number(&self) -> f64 {
        match self {
            // Sorts below every value.
            Value::Absent | Value::Text(_) => -1.0,
            Value::Count(count) => *count as f64,
            Value::Rate(number)
            | Value::Bytes(number)
            | Value::Share(number)
            | Value::Microseconds(number)
            | Value::Seconds(number) => *number,
        }
    }

    /// Texts compare by their letters, numbers by their size.
    pub fn order(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Text(one), Value::Text(other)) => one.cmp(other),
            _ => self.number().total_cmp(&other.number()),
        }
    }

    /// For programs: a number in its base unit, or a text, or null.
    pub fn to_json(&self) -> serde_json::Value {
        let rounded = |number: f64, to: f64| (number * to).round() / to;
        match self {
            Value::Absent => json!(null),
            Value::Text(text) => json!(text),
            Value::Count(count) => json!(count),
            Value::Share(share) => json!(rounded(*share, 1e6)),
            other => json!(rounded(other.number(), 1e3)),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Absent => f.pad("–"),
            Value::Text(text) => f.pad(&clean(text)),
            Value::Count(count) => f.pad(&scaled(*count as f64, 1000.0, &["", "k", "M", "G", "T"])),
            Value::Rate(rate) => f.pad(&scaled(*rate, 1000.0, &["", "k", "M", "G"])),
            Value::Bytes(bytes) => {
                f.pad(&scaled(*bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"]))
            }
            Value::Share(share) => f.pad(&format!("{:.0} %", share * 100.0)),
            Value::Microseconds(us) => f.pad(&duration(*us)),
            Value::Seconds(seconds) => f.pad(&age(*seconds)),
        }
    }
}

/// Escaped for terminals: a client's name is displayed, not executed.
fn clean(text: &str) -> String {
    let shown = |c: char| match c.is_control() || terminal::is_active(c) {
        true => '\u{fffd}',
        false => c,
    };
    text.chars().map(shown).collect()
}

/// Three digits and a unit; whole numbers below a thousand are written as they are.
fn scaled(mut number: f64, step: f64, units: &[&str]) -> String {
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    // What would be written as 1000 becomes 1.00 of the next unit.
    while number.abs() >= 999.5 {
        let Some(next) = units.next() else { break };
        number /= step;
        unit = next;
    }
    let digits = match number.abs() {
        small if (small - small.round()).abs() < 1e-9 && (unit.is_empty() || unit == "B") => 0,
        small if small < 9.995 => 2,
        small if small < 99.95 => 1,
        _ => 0,
    };
    let space = if unit.is_empty() { "" } else { " " };
    format!("{number:.digits$}{space}{unit}")
}

/// Microseconds, in the unit that reads best.
fn duration(us: f64) -> String {
    let (number, unit) = match us {
        us if us < 999.5 => (us, "µs"),
        us if us < 999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let digits = match number {
        small if small < 9.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$} {unit}")
}

fn age(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole} s"),
        (0, 0, _) => format!("{minutes}m {:02}s", whole % 60),
        (0, _, _) => format!("{hours}h {minutes:02}m"),
        _ => format!("{days}d {hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_three_digits_and_a_unit() {
        for (value, text) in [
            (Value::Absent, "–"),
            (Value::Count(0), "0"),
            (Value::Count(999), "999"),
            (Value::Count(1000), "1.00 k"),
            (Value::Count(123_456), "123 k"),
            (Value::Rate(0.5), "0.50"),
            (Value::Rate(999.7), "1.00 k"),
            (Value::Bytes(1000.0), "0.98 KiB"),
            (Value::Bytes(512.0), "512 B"),
            (Value::Bytes(1048576.0), "1.00 MiB"),
            (Value::Share(0.256), "26 %"),
            (Value::Microseconds(12.34), "12 µs"),
            (Value::Microseconds(1234.0), "1.2 ms"),
            (Value::Microseconds(2_000_000.0), "2.0 s"),
            (Value::Seconds(59.9), "59 s"),
            (Value::Seconds(61.0), "1m 01s"),
            (Value::Seconds(7260.0), "2h 01m"),
            (Value::Seconds(90_000.0), "1d 01h"),
        ] {
            assert_eq!(value.to_string(), text, "{value:?}");
        }
    }

    #[test]
    fn characters_that_a_terminal_acts_on_are_not_written() {
        let text = Value::text("a\u{1b}[2Jb\u{7}\u{9b}c\u{202e}\u{2066}").to_string();
        assert_eq!(text, "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}\u{fffd}");
    }

    #[test]
    fn unknown_values_sort_after_every_number() {
        let zero = Value::Rate(0.0);
        assert_eq!(Value::Absent.order(&zero), Ordering::Less);
        assert_eq!(Value::text("a").order(&Value::text("b")), Ordering::Less);
        assert_eq!(Value::Absent.to_json(), json!(null));
        assert_eq!(Value::Rate(1.23456).to_json(), json!(1.235));
    }
}
