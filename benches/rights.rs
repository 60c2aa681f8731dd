//! Rights: what a check costs that every PUBLISH and REQUEST makes.
//!
//! `cargo bench --bench rights`. `device` is the usual role; `twenty` has twenty rights of
//! which the last one fits, or none. A check allocates nothing (tests/rights.rs counts).

use criterion::{Criterion, criterion_group, criterion_main};
use ringmail::auth::rights::Role;
use ringmail::auth::{Rights, Roles, Who};
use std::hint::black_box;
use std::sync::Arc;

const WHO: Who<'_> = Who {
    principal: "sensor-0042",
    client_id: Some("gateway.7"),
};

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
            bencher.iter(|| rights.may_publish(black_box(topic), WHO));
        });
    }
    group.bench_function("subscribe/device/own", |bencher| {
        bencher.iter(|| device.may_subscribe(black_box("devices/sensor-0042/+/x/#"), WHO));
    });
    group.finish();
}

criterion_group!(benches, check);
criterion_main!(benches);
