//! The topic of a JSON line: the value of the field that `--topic-from-json` names.
//!
//! The line is parsed once and only that value is kept; the rest is checked to be JSON and
//! skipped. If a name appears twice in one object, its last value counts, as with most JSON
//! parsers.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// A path of names into a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field(Vec<String>);

impl Field {
    /// Reads `a`, `a.b`, and `a\.b` for a dot in a name.
    ///
    /// # Errors
    /// What is expected instead.
    pub fn parse(text: &str) -> Result<Field, String> {
        let mut names = vec![String::new()];
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            let escaped = letter == '\\';
            let letter = if escaped {
                letters.next()
            } else {
                Some(letter)
            };
            match (letter, names.last_mut()) {
                (Some('.'), _) if !escaped => names.push(String::new()),
                (Some(letter @ ('.' | '\\')), Some(name)) => name.push(letter),
                (Some(letter), Some(name)) if !escaped => name.push(letter),
                _ => return Err("\\ stands before a dot or another \\".to_owned()),
            }
        }
        if names.iter().any(String::is_empty) {
            return Err("write it as name, or outer.inner".to_owned());
        }
        Ok(Field(names))
    }

    /// The field's value in a line of JSON: a string, or a whole number as text.
    ///
    /// # Errors
    /// Why there is none, in words that follow the line's number.
    pub fn find(&self, line: &str) -> Result<String, String> {
        let mut json = serde_json::Deserializer::from_str(line);
        let found = Walk(&self.0).deserialize(&mut json);
        match found.and_then(|found| json.end().map(|()| found)) {
            Ok(Found::Value(text)) => Ok(text),
            Ok(Found::Nothing) => Err(format!("it has no field {self}")),
            Ok(Found::Other(kind)) => Err(format!(
                "its field {self} is {kind}, not a string or a whole number"
            )),
            Err(error) => Err(format!("it is not JSON: {}", place(&error))),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// `serde_json` counts lines within what it was given, which is always line 1 here.
fn place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cause = text.split(" at line ").next().unwrap_or_default();
    match error.column() {
        0 => cause.to_owned(),
        column => format!("{cause} at column {column}"),
    }
}

enum Found {
    Value(String),
    Nothing,
    /// A value that cannot be a topic.
    Other(&'static str),
}

/// Descends into the value along the remaining names.
#[derive(Clone, Copy)]
struct Walk<'a>(&'a [String]);

impl Walk<'_> {
    fn leaf(self, found: impl FnOnce() -> Found) -> Found {
        if self.0.is_empty() {
            found()
        } else {
            Found::Nothing
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Found, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let Some((name, rest)) = self.0.split_first() else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Found::Other("an object"));
        };
        let mut found = Found::Nothing;
        while let Some(is_wanted) = map.next_key_seed(Is(name))? {
            if is_wanted {
                found = map.next_value_seed(Walk(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.leaf(|| Found::Other("a list")))
    }

    fn visit_str<E>(self, text: &str) -> Result<Found, E> {
        Ok(self.leaf(|| Found::Value(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Found, E> {
        Ok(self.leaf(|| Found::Value(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Found, E> {
        Ok(self.leaf(|| Found::Value(number.to_string())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(self.leaf(|| Found::Other("a fraction, or too large")))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(self.leaf(|| Found::Other("true or false")))
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(self.leaf(|| Found::Other("null")))
    }
}

/// Whether an object's key is the one sought, compared without storing it.
struct Is<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<bool, E> {
        Err(E::custom("a name that is not text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(field: &str, line: &str) -> Result<String, String> {
        Field::parse(field).unwrap().find(line)
    }

    #[test]
    fn a_field_is_found_at_any_depth_and_place() {
        for (field, line, wanted) in [
            ("sensor", r#"{"sensor":"s/1","c":21.5}"#, "s/1"),
            ("sensor", r#" {"c":[{"sensor":"no"}],"sensor":17} "#, "17"),
            ("n", r#"{"n":-3}"#, "-3"),
            (
                "meta.site.name",
                r#"{"meta":{"x":1,"site":{"name":"Köln"}}}"#,
                "Köln",
            ),
            (r"a\.b", r#"{"a":{"b":"inner"},"a.b":"outer"}"#, "outer"),
            (r"a\\b", r#"{"a\\b":"back"}"#, "back"),
            ("sensor", r#"{"sensor":"first","sensor":"last"}"#, "last"),
            ("sensor", "{\"sensor\":\"s\\/\\u0031\"}\r", "s/1"),
            ("\u{e4}", "{\"\\u00e4\":\"escaped\"}", "escaped"),
        ] {
            assert_eq!(
                find(field, line).as_deref(),
                Ok(wanted),
                "{field} in {line}"
            );
        }
    }

    #[test]
    fn a_line_without_a_usable_field_says_why() {
        for (field, line, problem) in [
            ("a", r#"{"b":"x"}"#, "no field a"),
            ("a.b", r#"{"a":"x"}"#, "no field a.b"),
            ("a.b", r#"{"a":[1]}"#, "no field a.b"),
            ("a", r#"["a"]"#, "no field a"),
            ("a", r#""a""#, "no field a"),
            ("a", r#"{"a":{"b":1}}"#, "is an object"),
            ("a", r#"{"a":[1]}"#, "is a list"),
            ("a", r#"{"a":null}"#, "is null"),
            ("a", r#"{"a":true}"#, "is true or false"),
            ("a", r#"{"a":1.5}"#, "is a fraction"),
            (
                "a",
                r#"{"a":"x"} {}"#,
                "not JSON: trailing characters at column 11",
            ),
            ("a", r#"{"a":"x","#, "not JSON: EOF"),
            ("a", "plain", "not JSON: expected value at column 1"),
            ("a", "", "not JSON: EOF"),
        ] {
            let error = find(field, line).unwrap_err();
            assert!(error.contains(problem), "{line}: {error}");
            assert!(!error.contains("line 1"), "{error}");
        }
    }

    #[test]
    fn a_path_has_no_empty_name_and_no_stray_backslash() {
        for text in ["", ".", "a.", ".a", "a..b", r"a\", r"a\b"] {
            assert!(Field::parse(text).is_err(), "{text}");
        }
    }
}
