//! The protocols of an exchange between connections: this one, and those of the servers it
//! is compared with.
//!
//! ```text
//!   Actor ── what all have in common: sends, recognises and answers by templates
//!     └── Dialect   handshake, subscribing, and whatever is no expected message:
//!                   ringmail, redis (RESP2), nats (its text protocol), mqtt (3.1.1, QoS 0)
//! ```
//!
//! A connection is opened without a role in the exchange; once all are open, each gets its [`Role`]
//! and sends what that requires (subscribes, serves), and is ready again when the server has
//! confirmed it. Only then does the load begin, so that no message is sent before its subscribers
//! are there.
//!
//! The peers' protocols are implemented as far as the load needs them; anything else received ends
//! the run.

pub mod mqtt;
pub mod nats;
pub mod redis;
pub mod ringmail;
mod template;
#[cfg(test)]
mod tests;

pub use template::{STAMP_BYTES, Stamp, Template};

use super::fault::Fault;
use super::speaker::{self, Speaker, Taken};
use crate::base::clock::Instant;
use std::ops::Range;
use std::rc::Rc;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// This project's.
    Ringmail,
    /// Redis: RESP2.
    Redis,
    /// NATS 2: its text protocol.
    Nats,
    /// MQTT 3.1.1, QoS 0.
    Mqtt,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Ringmail => "mcp",
            Protocol::Redis => "redis",
            Protocol::Nats => "nats",
            Protocol::Mqtt => "mqtt",
        }
    }
}

/// A connection's part in the exchange. Names are given with `/` between levels, `+` and
/// `#` as wildcards; a dialect writes them its own way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishes; `confirmed`: each message is to be confirmed by the server.
    Publisher {
        topic: String,
        confirmed: bool,
    },
    /// Receives, alone or as one of a group.
    Subscriber {
        topic: String,
        group: Option<String>,
    },
    /// Holds idle subscriptions, each its own number's [`idle_filter`].
    Holder {
        filters: Range<u32>,
    },
    Requester {
        service: String,
    },
    Responder {
        service: String,
    },
}

/// The filter of an idle subscription: one of four kinds, none of which matches a topic
/// that is published on.
pub fn idle_filter(number: u32) -> String {
    match number % 4 {
        0 => format!("bench/idle-{number}"),
        1 => format!("bench/idle-{number}/+/state"),
        2 => format!("+/idle/{number}"),
        _ => format!("bench/idle-{number}/#"),
    }
}

/// What a sender of an exchange gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// One copy of its message has arrived at a receiver.
    Arrived(Stamp),
    /// The server has confirmed the sender's message of this number.
    Confirmed { origin: u32, number: u32 },
}

/// The templates of one role; `index` is the connection's, `payload` the run's.
#[derive(Debug, Default)]
pub struct Script {
    /// What it sends.
    pub send: Option<Template>,
    /// What it waits for.
    pub expect: Option<Template>,
    /// How it answers what it waits for, if its role does.
    pub reply: Option<Template>,
}

/// A protocol's end of one connection. See `Speaker` for how bytes come and go.
pub trait Dialect {
    /// The templates of a role; `index` tells connections apart where answers need an
    /// address of their own.
    fn script(role: &Role, index: u32, payload: &[u8]) -> Script;

    /// Whether everything requested has been confirmed.
    fn is_ready(&self) -> bool;

    /// Takes on a role; ready again when it is confirmed.
    fn assume(&mut self, role: &Role, index: u32, out: &mut Vec<u8>);

    /// Handles whatever no template recognises. A mark that it returns is the number of a confirmed
    /// message.
    ///
    /// # Errors
    /// A message after which the load cannot go on.
    fn take(&mut self, bytes: &[u8], now: Instant, out: &mut Vec<u8>) -> Result<Taken<u32>, Fault>;

    /// Appends the protocol's farewell, if it has one.
    fn close(&mut self, _out: &mut Vec<u8>) {}

    /// The server's shard this connection is on, as far as it is known.
    fn shard(&self) -> Option<u16> {
        None
    }
}

/// A payload of the run, with its stamp still zero.
pub fn payload(bytes: usize) -> Vec<u8> {
    let mut payload = speaker::payload(bytes.max(STAMP_BYTES));
    payload[..STAMP_BYTES].fill(0);
    payload
}

/// A connection that takes part in an exchange.
#[derive(Debug)]
pub struct Actor<D> {
    dialect: D,
    /// Its number among the senders, if it is one.
    origin: u32,
    script: Rc<Script>,
}

impl<D: Dialect> Actor<D> {
    pub fn new(dialect: D) -> Actor<D> {
        Actor {
            dialect,
            origin: 0,
            script: Rc::default(),
        }
    }

    /// Takes up a role. Connections that say the same share one `script`.
    pub fn assume(
        &mut self,
        role: &Role,
        index: u32,
        origin: u32,
        script: &Rc<Script>,
        out: &mut Vec<u8>,
    ) {
        self.origin = origin;
        self.script = Rc::clone(script);
        self.dialect.assume(role, index, out);
    }

    /// Appends the sender's message of this number.
    #[inline]
    pub fn send(&self, number: u32, since: Instant, out: &mut Vec<u8>) {
        let origin = self.origin;
        if let Some(template) = &self.script.send {
            let stamp = Stamp {
                since,
                origin,
                number,
            };
            template.put(number, stamp, out);
        }
    }

    pub fn shard(&self) -> Option<u16> {
        self.dialect.shard()
    }
}

impl<D: Dialect> Speaker for Actor<D> {
    type Mark = Seen;

    fn is_ready(&self) -> bool {
        self.dialect.is_ready()
    }

    #[inline]
    fn take(
        &mut self,
        bytes: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Taken<Seen>, Fault> {
        if let Some(expect) = &self.script.expect {
            if let Some((id, stamp)) = expect.read(bytes) {
                let used = expect.len();
                return Ok(match &self.script.reply {
                    Some(reply) => {
                        reply.put(id, stamp, out);
                        Taken::Other { used }
                    }
                    None => Taken::Answer {
                        used,
                        mark: Seen::Arrived(stamp),
                    },
                });
            }
            if expect.is_begun(bytes) {
                let need = expect.len();
                return Ok(Taken::Incomplete { need });
            }
        }
        Ok(match self.dialect.take(bytes, now, out)? {
            Taken::Answer { used, mark } => Taken::Answer {
                used,
                mark: Seen::Confirmed {
                    origin: self.origin,
                    number: mark,
                },
            },
            Taken::Other { used } => Taken::Other { used },
            Taken::Incomplete { need } => Taken::Incomplete { need },
        })
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        self.dialect.close(out);
    }
}
