//! MQTT 3.1.1, QoS 0, as far as publish/subscribe needs it.
//!
//! A clean session without a client identifier and without keep-alive. Groups are the shared
//! subscriptions that brokers know as `$share/GROUP/FILTER`.
//!
//! Source: MQTT Version 3.1.1, OASIS Standard; sections are named in the code.

use super::{Dialect, Role, Script, Template, idle_filter};
use crate::base::clock::Instant;
use crate::cli::bench::fault::Fault;
use crate::cli::bench::speaker::Taken;

/// First bytes of control packets: type and flags (2.2).
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const PINGRESP: u8 = 0xD0;

/// Clean session, keep-alive 0, empty client identifier (3.1).
const CONNECT: [u8; 14] = *b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0\0";
const DISCONNECT: [u8; 2] = [0xE0, 0];
/// A SUBACK return code from here on is a refusal (3.9.3).
const REFUSED: u8 = 0x80;

/// One end of a connection.
#[derive(Debug)]
pub struct Mqtt {
    is_connected: bool,
    /// SUBACKs to come.
    pending: usize,
}

impl Mqtt {
    /// The CONNECT is appended to `out`.
    pub fn open(out: &mut Vec<u8>) -> Mqtt {
        out.extend_from_slice(&CONNECT);
        Mqtt {
            is_connected: false,
            pending: 0,
        }
    }

    /// One SUBSCRIBE of one filter with QoS 0 (3.8).
    fn subscribe(&mut self, filter: &str, out: &mut Vec<u8>) {
        // Packet identifiers are not 0; which one is answered does not matter here.
        let identifier = (self.pending % usize::from(u16::MAX) + 1) as u16;
        out.push(SUBSCRIBE);
        put_length(2 + 2 + filter.len() + 1, out);
        out.extend_from_slice(&identifier.to_be_bytes());
        put_text(filter, out);
        out.push(0);
        self.pending += 1;
    }
}

/// A remaining length: seven bits a byte, the lowest first (2.2.3).
fn put_length(mut length: usize, out: &mut Vec<u8>) {
    debug_assert!(length < 1 << 28);
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// The remaining length behind a packet's first byte, and the bytes of both together.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let mut length = 0;
    for at in 1..=4 {
        let Some(&byte) = bytes.get(at) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        if byte < 0x80 {
            return Ok(Some((length, at + 1)));
        }
    }
    Err(Fault::Answer("bytes that are not MQTT"))
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    debug_assert!(u16::try_from(text.len()).is_ok());
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// PUBLISH with QoS 0 (3.3): it comes to subscribers as it was sent.
fn template(topic: &str, payload: &[u8]) -> Template {
    let mut bytes = vec![PUBLISH];
    put_length(2 + topic.len() + payload.len(), &mut bytes);
    put_text(topic, &mut bytes);
    let stamp_at = bytes.len();
    bytes.extend_from_slice(payload);
    Template::new(bytes, None, stamp_at)
}

impl Dialect for Mqtt {
    fn script(role: &Role, _index: u32, payload: &[u8]) -> Script {
        match role {
            Role::Publisher { topic, .. } => Script {
                send: Some(template(topic, payload)),
                ..Script::default()
            },
            Role::Subscriber { topic, .. } => Script {
                expect: Some(template(topic, payload)),
                ..Script::default()
            },
            _ => Script::default(),
        }
    }

    fn is_ready(&self) -> bool {
        self.is_connected && self.pending == 0
    }

    fn assume(&mut self, role: &Role, _index: u32, out: &mut Vec<u8>) {
        match role {
            Role::Subscriber { topic, group: None } => self.subscribe(topic, out),
            Role::Subscriber {
                topic,
                group: Some(group),
            } => self.subscribe(&format!("$share/{group}/{topic}"), out),
            Role::Holder { filters } => {
                let filters = filters.clone().map(idle_filter);
                filters.for_each(|filter| self.subscribe(&filter, out));
            }
            _ => {}
        }
    }

    fn take(
        &mut self,
        bytes: &[u8],
        _now: Instant,
        _out: &mut Vec<u8>,
    ) -> Result<Taken<u32>, Fault> {
        let Some((length, head_bytes)) = length(bytes)? else {
            let need = bytes.len() + 1;
            return Ok(Taken::Incomplete { need });
        };
        let used = head_bytes + length;
        let first = bytes[0];
        if first & 0xF0 == PUBLISH {
            return Err(Fault::Answer("a message that is not what was published"));
        }
        let Some(body) = bytes.get(head_bytes..used) else {
            // Nothing awaited but a PUBLISH is longer.
            return match length {
                0..=16 => Ok(Taken::Incomplete { need: used }),
                _ => Err(Fault::Answer("bytes that are not MQTT")),
            };
        };
        match (first, body) {
            (CONNACK, [_, 0]) if !self.is_connected => self.is_connected = true,
            (CONNACK, [_, code]) => {
                return Err(Fault::Said(format!("CONNACK with return code {code}")));
            }
            (SUBACK, [_, _, code, ..]) if self.pending > 0 => {
                if *code >= REFUSED {
                    return Err(Fault::Said("a subscription was refused".to_owned()));
                }
                self.pending -= 1;
            }
            (PINGRESP, []) => {}
            _ => return Err(Fault::Answer("an unsolicited packet")),
        }
        Ok(Taken::Other { used })
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&DISCONNECT);
    }
}
