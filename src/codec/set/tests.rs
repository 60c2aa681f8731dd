//! Tests of descriptor sets, most of which protoc would not make.

use crate::codec::tests::{EVENT, PLENTY, SITE, delimited, other, translated};
use crate::codec::{Descriptors, SchemaError};
use crate::proto::envelope::Codec;
use proptest::prelude::*;

const MAPPING: &[u8] = include_bytes!("../../../tests/schema/mapping.binpb");

/// A protobuf field with a number.
fn number(field: u8, value: u64) -> Vec<u8> {
    let mut bytes = vec![field << 3];
    prost::encoding::encode_varint(value, &mut bytes);
    bytes
}

/// A file of a set, with this name and these parts.
fn file(name: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    delimited(1, &[delimited(1, name.as_bytes()), parts.concat()].concat())
}

/// A message `M` with these parts.
fn message(parts: &[Vec<u8>]) -> Vec<u8> {
    delimited(4, &[delimited(1, b"M"), parts.concat()].concat())
}

/// A field with this name, number and type.
fn field(name: &str, at: u64, kind: u64, parts: &[Vec<u8>]) -> Vec<u8> {
    let field = [
        delimited(1, name.as_bytes()),
        number(3, at),
        number(5, kind),
    ];
    delimited(2, &[field.concat(), parts.concat()].concat())
}

/// Why a set cannot be used.
#[track_caller]
fn assert_contradicts(set: &[u8], wanted: &str) {
    let error = Descriptors::decode(set).err();
    let text = error.unwrap_or_else(|| panic!("no {wanted:?}")).to_string();
    assert!(
        text.contains(wanted) && text.starts_with("cannot be used: "),
        "{text}"
    );
}

#[test]
fn a_set_that_contradicts_itself_says_why() {
    let syntax = |syntax: &str| delimited(12, syntax.as_bytes());
    let import = delimited(3, b"b");
    let package = delimited(2, b"google.protobuf");
    let value = delimited(4, &[delimited(1, b"Value"), field("a", 1, 5, &[])].concat());
    let entry = message(&[delimited(7, &number(7, 1))]);
    for (set, wanted) in [
        (
            file("a", &[import, message(&[])]),
            "\"a\" imports \"b\", which is not in it",
        ),
        (
            [file("a", &[message(&[])]), file("a", &[])].concat(),
            "it contains the file \"a\" twice",
        ),
        (
            file("a", &[message(&[]), message(&[])]),
            "M is declared twice",
        ),
        (
            file("a", &[syntax("proto4")]),
            "uses syntax \"proto4\", which is not supported: use",
        ),
        (
            file("a", &[syntax("editions"), number(14, 9999)]),
            "uses edition number 9999",
        ),
        (file("a", &[delimited(4, b"")]), "has no name"),
        (
            file("a", &[delimited(5, &delimited(1, b"E"))]),
            "enum E has no values",
        ),
        (file("a", &[entry]), "M is not a map entry"),
        (
            file("a", &[package, value]),
            "google.protobuf.Value differs from Google's",
        ),
        (
            file("a", &[delimited(7, &field("x", 1, 5, &[])[2..])]),
            "extension x extends \"\"",
        ),
    ] {
        assert_contradicts(&set, wanted);
    }
}

#[test]
fn a_field_that_contradicts_others_says_why() {
    let of = |name: &str| delimited(6, name.as_bytes());
    let oneof = number(9, 5);
    let one = |field: Vec<u8>| file("a", &[message(&[field])]);
    for (set, wanted) in [
        (
            one(field("a", 1, 11, &[of(".none.M")])),
            "M.a has the type \".none.M\"",
        ),
        (
            one(field("a", 1, 14, &[of("M")])),
            "M.a has the type \"M\", which is not in it",
        ),
        (one(field("a", 1, 19, &[])), "M.a has an unknown type: 19"),
        (one(field("a", 0, 5, &[])), "M.a has the number 0"),
        (
            one(field("a", 1 << 29, 5, &[])),
            "M.a has the number 536870912",
        ),
        (one(field("a", 19_000, 5, &[])), "M.a has the number 19000"),
        (
            one(field("a", 1, 5, &[oneof])),
            "M.a is in a oneof that does not exist",
        ),
        (
            one([field("a", 1, 5, &[]), field("b", 1, 5, &[])].concat()),
            "a and b of M have the same number, 1",
        ),
        (
            one([field("a", 1, 5, &[]), field("a", 2, 5, &[])].concat()),
            "M.a is declared twice",
        ),
    ] {
        assert_contradicts(&set, wanted);
    }
}

