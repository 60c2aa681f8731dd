//! Tests of payloads and schemas.

use super::*;
use crate::proto::envelope::Codec;
use proptest::prelude::*;
use serde_json::{Value, json};

pub(super) const SITE: &[u8] = include_bytes!("../../tests/schema/site.binpb");
pub(super) const EVENT: &[u8] = include_bytes!("../../tests/schema/event.binpb");
pub(super) const PLENTY: usize = 1 << 20;

fn schema(message: &str) -> Schema {
    let set = if message == "site.Event" { EVENT } else { SITE };
    Descriptors::decode(set).unwrap().schema(message).unwrap()
}

pub(super) fn other(codec: Codec) -> Codec {
    match codec {
        Codec::Json => Codec::Protobuf,
        _ => Codec::Json,
    }
}

pub(super) fn translated(schema: &Schema, codec: Codec, payload: &[u8]) -> Vec<u8> {
    let checked = schema.check(codec, payload).unwrap();
    let mut out = Vec::new();
    checked.write(other(codec), PLENTY, &mut out).unwrap();
    out
}

/// Why a payload does not conform.
fn misfit(message: &str, codec: Codec, payload: impl AsRef<[u8]>) -> String {
    match schema(message).check(codec, payload.as_ref()) {
        Ok(_) => panic!("it fits"),
        Err(misfit) => misfit.text,
    }
}

#[test]
fn json_becomes_the_protobuf_that_its_specification_says() {
    let json = br#"{"sensor": "t1", "sequence": 7, "values": [{"celsius": 21.5}]}"#;
    let protobuf = translated(&schema("site.Reading"), Codec::Json, json);
    let mut wanted = b"\x0a\x02t1\x10\x07\x1a\x09\x11".to_vec();
    wanted.extend(21.5f64.to_le_bytes());
    assert_eq!(protobuf, wanted);
    let back = translated(&schema("site.Reading"), Codec::Protobuf, &wanted);
    let back: Value = serde_json::from_slice(&back).unwrap();
    // Integers of 64 bits are strings in proto3's JSON.
    let wanted = json!({"sensor": "t1", "sequence": "7", "values": [{"celsius": 21.5}]});
    assert_eq!(back, wanted);
}

