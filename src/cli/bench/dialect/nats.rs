//! NATS 2: its text protocol, as far as publish/subscribe and request/reply need it.
//!
//! `verbose` is off, so nothing is confirmed by itself: a PING behind a SUB is answered by
//! PONG when the subscription stands. A request carries the subject that its requester
//! listens on; responders share a queue group, so that one of them answers.
//!
//! Source: the NATS client protocol reference (docs.nats.io).

use super::{Dialect, Role, Script, Template, idle_filter};
use crate::base::clock::Instant;
use crate::cli::bench::fault::Fault;
use crate::cli::bench::speaker::Taken;

/// A server's INFO is the longest line it sends; clusters make it longer.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a payload at most: far above the server's own default.
const PAYLOAD_BYTES_MAX: usize = 1 << 27;
const CONNECT: &str = concat!(
    r#"CONNECT {"verbose":false,"pedantic":false,"headers":false,"lang":"rust","#,
    r#""name":"ringmail bench","version":""#,
    env!("CARGO_PKG_VERSION"),
    "\"}\r\nPING\r\n"
);

/// One end of a connection.
#[derive(Debug, Default)]
pub struct Nats {
    /// The server's INFO has come, and was answered by CONNECT.
    is_connected: bool,
    /// PONGs to come.
    pending: usize,
    is_responder: bool,
}

/// A name with NATS' own separators and wildcards.
fn subject(name: &str) -> String {
    let translate = |c| match c {
        '/' => '.',
        '+' => '*',
        '#' => '>',
        c => c,
    };
    name.chars().map(translate).collect()
}

fn inbox(index: u32) -> String {
    format!("_INBOX.bench.{index}")
}

fn template(line: &str, payload: &[u8]) -> Template {
    let head = format!("{line} {}\r\n", payload.len());
    let bytes = [head.as_bytes(), payload, b"\r\n"].concat();
    Template::new(bytes, None, head.len())
}

/// What a line from the server says.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Info,
    Ping,
    Pong,
    Ok,
    Error(&'a str),
    /// A message to `reply` (which may be empty), its payload behind the line.
    Message {
        reply: &'a str,
        payload_bytes: usize,
    },
}

impl Line<'_> {
    fn parse(text: &str) -> Option<Line<'_>> {
        let mut words = text.split_ascii_whitespace();
        Some(match words.next()? {
            "MSG" => {
                let (_subject, _sid, third) = (words.next()?, words.next()?, words.next()?);
                let (reply, length) = match words.next() {
                    Some(length) => (third, length),
                    None => ("", third),
                };
                let payload_bytes = length.parse().ok()?;
                Line::Message {
                    reply,
                    payload_bytes,
                }
            }
            "PING" => Line::Ping,
            "PONG" => Line::Pong,
            "+OK" => Line::Ok,
            "INFO" => Line::Info,
            "-ERR" => Line::Error(text["-ERR".len()..].trim()),
            _ => return None,
        })
    }
}

impl Nats {
    fn say(&mut self, line: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// Asks the server to answer when it has done what was said so far.
    fn confirm(&mut self, out: &mut Vec<u8>) {
        self.say("PING", out);
        self.pending += 1;
    }

    /// A message that no template recognised: a request, to be answered with its payload.
    fn answer(
        &mut self,
        reply: &str,
        payload: &[u8],
        used: usize,
        out: &mut Vec<u8>,
    ) -> Result<Taken<u32>, Fault> {
        if !self.is_responder || reply.is_empty() {
            return Err(Fault::Answer("a message that is not what was published"));
        }
        self.say(&format!("PUB {reply} {}", payload.len()), out);
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
        Ok(Taken::Other { used })
    }
}

impl Dialect for Nats {
    fn script(role: &Role, index: u32, payload: &[u8]) -> Script {
        let (send, expect) = match role {
            Role::Publisher { topic, .. } => (Some(format!("PUB {}", subject(topic))), None),
            Role::Subscriber { topic, .. } => (None, Some(format!("MSG {} 1", subject(topic)))),
            Role::Requester { service } => (
                Some(format!("PUB {} {}", subject(service), inbox(index))),
                Some(format!("MSG {} 1", inbox(index))),
            ),
            Role::Responder { .. } | Role::Holder { .. } => (None, None),
        };
        Script {
            send: send.map(|line| template(&line, payload)),
            expect: expect.map(|line| template(&line, payload)),
            reply: None,
        }
    }

    fn is_ready(&self) -> bool {
        self.is_connected && self.pending == 0
    }

    fn assume(&mut self, role: &Role, index: u32, out: &mut Vec<u8>) {
        match role {
            Role::Subscriber { topic, group } => {
                let (topic, group) = (subject(topic), group.as_deref().unwrap_or(""));
                self.say(&format!("SUB {topic} {group} 1"), out);
            }
            Role::Holder { filters } => {
                for number in filters.clone() {
                    let filter = subject(&idle_filter(number));
                    self.say(&format!("SUB {filter} {number}"), out);
                }
            }
            Role::Requester { .. } => self.say(&format!("SUB {} 1", inbox(index)), out),
            Role::Responder { service } => {
                self.is_responder = true;
                self.say(&format!("SUB {} responders 1", subject(service)), out);
            }
            Role::Publisher { .. } => return,
        }
        self.confirm(out);
    }

    fn take(
        &mut self,
        bytes: &[u8],
        _now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Taken<u32>, Fault> {
        let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
        let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
            if window.len() == LINE_BYTES_MAX {
                return Err(Fault::Answer("a line without an end"));
            }
            let need = bytes.len() + 1;
            return Ok(Taken::Incomplete { need });
        };
        let used = end + 1;
        let line = std::str::from_utf8(&bytes[..end]).ok();
        let Some(line) = line.and_then(Line::parse) else {
            return Err(Fault::Answer("a line that is not in NATS' protocol"));
        };
        match line {
            Line::Message {
                reply,
                payload_bytes,
            } => {
                if payload_bytes > PAYLOAD_BYTES_MAX {
                    return Err(Fault::Answer("a message that is not what was published"));
                }
                let need = used + payload_bytes + 2;
                match bytes.get(used..need) {
                    Some(tail) => self.answer(reply, &tail[..payload_bytes], need, out),
                    None => Ok(Taken::Incomplete { need }),
                }
            }
            Line::Error(text) => Err(Fault::Said(text.to_owned())),
            Line::Info if !self.is_connected => {
                self.is_connected = true;
                // With a PING of its own.
                out.extend_from_slice(CONNECT.as_bytes());
                self.pending += 1;
                Ok(Taken::Other { used })
            }
            Line::Ping => {
                self.say("PONG", out);
                Ok(Taken::Other { used })
            }
            Line::Pong if self.pending == 0 => Err(Fault::Answer("a PONG without a PING")),
            Line::Pong => {
                self.pending -= 1;
                Ok(Taken::Other { used })
            }
            Line::Info | Line::Ok => Ok(Taken::Other { used }),
        }
    }
}
