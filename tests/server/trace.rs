//! Traces, from publisher to requester: what a collector gets, what the messages carry, and
//! that neither a collector nor its absence changes what is delivered.

use crate::auth::{JWT, guarded, token};
use crate::collector::{Attributes, Collector, Mood, attributes};
use crate::harness::{Server, command};
use crate::operation::*;
use crate::peer::{Manner, Peer};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::net::TcpListener;

const TRACE: [u8; 16] = [0xA7; 16];
const SAMPLED: u8 = 1;

fn traceparent(parent: [u8; 8], flags: u8) -> Vec<u8> {
    [&TRACE[..], &parent, &[flags]].concat()
}

/// The parent in a message that belongs to `TRACE` and is sampled.
#[track_caller]
fn parent_in(got: &Got) -> Vec<u8> {
    let value = got.header(TRACEPARENT).expect("a TRACEPARENT");
    assert_eq!(value[..16], TRACE, "another trace: {got:?}");
    assert_eq!(value[24], SAMPLED, "{got:?}");
    value[16..24].to_vec()
}

fn start(collector: &Collector, ratio: &str) -> Server {
    let ratio = format!("trace.sample_ratio={ratio}");
    Server::start(&[&collector.setting(), &ratio])
}

fn of(span: &Span) -> Attributes {
    attributes(&span.attributes)
}

/// The only span of this name and type of message.
#[track_caller]
fn only<'a>(spans: &'a [Span], name: &str, kind: &str) -> &'a Span {
    let is = |span: &&Span| {
        let of_kind = of(span).get("ringmail.message.type").cloned();
        span.name == name && of_kind.unwrap_or_default() == kind
    };
    let found: Vec<_> = spans.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{name} {kind} in {spans:#?}");
    found[0]
}

