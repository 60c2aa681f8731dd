//! `ringmail token inspect`: shows what a token contains. Without a key it cannot be verified,
//! and no statement about that is made.

use super::input::read_input;
use crate::auth::keyring::{Algorithm, Keyring};
use crate::auth::token::{Requirements, verify};
use crate::base::clock::unix_seconds;
use crate::base::exit::Status;
use crate::cli::access;
use crate::cli::args::Inspect;
use crate::cli::failure::{Failure, print};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::fmt::Write;

/// # Errors
/// If it is not a token or, with a key, not verified by it (the text is printed first).
pub fn run(args: &Inspect) -> Result<(), Failure> {
    let token = read_input(args.file.as_deref())?;
    let keyring = keyring(args)?;
    let now = unix_seconds();
    let shown = describe(token.expose(), now).ok_or_else(|| {
        let text = "this is not a signed token: it must have three base64url parts, two of them \
                    JSON; is it an API key or a refresh token?";
        Failure::new(Status::Runtime, text)
    })?;
    print(shown.as_bytes())?;
    let Some(keyring) = keyring else {
        return Ok(());
    };
    let required = Requirements::default();
    match verify(token.expose().as_bytes(), &keyring, &required, now) {
        Ok(_) => print(
            b"verified: the signature was made by this key, and the token is valid \
                         now\n",
        ),
        Err(denied) => Err(Failure::new(
            Status::Runtime,
            format!("not verified: {denied}"),
        )),
    }
}

fn keyring(args: &Inspect) -> Result<Option<Keyring>, Failure> {
    let usage = |text: String| Failure::new(Status::Usage, text);
    let read = |file: &Option<_>| match file {
        None => Ok(None),
        Some(file) => access::read(std::path::PathBuf::as_path(file)).map(Some),
    };
    let secret = read(&args.secret_file).map_err(usage)?;
    let public = read(&args.public_key).map_err(usage)?;
    if secret.is_none() && public.is_none() {
        return Ok(None);
    }
    let text = |secret: &Option<crate::client::Secret>| {
        secret
            .as_ref()
            .map_or(String::new(), |secret| secret.expose().to_owned())
    };
    Keyring::from_config(&Algorithm::ALL, &text(&secret), &text(&public))
        .map(Some)
        .map_err(|error| usage(error.to_string()))
}

/// Header, claims and times, a line each; `None` if it is not a token.
fn describe(token: &str, now: u64) -> Option<String> {
    let mut parts = token.split('.');
    let (header, claims) = (parts.next()?, parts.next()?);
    parts.next()?;
    if parts.next().is_some() {
        return None;
    }
    let header = object(header)?;
    let claims = object(claims)?;
    let mut text = format!("header  {header}\nclaims  {claims}\n");
    for (claim, past, future) in [
        ("iat", "issued", "claims to be issued"),
        ("nbf", "valid since", "not valid before"),
        ("exp", "expired", "expires"),
    ] {
        let Some(at) = claims.get(claim).and_then(Value::as_u64) else {
            continue;
        };
        let _ = match at <= now {
            true => writeln!(
                text,
                "{claim}     {past} {}, {} ago",
                date(at),
                span(now - at)
            ),
            false => writeln!(
                text,
                "{claim}     {future} {}, in {}",
                date(at),
                span(at - now)
            ),
        };
    }
    Some(text)
}

fn object(part: &str) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    let value: Value = serde_json::from_slice(&bytes).ok()?;
    value.is_object().then_some(value)
}

/// Seconds in their two largest units.
fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut words = Vec::new();
    for (size, name) in units {
        if rest >= size && words.len() < 2 {
            words.push(format!("{} {name}", rest / size));
            rest %= size;
        }
    }
    match words.is_empty() {
        true => "0 s".to_owned(),
        false => words.join(" "),
    }
}

/// Unix seconds as a date of the Gregorian calendar, UTC (RFC 3339).
fn date(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Days since 0000-03-01, so that the leap day is a year's last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second % 3600 / 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(date(unix), shown);
        }
        assert_eq!(span(0), "0 s");
        assert_eq!(span(90_061), "1 d 1 h");
    }

    #[test]
    fn a_token_is_shown_without_its_signature() {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token = format!(
            "{}.{}.c2lnbmF0dXJl",
            part(r#"{"alg":"HS256"}"#),
            part(r#"{"sub":"a","iat":100,"exp":1000}"#)
        );
        let text = describe(&token, 160).unwrap();
        assert!(text.contains(r#""sub":"a""#), "{text}");
        assert!(
            text.contains("issued 1970-01-01T00:01:40Z, 1 min ago"),
            "{text}"
        );
        assert!(
            text.contains("expires 1970-01-01T00:16:40Z, in 14 min"),
            "{text}"
        );
        assert!(
            !text.contains("c2lnbmF0dXJl") && !text.contains("valid"),
            "{text}"
        );
        for wrong in ["", "a.b", "a.b.c", "id.secret", "a.b.c.d"] {
            assert_eq!(describe(wrong, 0), None, "{wrong}");
        }
    }
}
