//! From an event to its line.
//!
//! ```text
//! {"timestamp":"2026-01-02T03:04:05.678901Z","level":"WARN","message":"…","target":"ringmail::broker::peers::slow","shard":1,"connection":"1-7-3",…}
//! 2026-01-02T03:04:05.678901Z  WARN ringmail::broker::peers::slow: … shard=1 connection=1-7-3
//! ```
//!
//! The thread determines the shard, unless the event names one (in a simulation all shards share
//! a thread). A peer's text cannot break a line, nor a terminal: control characters are escaped,
//! and it is cut at [`TEXT_BYTES_MAX`].

use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use tracing::Level;
use tracing::field::{Field, Visit};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Bytes of a text in a line.
const TEXT_BYTES_MAX: usize = 2048;

/// Approximate bytes that a line takes in the queue beside its text.
pub(super) const LINE_BYTES: usize = 64;

/// A line, with what the writer needs to know of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) level: Level,
    /// A hash, equal for lines that say the same.
    pub(super) same: u64,
    pub(super) text: String,
}

impl Line {
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + LINE_BYTES
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Json,
    Text { colour: bool },
}

/// The content of a line.
pub(super) struct Record {
    level: Level,
    target: String,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    Text(String),
    /// A number or a boolean, as JSON has them.
    Number(String),
}

