//! The tables are whole, labels are few, and the text is what its readers expect.

use super::family::{COUNTERS, GAUGES, TIMINGS, TOLD_OTHERWISE};
use super::*;
use crate::base::clock::Instant;
use crate::base::reason::Reason;
use crate::metrics::counter::Counter;
use crate::metrics::gauge::Gauge;
use crate::metrics::histogram::{Histograms, Timing};
use crate::proto::message::MessageType;
use crate::server::control::Host;
use crate::server::control::http::Guard;
use crate::server::control::listing::Lister;
use crate::shard::sys::{Board, Span, Timings};
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::AtomicI64;
use std::time::Duration;

/// All labels there are. One more is a decision: series multiply.
const LABELS: &[&str] = &[
    "action", "le", "protocol", "reason", "result", "shard", "stage", "to", "type", "version",
];

fn admin() -> Arc<Admin> {
    let board = Board::new("x".to_owned(), "y".to_owned(), &[0, 1], Instant::now());
    for (shard, counters) in (1..).zip(board.counters()) {
        counters.add(Counter::Opened, 10 * shard);
        counters.add_closed(Reason::SlowConsumer);
        counters.add_received(MessageType::Publish);
        counters.gauges.put(Gauge::BuffersFree, 7 * shard);
    }
    let mut histograms = Histograms::default();
    histograms.record(Timing::Call, Duration::from_millis(40));
    histograms.record(Timing::Parse, Duration::from_micros(4));
    let span = Span {
        total: Arc::new(histograms),
        recent: Arc::default(),
    };
    board.put_timings(Timings {
        all: span.clone(),
        shards: vec![span; 2],
    });
    Arc::new(Admin {
        traces: None,
        board: Arc::new(board),
        host: Host {
            started_at: 1_700_000_000.5,
            memory_budget_bytes: 99,
            certificate_expires: Some(Arc::new(AtomicI64::new(1_800_000_000))),
        },
        draining: Arc::default(),
        settled: None,
        guard: Arc::new(Guard::new(0)),
        reserve: Arc::default(),
        is_loopback: true,
        lister: Lister::new(Vec::new()),
        registry: None,
        wanted: Arc::default(),
    })
}

#[test]
fn everything_counted_or_timed_is_reported() {
    let parts = COUNTERS.iter().flat_map(|family| family.parts);
    let told: HashSet<_> = parts
        .map(|(_, counter)| counter)
        .chain(TOLD_OTHERWISE)
        .collect();
    for counter in Counter::ALL {
        assert!(
            told.contains(counter),
            "{} stands in no family",
            counter.label()
        );
    }
    for gauge in Gauge::ALL {
        let told = GAUGES.iter().any(|family| family.gauge == *gauge);
        assert!(told, "{} stands in no family", gauge.label());
    }
    for timing in Timing::ALL {
        let mut parts = TIMINGS.iter().flat_map(|family| family.parts);
        assert!(
            parts.any(|(_, told)| told == timing),
            "{} stands in no family",
            timing.label()
        );
    }
}

#[test]
fn the_metrics_report_what_the_board_says() {
    let text = render(admin()).unwrap();
    for line in [
        "ringmail_connections{shard=\"0\"} 9",
        "ringmail_connections{shard=\"1\"} 19",
        "ringmail_connections_opened_total 30",
        "ringmail_connections_closed_total{reason=\"slow_consumer\"} 2",
        "ringmail_slow_consumer_actions_total{action=\"disconnect\"} 2",
        "ringmail_messages_received_total{shard=\"1\",type=\"PUBLISH\"} 1",
        "ringmail_receive_buffers_free{shard=\"1\"} 14",
        "ringmail_request_duration_seconds_bucket{le=\"0.05\"} 1",
        "ringmail_request_duration_seconds_bucket{le=\"0.025\"} 0",
        "ringmail_request_duration_seconds_bucket{le=\"+Inf\"} 1",
        "ringmail_stage_duration_seconds_count{shard=\"0\",stage=\"parse\"} 1",
        "ringmail_memory_budget_bytes 99",
        "ringmail_certificate_expiry_timestamp_seconds 1800000000",
        "ringmail_draining 0",
        "ringmail_spans_exported_total{result=\"failed\"} 0",
        "process_start_time_seconds 1700000000.5",
        "# UNIT ringmail_received_bytes bytes",
    ] {
        assert!(
            text.lines().any(|told| told == line),
            "{line}\nis not in\n{text}"
        );
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn labels_are_these_and_no_other() {
    let text = render(admin()).unwrap();
    let mut labels = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, set)) = line.split_once('{') else {
            continue;
        };
        let (set, _) = set.split_once('}').unwrap();
        labels.extend(
            set.split(',')
                .map(|pair| pair.split_once('=').unwrap().0.to_owned()),
        );
    }
    assert!(labels.iter().eq(LABELS), "{labels:?}");
}

#[test]
fn open_metrics_is_for_clients_that_prefer_it() {
    let wants = |accept: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        wants_open_metrics(&headers)
    };
    let prometheus = "application/openmetrics-text;version=1.0.0,\
                      application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert!(wants(prometheus));
    assert!(wants("application/OpenMetrics-text"));
    assert!(!wants("text/plain;version=0.0.4"));
    assert!(!wants("application/openmetrics-text; q=0"));
    assert!(!wants("application/openmetrics-text;q=0.1, text/plain"));
    assert!(!wants("*/*"));
    assert!(!wants_open_metrics(&HeaderMap::new()));
}
