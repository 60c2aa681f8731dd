//! What one message costs the server between two system calls: its header and envelope
//! read, a session's judgement of it, and the answer written.
//!
//! The request is the echo of the floor benchmark: 64 bytes to `$sys/echo`, 88 on the wire.
//! `session` handles a receive buffer of 16 of them at a time; its figure per element is the
//! one to compare.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmail::base::clock::Instant;
use ringmail::proto::envelope::Envelope;
use ringmail::proto::frame::{Frame, FrameType};
use ringmail::proto::message::{Header, Message, MessageType, open};
use ringmail::proto::option::{FEATURE_CHECKSUM, Options};
use ringmail::proto::reassembly::Reassembly;
use ringmail::proto::session::{Event, Session, Settings, Step};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const REQUESTS: u32 = 16;

fn name(what: &str, checksum: bool) -> String {
    let suffix = if checksum { ", CHECKSUM" } else { "" };
    format!("{what}{suffix}")
}

fn request(id: u32, checksum: bool, out: &mut Vec<u8>) {
    let envelope = Envelope {
        id,
        name: "$sys/echo",
        payload: &[7; 64],
        ..Envelope::default()
    };
    Message::Envelope(MessageType::Request, envelope).encode(checksum, out);
}

fn established(checksum: bool) -> Session {
    let settings = Settings {
        message_bytes_max: 1 << 20,
        handshake_timeout: Duration::from_secs(2),
        frame_timeout: Duration::from_secs(10),
        heartbeat_interval: Duration::from_secs(30),
        heartbeat_timeout: Duration::from_secs(90),
        auth_methods: 0,
        auth_timeout: Duration::from_secs(5),
        product: "ringmail/0.1.0".to_owned(),
        shard: 0,
    };
    let now = Instant::from_nanos(1);
    let mut session = Session::accept(Arc::new(settings), 9, now);
    let mut asked = Vec::new();
    let hello = Options {
        features: checksum.then_some(FEATURE_CHECKSUM),
        ..Options::default()
    };
    hello.encode(&mut asked);
    for (kind, seq, payload) in [
        (FrameType::Syn, 7, &asked[..]),
        (FrameType::Ack, 8, &10u32.to_be_bytes()),
    ] {
        let mut bytes = Vec::new();
        Frame { kind, seq, payload }.encode(&mut bytes);
        session.handle(&bytes, now, &mut Vec::new());
    }
    assert!(session.is_open() && session.has_checksum() == checksum);
    session
}

fn one_message(c: &mut Criterion) {
    let mut group = c.benchmark_group("message");
    for checksum in [false, true] {
        let mut bytes = Vec::new();
        request(1, checksum, &mut bytes);
        group.bench_function(name("parse request", checksum), |b| {
            b.iter(|| {
                let bytes = black_box(&bytes[..]);
                let header = Header::parse(bytes, 1 << 20).unwrap().unwrap();
                let body = open(&bytes[..header.message_bytes()], checksum).unwrap();
                let envelope = Envelope::parse(header.kind, body).unwrap();
                (envelope.id, envelope.name.len(), envelope.payload.len())
            });
        });
        let mut out = Vec::with_capacity(256);
        group.bench_function(name("encode response", checksum), |b| {
            b.iter(|| {
                out.clear();
                let envelope = Envelope {
                    id: black_box(1),
                    payload: black_box(&[7; 64]),
                    ..Envelope::default()
                };
                Message::Envelope(MessageType::Response, envelope).encode(checksum, &mut out);
                black_box(out.len())
            });
        });
    }
    group.finish();
}

fn receive_buffer(c: &mut Criterion) {
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Elements(u64::from(REQUESTS)));
    for checksum in [false, true] {
        let mut buffer = Vec::new();
        for id in 0..REQUESTS {
            request(id, checksum, &mut buffer);
        }
        let mut session = established(checksum);
        let mut out = Vec::with_capacity(4096);
        group.bench_function(name("16 requests handled", checksum), |b| {
            b.iter(|| serve(&mut session, black_box(&buffer), &mut out, false));
        });
        group.bench_function(name("16 requests echoed", checksum), |b| {
            b.iter(|| serve(&mut session, black_box(&buffer), &mut out, true));
        });
    }
    group.finish();
}

/// An owner's loop over one receive buffer.
fn serve(session: &mut Session, mut bytes: &[u8], out: &mut Vec<u8>, echo: bool) -> u32 {
    let now = Instant::from_nanos(2);
    let mut input = Reassembly::default();
    let mut count = 0;
    out.clear();
    loop {
        match session.handle(input.view(bytes), now, out) {
            Step::Taken { used, event } => {
                if let Event::Message(Message::Envelope(_, request)) = event {
                    count += black_box(request.id) & 1;
                    if echo {
                        let answer = Envelope {
                            id: request.id,
                            codec: request.codec,
                            payload: request.payload,
                            ..Envelope::default()
                        };
                        let answer = Message::Envelope(MessageType::Response, answer);
                        session.send(&answer, out);
                    }
                }
                input.consume(used, &mut bytes);
            }
            Step::Incomplete { need } => {
                if !input.fill(need, &mut bytes) {
                    break;
                }
            }
        }
    }
    assert_eq!(count, REQUESTS / 2);
    count
}

criterion_group!(benches, one_message, receive_buffer);
criterion_main!(benches);
