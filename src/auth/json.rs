//! Unambiguous JSON: an object in which a key appears twice, at any depth, is refused, because
//! two readers may each use a different one (RFC 7515 §4, RFC 7519 §4).
//!
//! A key set, which comes from a third party, is parsed leniently: there such an object becomes
//! `null`.
//!
//! Numbers keep their kind: what is written as an integer in 0..2^64 is a `u64` of
//! `serde_json`, everything else is not. Nesting is bounded by `serde_json`, size by the caller.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Error, Map, Number, Value};
use std::fmt;

/// # Errors
/// If it is not JSON, not an object, or has a key twice. The text names line and column, but
/// repeats no content.
pub(super) fn parse(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    read::<true>(bytes)
}

/// The same, but an inner object in which a key appears twice becomes `null`.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_leniently(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    read::<false>(bytes)
}

fn read<const STRICT: bool>(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    match serde_json::from_slice::<Read<STRICT>>(bytes)? {
        Read(Value::Object(map)) => Ok(map),
        Read(Value::Null) => Err(Error::custom("not an object with unique keys")),
        Read(_) => Err(Error::custom("not an object")),
    }
}

struct Read<const STRICT: bool>(Value);

impl<'de, const STRICT: bool> Deserialize<'de> for Read<STRICT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue::<STRICT>).map(Read)
    }
}

struct AnyValue<const STRICT: bool>;

impl<'de, const STRICT: bool> Visitor<'de> for AnyValue<STRICT> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Read::<STRICT>(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let mut is_whole = true;
        while let Some((key, Read::<STRICT>(value))) = object.next_entry::<String, _>()? {
            if map.insert(key, value).is_some() {
                if STRICT {
                    return Err(A::Error::custom("a key appears twice"));
                }
                is_whole = false;
            }
        }
        Ok(match is_whole {
            true => Value::Object(map),
            false => Value::Null,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(text: &str) -> String {
        parse(text.as_bytes())
            .expect_err("should be refused")
            .to_string()
    }

    #[test]
    fn a_key_that_appears_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"{"x":[1,{"a":1,"a":2}]}"#,
        ] {
            assert!(refusal(text).starts_with("a key appears twice"), "{text}");
        }
        assert!(parse(br#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}"#).is_ok());
    }

    #[test]
    fn only_one_whole_object_is_read() {
        for text in [
            "",
            "[]",
            "1",
            "null",
            "{} {}",
            "{}x",
            "{\"a\":}",
            "{",
            "\u{feff}{}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(4000), "]".repeat(4000));
        assert!(parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn refused_content_is_not_repeated() {
        for text in [
            "\"hush\"",
            "{\"hush\" 1}",
            "{\"hush\":1,\"hush\":2}",
            "hush",
        ] {
            assert!(!refusal(text).contains("hush"), "{text}");
        }
    }

    #[test]
    fn an_integer_is_one_only_if_it_is_written_so() {
        let map = parse(b"{\"a\":18446744073709551615,\"b\":1.0,\"c\":1e3,\"d\":-1,\"e\":-0,\"f\":18446744073709551616}");
        let map = map.expect("valid JSON");
        assert_eq!(map["a"].as_u64(), Some(u64::MAX));
        for key in ["b", "c", "d", "e", "f"] {
            assert_eq!(map[key].as_u64(), None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn an_object_without_duplicates_reads_as_serde_json_reads_it(
            pairs in prop::collection::btree_map(any::<String>(), any::<i64>(), 0..8),
        ) {
            let text = serde_json::to_vec(&pairs).expect("serializable");
            let expected: Map<String, Value> = serde_json::from_slice(&text).expect("JSON");
            prop_assert_eq!(parse(&text).expect("strict JSON"), expected);
        }
    }
}
