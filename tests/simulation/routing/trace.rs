//! Spans of routed messages: those of one message form one trace with the right parents, whatever
//! shards it passes, and a full span buffer loses spans and nothing else.

use super::super::server::{Guards, limits};
use super::scene::Scene;
use ringmail::base::clock::Instant;
use ringmail::metrics::counter::Counter;
use ringmail::metrics::span::{Fault, Span, SpanName};
use ringmail::proto::envelope::{Envelope, Headers, header};
use ringmail::proto::error::Code;
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::trace::TraceContext;
use ringmail::ring::sim::client::ClientId;
use ringmail::ring::sim::client::traffic::{Act, Publish, Traffic};
use ringmail::ring::sim::{Faults, RingSize};
use std::collections::BTreeSet;

fn scene(sample_ratio: f64, spans_max: usize) -> Scene {
    let guards = Guards {
        trace: Some((sample_ratio, spans_max)),
        ..Guards::default()
    };
    Scene::guarded(1, Faults::none(), RingSize::default(), limits(), guards)
}

fn spans(scene: &mut Scene) -> Vec<Span> {
    let sources = scene.server.spans.iter_mut();
    sources
        .flat_map(|source| std::iter::from_fn(|| source.take()))
        .collect()
}

fn subscriber() -> Traffic {
    Traffic::of([Act::subscribe("a/#")])
}

/// The only span of this name that satisfies `is`.
#[track_caller]
fn only(spans: &[Span], name: SpanName, is: impl Fn(&Span) -> bool) -> Span {
    let found: Vec<_> = spans
        .iter()
        .filter(|span| span.name == name && is(span))
        .collect();
    assert_eq!(found.len(), 1, "{name:?} in {spans:#?}");
    found[0].clone()
}

fn shard(scene: &Scene, id: ClientId) -> u16 {
    scene.record(id).connections[0].shard.expect("it is served")
}

fn carried(context: &TraceContext, service: &str, kind: MessageType) -> Vec<u8> {
    let mut block = Vec::new();
    Headers::push(&mut block, header::TRACEPARENT, &context.to_bytes());
    let envelope = Envelope {
        id: 900,
        name: service,
        headers: Headers::check(&block).expect("one header"),
        ..Envelope::default()
    };
    let mut bytes = Vec::new();
    Message::Envelope(kind, envelope).encode(false, &mut bytes);
    bytes
}

const CLIENTS: TraceContext = TraceContext {
    trace_id: [7; 16],
    parent_id: [9; 8],
    flags: 1,
};

#[test]
fn a_publication_is_one_trace_over_three_shards() {
    let mut scene = scene(1.0, 4096);
    let readers = scene.enter_each([subscriber(), subscriber(), subscriber()]);
    let [writer] = scene.enter_each([Traffic::default()]);
    let shards: BTreeSet<u16> = readers.iter().map(|&id| shard(&scene, id)).collect();
    assert_eq!(shards.len(), 3, "they stand on all shards");
    let home = shard(&scene, writer);
    spans(&mut scene);
    scene.perform(writer, [Act::publish("a/b")]);
    let spans = spans(&mut scene);
    let any = |_: &Span| true;
    let receive = only(&spans, SpanName::Receive, any);
    let route = only(&spans, SpanName::Route, any);
    assert_eq!((receive.parent_id, receive.remote), ([0; 8], false));
    assert_eq!(receive.kind, Some(MessageType::Publish));
    assert_eq!(receive.subject.as_deref(), Some("a/b"));
    assert_eq!(route.parent_id, receive.span_id);
    assert_eq!((receive.shard.0, route.shard.0), (home, home));
    for number in shards {
        let deliver = only(&spans, SpanName::Deliver, |span| span.shard.0 == number);
        assert_eq!((deliver.parent_id, deliver.reached), (route.span_id, 1));
    }
    assert_eq!(spans.len(), 5, "{spans:#?}");
    assert!(spans.iter().all(|span| span.trace_id == receive.trace_id));
    assert!(spans.iter().all(|span| span.begun <= span.ended));
    let ids: BTreeSet<_> = spans.iter().map(|span| span.span_id).collect();
    assert_eq!(ids.len(), 5);
    for reader in readers {
        assert_eq!(scene.numbers(reader, writer, "a/b"), [0]);
    }
    scene.finish();
}

