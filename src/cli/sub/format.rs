//! A message as `sub` writes it: lines, raw, or one JSON object a line.
//!
//! JSON is put together by hand around `serde_json`'s strings rather than from a `Value`: a
//! payload that is JSON is passed on with its numbers, order and spelling as published, and a
//! hundred thousand messages a second are not taken apart for nothing.
//!
//! A topic before a line is escaped for terminals (`base::terminal`); payloads are passed on
//! unchanged, and JSON is exact.
//!
//! Invariant: JSON output has exactly one newline a message, its last byte; a newline inside
//! a JSON payload can only be space between tokens, and becomes one.

use crate::base::terminal;
use crate::cli::args::{Sub, SubOutput};
use crate::client::Codec;
use crate::proto::envelope::{Envelope, FLAG_RETAIN, Headers, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Lines { topic: bool },
    Raw,
    Json,
}

impl Format {
    pub fn of(args: &Sub) -> Format {
        match args.output {
            SubOutput::Lines => Format::Lines { topic: args.topic },
            SubOutput::Raw => Format::Raw,
            SubOutput::Json => Format::Json,
        }
    }

    /// Appends the message.
    pub fn write(self, message: &Envelope<'_>, out: &mut Vec<u8>) {
        match self {
            Format::Lines { topic } => {
                if topic {
                    out.extend_from_slice(terminal::escaped(message.name).as_bytes());
                    out.push(b' ');
                }
                out.extend_from_slice(message.payload);
                out.push(b'\n');
            }
            Format::Raw => out.extend_from_slice(message.payload),
            Format::Json => write_json(message, out),
        }
    }
}

fn write_json(message: &Envelope<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    write_text(message.name, out);
    let retain = if message.flags & FLAG_RETAIN != 0 {
        "true"
    } else {
        "false"
    };
    let codec = codec_name(message.codec);
    for part in [",\"retain\":", retain, ",\"codec\":\"", codec, "\""] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b",\"headers\":");
    let headers = if message.headers.is_empty() {
        Map::new()
    } else {
        headers(message.headers)
    };
    // Writing strings, or maps of them, to memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, &headers);
    write_payload(message, out);
    out.extend_from_slice(b"}\n");
}

fn write_payload(message: &Envelope<'_>, out: &mut Vec<u8>) {
    match std::str::from_utf8(message.payload) {
        Ok(text) if message.codec == Codec::Json && is_json(text) => {
            out.extend_from_slice(b",\"payload\":");
            let space = |byte: u8| {
                if matches!(byte, b'\n' | b'\r') {
                    b' '
                } else {
                    byte
                }
            };
            out.extend(text.trim().bytes().map(space));
        }
        Ok(text) => {
            out.extend_from_slice(b",\"payload\":");
            write_text(text, out);
        }
        Err(_) => {
            out.extend_from_slice(b",\"payload_base64\":\"");
            out.extend_from_slice(STANDARD.encode(message.payload).as_bytes());
            out.push(b'"');
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, text);
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

pub fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Bytes => "bytes",
        Codec::Json => "json",
        Codec::Protobuf => "protobuf",
    }
}

