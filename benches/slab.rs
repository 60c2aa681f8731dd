//! The slab under a steady population: what a connection's coming, going and look-up cost.
//!
//! `cargo bench --bench slab`. Slots are picked at random, as completions do, so the larger
//! population shows the cache misses too.

use criterion::{Criterion, criterion_group, criterion_main};
use fastrand::Rng;
use ringmail::base::id::Key;
use ringmail::base::slab::Slab;
use std::hint::black_box;

/// About the size of a connection's state.
type Value = [u64; 24];

const POPULATIONS: [u32; 2] = [15_000, 1_000_000];

fn populated(count: u32) -> (Slab<Value>, Vec<Key>) {
    let mut slab = Slab::new(count + 1);
    let keys = (0..count).map_while(|n| slab.insert([u64::from(n); 24]));
    let keys: Vec<Key> = keys.collect();
    assert_eq!(keys.len(), count as usize);
    (slab, keys)
}

fn slab(criterion: &mut Criterion) {
    for count in POPULATIONS {
        let mut group = criterion.benchmark_group(format!("slab/{count}"));
        let (mut slab, mut keys) = populated(count);
        let mut rng = Rng::with_seed(1);

        group.bench_function("insert_then_remove_it", |bencher| {
            bencher.iter(|| {
                let key = slab.insert(black_box([7; 24]));
                key.and_then(|key| slab.remove(key))
            });
        });
        group.bench_function("remove_any_then_insert", |bencher| {
            bencher.iter(|| {
                let at = &mut keys[rng.usize(..count as usize)];
                black_box(slab.remove(*at));
                if let Some(key) = slab.insert([9; 24]) {
                    *at = key;
                }
            });
        });
        group.bench_function("look_up_any", |bencher| {
            bencher.iter(|| {
                let key = keys[rng.usize(..count as usize)];
                slab.get_mut(key).map(|value| {
                    value[3] += 1;
                    value[3]
                })
            });
        });
        group.bench_function("refuse_stale_key", |bencher| {
            let live = keys[0];
            let stale = Key {
                generation: (live.generation + 1) % Key::GENERATIONS,
                ..live
            };
            bencher.iter(|| slab.get(black_box(stale)).is_none());
        });
        group.finish();
    }
}

criterion_group!(benches, slab);
criterion_main!(benches);
