//! Schemas: what a message on a topic with one costs beyond what every message does.
//!
//! `cargo bench --bench translate`. `check` is what each PUBLISH pays; `translate` is that and
//! the other codec's payload, which is paid once for a message and codec if somebody wants it;
//! `write` is the latter alone, where the payload has just been checked. `find` is the look-up
//! of a topic among 100 filters, which publications on other topics pay too. A reading of some
//! 64 bytes of JSON, one of 4 KiB (the largest that a shard checks by itself) and one of 10 KiB.
//! Times are CPU time of the thread, which a shared machine disturbs least.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmail::codec::{Descriptors, Schema};
use ringmail::proto::envelope::Codec;
use ringmail::router::Trie;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::hint::black_box;
use std::time::Duration;

const SITE: &[u8] = include_bytes!("../tests/schema/site.binpb");

/// CPU time of `count` runs.
fn timed(count: u64, mut run: impl FnMut()) -> Duration {
    let start = clock_gettime(ClockId::ThreadCPUTime);
    for _ in 0..count {
        run();
    }
    let end = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = |time: Timespec| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    Duration::from_nanos(nanos(end) - nanos(start))
}

/// A reading of so many measurements, as JSON.
fn reading(measurements: usize) -> Vec<u8> {
    let values: Vec<String> = (0..measurements)
        .map(|n| format!("{{\"name\":\"t{n}\",\"celsius\":{}.5}}", n % 40))
        .collect();
    format!(
        "{{\"sensor\":\"site-7\",\"values\":[{}]}}",
        values.join(",")
    )
    .into_bytes()
}

fn translated(schema: &Schema, from: Codec, payload: &[u8], to: Codec, out: &mut Vec<u8>) {
    out.clear();
    let checked = schema.check(from, payload);
    if let Ok(checked) = &checked {
        let written = checked.write(to, usize::MAX, out);
        debug_assert!(written.is_ok());
    }
}

fn payloads(criterion: &mut Criterion) {
    let schema = Descriptors::decode(SITE).and_then(|set| set.schema("site.Reading"));
    let schema = schema.expect("the tests' schema");
    for (size, measurements) in [("64 B", 1), ("4 KiB", 133), ("10 KiB", 330)] {
        let json = reading(measurements);
        let mut protobuf = Vec::new();
        translated(&schema, Codec::Json, &json, Codec::Protobuf, &mut protobuf);
        let mut out = Vec::new();
        for (name, from, to, payload) in [
            ("JSON", Codec::Json, Codec::Protobuf, &json),
            ("protobuf", Codec::Protobuf, Codec::Json, &protobuf),
        ] {
            let mut group = criterion.benchmark_group(format!("{size} {name}"));
            group.throughput(Throughput::Bytes(payload.len() as u64));
            group.bench_function("check", |bencher| {
                bencher.iter_custom(|count| {
                    timed(count, || drop(black_box(schema.check(from, payload))))
                });
            });
            let checked = schema.check(from, payload).expect("it fits");
            group.bench_function("write", |bencher| {
                bencher.iter_custom(|count| {
                    timed(count, || {
                        out.clear();
                        let _ = black_box(checked.write(to, usize::MAX, &mut out));
                    })
                });
            });
            group.bench_function("translate", |bencher| {
                bencher.iter_custom(|count| {
                    timed(count, || translated(&schema, from, payload, to, &mut out))
                });
            });
        }
    }
}

fn topics(criterion: &mut Criterion) {
    let mut filters = Trie::new();
    for n in 0..100 {
        filters.insert(&format!("plant/{n}/+/reading"), || n);
    }
    let mut group = criterion.benchmark_group("find");
    for (name, topic) in [
        ("one of them", "plant/77/a/reading"),
        ("none", "site/7/door"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                timed(count, || {
                    let mut found = None;
                    filters.matching(black_box(topic), &mut |id| found = Some(*id));
                    black_box(found);
                })
            });
        });
    }
}

criterion_group!(benches, payloads, topics);
criterion_main!(benches);
