//! Payloads by schema, from either codec into the other and back; and descriptor sets that no
//! compiler made.
//!
//! What fits is written in both codecs, and each of them fits and says the same: the JSON of
//! what came is the JSON of what is read back. Panics inside are caught by the codec and told as
//! misfits; they fail a run all the same (see who calls this).

use super::Draw;
use ringmail::codec::{Descriptors, Schema};
use ringmail::proto::envelope::Codec;
use std::sync::LazyLock;

const SETS: [&[u8]; 3] = [
    include_bytes!("../../schema/mapping.binpb"),
    include_bytes!("../../schema/site.binpb"),
    include_bytes!("../../schema/event.binpb"),
];
const NAMES: &[&str] = &[
    "mapping.Scalars",
    "mapping.Lists",
    "mapping.Maps",
    "mapping.Names",
    "mapping.Special",
    "mapping.Legacy",
    "site.Reading",
    "site.Event",
];
const BYTES_MAX: usize = 1 << 20;

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    let sets = SETS.map(|set| Descriptors::decode(set).expect("protoc's own"));
    let found = NAMES
        .iter()
        .flat_map(|name| sets.iter().filter_map(|set| set.schema(name).ok()));
    found.collect()
});

pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let choice = draw.byte();
    if choice & 3 == 3 {
        return descriptors(draw, choice >> 2);
    }
    let schema = &SCHEMAS[draw.below(SCHEMAS.len())];
    let codec = if choice & 1 == 0 {
        Codec::Json
    } else {
        Codec::Protobuf
    };
    translate(schema, codec, draw.rest());
}

fn translate(schema: &Schema, codec: Codec, payload: &[u8]) {
    let checked = match schema.check(codec, payload) {
        Ok(checked) => checked,
        Err(misfit) => {
            assert!(!misfit.text.is_empty());
            assert!(!misfit.text.contains("cannot be read"), "a panic inside");
            return;
        }
    };
    let (mut json, mut proto) = (Vec::new(), Vec::new());
    let written = checked.write(Codec::Json, BYTES_MAX, &mut json);
    if written.is_err() {
        assert!(json.is_empty(), "half a payload");
        return;
    }
    // No more than may be, and nothing of it otherwise.
    let mut less = b"before".to_vec();
    let short = checked.write(Codec::Json, json.len().saturating_sub(1), &mut less);
    assert!(json.is_empty() || short.is_err() && less == b"before");
    checked
        .write(Codec::Protobuf, BYTES_MAX, &mut proto)
        .expect("it is smaller");
    for (codec, payload) in [(Codec::Json, &json), (Codec::Protobuf, &proto)] {
        let again = match schema.check(codec, payload) {
            Ok(again) => again,
            Err(misfit) => panic!("{codec:?} {payload:?} does not fit: {}", misfit.text),
        };
        let mut told = Vec::new();
        again
            .write(Codec::Json, BYTES_MAX, &mut told)
            .expect("as large as before");
        let texts = [&json, &told].map(|text| String::from_utf8_lossy(text).into_owned());
        // Whatever number a NullValue has, it is null in JSON, and null is 0: nothing else can
        // be told there, by Google's mapping either.
        let is_told = codec == Codec::Protobuf || !texts[0].contains("\"nullValue\":null");
        assert!(
            !is_told || texts[0] == texts[1],
            "through {codec:?}: {texts:?}"
        );
    }
}

/// A set that somebody changed, or wrote by hand.
fn descriptors(mut draw: Draw<'_>, choice: u8) {
    let mut set = match choice & 3 {
        0 => draw.rest().to_vec(),
        at => SETS[usize::from(at) - 1].to_vec(),
    };
    while !draw.is_empty() && choice & 4 == 0 {
        let at = usize::from(draw.u16()) % set.len();
        set[at] = draw.byte();
    }
    if choice & 4 != 0 {
        let at = usize::from(draw.u16()) % (set.len() + 1);
        set.truncate(at);
        set.extend_from_slice(draw.rest());
    }
    let Ok(read) = Descriptors::decode(&set) else {
        return;
    };
    for name in NAMES {
        if let Ok(schema) = read.schema(name) {
            for payload in [&b"{}"[..], b"\x08\x01", b"", b"\x0a\x02\x08\x01"] {
                for codec in [Codec::Json, Codec::Protobuf] {
                    translate(&schema, codec, payload);
                }
            }
        }
    }
}
