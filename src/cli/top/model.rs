//! Turns answers into what is shown: rates come from two samples, the rest from one. Pure.
//!
//! The server counts since its start. The time between two answers comes from its own uptime, so
//! neither this machine's clock nor a slow answer distorts a rate; if the uptime went back, or
//! the process changed, the server was restarted and there is no rate yet.

use super::answer::{Connection, Percentiles, Sample, Shard, Status, Sums, Timings};
use super::table::{Column, Sort, Table};
use super::value::Value;
use serde_json::json;
use std::collections::HashMap;

/// The tables, in the order of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Shards,
    Latency,
    Connections,
    Topics,
    Slow,
}

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::Shards,
        Kind::Latency,
        Kind::Connections,
        Kind::Topics,
        Kind::Slow,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Kind::Shards => "Shards",
            Kind::Latency => "Latency",
            Kind::Connections => "Connections",
            Kind::Topics => "Topics",
            Kind::Slow => "Slow consumers",
        }
    }

    /// In JSON.
    pub fn key(self) -> &'static str {
        match self {
            Kind::Shards => "shards",
            Kind::Latency => "latency",
            Kind::Connections => "connections",
            Kind::Topics => "topics",
            Kind::Slow => "slow_consumers",
        }
    }

    /// The default sort order: the most interesting rows first.
    pub fn sort(self) -> Sort {
        let by = |column, descending| Sort { column, descending };
        match self {
            Kind::Shards => by(0, false),
            // The order of a message's stages, which no column has.
            Kind::Latency => by(usize::MAX, false),
            Kind::Connections => by(QUEUED, true),
            Kind::Topics => by(1, true),
            Kind::Slow => by(2, true),
        }
    }
}

const SHARDS: &[Column] = &[
    Column::new("shard", "SHARD", 0),
    Column::new("core", "CORE", 6),
    Column::new("connections", "CONNS", 0),
    Column::new("messages_in_per_s", "IN/s", 0),
    Column::new("messages_out_per_s", "OUT/s", 0),
    Column::new("bytes_in_per_s", "IN B/s", 2),
    Column::new("bytes_out_per_s", "OUT B/s", 2),
    Column::new("turn_p50_us", "TURN p50", 5),
    Column::new("turn_p99_us", "TURN p99", 0),
    Column::new("timer_late_p99_us", "TIMER p99", 3),
    Column::new("mesh_batches", "MESH", 1),
    Column::new("memory_lent_bytes", "LENT", 1),
    Column::new("memory_share", "OF MAX", 4),
];

const LATENCY: &[Column] = &[
    Column::elastic("timing", "TIMING", 0),
    Column::new("count", "COUNT", 1),
    Column::new("p50_us", "p50", 0),
    Column::new("p90_us", "p90", 2),
    Column::new("p99_us", "p99", 0),
    Column::new("p999_us", "p99.9", 1),
    Column::new("max_us", "MAX", 0),
];

/// The column of [`CONNECTIONS`] that marks slow connections.
const QUEUED: usize = 7;
const CONNECTIONS: &[Column] = &[
    Column::elastic("client_id", "CLIENT", 0),
    Column::elastic("principal", "PRINCIPAL", 1),
    Column::elastic("address", "ADDRESS", 2),
    Column::new("shard", "SHARD", 5),
    Column::new("age_s", "AGE", 3),
    Column::new("messages_in_per_s", "IN/s", 0),
    Column::new("messages_out_per_s", "OUT/s", 0),
    Column::new("queued_bytes", "QUEUED", 0),
    Column::new("oldest_queued_us", "OLDEST", 1),
    Column::new("round_trip_us", "RTT", 2),
    Column::new("messages_in", "IN", 6),
    Column::new("messages_out", "OUT", 6),
    Column::new("state", "STATE", 7),
    Column::new("id", "ID", 7),
];

const TOPICS: &[Column] = &[
    Column::elastic("topic", "TOPIC", 0),
    Column::new("messages", "MESSAGES", 0),
    Column::new("messages_per_s", "PER s", 0),
    Column::new("share", "OF ALL", 1),
    Column::new("error", "AT MOST LESS", 2),
];

