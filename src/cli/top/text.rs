//! `--once`: everything as plain text, or as one JSON object.

use super::model::{Kind, Model};
use super::value::Value;
use serde_json::{Value as Json, json};

/// Rows of a table in plain text.
const ROWS_MAX: usize = 20;

/// One object; tables are lists of objects, in the order they are worth looking at.
pub fn json(address: &str, model: &Model) -> String {
    let mut object = json!({ "address": address, "server": model.summary.to_json() });
    for kind in Kind::ALL {
        let table = model.table(kind);
        let rows = table.selected("", kind.sort());
        // What the server does not report is left out, rather than an empty list.
        object[kind.key()] = match (table.note, rows.is_empty() && table.total.is_none()) {
            (Some(note), true) if note.starts_with("this server") => Json::Null,
            _ => table.to_json(&rows),
        };
    }
    format!("{object}\n")
}

/// The same for people.
pub fn plain(address: &str, model: &Model) -> String {
    let summary = &model.summary;
    let rate = |rate: Option<f64>| Value::of(rate, Value::Rate);
    let bytes = |rate: Option<f64>| Value::of(rate, Value::Bytes);
    let mut text = format!(
        "ringmail {} at {address}, pid {}, up {}, {}\n{} connections; in {} msg/s, {}/s; out {} msg/s, {}/s\n",
        Value::text(summary.version.clone()),
        summary.pid,
        Value::Seconds(summary.uptime_s),
        match summary.draining {
            true => "draining",
            false => "serving",
        },
        Value::Count(summary.connections),
        rate(summary.messages_in),
        bytes(summary.bytes_in),
        rate(summary.messages_out),
        bytes(summary.bytes_out),
    );
    for kind in Kind::ALL {
        text.push_str(&format!("\n{}\n", kind.title()));
        text.push_str(&table(model, kind));
    }
    text
}

fn table(model: &Model, kind: Kind) -> String {
    let table = model.table(kind);
    let rows = table.selected("", kind.sort());
    if let Some(note) = table.note {
        return format!("  {note}\n");
    }
    let shown = rows.iter().take(ROWS_MAX);
    let fields = shown.map(|row| row.iter().map(Value::to_string).collect::<Vec<_>>());
    let headings = table.columns.iter().map(|column| column.heading.to_owned());
    let lines: Vec<Vec<String>> = std::iter::once(headings.collect()).chain(fields).collect();
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        for ((field, column), width) in line.iter().zip(table.columns).zip(&widths) {
            text.push_str("  ");
            match column.elastic {
                true => text.push_str(&format!("{field:<width$}")),
                false => text.push_str(&format!("{field:>width$}")),
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    if rows.len() > ROWS_MAX {
        text.push_str(&format!("  and {} more\n", rows.len() - ROWS_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::answer::Sample;
    use super::super::model::tests::sample;
    use super::*;

    #[test]
    fn one_object_has_every_table_and_null_for_what_is_not_reported() {
        let model = Model::new(Some(&sample(1.0, 0)), &sample(2.0, 100));
        let all: Json = serde_json::from_str(&json("localhost:7412", &model)).unwrap();
        assert_eq!(all["server"]["messages_in_per_s"], 200.0);
        assert_eq!(all["shards"][1]["messages_in_per_s"], 100.0);
        assert_eq!(all["connections"][0]["client_id"], "slow-one");
        assert_eq!(all["topics"][0]["topic"], "site/7/door");
        assert_eq!(all["slow_consumers"].as_array().unwrap().len(), 4);
        let older = Sample {
            connections: None,
            topics: None,
            ..sample(2.0, 100)
        };
        let model = Model::new(None, &older);
        let all: Json = serde_json::from_str(&json("x", &model)).unwrap();
        assert!(all["connections"].is_null() && all["topics"].is_null());
        assert!(all["server"]["messages_in_per_s"].is_null());
    }

    #[test]
    fn plain_text_has_its_columns_in_line() {
        let model = Model::new(Some(&sample(1.0, 0)), &sample(2.0, 100));
        let text = plain("localhost:7412", &model);
        assert!(text.starts_with("ringmail 1.2.3 at localhost:7412, pid 77, up 2 s, serving\n"));
        let lines: Vec<&str> = text.lines().collect();
        let shards = lines.iter().position(|line| *line == "Shards").unwrap();
        let end = |line: &str, word: &str| line.find(word).unwrap() + word.len();
        assert_eq!(end(lines[shards + 1], "CORE"), end(lines[shards + 3], "3"));
        assert!(text.contains("slow-one"));
        assert!(!text.contains('\u{1b}'));
    }
}