impl Record {
    pub(super) fn new(level: Level, target: &str) -> Record {
        Record {
            level,
            target: target.to_owned(),
            message: String::new(),
            fields: Vec::new(),
        }
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.field(field).is_some()
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Adds the shard, before all other fields.
    pub(super) fn put_shard(&mut self, shard: u16) {
        let number = Value::Number(shard.to_string());
        self.fields.insert(0, ("shard", number));
    }

    pub(super) fn message(mut self, message: String) -> Record {
        self.message = message;
        self
    }

    fn field(&self, name: &str) -> Option<&Value> {
        let found = self.fields.iter().find(|(own, _)| *own == name);
        found.map(|(_, value)| value)
    }

    /// Hashes what makes lines of one place the same: their texts. Numbers are measurements and do
    /// not count.
    pub(super) fn hash_texts(&self, hasher: &mut impl Hasher) {
        (&self.target, &self.message).hash(hasher);
        for (name, value) in &self.fields {
            if let Value::Text(text) = value {
                (name, text).hash(hasher);
            }
        }
    }

    /// The line, without its newline.
    pub(super) fn written(&self, layout: Layout) -> String {
        match layout {
            Layout::Json => self.json(),
            Layout::Text { colour } => self.text(colour),
        }
    }

    fn json(&self) -> String {
        let mut line = format!("{{\"timestamp\":\"{}\",\"level\":\"{}\"", now(), self.level);
        let mut add = |name: &str, value: &Value| {
            let (name, value) = match value {
                Value::Text(text) => (quoted(name), quoted(text)),
                Value::Number(number) => (quoted(name), number.clone()),
            };
            let _ = write!(line, ",{name}:{value}");
        };
        add("message", &Value::Text(cut(&self.message).to_owned()));
        add("target", &Value::Text(self.target.clone()));
        for (name, value) in &self.fields {
            match *name {
                // A field must not be mistaken for one that every line has.
                "timestamp" | "level" | "target" => add(&format!("field.{name}"), value),
                _ => add(name, value),
            }
        }
        line.push('}');
        line
    }

    fn text(&self, colour: bool) -> String {
        let (dim, level, plain) = match (colour, self.level) {
            (false, _) => ("", "", ""),
            (true, Level::ERROR) => ("\x1b[2m", "\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[2m", "\x1b[33m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[2m", "\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[34m", "\x1b[0m"),
        };
        let message = Shown(cut(&self.message));
        let mut line = format!(
            "{dim}{}{plain} {level}{:>5}{plain} {dim}{}:{plain} {message}",
            now(),
            self.level,
            Shown(&self.target)
        );
        for (name, value) in &self.fields {
            let _ = match value {
                Value::Number(number) => write!(line, " {name}={number}"),
                Value::Text(text) if is_plain(text) => write!(line, " {name}={text}"),
                Value::Text(text) => write!(line, " {name}=\"{}\"", Shown(text)),
            };
        }
        line
    }

    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text)) => self.message = text,
            // Lines from the `log` crate carry their own target.
            ("log.target", Value::Text(text)) => self.target = text,
            ("log.module_path" | "log.file" | "log.line", _) => {}
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Record {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Number(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Number(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no number for what is not finite.
        let value = match value.is_finite() {
            true => Value::Number(value.to_string()),
            false => Value::Text(value.to_string()),
        };
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Number(value.to_string()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(cut(value).to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.add(field, Value::Text(cut(&text).to_owned()));
    }
}

/// The line, with the count of lines like it (including itself) that were not written.
pub(super) fn repeated(line: &str, count: u64, layout: Layout) -> String {
    match (layout, line.strip_suffix('}')) {
        (Layout::Json, Some(open)) => format!("{open},\"repeated\":{count}}}"),
        _ => format!("{line} repeated={count}"),
    }
}

/// RFC 3339, UTC, microseconds.
fn now() -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn quoted(text: &str) -> String {
    // A string can always be written.
    serde_json::to_string(text).unwrap_or_default()
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

fn is_plain(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "\"=\\".contains(c);
    !text.is_empty() && !text.contains(odd)
}

/// Text in which control characters are escaped, and whatever could be mistaken for an escape.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                _ if c.is_control() => write!(f, "{}", c.escape_default())?,
                // Bidirectional controls, which can make a line look like another.
                '\u{200E}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
                    write!(f, "{}", c.escape_unicode())?;
                }
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::DefaultHasher;

    fn record() -> Record {
        let mut record =
            Record::new(Level::WARN, "ringmail::x").message("a \"b\"\n\x1b[31m".into());
        record.fields = vec![
            ("shard", Value::Number("3".to_owned())),
            ("connection", Value::Text("3-7-1".to_owned())),
            ("client_id", Value::Text("eve\n2026 x=y".to_owned())),
            ("level", Value::Text("off".to_owned())),
        ];
        record
    }

    #[test]
    fn a_line_of_json_is_one_object_without_duplicate_keys() {
        let line = record().written(Layout::Json);
        assert!(!line.contains('\n'));
        let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(json["level"], "WARN");
        assert_eq!(json["message"], "a \"b\"\n\x1b[31m");
        assert_eq!(json["shard"], 3);
        assert_eq!(json["connection"], "3-7-1");
        assert_eq!(json["field.level"], "off");
        let time = json["timestamp"].as_str().expect("a time");
        assert_eq!(time.len(), "2026-01-02T03:04:05.678901Z".len(), "{time}");
        assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
        let last: serde_json::Value =
            serde_json::from_str(&repeated(&line, 17, Layout::Json)).expect("JSON");
        assert_eq!(last["repeated"], 17);
        assert_eq!(last["message"], json["message"]);
    }

    #[test]
    fn a_peers_text_cannot_break_a_line_of_text() {
        let line = record().written(Layout::Text { colour: false });
        let (_, rest) = line.split_once("  WARN ").expect("a level");
        assert_eq!(
            rest,
            "ringmail::x: a \"b\"\\n\\u{1b}[31m shard=3 connection=3-7-1 \
             client_id=\"eve\\n2026 x=y\" level=off"
        );
        let line = repeated(&line, 4, Layout::Text { colour: false });
        assert!(line.ends_with(" repeated=4"));
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(cut("short"), "short");
        let long = "é".repeat(TEXT_BYTES_MAX);
        assert_eq!(cut(&long).len(), TEXT_BYTES_MAX);
        let odd = format!("x{long}");
        assert_eq!(cut(&odd).len(), TEXT_BYTES_MAX - 1);
    }

    #[test]
    fn lines_that_differ_only_in_numbers_are_the_same() {
        let hash = |change: &dyn Fn(&mut Record)| {
            let mut record = record();
            change(&mut record);
            let mut hasher = DefaultHasher::new();
            record.hash_texts(&mut hasher);
            hasher.finish()
        };
        let one = hash(&|_| {});
        assert_eq!(one, hash(&|r| r.fields[0].1 = Value::Number("9".into())));
        assert_ne!(one, hash(&|r| r.fields[1].1 = Value::Text("9".into())));
        assert_ne!(one, hash(&|r| r.message.push('!')));
    }
}