const SLOW: &[Column] = &[
    Column::elastic("action", "ACTION", 0),
    Column::new("per_s", "PER s", 0),
    Column::new("total", "SINCE START", 0),
];

/// Actions against slow consumers: a shard's counter, the policy, what it did.
const SLOW_COUNTERS: [(&str, &str); 3] = [
    ("slow_dropped_oldest", "drop-oldest: messages dropped"),
    ("slow_dropped_newest", "drop-newest: messages dropped"),
    ("slow_replaced", "latest-per-key: messages replaced"),
];
const SLOW_CLOSED: (&str, &str) = ("slow_consumer", "disconnect: connections closed");

/// A column as the server's `sort` names it.
pub fn server_sort(column: usize) -> Option<&'static str> {
    Some(match CONNECTIONS.get(column)?.key {
        "queued_bytes" => "queued",
        "age_s" => "age",
        "messages_in" | "messages_in_per_s" => "in",
        "messages_out" | "messages_out_per_s" => "out",
        "oldest_queued_us" => "oldest",
        "round_trip_us" => "round_trip",
        "id" => "id",
        _ => return None,
    })
}

/// The header above the tables.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub version: String,
    pub pid: u64,
    pub uptime_s: f64,
    pub draining: bool,
    pub connections: u64,
    /// Rates per second of the whole server; absent until there are two samples.
    pub messages_in: Option<f64>,
    pub messages_out: Option<f64>,
    pub bytes_in: Option<f64>,
    pub bytes_out: Option<f64>,
}

impl Summary {
    pub fn to_json(&self) -> serde_json::Value {
        let rate = |rate: Option<f64>| Value::of(rate, Value::Rate).to_json();
        json!({
            "version": self.version,
            "pid": self.pid,
            "uptime_s": self.uptime_s,
            "draining": self.draining,
            "connections": self.connections,
            "messages_in_per_s": rate(self.messages_in),
            "messages_out_per_s": rate(self.messages_out),
            "bytes_in_per_s": rate(self.bytes_in),
            "bytes_out_per_s": rate(self.bytes_out),
        })
    }
}

/// Everything to show.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub summary: Summary,
    tables: [Table; 5],
}

impl Model {
    pub fn new(before: Option<&Sample>, now: &Sample) -> Model {
        let span = before.and_then(|before| Span::new(before, now));
        let span = span.as_ref();
        Model {
            summary: summary(span, &now.status),
            tables: [
                shards(span, &now.status),
                latency(&now.status),
                connections(span, now),
                topics(span, now),
                slow(span, &now.status),
            ],
        }
    }

    pub fn table(&self, kind: Kind) -> &Table {
        &self.tables[kind as usize]
    }
}

/// The time between two samples of one process.
struct Span<'a> {
    seconds: f64,
    before: &'a Sample,
}

impl Span<'_> {
    fn new<'a>(before: &'a Sample, now: &Sample) -> Option<Span<'a>> {
        let seconds = now.status.uptime_s - before.status.uptime_s;
        let same = before.status.pid == now.status.pid;
        (same && seconds > 0.0).then_some(Span { seconds, before })
    }

    fn rate(&self, before: u64, now: u64) -> f64 {
        now.saturating_sub(before) as f64 / self.seconds
    }
}

fn count(sums: &Sums, name: &str) -> u64 {
    sums.get(name).copied().unwrap_or_default()
}

/// Messages for applications put into the outboxes of clients, as `/metrics` counts them.
fn sent(sums: &Sums) -> u64 {
    let kinds = ["deliveries", "requests_forwarded", "responses"];
    kinds.iter().map(|kind| count(sums, kind)).sum()
}

fn received(sums: &Sums) -> u64 {
    count(sums, "messages_received")
}

fn bytes_received(sums: &Sums) -> u64 {
    count(sums, "bytes_received")
}

fn bytes_sent(sums: &Sums) -> u64 {
    count(sums, "bytes_sent")
}

