//! The exporter: spans out of the shards' rings, in batches to the collector.
//!
//! Ten times a second the rings are emptied into a queue. A batch is sent when it is full or its
//! first span has waited a second, and only one batch each time, so that the control thread
//! encodes at most 10,000 spans a second, whatever is sampled. While a collector takes its time,
//! nothing more is collected: first the rings fill, then the shards drop and count. A batch that
//! the collector refuses is retried for some seconds (429, 502, 503, 504 and broken
//! connections), then it is lost, counted, and reported once a minute.

use super::setting::Setting;
use super::wire::{Anchor, scope, span_data};
use crate::broker::Tracing;
use crate::metrics::span::{SPANS_MAX, Span, SpanSource, channel};
use crate::server::plan::PRODUCT;
use opentelemetry::InstrumentationScope;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use reqwest::redirect::Policy;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval};

const TICK: Duration = Duration::from_millis(100);
/// The longest that a span waits for others.
const WAIT_MAX: Duration = Duration::from_secs(1);
const BATCH_SPANS: usize = 1024;
/// Spans of all shards that wait for a batch.
const QUEUE_SPANS: usize = 8 * BATCH_SPANS;
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// The time for one attempt, and for all attempts of a batch, unless OTEL_EXPORTER_OTLP_TIMEOUT
/// sets another.
const EXPORT_MAX: Duration = Duration::from_secs(10);
/// The time between two lines about a collector that accepts nothing.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Counts of spans that left the shards.
#[derive(Debug, Default)]
pub struct Tally {
    exported: AtomicU64,
    failed: AtomicU64,
    failing: AtomicBool,
}

impl Tally {
    /// How many spans the collector has accepted.
    pub fn exported(&self) -> u64 {
        self.exported.load(Relaxed)
    }

    /// How many spans were lost because it did not. Those that shards had no room for are counted
    /// there (`spans_dropped`).
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Whether the last batch was not accepted.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }
}

pub struct Exporter {
    setting: Setting,
    sources: Vec<SpanSource>,
    queue: VecDeque<Span>,
    /// Since when the oldest of them waits.
    waiting: Option<Instant>,
    otlp: SpanExporter,
    scope: InstrumentationScope,
    tally: Arc<Tally>,
    reported_at: Option<Instant>,
    /// Spans lost since the last line about it.
    lost: u64,
}

impl Exporter {
    /// An exporter to the endpoint of the setting. Its other options are the OTEL_* variables of
    /// the environment.
    ///
    /// # Errors
    /// Why the client cannot be made, or what is wrong with the variables.
    pub fn new(
        setting: Setting,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Exporter, String> {
        let timeout = timeout(variable);
        let client = reqwest::Client::builder()
            .user_agent(PRODUCT)
            .redirect(Policy::none())
            .connect_timeout(CONNECT_MAX)
            .timeout(timeout)
            .build()
            .map_err(|error| format!("traces cannot be exported: {error}"))?;
        let mut otlp = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(timeout)
            .with_endpoint(&setting.url)
            .build()
            .map_err(|error| format!("traces cannot be exported: {error}"))?;
        otlp.set_resource(&resource());
        Ok(Exporter {
            setting,
            sources: Vec::new(),
            queue: VecDeque::new(),
            waiting: None,
            otlp,
            scope: scope(),
            tally: Arc::default(),
            reported_at: None,
            lost: 0,
        })
    }

    pub fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    /// What one more shard needs to trace.
    pub fn tracing(&mut self) -> Tracing {
        let (spans, source) = channel(SPANS_MAX);
        self.sources.push(source);
        Tracing {
            sample_ratio: self.setting.sample_ratio,
            spans,
        }
    }

    /// Exports until the other end of `stop` is dropped, then exports what is left and drops
    /// `done`. Never returns.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>, done: oneshot::Sender<()>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // An error means the same: the other end is dropped.
                _ = &mut stop => break,
                _ = ticks.tick() => {}
            }
            self.collect();
            let waited = self
                .waiting
                .is_some_and(|since| since.elapsed() >= WAIT_MAX);
            if self.queue.len() >= BATCH_SPANS || waited {
                self.export().await;
            }
        }
        self.collect();
        while !self.queue.is_empty() {
            self.export().await;
            self.collect();
        }
        drop(done);
        std::future::pending().await
    }

    fn collect(&mut self) {
        for source in &mut self.sources {
            while self.queue.len() < QUEUE_SPANS
                && let Some(span) = source.take()
            {
                self.queue.push_back(span);
            }
        }
        if self.waiting.is_none() && !self.queue.is_empty() {
            self.waiting = Some(Instant::now());
        }
    }

    /// Exports the oldest batch.
    async fn export(&mut self) {
        let anchor = Anchor::now();
        let count = self.queue.len().min(BATCH_SPANS);
        let spans = self.queue.drain(..count);
        let batch = spans.map(|span| span_data(span, &anchor, &self.scope));
        let batch = batch.collect();
        self.waiting = (!self.queue.is_empty()).then(Instant::now);
        let exported = self.otlp.export(batch).await;
        let count = count as u64;
        match exported {
            Ok(()) => {
                self.tally.exported.fetch_add(count, Relaxed);
                self.tell_recovered();
            }
            Err(error) => {
                self.tally.failed.fetch_add(count, Relaxed);
                self.lost += count;
                self.tell_failed(&error.to_string());
            }
        }
    }

    fn tell_failed(&mut self, error: &str) {
        self.tally.failing.store(true, Relaxed);
        if self
            .reported_at
            .is_some_and(|at| at.elapsed() < REPORT_EVERY)
        {
            return;
        }
        self.reported_at = Some(Instant::now());
        tracing::warn!(
            lost = std::mem::take(&mut self.lost),
            "the collector at {} accepts no spans: {error}; check that it runs and accepts OTLP \
             over HTTP there",
            self.setting.name
        );
    }

    fn tell_recovered(&mut self) {
        if self.tally.failing.swap(false, Relaxed) {
            self.reported_at = None;
            tracing::info!(
                lost = std::mem::take(&mut self.lost),
                "the collector at {} accepts spans again",
                self.setting.name
            );
        }
    }
}

/// The resource that the spans belong to: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, else
/// `ringmail`.
fn resource() -> Resource {
    let found = Resource::builder().build();
    let name = found.get(&"service.name".into());
    let is_named = name.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let mut builder = Resource::builder();
    if !is_named {
        builder = builder.with_service_name("ringmail");
    }
    if found.get(&"service.version".into()).is_none() {
        let version = env!("CARGO_PKG_VERSION");
        builder = builder.with_attribute(KeyValue::new("service.version", version));
    }
    builder.build()
}

/// Milliseconds, as the specification has them; other values are ignored.
fn timeout(variable: impl Fn(&str) -> Option<String>) -> Duration {
    let names = [
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
    ];
    let said = names.iter().find_map(|name| variable(name)?.parse().ok());
    said.map_or(EXPORT_MAX, |ms: u32| {
        Duration::from_millis(u64::from(ms).max(1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_the_more_special_of_those_that_are_numbers() {
        let of = |special: &'static str, general: &'static str| {
            timeout(|name| {
                let value = match name.contains("TRACES") {
                    true => special,
                    false => general,
                };
                (!value.is_empty()).then(|| value.to_owned())
            })
        };
        assert_eq!(of("", ""), EXPORT_MAX);
        assert_eq!(of("5", "7"), Duration::from_millis(5));
        assert_eq!(of("soon", "7"), Duration::from_millis(7));
        assert_eq!(of("0", ""), Duration::from_millis(1));
    }
}
