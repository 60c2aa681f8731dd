//! `ringmail.proto` and the structs of `ringmail::sys` are the same, by protoc's reading.
//!
//! protoc compiles the schema; a value of ours with every field filled is decoded by the
//! descriptor alone, has no field that the schema does not know and every one that it does,
//! says the same in JSON, and what the descriptor encodes is our value again.

use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, MapKey, ReflectMessage, SerializeOptions, Value,
};
use ringmail::sys::{Counters, Info, Percentiles, SCHEMA, Stats, Sums, Time};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process::Command;

/// The schema as protoc reads it.
fn compile() -> DescriptorPool {
    let directory = tempfile::tempdir().unwrap();
    let (source, set) = (
        directory.path().join("ringmail.proto"),
        directory.path().join("set"),
    );
    std::fs::write(&source, SCHEMA).unwrap();
    let output = Command::new("protoc")
        .arg("--proto_path")
        .arg(directory.path())
        .arg("--descriptor_set_out")
        .arg(&set)
        .arg(&source)
        .output()
        .expect("protoc is needed (Debian: protobuf-compiler)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "protoc: {errors}");
    DescriptorPool::decode(&*std::fs::read(&set).unwrap()).unwrap()
}

fn sums(from: u64) -> Sums {
    Sums::from([
        ("a".to_owned(), u64::MAX - from),
        ("b".to_owned(), from + 1),
    ])
}

fn percentiles(at: f64) -> Percentiles {
    Percentiles {
        count: u64::MAX,
        p50: at,
        p90: at + 0.25,
        p99: at + 0.5,
        p999: at + 0.75,
        max: at * 1e9,
    }
}

fn stats() -> Stats {
    Stats {
        connections: u64::MAX,
        total: sums(1),
        closed: sums(2),
        shards: [3, 4]
            .map(|from| Counters {
                counters: sums(from),
            })
            .into(),
        timings_us: BTreeMap::from([
            ("turn".to_owned(), percentiles(1.5)),
            ("accept".to_owned(), percentiles(0.125)),
        ]),
    }
}

fn info() -> Info {
    Info {
        product: "ringmail 9 \u{1F514}".to_owned(),
        protocol: u32::MAX,
        shard: u32::MAX - 1,
        shards: 3,
        uptime_s: u64::MAX - 2,
        pid: u32::MAX - 3,
    }
}

/// Every field is there, none is unknown, through all that is inside.
fn complete(message: &DynamicMessage) {
    let name = message.descriptor().full_name().to_owned();
    assert_eq!(message.unknown_fields().count(), 0, "{name} in the schema");
    for field in message.descriptor().fields() {
        assert!(
            message.has_field(&field),
            "{} of the struct",
            field.full_name()
        );
        complete_value(&message.get_field(&field));
    }
}

fn complete_value(value: &Value) {
    match value {
        Value::Message(inner) => complete(inner),
        Value::List(values) => values.iter().for_each(complete_value),
        Value::Map(entries) => {
            assert!(
                entries
                    .keys()
                    .all(|key| matches!(key, MapKey::String(name) if !name.is_empty()))
            );
            entries.values().for_each(complete_value);
        }
        _ => {}
    }
}

/// As our JSON is: a `Counters` is the object of its counters.
fn unwrapped(mut json: serde_json::Value) -> serde_json::Value {
    if let Some(shards) = json
        .get_mut("shards")
        .and_then(serde_json::Value::as_array_mut)
    {
        for shard in shards {
            *shard = shard["counters"].take();
        }
    }
    json
}

fn same<M>(pool: &DescriptorPool, name: &str, ours: &M)
where
    M: Message + Default + PartialEq + Debug + Serialize + DeserializeOwned,
{
    let descriptor = pool.get_message_by_name(name).unwrap();
    let theirs = DynamicMessage::decode(descriptor, &*ours.encode_to_vec()).unwrap();
    complete(&theirs);
    assert_eq!(&M::decode(&*theirs.encode_to_vec()).unwrap(), ours);

    let plain = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true);
    let json = theirs
        .serialize_with_options(serde_json::value::Serializer, &plain)
        .unwrap();
    let written = serde_json::to_string(ours).unwrap();
    let read: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(read, unwrapped(json));
    assert_eq!(&serde_json::from_str::<M>(&written).unwrap(), ours);
}

#[test]
fn schema_and_structs_are_the_same_in_every_field() {
    let pool = compile();
    same(&pool, "ringmail.Time", &Time { unix_ns: u64::MAX });
    same(&pool, "ringmail.Info", &info());
    same(&pool, "ringmail.Stats", &stats());
    // A Counters has another form in JSON; Stats has two of them.
    same(&pool, "ringmail.Percentiles", &percentiles(2.5));
    assert_eq!(pool.all_messages().filter(|m| !m.is_map_entry()).count(), 5);
}

#[test]
fn a_field_that_only_one_side_has_is_noticed() {
    let pool = compile();
    let stats = pool.get_message_by_name("ringmail.Stats").unwrap();
    let less = DynamicMessage::decode(stats.clone(), &*Time { unix_ns: 1 }.encode_to_vec());
    assert!(std::panic::catch_unwind(|| complete(&less.unwrap())).is_err());
    let counters = pool.get_message_by_name("ringmail.Counters").unwrap();
    let more = DynamicMessage::decode(
        counters,
        &*Percentiles {
            p50: 1.0,
            ..Percentiles::default()
        }
        .encode_to_vec(),
    );
    assert!(std::panic::catch_unwind(|| complete(&more.unwrap())).is_err());
}