#[test]
fn a_carried_context_is_followed_and_an_unsampled_one_is_not() {
    let mut scene = scene(0.0, 4096);
    let [_reader] = scene.enter_each([subscriber()]);
    let [writer] = scene.enter_each([Traffic::default()]);
    let unsampled = TraceContext {
        flags: 0xFE,
        ..CLIENTS
    };
    let nobody = TraceContext {
        trace_id: [0; 16],
        ..CLIENTS
    };
    for context in [unsampled, nobody] {
        let bytes = carried(&context, "$sys/echo", MessageType::Request);
        scene.perform(writer, [Act::Raw(bytes), Act::publish("a/b")]);
    }
    assert_eq!(spans(&mut scene), [], "nothing of it is sampled");
    let bytes = carried(&CLIENTS, "$sys/echo", MessageType::Request);
    scene.perform(writer, [Act::Raw(bytes)]);
    let spans = spans(&mut scene);
    let receive = only(&spans, SpanName::Receive, |_| true);
    let call = only(&spans, SpanName::Call, |_| true);
    assert_eq!((receive.trace_id, receive.parent_id), ([7; 16], [9; 8]));
    assert!(receive.remote && !call.remote);
    assert_eq!(call.parent_id, receive.span_id);
    assert_eq!((call.fault, spans.len()), (None, 2));
}

#[test]
fn a_call_of_another_connection_ends_with_its_answer_or_its_deadline() {
    let mut scene = scene(1.0, 4096);
    let [server] = scene.enter_each([Traffic::of([Act::serve("svc")])]);
    let clients = scene.enter_each([Traffic::default(), Traffic::default()]);
    let away = clients
        .into_iter()
        .find(|&id| shard(&scene, id) != shard(&scene, server));
    let client = away.expect("one stands elsewhere");
    spans(&mut scene);
    let began = scene.world.now();
    scene.perform(client, [Act::request("svc"), Act::request("nobody")]);
    let spans = spans(&mut scene);
    let call = only(&spans, SpanName::Call, |_| true);
    let of_call = |span: &Span| span.trace_id == call.trace_id;
    let receive = only(&spans, SpanName::Receive, of_call);
    let deliver = only(&spans, SpanName::Deliver, of_call);
    assert_eq!(call.parent_id, receive.span_id);
    assert_eq!(deliver.parent_id, call.span_id);
    assert_eq!(deliver.shard.0, shard(&scene, server));
    assert_eq!(call.shard.0, shard(&scene, client));
    assert!(began < call.ended && deliver.ended <= call.ended);
    assert_eq!((call.fault, receive.fault), (None, None));
    let refused = only(&spans, SpanName::Receive, |span| {
        span.subject.as_deref() == Some("nobody")
    });
    let code = Code::NoService.to_wire();
    assert_eq!(refused.fault, Some(Fault::Code(code)));
    assert_ne!(refused.trace_id, call.trace_id);
    scene.finish();
}

#[test]
fn a_connection_is_traced_until_it_is_established() {
    let mut scene = scene(1.0, 4096);
    scene.enter_each([Traffic::default(), Traffic::default()]);
    let spans = spans(&mut scene);
    assert_eq!(spans.len(), 2, "{spans:#?}");
    for span in &spans {
        assert_eq!((span.name, span.fault), (SpanName::Accept, None));
        assert!(Instant::ZERO < span.begun && span.begun < span.ended);
    }
    assert_ne!(spans[0].trace_id, spans[1].trace_id);
    scene.finish();
}

#[test]
fn a_full_ring_drops_spans_and_no_message() {
    const ROOM: usize = 4;
    let mut scene = scene(1.0, ROOM);
    let readers = scene.enter_each([subscriber(), subscriber(), subscriber()]);
    let [writer] = scene.enter_each([Traffic::default()]);
    let acts: Vec<Act> = (0..100)
        .map(|bytes| {
            Act::Publish(Publish {
                bytes,
                ..Publish::of("a/b")
            })
        })
        .collect();
    scene.perform(writer, acts);
    for reader in readers {
        let numbers: Vec<u32> = (0..100).collect();
        assert_eq!(scene.numbers(reader, writer, "a/b"), numbers);
    }
    let kept = spans(&mut scene).len() as u64;
    assert!(kept <= 3 * ROOM as u64);
    // Four connections; per publication: receive, route, and a delivery on each shard.
    let dropped = scene.server.count(Counter::SpansDropped);
    assert_eq!(kept + dropped, 4 + 100 * 5);
    scene.finish();
}