fn summary(span: Option<&Span<'_>>, status: &Status) -> Summary {
    let rate = |of: fn(&Sums) -> u64| {
        let sum = |status: &Status| status.shards.iter().map(|shard| of(&shard.counters)).sum();
        span.map(|span| span.rate(sum(&span.before.status), sum(status)))
    };
    Summary {
        version: status.version.clone(),
        pid: status.pid,
        uptime_s: status.uptime_s,
        draining: status.draining,
        connections: status.connections,
        messages_in: rate(received),
        messages_out: rate(sent),
        bytes_in: rate(bytes_received),
        bytes_out: rate(bytes_sent),
    }
}

fn shards(span: Option<&Span<'_>>, status: &Status) -> Table {
    let row = |shard: &Shard| {
        let before = span.and_then(|span| {
            let mut shards = span.before.status.shards.iter();
            Some((span, shards.find(|before| before.shard == shard.shard)?))
        });
        let rate = |of: fn(&Sums) -> u64| {
            before.map(|(span, before)| span.rate(of(&before.counters), of(&shard.counters)))
        };
        // A shard that was idle lately has no recent timings, and its old ones are not shown.
        let timing = |name: &str| {
            let timings = recent(&shard.recent_us, &shard.timings_us);
            timings.get(name).filter(|timing| timing.count > 0)
        };
        let gauge = |name: &str| shard.gauges.get(name).copied();
        let lent = gauge("memory_lent_bytes");
        let most = gauge("memory_max_bytes").filter(|most| *most > 0.0);
        let share = lent.zip(most).map(|(lent, most)| lent / most);
        vec![
            Value::Count(shard.shard),
            Value::of(shard.core, Value::Count),
            Value::Count(shard.connections),
            Value::of(rate(received), Value::Rate),
            Value::of(rate(sent), Value::Rate),
            Value::of(rate(bytes_received), Value::Bytes),
            Value::of(rate(bytes_sent), Value::Bytes),
            Value::of(timing("turn"), |timing| Value::Microseconds(timing.p50)),
            Value::of(timing("turn"), |timing| Value::Microseconds(timing.p99)),
            Value::of(timing("timer_late"), |timing| {
                Value::Microseconds(timing.p99)
            }),
            Value::of(gauge("mesh_batches"), |depth| Value::Count(depth as u64)),
            Value::of(lent, Value::Bytes),
            Value::of(share, Value::Share),
        ]
    };
    Table {
        columns: SHARDS,
        rows: status.shards.iter().map(row).collect(),
        ..Table::default()
    }
}

/// The recent timings or, from an older server, those since its start.
fn recent<'a>(recent: &'a Timings, since_start: &'a Timings) -> &'a Timings {
    match recent.is_empty() {
        true => since_start,
        false => recent,
    }
}

/// The names of timings in the order of a message's stages, then all others.
const WAY: [(&str, &str); 9] = [
    ("receive", "receive: arrival to handling"),
    ("parse", "parse"),
    ("route", "route: to outboxes and mesh"),
    ("queue", "queue: to the next send"),
    ("send", "send: until the kernel has it"),
    ("call", "call: request to late answer"),
    ("handshake", "handshake: accept to established"),
    ("turn", "turn of a shard"),
    ("timer_late", "timer: due to handled"),
];

fn latency(status: &Status) -> Table {
    let timings = recent(&status.recent_us, &status.timings_us);
    let known = WAY
        .iter()
        .filter_map(|(name, told)| Some((*told, timings.get(*name)?)));
    let other = timings.iter().map(|(name, timing)| (name.as_str(), timing));
    let other = other.filter(|(name, _)| WAY.iter().all(|(known, _)| known != name));
    let row = |(name, timing): (&str, &Percentiles)| {
        let us = |us| match timing.count {
            0 => Value::Absent,
            _ => Value::Microseconds(us),
        };
        vec![
            Value::text(name),
            Value::Count(timing.count),
            us(timing.p50),
            us(timing.p90),
            us(timing.p99),
            us(timing.p999),
            us(timing.max),
        ]
    };
    Table {
        columns: LATENCY,
        rows: known.chain(other).map(row).collect(),
        note: timings.is_empty().then_some("nothing timed yet"),
        ..Table::default()
    }
}