/// Each header under its name; a key that comes more than once is a list.
fn headers(headers: Headers<'_>) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, value) in headers.iter() {
        let (name, value) = named(key, value);
        match map.get_mut(&name) {
            None => {
                map.insert(name, value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    map
}

fn named(key: u8, value: &[u8]) -> (String, Value) {
    let number = || {
        value
            .iter()
            .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let (name, value) = match key {
        header::TRACEPARENT => ("traceparent", traceparent(value).into()),
        header::TIMEOUT_MS => ("timeout_ms", number().into()),
        header::EXPIRES_MS => ("expires_ms", number().into()),
        header::GROUP => ("group", text(value)),
        header::SLOW_POLICY => ("slow_policy", number().into()),
        header::KEY => ("key", text(value)),
        header::SCHEMA => ("schema", text(value)),
        header::TIMESTAMP_NS => ("timestamp_ns", number().into()),
        header::SEQ => ("seq", number().into()),
        header::CONTENT_TYPE => ("content_type", text(value)),
        header::REPLY_TO => ("reply_to", text(value)),
        header::CORRELATION => ("correlation", text(value)),
        header::PROPERTY => ("property", property(value)),
        _ => return (format!("0x{key:02x}"), text(value)),
    };
    (name.to_owned(), value)
}

fn text(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(value) }),
    }
}

/// Key and value of a PROPERTY, which was checked on receipt.
fn property(value: &[u8]) -> Value {
    let parts = value.split_first().and_then(|(&length, rest)| {
        let (key, value) = rest.split_at_checked(usize::from(length))?;
        Some(json!({ "key": text(key), "value": text(value) }))
    });
    parts.unwrap_or_else(|| text(value))
}

/// As W3C Trace Context writes it, version 00.
pub fn traceparent(value: &[u8]) -> String {
    let mut line = "00-".to_owned();
    for (index, byte) in value.iter().enumerate() {
        if matches!(index, 16 | 24) {
            line.push('-');
        }
        line.push_str(&format!("{byte:02x}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, message: &Envelope<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        format.write(message, &mut out);
        out
    }

    fn json_of(message: &Envelope<'_>) -> Value {
        let line = written(Format::Json, message);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&line).unwrap()
    }

    fn message(payload: &[u8]) -> Envelope<'_> {
        Envelope {
            name: "site/7",
            payload,
            ..Envelope::default()
        }
    }

    #[test]
    fn lines_and_raw_carry_every_byte_as_it_came() {
        let payload: Vec<u8> = (0..=255).collect();
        let message = message(&payload);
        assert_eq!(written(Format::Raw, &message), payload);
        let line = [&payload[..], b"\n"].concat();
        assert_eq!(written(Format::Lines { topic: false }, &message), line);
        let line = [b"site/7 ", &line[..]].concat();
        assert_eq!(written(Format::Lines { topic: true }, &message), line);
        // The topic is escaped, not executed.
        let named = Envelope {
            name: "site/\u{9b}2J\u{202e}7",
            payload: b"x",
            ..Envelope::default()
        };
        let line = written(Format::Lines { topic: true }, &named);
        assert_eq!(line, b"site/\\u{9b}2J\\u{202e}7 x\n");
    }

    #[test]
    fn a_json_payload_keeps_its_spelling_on_one_line() {
        let payload = b" {\"z\": 1.10,\r\n \"a\": 123456789012345678901234567890}\n";
        let message = Envelope {
            codec: Codec::Json,
            flags: FLAG_RETAIN,
            ..message(payload)
        };
        let line = String::from_utf8(written(Format::Json, &message)).unwrap();
        let inner = "{\"z\": 1.10,   \"a\": 123456789012345678901234567890}";
        assert!(
            line.ends_with(&format!(",\"payload\":{inner}}}\n")),
            "{line}"
        );
        let record = json_of(&message);
        assert_eq!(record["topic"], "site/7");
        assert_eq!(
            (&record["retain"], &record["codec"]),
            (&true.into(), &"json".into())
        );
        assert_eq!(record["payload"]["z"], 1.1);
    }

    #[test]
    fn a_payload_that_is_not_the_json_it_claims_to_be_is_a_string() {
        for payload in ["", "{", "{} {}", "plain", "\"\n\""] {
            let message = Envelope {
                codec: Codec::Json,
                ..message(payload.as_bytes())
            };
            assert_eq!(json_of(&message)["payload"], payload, "{payload:?}");
        }
    }

    #[test]
    fn text_is_a_string_and_bytes_are_base64() {
        let quoted = "a \"b\"\n\u{1}ü";
        assert_eq!(json_of(&message(quoted.as_bytes()))["payload"], quoted);
        // JSON in a payload with another codec stays text.
        assert_eq!(json_of(&message(b"{}"))["payload"], "{}");
        let record = json_of(&message(b"\xff\xfe\x00"));
        assert_eq!(record["payload_base64"], "//4A");
        assert_eq!(record.get("payload"), None);
        assert_eq!(record["headers"], json!({}));
    }

    #[test]
    fn headers_have_names_and_the_applications_their_keys() {
        let mut block = Vec::new();
        Headers::push(&mut block, header::TRACEPARENT, &[0xab; 25]);
        Headers::push(&mut block, header::EXPIRES_MS, &1500u32.to_be_bytes());
        Headers::push(&mut block, header::KEY, b"\xff");
        Headers::push(&mut block, header::SCHEMA, b"site.Reading");
        let nanos = 1_700_000_000_123_456_789u64;
        Headers::push(&mut block, header::TIMESTAMP_NS, &nanos.to_be_bytes());
        Headers::push(&mut block, header::SEQ, &7u64.to_be_bytes());
        Headers::push(&mut block, header::CONTENT_TYPE, b"text/plain");
        Headers::push(&mut block, header::REPLY_TO, b"answers/me");
        Headers::push(&mut block, header::CORRELATION, b"\xff");
        for value in [b"\x01aone", b"\x01btwo"] {
            Headers::push(&mut block, header::PROPERTY, value);
        }
        for value in ["a", "b", "c"] {
            Headers::push(&mut block, 0x40, value.as_bytes());
        }
        Headers::push(&mut block, 0xFF, b"");
        let record = json_of(&Envelope {
            headers: Headers::check(&block).unwrap(),
            ..message(b"x")
        });
        let traceparent = format!("00-{}-{}-ab", "ab".repeat(16), "ab".repeat(8));
        let wanted = json!({
            "traceparent": traceparent,
            "expires_ms": 1500,
            "key": {"base64": "/w=="},
            "schema": "site.Reading",
            "timestamp_ns": nanos,
            "seq": 7,
            "content_type": "text/plain",
            "reply_to": "answers/me",
            "correlation": {"base64": "/w=="},
            "property": [{"key": "a", "value": "one"}, {"key": "b", "value": "two"}],
            "0x40": ["a", "b", "c"],
            "0xff": "",
        });
        assert_eq!(record["headers"], wanted);
    }
}
