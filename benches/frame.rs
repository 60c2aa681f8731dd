//! What the link phase costs: a control frame read and written, and a whole handshake as the
//! server sees it. Once per connection, so that a microsecond is no matter; a regression to
//! ten would be.

use criterion::{Criterion, criterion_group, criterion_main};
use ringmail::base::clock::Instant;
use ringmail::proto::frame::{Frame, FrameType};
use ringmail::proto::option::Options;
use ringmail::proto::session::{Session, Settings, Step};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        message_bytes_max: 1 << 20,
        handshake_timeout: Duration::from_secs(2),
        frame_timeout: Duration::from_secs(10),
        heartbeat_interval: Duration::from_secs(30),
        heartbeat_timeout: Duration::from_secs(90),
        auth_methods: 0,
        auth_timeout: Duration::from_secs(5),
        product: "ringmail/0.1.0".to_owned(),
        shard: 0,
    })
}

fn frame(kind: FrameType, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Frame { kind, seq, payload }.encode(&mut out);
    out
}

fn control_frame(c: &mut Criterion) {
    let mut payload = Vec::new();
    let hello = Options {
        heartbeat_ms: Some(15_000),
        message_max: Some(65_536),
        features: Some(1),
        client_id: Some("meter-17"),
        ..Options::default()
    };
    hello.encode(&mut payload);
    let syn = frame(FrameType::Syn, 7, &payload);
    let mut group = c.benchmark_group("frame");
    group.bench_function("parse SYN", |b| {
        b.iter(|| Frame::parse(black_box(&syn)));
    });
    group.bench_function("parse options", |b| {
        b.iter(|| Options::parse(black_box(&payload)));
    });
    let mut out = Vec::with_capacity(256);
    group.bench_function("encode SYN", |b| {
        b.iter(|| {
            out.clear();
            let frame = Frame {
                kind: FrameType::Syn,
                seq: black_box(7),
                payload: black_box(&payload),
            };
            frame.encode(&mut out);
            black_box(out.len())
        });
    });
    group.finish();
}

fn handshake(c: &mut Criterion) {
    let settings = settings();
    let syn = frame(FrameType::Syn, 7, &[]);
    let ack = frame(FrameType::Ack, 8, &10u32.to_be_bytes());
    let mut out = Vec::with_capacity(256);
    c.bench_function("handshake, server", |b| {
        b.iter(|| {
            out.clear();
            let now = Instant::from_nanos(1);
            let mut session = Session::accept(Arc::clone(&settings), 9, now);
            for bytes in [&syn, &ack] {
                let step = session.handle(black_box(bytes), now, &mut out);
                assert!(matches!(step, Step::Taken { .. }));
            }
            assert!(session.is_established());
            session
        });
    });
}

criterion_group!(benches, control_frame, handshake);
criterion_main!(benches);