#[test]
fn a_set_with_duplicates_or_cycles_is_accepted() {
    let import = |name: &str| delimited(3, name.as_bytes());
    let of = |name: &str| delimited(6, name.as_bytes());
    let itself = [field("a", 1, 11, &[of("M")]), field("b", 2, 0, &[of(".M")])];
    for set in [
        file("a", &[message(&[])]).repeat(2),
        [
            file("a", &[import("b"), message(&[])]),
            file("b", &[import("a")]),
        ]
        .concat(),
        file("a", &[message(&itself)]),
    ] {
        assert!(Descriptors::decode(&set).unwrap().schema("M").is_ok());
    }
}

#[test]
fn a_set_nested_too_deep_is_refused() {
    let mut nested = delimited(1, b"M");
    for _ in 0..20_000 {
        nested = delimited(3, &nested);
    }
    // Groups with an unknown field number.
    let groups = b"\x0b".repeat(500_000);
    for set in [
        file("a", &[delimited(4, &nested)]),
        file("a", std::slice::from_ref(&groups)),
        groups,
    ] {
        let error = Descriptors::decode(&set).err();
        assert!(matches!(error, Some(SchemaError::NotASet(_))), "{error:?}");
    }
}

#[test]
fn an_edition_determines_the_features_of_each_field() {
    // A field's options, in which features are field 21.
    let features = |feature: u8, value: u64| {
        let features = number(feature, value);
        delimited(
            8,
            &[&[0xaa, 0x01, features.len() as u8], &features[..]].concat(),
        )
    };
    let repeated = number(4, 3);
    let inner = delimited(6, b".M");
    let fields = [
        field("explicit", 1, 5, &[]),
        field("implicit", 2, 5, &[features(1, 2)]),
        field("packed", 3, 5, std::slice::from_ref(&repeated)),
        field("loose", 4, 5, &[repeated, features(3, 2)]),
        field("inner", 5, 11, std::slice::from_ref(&inner)),
        field("group", 6, 11, &[inner, features(5, 2)]),
    ];
    let edition = [
        delimited(12, b"editions"),
        number(14, 1000),
        message(&fields),
    ];
    let schema = Descriptors::decode(&file("a", &edition))
        .unwrap()
        .schema("M")
        .unwrap();
    let json = br#"{"explicit":0,"implicit":0,"packed":[1,2],"loose":[1,2],"inner":{},"group":{}}"#;
    let protobuf = translated(&schema, Codec::Json, json);
    assert_eq!(
        protobuf,
        b"\x08\x00\x1a\x02\x01\x02\x20\x01\x20\x02\x2a\x00\x33\x34"
    );
    let json = br#"{"explicit":0,"packed":[1,2],"loose":[1,2],"inner":{},"group":{}}"#;
    assert_eq!(translated(&schema, Codec::Protobuf, &protobuf), json);
}

proptest! {
    #[test]
    fn any_set_and_any_payload_of_its_messages_is_checked(
        set in prop::sample::select(&[SITE, EVENT, MAPPING]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4usize), 1..6),
        cut in any::<prop::sample::Index>(),
        payload in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut set = set.to_vec();
        for (at, byte, change) in changes {
            let at = at.index(set.len());
            match change {
                0 => set[at] = byte,
                1 => set.insert(at, byte),
                2 if set.len() > 1 => drop(set.remove(at)),
                _ => set.truncate(cut.index(set.len()).max(1)),
            }
        }
        let Ok(known) = Descriptors::decode(&set) else {
            return Ok(());
        };
        for name in ["site.Reading", "site.Event", "mapping.Special", "mapping.Legacy", "mapping.Maps"] {
            let Ok(schema) = known.schema(name) else {
                continue;
            };
            for (codec, payload) in [(Codec::Json, &b"{}"[..]), (Codec::Protobuf, &payload)] {
                if let Ok(checked) = schema.check(codec, payload) {
                    prop_assert!(checked.write(other(codec), PLENTY, &mut Vec::new()).is_ok());
                }
            }
        }
    }
}
