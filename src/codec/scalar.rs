//! JSON numbers, strings and literals as values of scalar fields.
//!
//! It follows `google.protobuf.json_format`, which partly follows Python: an integer may be
//! written as `1e2`, or in quotes as `"+1"` or `"1_000"`, a double as `true`. Two things that it
//! accepts are refused here, because they lose information: non-base64 characters in bytes,
//! which it skips, and numbers beyond the range of a float.

use super::descriptor::{EnumType, Kind, Types};
use super::text::Token;
use super::tree::Value;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

type Problem = Cow<'static, str>;

/// # Errors
/// Why it is not a value of this kind.
pub(super) fn scalar(types: &Types, kind: Kind, token: &Token<'_>) -> Result<Value, Problem> {
    let value = match kind {
        Kind::Double => Value::F64(double(token)?),
        Kind::Float => Value::F32(float(token)?),
        Kind::Int64 | Kind::Sfixed64 | Kind::Sint64 => Value::I64(integer(token)?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(integer(token)?),
        Kind::Int32 | Kind::Sfixed32 | Kind::Sint32 => Value::I32(integer(token)?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(integer(token)?),
        Kind::Bool => match token {
            Token::Bool(value) => Value::Bool(*value),
            other => return Err(unlike("true or false", other)),
        },
        Kind::String => match token {
            Token::String(text) => Value::String((**text).into()),
            other => return Err(unlike("a string", other)),
        },
        Kind::Bytes => match token {
            Token::String(text) => Value::Bytes(bytes(text)?),
            other => return Err(unlike("base64 in a string", other)),
        },
        Kind::Enum(id) => Value::Enum(number_of(types.enumeration(id), token)?),
        Kind::Message(_) | Kind::Group(_) => return Err(unlike("an object", token)),
    };
    Ok(value)
}

/// A map's key, which is a string in JSON.
pub(super) fn key(kind: Kind, text: &str) -> Result<Value, Problem> {
    let token = Token::String(Cow::Borrowed(text));
    let value = match kind {
        Kind::Int64 | Kind::Sfixed64 | Kind::Sint64 => Value::I64(integer(&token)?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(integer(&token)?),
        Kind::Int32 | Kind::Sfixed32 | Kind::Sint32 => Value::I32(integer(&token)?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(integer(&token)?),
        Kind::Bool => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err(Cow::Borrowed("expected \"true\" or \"false\" as a key")),
        },
        _ => Value::String(text.into()),
    };
    Ok(value)
}

#[cold]
pub(super) fn unlike(wanted: &str, found: &Token<'_>) -> Problem {
    let found = match found {
        Token::Null => "null",
        Token::Bool(_) => "true or false",
        Token::Number(_) => "a number",
        Token::String(_) => "a string",
        Token::List => "a list",
        Token::Object => "an object",
    };
    Cow::Owned(format!("expected {wanted}, not {found}"))
}

fn integer<T: TryFrom<i128>>(token: &Token<'_>) -> Result<T, Problem> {
    let value = match token {
        Token::Number(text) => whole_number(text).ok_or("it is not an integer")?,
        Token::String(text) if text.contains(' ') => return Err("invalid integer literal".into()),
        Token::String(text) => whole(text).ok_or("invalid integer literal")?,
        other => return Err(unlike("an integer", other)),
    };
    T::try_from(value).map_err(|_| Cow::Borrowed("it is out of range for the field"))
}

/// The value of an integral JSON number; one beyond every field's range saturates.
fn whole_number(text: &str) -> Option<i128> {
    if text.contains(['.', 'e', 'E']) {
        let value: f64 = text.parse().ok()?;
        return (value.is_finite() && value.fract() == 0.0).then_some(value as i128);
    }
    let beyond = if text.starts_with('-') {
        i128::MIN
    } else {
        i128::MAX
    };
    Some(text.parse().unwrap_or(beyond))
}

/// An integer as Python reads it.
pub(super) fn whole(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let text = without_underscores(text)?;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let beyond = if text.starts_with('-') {
        i128::MIN
    } else {
        i128::MAX
    };
    Some(text.parse().unwrap_or(beyond))
}

/// Removes underscores; `None` unless each is alone between digits.
fn without_underscores(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('_') {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is_between = |(at, byte): (usize, &u8)| {
        *byte != b'_' || (at > 0 && is_digit(at - 1) && is_digit(at + 1))
    };
    let are_between = bytes.iter().enumerate().all(is_between);
    are_between.then(|| Cow::Owned(text.replace('_', "")))
}

fn double(token: &Token<'_>) -> Result<f64, Problem> {
    match token {
        // Read as an integer, which has no negative zero.
        Token::Number("-0") => Ok(0.0),
        Token::Number(text) => finite(text.parse()),
        Token::Bool(value) => Ok(f64::from(u8::from(*value))),
        Token::String(text) => quoted(text),
        other => Err(unlike("a number", other)),
    }
}

fn float(token: &Token<'_>) -> Result<f32, Problem> {
    match token {
        // Rounded to a float before the check: the shortest decimal form of the largest float, read
        // as a double, may exceed it.
        Token::Number(_) => double(token).and_then(|value| {
            let value = value as f32;
            match value.is_finite() {
                true => Ok(value),
                false => Err(Cow::Borrowed("it is out of range for the field")),
            }
        }),
        other => double(other).map(|value| value as f32),
    }
}

fn finite(parsed: Result<f64, std::num::ParseFloatError>) -> Result<f64, Problem> {
    let value = parsed.map_err(|error| error.to_string())?;
    match value.is_finite() {
        true => Ok(value),
        false => Err(Cow::Borrowed("it is out of range for the field")),
    }
}

/// A number as Python reads it, which has infinities and NaN.
fn quoted(text: &str) -> Result<f64, Problem> {
    if text == "nan" {
        return Err(Cow::Borrowed("not-a-number is written \"NaN\""));
    }
    let digits = without_underscores(text.trim()).ok_or("invalid float literal")?;
    digits
        .parse()
        .map_err(|error: std::num::ParseFloatError| Cow::Owned(error.to_string()))
}

/// Base64 in either alphabet, padded or not.
fn bytes(text: &str) -> Result<Box<[u8]>, Problem> {
    let text = text.trim_end_matches('=');
    let text = match text.contains(['-', '_']) {
        true => Cow::Owned(text.replace('-', "+").replace('_', "/")),
        false => Cow::Borrowed(text),
    };
    let decoded = BASE64.decode(&*text);
    let decoded = decoded.map_err(|error| Cow::Owned(format!("invalid base64: {error}")))?;
    Ok(decoded.into())
}

/// An enum's value, by name or number.
fn number_of(one: &EnumType, token: &Token<'_>) -> Result<i32, Problem> {
    let number = match token {
        Token::String(text) => match one.numbers.get(&**text) {
            Some(number) => return Ok(*number),
            None => whole(text).ok_or_else(|| no_value(one, text))?,
        },
        Token::Number(text) if text.contains(['.', 'e', 'E']) => finite(text.parse())? as i128,
        Token::Number(text) => whole_number(text).ok_or_else(|| no_value(one, text))?,
        Token::Bool(value) => (*value).into(),
        other => return Err(unlike("a name", other)),
    };
    match i32::try_from(number) {
        Ok(number) if one.takes(number) => Ok(number),
        _ => Err(no_value(one, &number.to_string())),
    }
}

#[cold]
fn no_value(one: &EnumType, given: &str) -> Problem {
    Cow::Owned(format!("{given:?} is not a value of {}", one.name))
}
