//! The interest map: what a match costs with ten subscriptions and with a million, what
//! SUBSCRIBE and UNSUBSCRIBE cost, and how much memory a subscription takes.
//!
//! `cargo bench --bench router`. Memory is printed first, counted by the allocator. With
//! many subscriptions topics are picked at random. `ten` are ten topics in turn, whatever
//! else is subscribed; `any` are up to 65,536, where a million filters show what the
//! caches cost. Times are CPU time of the thread, which a shared machine disturbs least.

use criterion::{Criterion, criterion_group, criterion_main};
use fastrand::Rng;
use ringmail::base::id::{Key, ShardId};
use ringmail::proto::envelope::Codec;
use ringmail::router::{Matches, Router, ServerSearch, Subscription};
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller's promise is passed on to the system.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller's promise is passed on to the system.
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// CPU time of `count` calls.
fn timed(count: u64, mut call: impl FnMut()) -> Duration {
    let start = clock_gettime(ClockId::ThreadCPUTime);
    for _ in 0..count {
        call();
    }
    let end = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = |time: Timespec| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    Duration::from_nanos(nanos(end) - nanos(start))
}

/// Nodes of one step, as a shard takes them.
const NODES: usize = 512;
const COUNTS: [u32; 3] = [10, 1000, 1_000_000];

type Filter = fn(u32) -> String;

/// Kinds of filters, each of which stands for one device, and a topic that it matches.
const KINDS: [(&str, Filter); 4] = [
    ("exact", topic),
    ("plus", |n| format!("site/{}/device-{n}/+", n % 100)),
    ("rest", |n| format!("site/{}/device-{n}/#", n % 100)),
    ("head", |n| format!("+/{}/device-{n}/temperature", n % 100)),
];

fn topic(n: u32) -> String {
    format!("site/{}/device-{n}/temperature", n % 100)
}

fn subscription(slot: u32) -> Subscription {
    Subscription {
        connection: Key {
            slot,
            generation: 0,
        },
        policy: None,
        codec: Codec::Bytes,
    }
}

fn populated(count: u32, filter: Filter) -> Router {
    let mut router = Router::new(ShardId(0));
    for n in 0..count {
        router.subscribe(&filter(n), None, subscription(n));
    }
    router
}

fn memory() {
    let count = 1_000_000;
    for (kind, filter) in KINDS {
        let before = BYTES.load(Relaxed);
        let mut router = populated(count, filter);
        let full = BYTES.load(Relaxed) - before;
        for n in 0..count {
            let left = router.unsubscribe(&filter(n), None, subscription(n).connection);
            assert!(left.is_some());
        }
        let empty = BYTES.load(Relaxed) - before;
        println!(
            "{kind}: {} bytes a subscription of {count}; {empty} bytes when all have left",
            full / count as usize
        );
    }
    let before = BYTES.load(Relaxed);
    let router = {
        let mut router = Router::new(ShardId(0));
        for n in 0..count {
            router.subscribe("all/alike", None, subscription(n));
        }
        router
    };
    let full = BYTES.load(Relaxed) - before;
    println!("one filter: {} bytes a subscriber", full / count as usize);
    drop(router);
}

fn find(criterion: &mut Criterion) {
    let mut matches = Matches::new();
    for (kind, filter) in KINDS {
        for count in COUNTS {
            let router = populated(count, filter);
            let mut rng = Rng::with_seed(1);
            let picked = count.min(65_536);
            let topics: Vec<String> = (0..picked).map(|_| topic(rng.u32(..count))).collect();
            let mut group = criterion.benchmark_group(format!("find/{kind}/{count}"));
            for (name, topics) in [("ten", &topics[..10]), ("any", &topics)] {
                let mut topics = topics.iter().cycle();
                group.bench_function(name, |bencher| {
                    bencher.iter_custom(|count| {
                        timed(count, || {
                            let topic = topics.next().map_or("", |topic| topic);
                            assert!(router.find(black_box(topic), &mut matches, NODES));
                            assert_eq!(matches.local.len(), 1);
                        })
                    });
                });
            }
            group.finish();
        }
    }
    let mut router = Router::new(ShardId(0));
    for n in 0..50 {
        router.subscribe("bench/topic", None, subscription(n));
    }
    criterion.bench_function("find/fan_out_50", |bencher| {
        bencher.iter_custom(|count| {
            timed(count, || {
                assert!(router.find(black_box("bench/topic"), &mut matches, NODES));
            })
        });
    });
    let filters = [
        "site/+/a/#",
        "site/1/+",
        "+/1/b",
        "site/#",
        "site/2/a/temperature",
        "site/+/+/pressure",
        "hall/#",
        "site/1/a/temperature",
    ];
    for (n, filter) in (0..).zip(filters) {
        router.subscribe(filter, None, subscription(n));
    }
    criterion.bench_function("find/mixed_wildcards", |bencher| {
        bencher.iter_custom(|count| {
            timed(count, || {
                assert!(router.find(black_box("site/1/a/temperature"), &mut matches, NODES));
            })
        });
    });
}

fn subscribe(criterion: &mut Criterion) {
    for (kind, filter) in KINDS {
        for count in COUNTS {
            let mut router = populated(count, filter);
            let mut rng = Rng::with_seed(1);
            let name = format!("unsubscribe_then_subscribe/{kind}/{count}");
            criterion.bench_function(&name, |bencher| {
                bencher.iter_custom(|calls| {
                    timed(calls, || {
                        let n = rng.u32(..count);
                        let filter = filter(n);
                        let left = router.unsubscribe(&filter, None, subscription(n).connection);
                        assert!(left.is_some());
                        router.subscribe(&filter, None, subscription(n));
                    })
                });
            });
        }
    }
    for count in [10, 100_000] {
        let mut router = populated(count, |_| "all/alike".into());
        let mut rng = Rng::with_seed(1);
        let name = format!("unsubscribe_then_subscribe/one_filter/{count}");
        criterion.bench_function(&name, |bencher| {
            bencher.iter_custom(|calls| {
                timed(calls, || {
                    let n = rng.u32(..count);
                    let left = router.unsubscribe("all/alike", None, subscription(n).connection);
                    assert!(left.is_some());
                    router.subscribe("all/alike", None, subscription(n));
                })
            });
        });
    }
}

fn choose(criterion: &mut Criterion) {
    for count in [10, 100_000] {
        let mut router = Router::new(ShardId(0));
        for n in 0..count {
            router.subscribe("jobs", Some(b"workers"), subscription(n));
            router.serve("jobs", subscription(n).connection);
        }
        let mut matches = Matches::new();
        let mut rng = Rng::with_seed(1);
        criterion.bench_function(&format!("find_and_choose/{count}"), |bencher| {
            bencher.iter_custom(|calls| {
                timed(calls, || {
                    router.find(black_box("jobs"), &mut matches, NODES);
                    black_box(router.choose(matches.groups[0], &mut rng, |key| key.slot));
                })
            });
        });
        criterion.bench_function(&format!("find_servers/{count}"), |bencher| {
            bencher.iter_custom(|calls| {
                timed(calls, || {
                    let mut search = ServerSearch::default();
                    router.seek_server(black_box("jobs"), &mut search, &mut rng, NODES);
                    black_box(router.found_server(&search, &mut rng, |key| key.slot));
                })
            });
        });
    }
}

fn all(criterion: &mut Criterion) {
    memory();
    find(criterion);
    subscribe(criterion);
    choose(criterion);
}

criterion_group!(benches, all);
criterion_main!(benches);
