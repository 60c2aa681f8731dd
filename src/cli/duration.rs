//! Durations as people type them: `250ms`, `10s`, `1.5m`, or a plain number of seconds.

use std::time::Duration;

const UNITS: &[(&str, f64)] = &[
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("", 1.0),
];

/// Reads a duration.
///
/// # Errors
/// What is expected instead.
pub fn parse(text: &str) -> Result<Duration, String> {
    let expected = || "write it as 250ms, 10s, 1.5m, 1h, or a number of seconds".to_owned();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| expected())?;
    let (_, seconds) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(expected)?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

/// The longest that a load may be asked to last, or to wait: every load is bounded.
const LOAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// As [`parse`], at most a day.
///
/// # Errors
/// What is expected instead.
pub fn parse_bounded(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        duration if duration <= LOAD_MAX => Ok(duration),
        _ => Err("must be at most 24h".to_owned()),
    }
}

/// As [`parse_bounded`], but not zero.
///
/// # Errors
/// What is expected instead.
pub fn parse_bounded_positive(text: &str) -> Result<Duration, String> {
    match parse_bounded(text)? {
        Duration::ZERO => Err("must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, nanos) in [
            ("0", 0),
            ("10", 10_000_000_000),
            ("10s", 10_000_000_000),
            ("250ms", 250_000_000),
            ("0.5ms", 500_000),
            ("20us", 20_000),
            ("1.5m", 90_000_000_000),
            ("2h", 7_200_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "s",
            "-1s",
            "1 s",
            "1d",
            "1e3",
            ".",
            "1s2",
            "1e400",
            "9999999999999999999999h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_load_lasts_a_day_at_most() {
        assert_eq!(parse_bounded("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_bounded("24h"), Ok(LOAD_MAX));
        assert!(parse_bounded("24.01h").is_err() && parse_bounded("1d").is_err());
        assert!(parse_bounded_positive("0ms").is_err());
        assert_eq!(parse_bounded_positive("24h"), Ok(LOAD_MAX));
    }
}