fn connections(span: Option<&Span<'_>>, now: &Sample) -> Table {
    let Some(answer) = &now.connections else {
        return Table {
            columns: CONNECTIONS,
            note: Some("this server does not list its connections"),
            ..Table::default()
        };
    };
    let before = span.and_then(|span| span.before.connections.as_ref());
    let before = before.map_or(&[][..], |before| &before.connections);
    let before: HashMap<&str, &Connection> =
        before.iter().map(|one| (one.id.as_str(), one)).collect();
    let row = |one: &Connection| {
        let before = span.zip(before.get(one.id.as_str()));
        let rate = |of: fn(&Connection) -> u64| {
            let rate = before.map(|(span, before)| span.rate(of(before), of(one)));
            Value::of(rate, Value::Rate)
        };
        let text = |text: &Option<String>| Value::of(text.clone(), Value::Text);
        let oldest_us = (one.queued_bytes > 0).then_some(one.oldest_queued_ms * 1e3);
        vec![
            text(&one.client_id),
            text(&one.principal),
            Value::text(one.address.clone()),
            Value::Count(one.shard),
            Value::Seconds(one.age_s),
            rate(|one| one.messages_in),
            rate(|one| one.messages_out),
            Value::Bytes(one.queued_bytes as f64),
            Value::of(oldest_us, Value::Microseconds),
            Value::of(one.round_trip_us, Value::Microseconds),
            Value::Count(one.messages_in),
            Value::Count(one.messages_out),
            Value::text(one.state.clone()),
            Value::text(one.id.clone()),
        ]
    };
    Table {
        columns: CONNECTIONS,
        rows: answer.connections.iter().map(row).collect(),
        note: answer.connections.is_empty().then_some("no connections"),
        total: Some(answer.total),
    }
}

fn topics(span: Option<&Span<'_>>, now: &Sample) -> Table {
    let Some(answer) = &now.topics else {
        return Table {
            columns: TOPICS,
            note: Some("this server does not list its topics"),
            ..Table::default()
        };
    };
    let before = span.and_then(|span| Some((span, span.before.topics.as_ref()?)));
    let rows = answer.topics.iter().map(|one| {
        let rate = before.and_then(|(span, before)| {
            let mut topics = before.topics.iter();
            let before = topics.find(|before| before.topic == one.topic)?;
            Some(span.rate(before.messages, one.messages))
        });
        let share = one.messages as f64 / answer.messages.max(1) as f64;
        vec![
            Value::text(one.topic.clone()),
            Value::Count(one.messages),
            Value::of(rate, Value::Rate),
            Value::Share(share.min(1.0)),
            Value::Count(one.error),
        ]
    });
    Table {
        columns: TOPICS,
        rows: rows.collect(),
        note: answer.topics.is_empty().then_some("nothing published yet"),
        ..Table::default()
    }
}

fn slow(span: Option<&Span<'_>>, status: &Status) -> Table {
    let row = |told: &str, of: &dyn Fn(&Status) -> u64| {
        let rate = span.map(|span| span.rate(of(&span.before.status), of(status)));
        vec![
            Value::text(told),
            Value::of(rate, Value::Rate),
            Value::Count(of(status)),
        ]
    };
    let counted = SLOW_COUNTERS.iter().map(|(name, told)| {
        let sum = |status: &Status| {
            let counts = status
                .shards
                .iter()
                .map(|shard| count(&shard.counters, name));
            counts.sum()
        };
        row(told, &sum)
    });
    let closed = row(SLOW_CLOSED.1, &|status| {
        count(&status.closed, SLOW_CLOSED.0)
    });
    Table {
        columns: SLOW,
        rows: std::iter::once(closed).chain(counted).collect(),
        ..Table::default()
    }
}

#[cfg(test)]
pub(super) mod tests;
