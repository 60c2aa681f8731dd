//! Answers as a server gives them, and what is made of them.

use super::*;
use serde_json::json;

/// A server of two shards that has run for `uptime_s` and taken `messages` on each.
pub fn sample(uptime_s: f64, messages: u64) -> Sample {
    let timing =
        json!({"count": 9, "p50": 12.5, "p90": 20.0, "p99": 99.0, "p999": 150.0, "max": 1234.0});
    let shard = |shard: u64| {
        json!({
            "shard": shard, "core": shard + 2, "connections": 3 + shard,
            "counters": {
                "messages_received": messages, "bytes_received": messages * 100,
                "deliveries": messages * 2, "requests": 0, "bytes_sent": messages * 200,
                "slow_dropped_oldest": messages / 10,
            },
            "gauges": {"mesh_batches": 4, "memory_lent_bytes": 1 << 20, "memory_max_bytes": 4 << 20},
            "timings_us": {}, "recent_us": {"turn": timing, "timer_late": timing},
        })
    };
    let status = json!({
        "version": "1.2.3", "pid": 77, "uptime_s": uptime_s, "draining": false, "connections": 7,
        "shards": [shard(0), shard(1)], "closed": {"slow_consumer": 5},
        "timings_us": {}, "recent_us": {"turn": timing, "send": timing, "receive": timing, "new": timing},
        "something_new": [1, 2],
    });
    let connection = |id: &str, client: &str, queued: u64| {
        json!({
            "id": id, "shard": 0, "address": "192.0.2.7:40000", "principal": null,
            "client_id": client, "age_s": 61.5, "messages_in": messages, "bytes_in": 1,
            "messages_out": messages / 2, "bytes_out": 1, "queued_bytes": queued,
            "oldest_queued_ms": 250, "round_trip_us": null, "session": false,
            "state": "established",
        })
    };
    let connections = json!({
        "total": 7,
        "connections": [
            connection("0-1-1", "quick", 0), connection("0-2-1", "slow-one", 300_000),
            connection("0-3-1", "idle", 10),
        ],
    });
    let topics = json!({
        "topics": [
            {"topic": "site/7/door", "messages": messages, "error": 3},
            {"topic": "site/8/<img src=x>", "messages": messages / 4, "error": 0},
        ],
        "messages": messages * 2, "sampled": 16,
    });
    Sample {
        status: serde_json::from_value(status).unwrap(),
        connections: Some(serde_json::from_value(connections).unwrap()),
        topics: Some(serde_json::from_value(topics).unwrap()),
    }
}

fn field<'a>(table: &'a Table, row: usize, key: &str) -> &'a Value {
    let column = table.columns.iter().position(|column| column.key == key);
    &table.rows[row][column.unwrap()]
}

#[test]
fn two_samples_make_rates_by_the_servers_own_clock() {
    let model = Model::new(Some(&sample(10.0, 1000)), &sample(12.0, 2000));
    let summary = &model.summary;
    assert_eq!(summary.messages_in, Some(1000.0));
    assert_eq!(summary.messages_out, Some(2000.0));
    assert_eq!(summary.bytes_in, Some(100_000.0));
    assert_eq!(summary.bytes_out, Some(200_000.0));
    let shards = model.table(Kind::Shards);
    assert_eq!(*field(shards, 1, "messages_in_per_s"), Value::Rate(500.0));
    assert_eq!(*field(shards, 1, "core"), Value::Count(3));
    assert_eq!(*field(shards, 0, "memory_share"), Value::Share(0.25));
    assert_eq!(*field(shards, 0, "turn_p99_us"), Value::Microseconds(99.0));
    let connections = model.table(Kind::Connections);
    assert_eq!(
        *field(connections, 1, "messages_in_per_s"),
        Value::Rate(500.0)
    );
    assert_eq!(
        *field(connections, 1, "oldest_queued_us"),
        Value::Microseconds(250_000.0)
    );
    assert_eq!(*field(connections, 1, "principal"), Value::Absent);
    assert_eq!(connections.total, Some(7));
    let topics = model.table(Kind::Topics);
    assert_eq!(*field(topics, 0, "messages_per_s"), Value::Rate(500.0));
    assert_eq!(*field(topics, 0, "share"), Value::Share(0.5));
    let slow = model.table(Kind::Slow);
    assert_eq!(*field(slow, 0, "total"), Value::Count(5));
    assert_eq!(*field(slow, 1, "per_s"), Value::Rate(100.0));
    assert_eq!(*field(slow, 1, "total"), Value::Count(400));
}

#[test]
fn one_sample_or_a_server_started_again_has_no_rates() {
    let mut other = sample(12.0, 2000);
    other.status.pid = 78;
    for (before, now) in [
        (None, sample(10.0, 1000)),
        (Some(sample(10.0, 1000)), sample(1.0, 5)),
        (Some(sample(10.0, 1000)), other),
    ] {
        let model = Model::new(before.as_ref(), &now);
        assert_eq!(model.summary.messages_in, None);
        let shards = model.table(Kind::Shards);
        assert_eq!(*field(shards, 0, "messages_in_per_s"), Value::Absent);
        assert_eq!(*field(shards, 0, "connections"), Value::Count(3));
        assert_eq!(
            *field(model.table(Kind::Topics), 0, "messages_per_s"),
            Value::Absent
        );
    }
}

#[test]
fn latencies_follow_a_messages_way_and_new_ones_come_last() {
    let model = Model::new(None, &sample(1.0, 1));
    let names = model
        .table(Kind::Latency)
        .rows
        .iter()
        .map(|row| row[0].to_string());
    let names: Vec<String> = names
        .map(|name| name.split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["receive", "send", "turn of a shard", "new"]);
}

#[test]
fn an_older_server_reports_less() {
    let status = r#"{"version": "0.0.9", "shards": [{"shard": 0, "counters": {}}]}"#;
    let now = Sample {
        status: serde_json::from_str(status).unwrap(),
        ..Sample::default()
    };
    let model = Model::new(Some(&now.clone()), &now);
    for kind in Kind::ALL {
        let table = model.table(kind);
        assert!(
            table
                .rows
                .iter()
                .all(|row| row.len() == table.columns.len())
        );
    }
    assert!(model.table(Kind::Connections).note.is_some());
    assert!(model.table(Kind::Topics).note.is_some());
    assert_eq!(*field(model.table(Kind::Shards), 0, "core"), Value::Absent);
}

#[test]
fn every_row_has_a_value_for_each_column() {
    let model = Model::new(Some(&sample(1.0, 1)), &sample(2.0, 9));
    for kind in Kind::ALL {
        let table = model.table(kind);
        assert!(!table.rows.is_empty());
        assert!(
            table
                .rows
                .iter()
                .all(|row| row.len() == table.columns.len()),
            "{kind:?}"
        );
    }
    assert_eq!(CONNECTIONS[QUEUED].key, "queued_bytes");
    assert_eq!(server_sort(QUEUED), Some("queued"));
    assert_eq!(server_sort(0), None);
}
