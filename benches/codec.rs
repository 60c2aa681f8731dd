//! The same record in JSON (serde_json) and in protobuf (prost): bytes, and the time to
//! encode and to decode it.
//!
//! `cargo bench --bench codec`. Three records: a device's reading, as wide as a reading gets;
//! a small one of four fields; and what `$sys/stats` answers. The structs are the same for
//! both codecs, derived by serde and by prost. Prints a table first: the times in it are
//! taken in turn, JSON and protobuf within each of 15 rounds, and the ratios are the medians
//! of the rounds' own. Behind it criterion measures each by itself. Times are CPU time of
//! the thread.
//!
//! JSON decodes into owned strings, as protobuf does. Its figure depends on its numbers:
//! floats with many digits, as sensors give them, are the dear part.

use criterion::{Criterion, criterion_group, criterion_main};
use prost::Message;
use ringmail::sys::{Counters, Percentiles, Stats, Sums};
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hint::black_box;
use std::time::Duration;

/// As the binary has it: most of decoding is allocating.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROUNDS: usize = 15;
/// CPU time of one measurement in a round, roughly.
const SLICE: Duration = Duration::from_millis(20);

/// A device's reading.
#[derive(Clone, PartialEq, Message, Serialize, serde::Deserialize)]
struct Reading {
    #[prost(string, tag = "1")]
    device_id: String,
    #[prost(uint64, tag = "2")]
    timestamp_ms: u64,
    #[prost(enumeration = "Kind", tag = "3")]
    #[serde(with = "kind")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    values: Vec<Measured>,
    #[prost(enumeration = "Status", tag = "5")]
    #[serde(with = "status")]
    status: i32,
    #[prost(message, optional, tag = "6")]
    location: Option<Location>,
}

#[derive(Clone, PartialEq, Message, Serialize, serde::Deserialize)]
struct Measured {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, tag = "2")]
    value: f32,
}

#[derive(Clone, PartialEq, Message, Serialize, serde::Deserialize)]
struct Location {
    #[prost(double, tag = "1")]
    latitude: f64,
    #[prost(double, tag = "2")]
    longitude: f64,
    #[prost(string, tag = "3")]
    site: String,
}

