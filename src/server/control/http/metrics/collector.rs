//! Reads the board and writes it: the tables of `family`, and the metrics that are in none.

use super::bucket::Buckets;
use super::family::{COUNTERS, CounterFamily, GAUGES, SLOW_ACTIONS, TIMINGS, TimingFamily};
use super::process::Process;
use crate::base::reason::Reason;
use crate::metrics::counter::{Counter, Counters};
use crate::proto::message::MessageType;
use crate::server::control::http::admin::Admin;
use crate::server::control::revocations::RevocationRegistry;
use crate::server::log;
use crate::server::trace::Tally;
use prometheus_client::collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(super) struct Collector {
    admin: Arc<Admin>,
    /// The number of each shard, as a label.
    shards: Vec<String>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl collector::Collector for Collector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out { encoder };
        self.write_server(&mut out)?;
        self.write_connections(&mut out)?;
        self.write_tables(&mut out)?;
        self.write_timings(&mut out)?;
        write_process(&mut out)
    }
}

impl Collector {
    pub(super) fn new(admin: Arc<Admin>) -> Collector {
        let shards = 0..admin.board.counters().len();
        Collector {
            shards: shards.map(|shard| shard.to_string()).collect(),
            admin,
        }
    }

    fn sum(&self, of: impl Fn(&Counters) -> u64) -> u64 {
        self.admin.board.counters().iter().map(|one| of(one)).sum()
    }

    fn write_server(&self, out: &mut Out<'_>) -> fmt::Result {
        let admin = &self.admin;
        let help = "Always 1; the labels identify this ringmail.";
        let version = [("version", env!("CARGO_PKG_VERSION")), ("protocol", "1")];
        out.gauge("ringmail_build_info", help, None)?
            .encode_family(&version)?
            .encode_gauge(&1u64)?;
        let help = "1 once a drain has begun, 0 before.";
        let draining = u64::from(admin.draining.load(Relaxed));
        out.gauge("ringmail_draining", help, None)?
            .encode_gauge(&draining)?;
        let help = "Memory that all shards together may take, as logged at the start.";
        out.gauge("ringmail_memory_budget", help, Some(&Unit::Bytes))?
            .encode_gauge(&admin.host.memory_budget_bytes)?;
        let help = "Log lines lost because the log's target was slow or full.";
        out.counter("ringmail_log_lines_dropped", help, None)?
            .encode_counter::<NoLabelSet, _, u64>(&log::lines_dropped(), None)?;
        let help = "Spans sent to the collector, by outcome.";
        let mut spans = out.counter("ringmail_spans_exported", help, None)?;
        let of = |read: fn(&Tally) -> u64| admin.traces.as_deref().map_or(0, read);
        count_in(&mut spans, &[("result", "taken")], of(Tally::exported))?;
        count_in(&mut spans, &[("result", "failed")], of(Tally::failed))?;
        let help = "1 while refresh tokens and revocations cannot be written to disk, otherwise 0.";
        let state = admin.registry.as_deref();
        let failing = u64::from(state.is_some_and(|registry| registry.failure().is_some()));
        out.gauge("ringmail_state_failing", help, None)?
            .encode_gauge(&failing)?;
        let help = "Times that writing the state failed, attempts to recover included.";
        let failures = state.map_or(0, RevocationRegistry::failures);
        out.counter("ringmail_state_failures", help, None)?
            .encode_counter::<NoLabelSet, _, u64>(&failures, None)?;
        let help = "Requests that the admin address refused, by reason: wrong credential, too \
                    many wrong credentials, cross-origin, no capacity left except for health \
                    checks.";
        let mut refused = out.counter("ringmail_admin_requests_refused", help, None)?;
        for (reason, count) in admin.guard.counts() {
            count_in(&mut refused, &[("reason", reason)], count)?;
        }
        if let Some(expires) = &admin.host.certificate_expires {
            let help = "When the first certificate of the chain in force expires, in Unix time.";
            out.gauge(
                "ringmail_certificate_expiry_timestamp",
                help,
                Some(&Unit::Seconds),
            )?
            .encode_gauge(&expires.load(Relaxed))?;
        }
        Ok(())
    }

    fn write_connections(&self, out: &mut Out<'_>) -> fmt::Result {
        let counters = self.admin.board.counters();
        let mut open = out.gauge("ringmail_connections", "Connections open now.", None)?;
        for (shard, one) in self.shards.iter().zip(counters) {
            open.encode_family(&[("shard", shard)])?
                .encode_gauge(&one.open())?;
        }
        let help = "Connections that ended, by reason.";
        let mut closed = out.counter("ringmail_connections_closed", help, None)?;
        for &reason in Reason::ALL {
            let count = self.sum(|one| one.read_closed(reason));
            count_in(&mut closed, &[("reason", reason.label())], count)?;
        }
        let help = "Messages received from clients, by type. Types never received are left out.";
        let mut received = out.counter("ringmail_messages_received", help, None)?;
        for (shard, one) in self.shards.iter().zip(counters) {
            for &kind in MessageType::ALL {
                let count = one.read_received(kind);
                if count > 0 {
                    count_in(
                        &mut received,
                        &[("shard", shard), ("type", kind.name())],
                        count,
                    )?;
                }
            }
        }
        let help = "Current subscriptions.";
        let ended = self.sum(|one| one.read(Counter::Unsubscribed));
        let made = self.sum(|one| one.read(Counter::Subscribed));
        out.gauge("ringmail_subscriptions", help, None)?
            .encode_gauge(&made.saturating_sub(ended))?;
        let help = "Actions taken on subscribers that do not keep up: publications dropped or \
                    replaced, connections ended (disconnect).";
        let mut slow = out.counter("ringmail_slow_consumer_actions", help, None)?;
        for &(action, counter) in SLOW_ACTIONS {
            count_in(
                &mut slow,
                &[("action", action)],
                self.sum(|one| one.read(counter)),
            )?;
        }
        let ended = self.sum(|one| one.read_closed(Reason::SlowConsumer));
        count_in(&mut slow, &[("action", "disconnect")], ended)
    }