#[test]
fn a_trace_leads_from_publisher_over_server_and_service_to_requester() {
    let collector = Collector::start();
    let server = start(&collector, "0");
    let mut publisher = server.peer(0);
    let mut requester = server.peer_with(1, Manner::SUMMED);
    let mut service = server.peer(0);
    requester.subscribe("work/+");
    service.serve("svc");

    let (p, s, v) = ([1; 8], [2; 8], [3; 8]);
    let traced = |op: Op, parent| op.header(TRACEPARENT, traceparent(parent, SAMPLED));
    publisher.ok(&traced(publish("work/1", "todo").header(KEY, "k"), p));
    let got = requester.published();
    let route = parent_in(&got);
    assert_eq!((got.text(), got.header(KEY)), ("todo", Some(&b"k"[..])));
    let id = requester.start(&traced(request("svc", "question"), s));
    let asked = service.requested();
    let call = parent_in(&asked);
    assert_eq!(asked.text(), "question");
    let answer = op(RESPONSE, "").id(asked.id()).payload("answer");
    service.start(&traced(answer, v));
    let answered = requester.next();
    assert_eq!((answered.kind, answered.id()), (RESPONSE, id));
    assert_eq!(answered.result(), Ok(&b"answer"[..]));
    let back = parent_in(&answered);

    let spans = collector.wait("eight spans", |spans| spans.len() >= 8);
    assert_eq!(spans.len(), 8, "{spans:#?}");
    assert!(spans.iter().all(|span| span.trace_id == TRACE));
    let parents = [
        ("receive", "PUBLISH", p.to_vec()),
        (
            "route",
            "PUBLISH",
            only(&spans, "receive", "PUBLISH").span_id.clone(),
        ),
        ("deliver", "PUBLISH", route.clone()),
        ("receive", "REQUEST", s.to_vec()),
        (
            "call",
            "REQUEST",
            only(&spans, "receive", "REQUEST").span_id.clone(),
        ),
        ("deliver", "REQUEST", call.clone()),
        ("receive", "RESPONSE", v.to_vec()),
        ("deliver", "RESPONSE", back.clone()),
    ];
    for (name, kind, parent) in parents {
        let span = only(&spans, name, kind);
        assert_eq!(span.parent_span_id, parent, "{name} {kind} in {spans:#?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    for (name, kind, carried) in [
        ("route", "PUBLISH", route),
        ("call", "REQUEST", call),
        ("receive", "RESPONSE", back),
    ] {
        assert_eq!(only(&spans, name, kind).span_id, carried, "{name} {kind}");
    }
    let shard = |name, kind| of(only(&spans, name, kind))["ringmail.shard"].clone();
    assert_eq!(shard("receive", "PUBLISH"), "0");
    assert_eq!(shard("deliver", "PUBLISH"), "1");
    assert_eq!(
        (shard("call", "REQUEST"), shard("deliver", "REQUEST")),
        ("1".into(), "0".into())
    );
    let topic = &of(only(&spans, "deliver", "PUBLISH"))["messaging.destination.name"];
    assert_eq!(topic, "work/1");
    assert_eq!(collector.resources()[0]["service.name"], "ringmail");
    let head = &collector.heads()[0];
    assert!(head.starts_with("post /v1/traces "), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );

    for peer in [publisher, requester, service] {
        peer.close();
    }
    server.end_beside_closes(&[]);
}

#[test]
fn what_is_not_sampled_passes_byte_for_byte() {
    let collector = Collector::start();
    let server = start(&collector, "0");
    let mut publisher = server.peer(0);
    let mut readers = [server.peer(0), server.peer(1)];
    for reader in &mut readers {
        reader.subscribe("a/#");
    }
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..300 {
        let bytes = |random: &mut fastrand::Rng, most| -> Vec<u8> {
            let count = random.usize(..most);
            (0..count).map(|_| random.u8(..)).collect()
        };
        let mut message = publish("a/b", bytes(&mut random, 3000));
        let mut context = bytes(&mut random, 26);
        context.resize(25, 0xFF);
        match round % 4 {
            // Not sampled, whatever else the flags say.
            0 => context[24] &= !SAMPLED,
            // Ids that W3C calls invalid, though they say that they are sampled.
            1 => context[..16].fill(0),
            2 => context[16..24].fill(0),
            _ => context.clear(),
        }
        if round % 3 == 0 {
            message = message.header(KEY, bytes(&mut random, 40));
        }
        if !context.is_empty() {
            message = message.header(TRACEPARENT, context);
        }
        message = message.header(0x40 + random.u8(..0xC0), bytes(&mut random, 40));
        let id = publisher.ok(&message);
        let sent = message.id(id).body();
        for reader in &mut readers {
            assert_eq!(reader.published().body[4..], sent[4..]);
        }
    }
    // A sampled one behind them is all the collector gets.
    let mark = publish("a/b", "").header(TRACEPARENT, traceparent([1; 8], SAMPLED));
    publisher.ok(&mark);
    let spans = collector.wait("four spans", |spans| spans.len() >= 4);
    assert_eq!(spans.len(), 4, "{spans:#?}");
    assert!(spans.iter().all(|span| span.trace_id == TRACE));
    for peer in readers {
        peer.close();
    }
    publisher.close();
    server.end_beside_closes(&[]);
}

#[test]
fn a_peer_for_whom_a_traceparent_is_too_much_gets_the_message_as_it_came() {
    let collector = Collector::start();
    let server = start(&collector, "1");
    let exact = publish("a/b", "just so");
    let tight = Manner {
        message_max: Some(exact.body().len() as u32),
        ..Manner::default()
    };
    let mut publisher = server.peer(0);
    let mut readers = [server.peer_with(0, tight), server.peer_with(1, tight)];
    let mut roomy = [server.peer(0), server.peer(1)];
    for reader in readers.iter_mut().chain(&mut roomy) {
        reader.subscribe("a/#");
    }
    let question = request("svc", "fits!!!");
    assert_eq!(question.body().len(), exact.body().len());
    readers[1].serve("svc");
    publisher.ok(&exact);
    for reader in &mut readers {
        assert_eq!(reader.published().content(), &exact.body()[4..]);
    }
    for reader in &mut roomy {
        let got = reader.published();
        let value = got.header(TRACEPARENT).expect("a trace of the server's");
        assert_eq!((got.text(), value[24]), ("just so", SAMPLED));
        assert_ne!(value[..16], [0; 16]);
    }
    let id = publisher.start(&question);
    let asked = readers[1].requested();
    assert_eq!(asked.content(), &question.body()[4..]);
    readers[1].respond(&asked, "yes");
    assert_eq!(publisher.responded(id), Ok(b"yes".to_vec()));
    // The server's own services have their spans too, and so has each connection.
    let id = publisher.start(&request("$sys/echo", "x"));
    assert_eq!(publisher.responded(id), Ok(b"x".to_vec()));
    let spans = collector.wait("echo's call", |spans| {
        let echo = |span: &Span| {
            let name = of(span).get("messaging.destination.name").cloned();
            span.name == "call" && name.as_deref() == Some("$sys/echo")
        };
        spans.iter().any(echo)
    });
    assert!(spans.iter().any(|span| span.name == "accept"));
    for peer in readers.into_iter().chain(roomy) {
        peer.close();
    }
    publisher.close();
    server.end_beside_closes(&[]);
}

/// Publishes and receives some, as if there were no collector.
fn go_on(publisher: &mut Peer, reader: &mut Peer) {
    for round in 0..50 {
        let text = round.to_string();
        let op = publish("a/b", &text).header(TRACEPARENT, traceparent([1; 8], SAMPLED));
        publisher.ok(&op);
        let got = reader.published();
        assert_eq!(got.text(), text);
        parent_in(&got);
    }
}

#[test]
fn a_collector_down_slow_or_refusing_costs_spans_and_nothing_else() {
    // A port where nobody listens, for now: other tests take theirs of 127.0.0.1.
    let place = TcpListener::bind("127.0.7.4:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let endpoint = format!("http://{address}");
    let server = Server::spawn(
        command(
            env!("CARGO_BIN_EXE_ringmail"),
            &[],
            &["trace.sample_ratio=0"],
        )
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a-secret")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "300")
        .env("OTEL_SERVICE_NAME", "the-mail"),
    );
    let (mut publisher, mut reader) = (server.peer(0), server.peer(1));
    reader.subscribe("a/#");
    go_on(&mut publisher, &mut reader);
    let end = std::time::Instant::now() + crate::wire::PATIENCE;
    while !server.log().contains("accepts no spans") {
        assert!(std::time::Instant::now() < end, "{}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let collector = Collector::on(address);
    for mood in [Mood::Refuses, Mood::Stalls] {
        collector.become_(mood);
        let before = collector.asked();
        go_on(&mut publisher, &mut reader);
        collector.wait_asked(before);
        go_on(&mut publisher, &mut reader);
    }
    assert!(collector.spans().is_empty());
    collector.become_(Mood::Takes);
    go_on(&mut publisher, &mut reader);
    collector.wait("spans again", |spans| !spans.is_empty());
    assert_eq!(collector.resources()[0]["service.name"], "the-mail");
    assert!(collector.heads()[0].contains("x-key: a-secret"));
    let log = server.log();
    assert_eq!(log.matches("accepts no spans").count(), 1, "{log}");
    assert!(!log.contains("a-secret"), "{log}");
    for peer in [publisher, reader] {
        peer.close();
    }
    server.expect_lines(1, |line| line.contains("accepts spans again"));
    server.end();
}

#[test]
fn what_is_queued_at_the_end_is_exported_if_the_collector_takes_it() {
    for mood in [Mood::Takes, Mood::Stalls] {
        let collector = Collector::start();
        collector.become_(mood);
        let mut server = start(&collector, "0");
        let mut publisher = server.peer(0);
        let op = publish("a/b", "last").header(TRACEPARENT, traceparent([1; 8], SAMPLED));
        publisher.ok(&op);
        publisher.close();
        server.terminate();
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        let expected: &[&str] = match mood {
            Mood::Takes => &["receive", "route"],
            _ => &[],
        };
        let spans = collector.spans();
        let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, expected);
        let late = server.log().contains("did not reach the collector in time");
        assert_eq!(late, mood == Mood::Stalls, "{}", server.log());
    }
}

#[test]
fn a_connection_is_traced_until_it_has_said_who_it_is() {
    let collector = Collector::start();
    let server = guarded(&[&collector.setting(), "trace.sample_ratio=1"]);
    for (credential, refused) in [
        (token("a", &["device"], 60), false),
        (token("a", &["device"], 60).replace('.', ".."), true),
    ] {
        let before = collector.spans().len();
        let mut peer = Peer::join(server.address, Manner::default(), None);
        peer.start_auth(JWT, &credential);
        let spans = collector.wait("both", |spans| {
            let new = spans.iter().skip(before);
            new.filter(|span| ["accept", "authenticate"].contains(&&*span.name))
                .count()
                == 2
        });
        let new = &spans[before..];
        let (accept, authenticate) = (only(new, "accept", ""), only(new, "authenticate", "AUTH"));
        assert_eq!(accept.parent_span_id, Vec::<u8>::new());
        assert_eq!(authenticate.parent_span_id, accept.span_id);
        assert_eq!(authenticate.trace_id, accept.trace_id);
        let failed = authenticate
            .status
            .as_ref()
            .is_some_and(|status| status.code == 2);
        assert_eq!(failed, refused, "{authenticate:#?}");
        // Nothing of the credential is told.
        let told = format!("{new:?}");
        assert!(!told.contains(credential.rsplit('.').next().unwrap()));
        if !refused {
            assert_eq!(peer.read().unwrap().kind, AUTH_OK);
            peer.close();
        }
    }
    server.end_beside_closes(&[("auth_failed", 1)]);
}

#[test]
fn without_an_endpoint_or_with_tracing_switched_off_all_passes_untouched() {
    let collector = Collector::start();
    let (endpoint, none) = (collector.setting(), "trace.endpoint=".to_owned());
    for (setting, disabled) in [(none, "false"), (endpoint, "true")] {
        let settings = [setting.as_str(), "trace.sample_ratio=1"];
        let server = Server::spawn(
            command(env!("CARGO_BIN_EXE_ringmail"), &[], &settings)
                .env("OTEL_SDK_DISABLED", disabled),
        );
        let (mut publisher, mut reader) = (server.peer(0), server.peer(1));
        reader.subscribe("a/#");
        for op in [
            publish("a/b", "plain"),
            publish("a/b", "traced").header(TRACEPARENT, traceparent([1; 8], SAMPLED)),
        ] {
            let id = publisher.ok(&op);
            assert_eq!(reader.published().body[4..], op.id(id).body()[4..]);
        }
        for peer in [publisher, reader] {
            peer.close();
        }
        server.end_beside_closes(&[]);
    }
    assert_eq!(collector.asked(), 0);
}
