//! A shard's span as OpenTelemetry knows it: wall-clock times, attributes, status.
//!
//! Attributes follow the semantic conventions for messaging where they have a name for it;
//! the rest is below `ringmail.`.

use crate::base::clock::Instant;
use crate::metrics::span::{Fault, Span, SpanName};
use crate::proto::error::Code;
use crate::proto::message::MessageType;
use crate::server::plan::PRODUCT;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::time::SystemTime;

/// One moment by both clocks, for converting monotonic times to wall-clock times.
#[derive(Clone, Copy)]
pub(super) struct Anchor {
    pub(super) instant: Instant,
    pub(super) wall: SystemTime,
}

impl Anchor {
    pub(super) fn now() -> Anchor {
        Anchor {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    fn wall(&self, at: Instant) -> SystemTime {
        let ago = self.instant.since(at);
        let moment = match ago.is_zero() {
            true => self.wall.checked_add(at.since(self.instant)),
            false => self.wall.checked_sub(ago),
        };
        moment.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// The instrumentation scope of the spans.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("ringmail")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
}

pub(super) fn span_data(span: Span, anchor: &Anchor, scope: &InstrumentationScope) -> SpanData {
    let context = SpanContext::new(
        TraceId::from_bytes(span.trace_id),
        SpanId::from_bytes(span.span_id),
        TraceFlags::new(span.flags),
        false,
        TraceState::default(),
    );
    let fault = span.fault.map(told);
    SpanData {
        span_context: context,
        parent_span_id: SpanId::from_bytes(span.parent_id),
        parent_span_is_remote: span.remote,
        span_kind: kind(&span),
        name: span.name.label().into(),
        start_time: anchor.wall(span.begun),
        end_time: anchor.wall(span.ended.max(span.begun)),
        attributes: attributes(&span, fault.as_deref()),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: match fault {
            Some(fault) => Status::error(fault),
            None => Status::Unset,
        },
        instrumentation_scope: scope.clone(),
    }
}

fn kind(span: &Span) -> SpanKind {
    match (span.name, span.kind) {
        (SpanName::Receive, Some(MessageType::Request)) => SpanKind::Server,
        (SpanName::Receive, _) => SpanKind::Consumer,
        (SpanName::Deliver, _) => SpanKind::Producer,
        (SpanName::Call, _) => SpanKind::Client,
        (SpanName::Accept | SpanName::Authenticate | SpanName::Route, _) => SpanKind::Internal,
    }
}

fn attributes(span: &Span, fault: Option<&str>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("messaging.system", "ringmail"),
        KeyValue::new("ringmail.server", PRODUCT),
        KeyValue::new("ringmail.shard", i64::from(span.shard.0)),
    ];
    if let Some(key) = span.connection {
        // The connection's id as on the admin address.
        let id = format!("{}-{}-{}", span.shard, key.slot, key.generation);
        attributes.push(KeyValue::new("ringmail.connection", id));
    }
    if let Some(kind) = span.kind {
        attributes.push(KeyValue::new("ringmail.message.type", kind.name()));
    }
    if let Some(subject) = &span.subject {
        let name = subject.to_string();
        attributes.push(KeyValue::new("messaging.destination.name", name));
    }
    if span.bytes > 0 {
        let bytes = i64::from(span.bytes);
        attributes.push(KeyValue::new("messaging.message.envelope.size", bytes));
    }
    if span.name == SpanName::Deliver {
        let reached = i64::from(span.reached);
        attributes.push(KeyValue::new("ringmail.deliveries", reached));
    }
    if let Some(fault) = fault {
        attributes.push(KeyValue::new("error.type", fault.to_owned()));
    }
    attributes
}

fn told(fault: Fault) -> String {
    match fault {
        Fault::Code(code) => Code::from_wire(code).to_string(),
        Fault::Ended(reason) => reason.label().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{Key, ShardId};
    use crate::base::reason::Reason;
    use std::time::Duration;

    fn span(name: SpanName) -> Span {
        Span {
            name,
            trace_id: [1; 16],
            span_id: [2; 8],
            parent_id: [3; 8],
            remote: true,
            flags: 1,
            begun: Instant::from_nanos(2_000),
            ended: Instant::from_nanos(5_000),
            shard: ShardId(1),
            connection: Some(Key {
                slot: 7,
                generation: 2,
            }),
            kind: Some(MessageType::Request),
            bytes: 40,
            reached: 3,
            subject: Some("a/service".into()),
            fault: None,
        }
    }

    fn anchor() -> Anchor {
        Anchor {
            instant: Instant::from_nanos(4_000),
            wall: SystemTime::UNIX_EPOCH + Duration::from_nanos(1_000_000),
        }
    }

    #[test]
    fn ids_times_and_attributes_are_those_of_the_span() {
        let data = span_data(span(SpanName::Deliver), &anchor(), &scope());
        assert_eq!(data.span_context.trace_id().to_bytes(), [1; 16]);
        assert_eq!(data.span_context.span_id().to_bytes(), [2; 8]);
        assert_eq!(data.parent_span_id.to_bytes(), [3; 8]);
        let nanos = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(nanos(data.start_time), Duration::from_nanos(998_000));
        assert_eq!(nanos(data.end_time), Duration::from_nanos(1_001_000));
        let attribute = |key: &str| {
            let found = data.attributes.iter().find(|one| one.key.as_str() == key);
            found.map(|one| one.value.to_string())
        };
        for (key, value) in [
            ("ringmail.connection", "1-7-2"),
            ("messaging.destination.name", "a/service"),
            ("messaging.message.envelope.size", "40"),
            ("ringmail.deliveries", "3"),
        ] {
            assert_eq!(attribute(key).as_deref(), Some(value), "{key}");
        }
        assert_eq!(attribute("error.type"), None);
        assert_eq!(data.status, Status::Unset);
    }

    #[test]
    fn a_fault_is_named_as_the_protocol_and_the_statistics_name_it() {
        let mut failed = span(SpanName::Call);
        failed.fault = Some(Fault::Code(Code::NoService.to_wire()));
        let data = span_data(failed.clone(), &anchor(), &scope());
        assert_eq!(data.status, Status::error("NO_SERVICE"));
        assert_eq!(data.span_kind, SpanKind::Client);
        failed.fault = Some(Fault::Ended(Reason::PeerReset));
        let data = span_data(failed, &anchor(), &scope());
        assert_eq!(data.status, Status::error("peer_reset"));
    }
}