    fn write_tables(&self, out: &mut Out<'_>) -> fmt::Result {
        let counters = self.admin.board.counters();
        for family in COUNTERS {
            let mut metric = out.counter(family.name, family.help, unit(family.is_bytes))?;
            for part in family.parts {
                self.write_part(&mut metric, family, *part)?;
            }
        }
        for family in GAUGES {
            let mut metric = out.gauge(family.name, family.help, unit(family.is_bytes))?;
            for (shard, one) in self.shards.iter().zip(counters) {
                let value = one.gauges.read(family.gauge);
                metric
                    .encode_family(&[("shard", shard)])?
                    .encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn write_part(
        &self,
        metric: &mut MetricEncoder<'_>,
        family: &CounterFamily,
        (part, counter): (&str, Counter),
    ) -> fmt::Result {
        let label = (family.label, part);
        if !family.by_shard {
            let count = self.sum(|one| one.read(counter));
            return match family.label {
                "" => metric.encode_counter::<NoLabelSet, _, u64>(&count, None),
                _ => count_in(metric, &[label], count),
            };
        }
        for (shard, one) in self.shards.iter().zip(self.admin.board.counters()) {
            let shard = ("shard", shard.as_str());
            match family.label {
                "" => count_in(metric, &[shard], one.read(counter))?,
                _ => count_in(metric, &[shard, label], one.read(counter))?,
            }
        }
        Ok(())
    }

    fn write_timings(&self, out: &mut Out<'_>) -> fmt::Result {
        let timings = self.admin.board.timings();
        for family in TIMINGS {
            let TimingFamily {
                name,
                help,
                by_shard,
                label,
                parts,
            } = family;
            let mut metric = out.histogram(name, help)?;
            for &(part, timing) in *parts {
                if !by_shard {
                    let Buckets {
                        sum,
                        count,
                        buckets,
                    } = Buckets::of(timings.all.total.of(timing));
                    metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                    continue;
                }
                for (shard, span) in self.shards.iter().zip(&timings.shards) {
                    let Buckets {
                        sum,
                        count,
                        buckets,
                    } = Buckets::of(span.total.of(timing));
                    let (shard, stage) = (("shard", shard.as_str()), (*label, part));
                    let labels = [shard, stage];
                    let labels = if label.is_empty() {
                        &labels[..1]
                    } else {
                        &labels
                    };
                    metric
                        .encode_family(&labels)?
                        .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                }
            }
        }
        let help = "When the server started, in Unix time.";
        out.gauge("process_start_time", help, Some(&Unit::Seconds))?
            .encode_gauge(&self.admin.host.started_at)
    }
}

fn write_process(out: &mut Out<'_>) -> fmt::Result {
    let help = "CPU time that the process has used.";
    out.counter("process_cpu", help, Some(&Unit::Seconds))?
        .encode_counter::<NoLabelSet, _, u64>(&Process::cpu().as_secs_f64(), None)?;
    let process = Process::read();
    let bytes = Some(&Unit::Bytes);
    let figures = [
        (
            "process_resident_memory",
            "Resident memory of the process.",
            bytes,
            process.resident_bytes,
        ),
        (
            "process_open_fds",
            "File descriptors that the process has open.",
            None,
            process.descriptors,
        ),
        (
            "process_max_fds",
            "File descriptors that the process may have open.",
            None,
            process.descriptors_max,
        ),
        (
            "process_threads",
            "Threads of the process.",
            None,
            process.threads,
        ),
    ];
    for (name, help, unit, figure) in figures {
        if let Some(figure) = figure {
            out.gauge(name, help, unit)?.encode_gauge(&figure)?;
        }
    }
    Ok(())
}

fn unit(is_bytes: bool) -> Option<&'static Unit> {
    is_bytes.then_some(&Unit::Bytes)
}

fn count_in(metric: &mut MetricEncoder<'_>, labels: &[(&str, &str)], count: u64) -> fmt::Result {
    metric
        .encode_family(&labels)?
        .encode_counter::<NoLabelSet, _, u64>(&count, None)
}

/// Where metrics are written.
struct Out<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Out<'_> {
    fn gauge<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder
            .encode_descriptor(name, help, unit, MetricType::Gauge)
    }

    fn counter<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder
            .encode_descriptor(name, help, unit, MetricType::Counter)
    }

    /// A histogram in seconds.
    fn histogram<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder
            .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)
    }
}
