//! Durations on the command line: a number and its unit, as in `10s`, `500ms`, `1.5m`.

use std::time::Duration;

/// Longest duration accepted: every load is bounded.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// # Errors
/// What is wrong, for clap to print.
pub fn parse(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[number.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a number and a unit (us, ms, s, m, h), as in 10s".to_owned()),
    };
    let value: f64 = number
        .parse()
        .map_err(|_| format!("`{number}` is not a number"))?;
    match Duration::try_from_secs_f64(value * seconds) {
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        _ => Err("a duration from 0 to 24h".to_owned()),
    }
}

/// As [`parse`], but something must pass.
pub fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_needs_its_unit() {
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        for wrong in ["", "10", "s", "ten s", "-1s", "NaNs", "infs", "99h", "1d"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse_positive("0ms").is_err());
    }
}
