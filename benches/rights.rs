//! Rights: what a check costs that every PUBLISH and REQUEST makes.
//!
//! `cargo bench --bench rights`. `device` is the usual role; `twenty` has twenty rights of
//! which the last one fits, or none. A check allocates nothing (tests/rights.rs counts).
//! Times are CPU time of the thread, which a shared machine disturbs least.

use criterion::{Criterion, criterion_group, criterion_main};
use ringmail::auth::rights::Role;
use ringmail::auth::{Rights, Roles, Who};
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const WHO: Who<'_> = Who {
    principal: "sensor-0042",
    client_id: Some("gateway.7"),
};

/// CPU time of `count` checks.
fn timed(count: u64, check: impl Fn() -> bool) -> Duration {
    let start = clock_gettime(ClockId::ThreadCPUTime);
    for _ in 0..count {
        black_box(check());
    }
    let end = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = |time: Timespec| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    Duration::from_nanos(nanos(end) - nanos(start))
}

fn rights(publish: &[String]) -> Arc<Rights> {
    let role = Role {
        publish: publish.to_vec(),
        subscribe: publish.to_vec(),
        ..Role::default()
    };
    let roles = Roles::new([("role", &role)]).expect("roles");
    roles.rights(&["role"])
}

fn check(criterion: &mut Criterion) {
    let device = rights(&["devices/{principal}/#", "broadcast/#"].map(String::from));
    let numbered = (1..20).map(|n| format!("plant/line-{n}/+/state"));
    let twenty: Vec<String> = numbered.chain(["devices/{principal}/#".into()]).collect();
    let twenty = rights(&twenty);
    let all = rights(&["#".into()]);

    let mut group = criterion.benchmark_group("rights");
    let rows = [
        ("all/any", &all, "devices/sensor-0042/state"),
        ("device/own", &device, "devices/sensor-0042/state"),
        ("device/another's", &device, "devices/sensor-0043/state"),
        ("device/elsewhere", &device, "plant/line-7/oven/state"),
        ("twenty/last", &twenty, "devices/sensor-0042/state"),
        ("twenty/none", &twenty, "plant/line-99/oven/state"),
    ];
    for (name, rights, topic) in rows {
        group.bench_function(format!("publish/{name}"), |bencher| {
            let check = || rights.may_publish(black_box(topic), black_box(WHO));
            bencher.iter_custom(|count| timed(count, check));
        });
    }
    group.bench_function("subscribe/device/own", |bencher| {
        let check = || device.may_subscribe(black_box("devices/sensor-0042/+/x/#"), WHO);
        bencher.iter_custom(|count| timed(count, check));
    });
    group.finish();
}

criterion_group!(benches, check);
criterion_main!(benches);