/// Enumerations, as JSON writes them: by name.
macro_rules! enumeration {
    ($module:ident, $name:ident { $($variant:ident = $number:literal => $text:literal),+ }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
        enum $name { $($variant = $number),+ }

        mod $module {
            use serde::{Deserialize, Deserializer, Serializer};

            #[derive(serde::Serialize, Deserialize)]
            enum Name { $(#[serde(rename = $text)] $variant = $number),+ }

            pub fn serialize<S: Serializer>(number: &i32, to: S) -> Result<S::Ok, S::Error> {
                let name = match number { $($number => Name::$variant,)+ _ => return to.serialize_i32(*number) };
                serde::Serialize::serialize(&name, to)
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
                Name::deserialize(from).map(|name| name as i32)
            }
        }
    };
}

enumeration!(kind, Kind { Unknown = 0 => "unknown", Environment = 1 => "environment", Power = 2 => "power" });
enumeration!(status, Status { Unset = 0 => "unset", Ok = 1 => "ok", Degraded = 2 => "degraded" });

/// A small telemetry record.
#[derive(Clone, PartialEq, Message, Serialize, serde::Deserialize)]
struct Telemetry {
    #[prost(uint32, tag = "1")]
    sensor: u32,
    #[prost(uint64, tag = "2")]
    unix_ms: u64,
    #[prost(float, tag = "3")]
    celsius: f32,
    #[prost(bool, tag = "4")]
    charging: bool,
}

fn reading() -> Reading {
    let values = [
        ("temperature", 21.437_5),
        ("humidity", 48.213_4),
        ("pressure", 1_013.247_1),
        ("co2", 612.348_9),
        ("voltage", 3.298_734),
        ("current", 0.012_873_4),
        ("noise", 38.712_43),
        ("illuminance", 412.983_4),
    ];
    Reading {
        device_id: "dev-7f3a91c2".to_owned(),
        timestamp_ms: 1_790_000_123_456,
        kind: Kind::Environment as i32,
        values: values
            .map(|(name, value)| Measured {
                name: name.to_owned(),
                value,
            })
            .into(),
        status: Status::Ok as i32,
        location: Some(Location {
            latitude: 52.520_008_31,
            longitude: 13.404_954_17,
            site: "berlin-2".to_owned(),
        }),
    }
}

fn telemetry() -> Telemetry {
    Telemetry {
        sensor: 4711,
        unix_ms: 1_790_000_123_456,
        celsius: 21.437_5,
        charging: true,
    }
}

/// As a server of two shards has it after a while.
fn stats() -> Stats {
    let names = [
        "accept_pauses",
        "answers_late",
        "auth_failed",
        "bytes_received",
        "bytes_sent",
        "calls_deferred",
        "connections_opened",
        "deliveries",
        "deliveries_dropped",
        "messages_received",
        "messages_sent",
        "operations_forbidden",
        "publishes",
        "rate_limited",
        "requests",
        "requests_failed",
        "retained_bytes",
        "sessions_resumed",
        "subscriptions",
        "turns",
    ];
    let sums = |seed: u64| -> Sums {
        let count = |(at, name): (usize, &&str)| {
            let small = at % 3 == 0;
            let value = (at as u64 + seed).wrapping_mul(2_654_435_761);
            (
                (*name).to_owned(),
                value % if small { 3 } else { 100_000_000 },
            )
        };
        names.iter().enumerate().map(count).collect()
    };
    let timings = ["accept", "request", "route", "turn"];
    let timing = |(at, name): (usize, &&str)| {
        // Nanoseconds as microseconds.
        let us = |nanos: u64| (nanos * (at as u64 + 1)) as f64 / 1000.0;
        let percentiles = Percentiles {
            count: 12_345_678,
            p50: us(5_183),
            p90: us(9_727),
            p99: us(31_103),
            p999: us(127_487),
            max: us(4_063_231),
        };
        ((*name).to_owned(), percentiles)
    };
    Stats {
        connections: 1234,
        total: sums(1),
        closed: Sums::from([
            ("peer_close".to_owned(), 98_765),
            ("heartbeat_timeout".to_owned(), 12),
        ]),
        shards: [2, 3]
            .map(|seed| Counters {
                counters: sums(seed),
            })
            .into(),
        timings_us: timings.iter().enumerate().map(timing).collect(),
    }
}

/// CPU time of this thread so far.
fn cpu() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(tv_sec as u64, tv_nsec as u32)
}

fn timed(count: u64, mut work: impl FnMut()) -> Duration {
    let started = cpu();
    (0..count).for_each(|_| work());
    cpu() - started
}

/// One record in both codecs.
struct Pair<M> {
    name: &'static str,
    record: M,
    json: Vec<u8>,
    protobuf: Vec<u8>,
}

impl<M: Message + Default + Debug + PartialEq + Serialize + DeserializeOwned> Pair<M> {
    fn new(name: &'static str, record: M) -> Pair<M> {
        let json = serde_json::to_vec(&record).expect("a record");
        let protobuf = record.encode_to_vec();
        let pair = Pair {
            name,
            record,
            json,
            protobuf,
        };
        assert_eq!(pair.decode_protobuf(), pair.record);
        assert_eq!(pair.decode_json(), pair.record);
        pair
    }

    fn encode_json(&self) -> Vec<u8> {
        serde_json::to_vec(black_box(&self.record)).expect("a record")
    }

    fn encode_protobuf(&self) -> Vec<u8> {
        black_box(&self.record).encode_to_vec()
    }

    fn decode_json(&self) -> M {
        serde_json::from_slice(black_box(&self.json)).expect("a record's JSON")
    }

    fn decode_protobuf(&self) -> M {
        M::decode(black_box(&*self.protobuf)).expect("a record's bytes")
    }

    /// Nanoseconds of both, and JSON over protobuf: medians over the rounds.
    fn compare(json: impl Fn(), protobuf: impl Fn()) -> [f64; 3] {
        let mut count = 1;
        while timed(count, &json) < SLICE {
            count *= 2;
        }
        let each = |work: &dyn Fn()| timed(count, work).as_nanos() as f64 / count as f64;
        let mut columns = [const { Vec::new() }; 3];
        for round in 0..ROUNDS {
            // Every other round the other way round.
            let (json, protobuf) = match round % 2 {
                0 => (each(&json), each(&protobuf)),
                _ => {
                    let protobuf = each(&protobuf);
                    (each(&json), protobuf)
                }
            };
            for (column, value) in columns.iter_mut().zip([json, protobuf, json / protobuf]) {
                column.push(value);
            }
        }
        columns.map(|mut column| {
            column.sort_by(f64::total_cmp);
            column[ROUNDS / 2]
        })
    }

    fn row(&self) {
        let (json, protobuf) = (self.json.len(), self.protobuf.len());
        let smaller = 100.0 * (1.0 - protobuf as f64 / json as f64);
        let encode = Self::compare(
            || drop(black_box(self.encode_json())),
            || drop(black_box(self.encode_protobuf())),
        );
        let decode = Self::compare(
            || drop(black_box(self.decode_json())),
            || drop(black_box(self.decode_protobuf())),
        );
        println!(
            "| {} | {json} | {protobuf} | {smaller:.1} % | {:.0} | {:.0} | {:.1} × | {:.0} | {:.0} | {:.1} × |",
            self.name, encode[0], encode[1], encode[2], decode[0], decode[1], decode[2]
        );
    }

    fn bench(&self, criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group(format!("codec/{}", self.name));
        group.bench_function("encode/json", |b| {
            b.iter_custom(|n| timed(n, || drop(black_box(self.encode_json()))))
        });
        group.bench_function("encode/protobuf", |b| {
            b.iter_custom(|n| timed(n, || drop(black_box(self.encode_protobuf()))))
        });
        group.bench_function("decode/json", |b| {
            b.iter_custom(|n| timed(n, || drop(black_box(self.decode_json()))))
        });
        group.bench_function("decode/protobuf", |b| {
            b.iter_custom(|n| timed(n, || drop(black_box(self.decode_protobuf()))))
        });
        group.finish();
    }
}

fn codecs(criterion: &mut Criterion) {
    let (reading, telemetry, stats) = (
        Pair::new("reading", reading()),
        Pair::new("telemetry", telemetry()),
        Pair::new("$sys/stats", stats()),
    );
    println!("Bytes, and nanoseconds of CPU; JSON's over protobuf's:\n");
    println!(
        "| record | JSON B | protobuf B | smaller | encode JSON | protobuf | ratio | decode JSON | protobuf | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    reading.row();
    telemetry.row();
    stats.row();
    println!();
    reading.bench(criterion);
    telemetry.bench(criterion);
    stats.bench(criterion);
}

criterion_group!(benches, codecs);
criterion_main!(benches);
