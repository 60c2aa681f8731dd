//! Redis: RESP2, as far as publish/subscribe and ECHO need it.
//!
//! Replies have no ids; they come in the order of the commands. A publisher is answered with
//! the number of receivers, which is read and dropped. Redis' channels are plain names:
//! wildcards in a filter stand for themselves, and groups there are none.
//!
//! Source: the Redis serialization protocol specification (redis.io).

use super::{Dialect, Role, STAMP_BYTES, Script, Template, idle_filter};
use crate::base::clock::Instant;
use crate::cli::bench::fault::Fault;
use crate::cli::bench::speaker::{Asker, Speaker, Taken, payload};
use std::rc::Rc;

/// No reply to the commands used here has a longer line, or more elements.
const LINE_BYTES_MAX: usize = 4096;
const ELEMENTS_MAX: usize = 16;

/// One end of a connection; ready as soon as it is connected.
#[derive(Debug, Default)]
pub struct Redis {
    /// Subscriptions not confirmed yet.
    pending: usize,
    is_publisher: bool,
}

fn put_bulk(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// A command, or a pushed message: an array of bulk strings.
fn put_array(parts: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    parts.iter().for_each(|part| put_bulk(part, out));
}

fn template(verb: &str, topic: &str, payload: &[u8]) -> Template {
    debug_assert!(payload.len() >= STAMP_BYTES);
    let mut bytes = Vec::new();
    let parts = [verb.as_bytes(), topic.as_bytes(), payload];
    put_array(&parts, &mut bytes);
    let stamp_at = bytes.len() - 2 - payload.len();
    Template::new(bytes, None, stamp_at)
}

/// The line at the head of `bytes` without its type byte, and the bytes it takes.
fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Fault> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    match window.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => Ok(Some((&bytes[1.min(end)..end], end + 2))),
        None if window.len() == LINE_BYTES_MAX => Err(Fault::Answer("a line without an end")),
        None => Ok(None),
    }
}

fn number(line: &[u8]) -> Result<i64, Fault> {
    let text = std::str::from_utf8(line).ok();
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or(Fault::Answer("a RESP length that is not a number"))
}

/// Bytes of the whole value at the head of `bytes`; `None` when more are needed.
fn extent(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let Some((text, used)) = line(bytes)? else {
        return Ok(None);
    };
    match bytes[0] {
        b'+' | b':' => Ok(Some(used)),
        b'-' => Err(Fault::Said(String::from_utf8_lossy(text).into_owned())),
        b'$' => {
            let length = usize::try_from(number(text)?).map_or(0, |length| length + 2);
            let end = used.saturating_add(length);
            Ok((bytes.len() >= end).then_some(end))
        }
        b'*' => {
            let count = usize::try_from(number(text)?).unwrap_or(0);
            if count > ELEMENTS_MAX {
                return Err(Fault::Answer("an unsolicited RESP array"));
            }
            let mut end = used;
            for _ in 0..count {
                // Elements of these arrays are no arrays themselves.
                if bytes.get(end) == Some(&b'*') {
                    return Err(Fault::Answer("an unsolicited RESP array"));
                }
                match extent(&bytes[end..])? {
                    Some(used) => end += used,
                    None => return Ok(None),
                }
            }
            Ok(Some(end))
        }
        _ => Err(Fault::Answer("bytes that are not RESP")),
    }
}

impl Dialect for Redis {
    fn script(role: &Role, _index: u32, payload: &[u8]) -> Script {
        match role {
            Role::Publisher { topic, .. } => Script {
                send: Some(template("PUBLISH", topic, payload)),
                ..Script::default()
            },
            Role::Subscriber { topic, .. } => Script {
                expect: Some(template("message", topic, payload)),
                ..Script::default()
            },
            _ => Script::default(),
        }
    }

    fn is_ready(&self) -> bool {
        self.pending == 0
    }

    fn assume(&mut self, role: &Role, _index: u32, out: &mut Vec<u8>) {
        let mut subscribe = |name: &str| {
            put_array(&[b"SUBSCRIBE", name.as_bytes()], out);
            self.pending += 1;
        };
        match role {
            Role::Subscriber { topic, .. } => subscribe(topic),
            Role::Holder { filters } => filters.clone().for_each(|n| subscribe(&idle_filter(n))),
            Role::Publisher { .. } => self.is_publisher = true,
            Role::Requester { .. } | Role::Responder { .. } => {}
        }
    }

    #[inline]
    fn take(
        &mut self,
        bytes: &[u8],
        _now: Instant,
        _out: &mut Vec<u8>,
    ) -> Result<Taken<u32>, Fault> {
        let Some(used) = extent(bytes)? else {
            let need = bytes.len() + 1;
            return Ok(Taken::Incomplete { need });
        };
        match bytes[0] {
            b':' if self.is_publisher => Ok(Taken::Other { used }),
            b'*' if self.pending > 0 && bytes.starts_with(b"*3\r\n$9\r\nsubscribe\r\n") => {
                self.pending -= 1;
                Ok(Taken::Other { used })
            }
            _ => Err(Fault::Answer("a reply without a command")),
        }
    }
}

/// The ECHO of one benchmark, encoded once.
#[derive(Debug)]
pub struct EchoShape {
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl EchoShape {
    pub fn new(bytes: usize) -> EchoShape {
        let payload = payload(bytes);
        let mut shape = EchoShape {
            request: Vec::new(),
            answer: Vec::new(),
        };
        put_array(&[b"ECHO", &payload], &mut shape.request);
        put_bulk(&payload, &mut shape.answer);
        shape
    }
}

/// Asks for echoes.
#[derive(Debug)]
pub struct Echo {
    shape: Rc<EchoShape>,
    /// The id of the next answer: they come in order.
    next: u32,
}

impl Echo {
    pub fn open(shape: &Rc<EchoShape>) -> Echo {
        Echo {
            shape: Rc::clone(shape),
            next: 0,
        }
    }
}

impl Asker for Echo {
    #[inline]
    fn request(&mut self, _id: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.shape.request);
    }
}

impl Speaker for Echo {
    type Mark = u32;

    fn is_ready(&self) -> bool {
        true
    }

    #[inline]
    fn take(
        &mut self,
        bytes: &[u8],
        _now: Instant,
        _out: &mut Vec<u8>,
    ) -> Result<Taken<u32>, Fault> {
        let answer = &self.shape.answer;
        if bytes.starts_with(answer) {
            let mark = self.next;
            self.next = mark.wrapping_add(1);
            let used = answer.len();
            return Ok(Taken::Answer { used, mark });
        }
        if answer.starts_with(bytes) {
            let need = answer.len();
            return Ok(Taken::Incomplete { need });
        }
        match extent(bytes)? {
            Some(_) => Err(Fault::Answer("the server did not echo what was sent")),
            None => Ok(Taken::Incomplete {
                need: bytes.len() + 1,
            }),
        }
    }
}
