//! The timer wheel under a population of heartbeats: one timer for each connection, 30 s
//! ahead with jitter.
//!
//! `cargo bench --bench wheel`. Slots are picked at random, as traffic does.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fastrand::Rng;
use ringmail::base::clock::Instant;
use ringmail::base::wheel::{TICK_NANOS, Wheel};
use std::hint::black_box;
use std::time::Duration;

const POPULATIONS: [u32; 2] = [15_000, 1_000_000];
const HEARTBEAT: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_nanos(TICK_NANOS);

/// Deadlines spread evenly over the heartbeat to come, in random order of slots.
fn populated(count: u32, now: Instant, rng: &mut Rng) -> Wheel {
    let mut wheel = Wheel::new(now);
    for slot in 0..count {
        wheel.arm(slot, now + HEARTBEAT.mul_f64(rng.f64()));
    }
    wheel
}

fn timers(criterion: &mut Criterion) {
    for count in POPULATIONS {
        let mut group = criterion.benchmark_group(format!("wheel/{count}"));
        let mut rng = Rng::with_seed(1);
        let mut now = Instant::ZERO + HEARTBEAT;
        let mut wheel = populated(count, now, &mut rng);

        group.bench_function("arm_then_cancel_free_slot", |bencher| {
            bencher.iter(|| {
                wheel.arm(count, black_box(now + HEARTBEAT));
                wheel.cancel(count);
            });
        });
        group.bench_function("move_any", |bencher| {
            bencher.iter(|| {
                let ahead = Duration::from_nanos(rng.u64(TICK_NANOS..30_000_000_000));
                wheel.arm(rng.u32(..count), now + ahead);
            });
        });
        group.bench_function("next_due", |bencher| {
            bencher.iter(|| black_box(&wheel).next_due())
        });
        // The wheel as a shard runs it: cascades, firing and arming again all in, so one
        // tick is count / 28,610 timers.
        group.bench_function("tick_fire_and_arm_again", |bencher| {
            bencher.iter(|| {
                now = now + TICK;
                wheel.advance(now);
                while let Some(slot) = wheel.pop_due() {
                    let jitter = Duration::from_nanos(rng.u64(..TICK_NANOS));
                    wheel.arm(slot, now + HEARTBEAT + jitter);
                }
            });
        });
        group.finish();
    }
}

fn time(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel");
    group.bench_function("advance_year_over_nothing", |bencher| {
        let year = Duration::from_secs(365 * 24 * 3600);
        bencher.iter_batched_ref(
            || Wheel::new(Instant::ZERO),
            |wheel| wheel.advance(black_box(Instant::ZERO + year)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("advance_tick_with_1M_far_timers", |bencher| {
        let mut wheel = Wheel::new(Instant::ZERO);
        let far = Instant::ZERO + Duration::from_secs(100 * 365 * 24 * 3600);
        for slot in 0..1_000_000 {
            wheel.arm(slot, far);
        }
        let mut now = Instant::ZERO;
        bencher.iter(|| {
            now = now + TICK;
            wheel.advance(black_box(now));
            wheel.pop_due()
        });
    });
    // The longest pause: entering a bucket of level 2 with its share of a million timers.
    group.sample_size(20);
    group.bench_function("cascade_of_1M_heartbeats", |bencher| {
        let mut rng = Rng::with_seed(1);
        let bucket_ticks = 4096;
        bencher.iter_batched(
            || populated(1_000_000, Instant::ZERO, &mut rng),
            |mut wheel| {
                wheel.advance(Instant::ZERO + TICK * bucket_ticks);
                wheel
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, timers, time);
criterion_main!(benches);