#[test]
fn a_misfit_is_reported_by_its_path() {
    let wrong = [
        (
            r#"{"values": [{}, {}, {}, {"celsius": "warm"}]}"#,
            "values[3].celsius: ",
        ),
        (r#"{"sensor": 7}"#, "sensor: "),
        (r#"{"labels": {"a": 1}}"#, "labels.a: "),
        (r#"{"state": "NO_SUCH_STATE"}"#, "state: "),
        (r#"{"values": [{"kelvin": 1}]}"#, "values[0]"),
        (r#"{"sequence": -1}"#, "sequence: "),
        (r#"{"raw": "!"}"#, "raw: "),
        (r#"{"kelvin": 1}"#, "site.Reading: "),
        (r#"[]"#, "site.Reading: "),
        (r#"{"sensor": "a"} x"#, "site.Reading: "),
        (r#"{"sensor": "a""#, "site.Reading: "),
        ("", "site.Reading: "),
    ];
    for (json, path) in wrong {
        let text = misfit("site.Reading", Codec::Json, json);
        assert!(text.starts_with(path), "{json}: {text}");
        assert!(text.contains("site.Reading"), "{text}");
    }
    let celsius = misfit("site.Reading", Codec::Json, wrong[0].0);
    assert!(celsius.contains("invalid float literal"), "{celsius}");
}

#[test]
fn a_misfit_in_protobuf_is_reported_by_its_path() {
    let wrong: [(&[u8], &str); 6] = [
        // The fourth value's `celsius` has only two bytes.
        (
            b"\x1a\x00\x1a\x00\x1a\x00\x1a\x03\x11\x07\x00",
            "values[3].celsius: ",
        ),
        (b"\x0a\x02\xff\xff", "sensor: "),
        (b"\x0a\x05t1", "sensor: "),
        (b"\x1a\x03\x0a\x01\xff", "values[0].name: "),
        (b"\x2a\x03\x12\x01\xff", "labels.value: "),
        (b"\xff", "site.Reading: "),
    ];
    for (protobuf, path) in wrong {
        let text = misfit("site.Reading", Codec::Protobuf, protobuf);
        assert!(text.starts_with(path), "{protobuf:?}: {text}");
    }
}

#[test]
fn codec_bytes_does_not_conform_and_the_remedy_is_named() {
    let text = misfit("site.Reading", Codec::Bytes, "x");
    assert!(
        text.contains("site.Reading") && text.contains("codec 1"),
        "{text}"
    );
}

#[test]
fn protobuf_values_without_a_json_form_do_not_conform() {
    // at.seconds = 2^62.
    let late = b"\x0a\x0a\x08\x80\x80\x80\x80\x80\x80\x80\x80\x40";
    let text = misfit("site.Event", Codec::Protobuf, late);
    assert!(text.starts_with("at: a timestamp"), "{text}");
    let year = translated(&schema("site.Event"), Codec::Protobuf, b"\x0a\x02\x08\x01");
    assert_eq!(year, br#"{"at":"1970-01-01T00:00:01Z"}"#);
}

#[test]
fn unknown_protobuf_fields_pass_and_are_not_in_the_json() {
    let json = translated(
        &schema("site.Reading"),
        Codec::Protobuf,
        b"\x0a\x01a\xf8\x07\x01",
    );
    assert_eq!(json, br#"{"sensor":"a"}"#);
    // So do fields with another wire type: `sequence` as a string.
    let json = translated(
        &schema("site.Reading"),
        Codec::Protobuf,
        b"\x0a\x01a\x12\x01b",
    );
    assert_eq!(json, br#"{"sensor":"a"}"#);
}

#[test]
fn depth_is_bounded_in_both_codecs() {
    let json = |levels: usize| "{\"cause\":".repeat(levels) + "{}" + &"}".repeat(levels);
    let deep = schema("site.Event");
    let protobuf = translated(&deep, Codec::Json, json(90).as_bytes());
    assert_eq!(
        translated(&deep, Codec::Protobuf, &protobuf),
        json(90).as_bytes()
    );
    for levels in [110, 1000, 100_000] {
        assert!(
            deep.check(Codec::Json, json(levels).as_bytes()).is_err(),
            "{levels}"
        );
    }
    // In protobuf, one level of a Struct is three levels.
    let detail = |levels: usize| {
        let inner = "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
        format!("{{\"detail\":{inner}}}")
    };
    translated(&deep, Codec::Json, detail(20).as_bytes());
    let text = misfit("site.Event", Codec::Json, detail(60));
    assert!(text.contains("nested more than"), "{text}");
    for levels in [101, 1000, 20_000] {
        let text = misfit("site.Event", Codec::Protobuf, nested(levels));
        assert!(text.contains("nested more than"), "{text}");
        // Unknown groups, opened and never closed.
        let groups = [0xa3, 0x06].repeat(levels);
        assert!(deep.check(Codec::Protobuf, &groups).is_err());
    }
    assert!(deep.check(Codec::Protobuf, &nested(100)).is_ok());
}

#[test]
fn depth_is_counted_through_any() {
    let any = "type.googleapis.com/site.Event";
    let json = format!("{{\"about\":{{\"@type\":\"{any}\",\"person\":\"x\"}}}}");
    let event = schema("site.Event");
    let protobuf = translated(&event, Codec::Json, json.as_bytes());
    assert_eq!(
        translated(&event, Codec::Protobuf, &protobuf),
        json.as_bytes()
    );
    for (levels, fits) in [(40, true), (60, false), (5000, false)] {
        let mut nested = Vec::new();
        for _ in 0..levels {
            // An event whose Any holds the previous event: two levels.
            let about = [&delimited(1, any.as_bytes())[..], &delimited(2, &nested)].concat();
            nested = delimited(6, &about);
        }
        let checked = event.check(Codec::Protobuf, &nested);
        assert_eq!(checked.is_ok(), fits, "{levels}");
    }
}

#[test]
fn a_length_beyond_the_enclosing_message_does_not_evade_the_depth_limit() {
    // A Struct's value within a value, and so on.
    let mut nested = Vec::new();
    for _ in 0..5000 {
        for number in [5, 2, 1] {
            nested = delimited(number, &nested);
        }
    }
    // The innermost of these says that it has 127 bytes, where two are left for it.
    let payload = [b"\x12\x06\x0a\x04\x12\x02\x2a\x7f", &nested[..]].concat();
    let text = misfit("site.Event", Codec::Protobuf, payload);
    assert!(text.starts_with("detail"), "{text}");
}

/// A length-delimited protobuf field.
pub(super) fn delimited(number: u8, value: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(value.len() as u64, &mut field);
    field.extend(value);
    field
}

/// Field 3 within field 3.
fn nested(levels: usize) -> Vec<u8> {
    let mut nested = Vec::new();
    for _ in 0..levels {
        nested = delimited(3, &nested);
    }
    nested
}

#[test]
fn values_are_counted() {
    let event = schema("site.Event");
    // The event, the Struct, and the values of its list.
    let json = format!("{{\"detail\":{{\"k\":[{}]}}}}", ["null"; 500].join(","));
    let protobuf = translated(&event, Codec::Json, json.as_bytes());
    for (codec, payload) in [(Codec::Json, json.as_bytes()), (Codec::Protobuf, &protobuf)] {
        let values = event.check(codec, payload).unwrap().values();
        assert!((500..2000).contains(&values), "{values} in {codec:?}");
    }
}

#[test]
fn brackets_in_strings_are_no_levels() {
    let json = format!(r#"{{"sensor": "{}\"[[["}}"#, "[{".repeat(1000));
    let reading = schema("site.Reading");
    let protobuf = translated(&reading, Codec::Json, json.as_bytes());
    assert!(protobuf.len() > 2000);
}

#[test]
fn output_is_bounded() {
    // Two bytes of protobuf for each state are thirty of JSON.
    let history = [b"\x42\x64".to_vec(), vec![2; 100]].concat();
    let checked = schema("site.Reading")
        .check(Codec::Protobuf, &history)
        .unwrap();
    let mut all = Vec::new();
    checked.write(Codec::Json, PLENTY, &mut all).unwrap();
    assert!(all.len() > 3000);
    for bytes_max in [0, 10, all.len() - 1, all.len()] {
        let mut out = Vec::new();
        let written = checked.write(Codec::Json, bytes_max, &mut out);
        assert_eq!(written.is_ok(), bytes_max == all.len());
        assert!(out.len() <= bytes_max);
        let mut out = Vec::new();
        let written = checked.write(Codec::Protobuf, bytes_max.min(101), &mut out);
        assert_eq!((written, out.len()), (Err(Untranslatable), 0));
    }
}

#[test]
fn a_set_that_cannot_be_used_says_why() {
    let decode = |set: &[u8]| {
        Descriptors::decode(set)
            .err()
            .map(|error| error.to_string())
    };
    let text = decode(b"syntax = \"proto3\";").unwrap();
    assert!(text.starts_with("is not a FileDescriptorSet: "), "{text}");
    assert_eq!(decode(b"").unwrap(), "defines no messages");
    let known = Descriptors::decode(SITE).unwrap();
    for (asked, meant) in [
        ("Reading", Some("site.Reading")),
        ("site.Raeding", Some("site.Reading")),
        ("plant.Measurement", Some("site.Measurement")),
        ("zzzzzzzzzzzz", None),
    ] {
        match known.schema(asked) {
            Err(SchemaError::NoMessage { nearest, .. }) => {
                assert_eq!(nearest.as_deref(), meant, "{asked}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        known.schema("site.Reading.LabelsEntry").is_err(),
        "an entry of a map"
    );
}

fn state() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&[
        "STATE_UNKNOWN",
        "STATE_RUNNING",
        "STATE_STOPPED_FOR_MAINTENANCE",
    ])
}

/// A reading in proto3's JSON: fields with their default value are left out.
fn reading() -> impl Strategy<Value = Value> {
    let measurement = (".{0,8}", prop::num::f64::NORMAL)
        .prop_map(|(name, celsius)| without_defaults(json!({"name": name, "celsius": celsius})));
    let labels = prop::collection::btree_map(".{0,6}", ".{0,6}", 0..4);
    (
        ".{0,20}",
        any::<u64>(),
        prop::collection::vec(measurement, 0..6),
        state(),
        labels,
        prop::option::of(any::<bool>()),
        prop::collection::vec(state(), 0..4),
    )
        .prop_map(
            |(sensor, sequence, values, state, labels, valid, history)| {
                let mut reading = without_defaults(json!({
                    "sensor": sensor,
                    "sequence": sequence.to_string(),
                    "values": values,
                    "state": state,
                    "labels": labels,
                    "history": history,
                }));
                if let Some(valid) = valid {
                    reading["valid"] = valid.into();
                }
                reading
            },
        )
}

fn without_defaults(mut value: Value) -> Value {
    let defaults = [
        json!(""),
        json!("0"),
        json!("STATE_UNKNOWN"),
        json!([]),
        json!({}),
    ];
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !defaults.contains(value));
    }
    value
}

proptest! {
    #[test]
    fn a_reading_survives_a_round_trip(reading in reading()) {
        let schema = schema("site.Reading");
        let protobuf = translated(&schema, Codec::Json, reading.to_string().as_bytes());
        let json = translated(&schema, Codec::Protobuf, &protobuf);
        let back: Value = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(&back, &reading);
        // And a second translation changes nothing more.
        let again = translated(&schema, Codec::Json, &json);
        let again = translated(&schema, Codec::Protobuf, &again);
        let again: Value = serde_json::from_slice(&again).unwrap();
        prop_assert_eq!(&again, &reading);
    }

    #[test]
    fn any_bytes_are_checked_and_conforming_ones_can_be_written(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        message in prop::sample::select(&["site.Reading", "site.Event"]),
        codec in prop::sample::select(&[Codec::Json, Codec::Protobuf]),
    ) {
        if let Ok(checked) = schema(message).check(codec, &bytes) {
            let mut out = Vec::new();
            prop_assert!(checked.write(other(codec), PLENTY, &mut out).is_ok());
        }
    }

    #[test]
    fn a_broken_reading_is_checked_and_a_conforming_one_can_be_written(
        reading in reading(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let schema = schema("site.Reading");
        let json = reading.to_string().into_bytes();
        let protobuf = translated(&schema, Codec::Json, &json);
        for (codec, mut payload) in [(Codec::Json, json), (Codec::Protobuf, protobuf)] {
            if payload.is_empty() {
                continue;
            }
            let at = at.index(payload.len());
            payload[at] = byte;
            match schema.check(codec, &payload) {
                Err(misfit) => prop_assert!(!misfit.text.is_empty()),
                Ok(checked) => {
                    let mut out = Vec::new();
                    prop_assert!(checked.write(other(codec), PLENTY, &mut out).is_ok());
                }
            }
        }
    }
}
