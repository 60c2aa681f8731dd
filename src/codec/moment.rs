//! Timestamps and durations in JSON: RFC 3339 text, and seconds with an `s`.
//!
//! As Google's library for Python reads them: hours and days may have one digit, an offset any
//! number of minutes, and a duration's digits behind the ninth are rounded.

use super::scalar::whole;
use std::fmt::Write;
use std::ops::RangeInclusive;

/// From 0001-01-01 to the end of 9999.
const TIMESTAMP_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// Ten thousand years.
const DURATION_SECONDS: RangeInclusive<i64> = -315_576_000_000..=315_576_000_000;
const NANOS: i32 = 1_000_000_000;
const NANO_DIGITS: usize = 9;
const DAY_SECONDS: i64 = 86_400;

/// Days from 0000-03-01 to 1970-01-01. Years are counted from March, so that a leap day is the last
/// day of its year.
const EPOCH_DAYS: i64 = 719_468;
/// Days in 400, 100, 4 and one years.
const ERA_DAYS: i64 = 146_097;
const CENTURY_DAYS: i64 = 36_524;
const OLYMPIAD_DAYS: i64 = 1_461;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) seconds: i64,
    pub(super) nanos: i32,
}

impl Moment {
    pub(super) fn check_timestamp(self) -> Result<(), &'static str> {
        if !TIMESTAMP_SECONDS.contains(&self.seconds) {
            return Err("a timestamp must be in the years 1 to 9999");
        }
        match (0..NANOS).contains(&self.nanos) {
            true => Ok(()),
            false => Err("a timestamp's nanos must be 0 to 999999999"),
        }
    }

    pub(super) fn check_duration(self) -> Result<(), &'static str> {
        if !DURATION_SECONDS.contains(&self.seconds) {
            return Err("a duration must be at most 315576000000 seconds");
        }
        if !(1 - NANOS..NANOS).contains(&self.nanos) {
            return Err("a duration's nanos must be less than a second");
        }
        match self.seconds.signum() * i64::from(self.nanos.signum()) {
            -1 => Err("a duration's seconds and nanos must have the same sign"),
            _ => Ok(()),
        }
    }

    /// `None` if it is not a timestamp.
    pub(super) fn parse_timestamp(text: &str) -> Option<Moment> {
        let zone = (text.find('Z').or_else(|| text.find('+'))).or_else(|| text.rfind('-'))?;
        let (time, zone) = text.split_at(zone);
        let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
        let (date, time) = time.split_once('T')?;
        let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
        let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let month_days = match month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let is_time = hour < 24 && minute < 60 && second < 60;
        let is_year = date.find('-') == Some(4) && year > 0;
        if !is_time || !is_year || !(1..=month_days).contains(&day) {
            return None;
        }
        if fraction.len() > NANO_DIGITS {
            return None;
        }
        let of_day = (hour * 60 + minute) * 60 + second;
        let moment = Moment {
            seconds: days(year, month, day) * DAY_SECONDS + of_day - offset(zone)?,
            nanos: nanos(fraction)?,
        };
        moment.check_timestamp().ok()?;
        Some(moment)
    }

    /// `None` if it is not a duration.
    pub(super) fn parse_duration(text: &str) -> Option<Moment> {
        let number = text.strip_suffix('s')?;
        let (seconds, fraction) = number.split_once('.').unwrap_or((number, ""));
        let nanos = nanos(fraction)?;
        let moment = Moment {
            seconds: i64::try_from(whole(seconds)?).ok()?,
            nanos: if text.starts_with('-') { -nanos } else { nanos },
        };
        moment.check_duration().ok()?;
        Some(moment)
    }

    /// Quoted. It has been checked.
    pub(super) fn write_timestamp(self, out: &mut String) {
        let days = self.seconds.div_euclid(DAY_SECONDS) + EPOCH_DAYS;
        let of_day = self.seconds.rem_euclid(DAY_SECONDS);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let _ = write!(
            out,
            "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        );
        write_nanos(self.nanos.unsigned_abs(), out);
        out.push_str("Z\"");
    }

    /// Quoted. It has been checked.
    pub(super) fn write_duration(self, out: &mut String) {
        let is_negative = self.seconds < 0 || self.nanos < 0;
        let sign = if is_negative { "-" } else { "" };
        let _ = write!(out, "\"{sign}{}", self.seconds.unsigned_abs());
        write_nanos(self.nanos.unsigned_abs(), out);
        out.push_str("s\"");
    }
}

/// Writes three, six or nine digits, or none.
fn write_nanos(nanos: u32, out: &mut String) {
    let _ = match nanos {
        0 => Ok(()),
        nanos if nanos % 1_000_000 == 0 => write!(out, ".{:03}", nanos / 1_000_000),
        nanos if nanos % 1000 == 0 => write!(out, ".{:06}", nanos / 1000),
        nanos => write!(out, ".{nanos:09}"),
    };
}

/// Three numbers, each of at most this many digits.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, most) in numbers.iter_mut().zip(digits) {
        *number = digits_of(parts.next()?, most)?;
    }
    parts.next().is_none().then_some(numbers)
}

fn digits_of(text: &str, most: usize) -> Option<i64> {
    let is_number = text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Nanoseconds from the digits after the decimal point.
fn nanos(fraction: &str) -> Option<i32> {
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if fraction.len() <= NANO_DIGITS {
        let digits = fraction.parse::<i32>().unwrap_or_default();
        return Some(digits * 10i32.pow((NANO_DIGITS - fraction.len()) as u32));
    }
    let nanos: f64 = format!("0.{fraction}").parse().ok()?;
    Some((nanos * f64::from(NANOS)).round_ties_even() as i32)
}

/// Seconds that a zone (`Z`, `+01:30`) is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let seconds = (digits_of(hours, 4)? * 60 + digits_of(minutes, 4)?) * 60;
    match zone.as_bytes().first() {
        Some(b'+') => Some(seconds),
        Some(b'-') => Some(-seconds),
        _ => None,
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = match month > 2 {
        true => (year, month - 3),
        false => (year - 1, month + 9),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    // Counted from March, months alternate between 31 and 30 days; five of them have 153.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - EPOCH_DAYS
}

/// The date of a day since 0000-03-01.
fn date(days: i64) -> (i64, i64, i64) {
    let (era, day) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let century = (day / CENTURY_DAYS).min(3);
    let day = day - century * CENTURY_DAYS;
    let olympiad = day / OLYMPIAD_DAYS;
    let day = day - olympiad * OLYMPIAD_DAYS;
    let of_four = (day / 365).min(3);
    let day = day - of_four * 365;
    let year = era * 400 + century * 100 + olympiad * 4 + of_four;
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    match month < 10 {
        true => (year, month + 3, of_month),
        false => (year + 1, month - 9, of_month),
    }
}
