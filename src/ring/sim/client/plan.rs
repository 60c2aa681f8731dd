//! What a simulated client will do: how it connects, makes requests, reads, writes and ends.

use crate::base::clock::Instant;
use crate::proto::envelope::Codec;
use crate::proto::error::Code;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;

/// A client's behaviour. [`Plan::default`] shakes hands, makes no request and stays.
#[derive(Clone, Debug)]
pub struct Plan {
    pub opening: Opening,
    /// Connects with TLS.
    pub tls: Option<Arc<ClientConfig>>,
    pub checksum: bool,
    pub heartbeat_ms: Option<u32>,
    pub client_id: Option<String>,
    pub codec: Option<Codec>,
    /// Whether it sends PINGs and detects a dead server by itself.
    pub heartbeats: bool,
    /// How many REQUESTs it makes, taking the kinds in turn.
    pub requests: u32,
    pub request_kinds: Vec<RequestKind>,
    /// How many REQUESTs may be unanswered at a time.
    pub depth: u32,
    /// Payload lengths are drawn up to this.
    pub payload_bytes_max: usize,
    /// The longest pause before each REQUEST.
    pub think: Duration,
    /// The probability of a PING before each REQUEST.
    pub ping_chance: f32,
    /// Raw bytes sent once after the last REQUEST.
    pub tail: Vec<u8>,
    pub reading: Reading,
    pub writing: Writing,
    pub ending: Ending,
    /// It ends once all REQUESTs are sent, not once all are answered: for `Ending::Fin`, after
    /// which the server still has to answer.
    pub ends_when_sent: bool,
    /// It ends when all REQUESTs are answered, or this long after it connected, whatever is open
    /// then.
    pub lifetime_max: Duration,
}

/// One kind of REQUEST.
#[derive(Clone, Debug)]
pub struct RequestKind {
    pub service: String,
    pub expect: Expect,
}

/// The answer that a REQUEST has to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The same payload.
    Echo,
    /// Anything that is not FAILED.
    Success,
    Failure(Code),
    Anything,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    Handshake,
    /// Connects and sends nothing.
    Silent,
    /// Sends SYN, never ACK.
    SynOnly,
    /// Sends these bytes and records what it receives.
    Raw(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Eager,
    Slow { bytes: usize, every: Duration },
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    Whole,
    Trickle { bytes: usize, every: Duration },
}

impl Reading {
    /// How many bytes may be read now; `None`: not yet. `at` is when the next may.
    pub(super) fn allowance(self, now: Instant, at: &mut Instant) -> Option<usize> {
        match self {
            Reading::Eager => Some(usize::MAX),
            Reading::Slow { bytes, every } => paced(bytes, every, now, at),
            Reading::Never => None,
        }
    }
}

impl Writing {
    /// Likewise written.
    pub(super) fn allowance(self, now: Instant, at: &mut Instant) -> Option<usize> {
        match self {
            Writing::Whole => Some(usize::MAX),
            Writing::Trickle { bytes, every } => paced(bytes, every, now, at),
        }
    }
}

fn paced(bytes: usize, every: Duration, now: Instant, at: &mut Instant) -> Option<usize> {
    if now < *at {
        return None;
    }
    *at = now + every;
    Some(bytes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Sends CLOSE and waits for the answer.
    Close,
    /// Ends its stream without CLOSE and reads to the end of the server's.
    Fin,
    /// Resets the connection.
    Reset,
    /// Disappears: the network drops everything from now on.
    Vanish,
    Stay,
}

impl RequestKind {
    pub fn echo() -> RequestKind {
        RequestKind {
            service: "$sys/echo".to_owned(),
            expect: Expect::Echo,
        }
    }
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            opening: Opening::Handshake,
            tls: None,
            checksum: false,
            heartbeat_ms: None,
            client_id: None,
            codec: None,
            heartbeats: false,
            requests: 0,
            request_kinds: vec![RequestKind::echo()],
            depth: 1,
            payload_bytes_max: 256,
            think: Duration::ZERO,
            ping_chance: 0.0,
            tail: Vec::new(),
            reading: Reading::Eager,
            writing: Writing::Whole,
            ending: Ending::Stay,
            ends_when_sent: false,
            lifetime_max: Duration::MAX,
        }
    }
}

impl Plan {
    /// A client that follows the protocol, in one of many ways; it ends with CLOSE, or by ending
    /// its stream once all REQUESTs are sent.
    pub fn well_behaved(rng: &mut fastrand::Rng) -> Plan {
        let slowly = rng.u8(..10);
        let ends_when_sent = rng.u8(..4) == 0;
        Plan {
            checksum: rng.bool(),
            heartbeat_ms: rng.bool().then(|| rng.u32(100..5000)),
            client_id: rng.bool().then(|| format!("client-{}", rng.u16(..))),
            heartbeats: rng.bool(),
            requests: rng.u32(0..30),
            depth: 1 << rng.u32(0..6),
            payload_bytes_max: [0, 64, 300, 5000][rng.usize(..4)],
            think: Duration::from_micros([0, 100, 20_000][rng.usize(..3)]),
            ping_chance: if rng.bool() { 0.2 } else { 0.0 },
            reading: if slowly == 0 {
                Reading::Slow {
                    bytes: rng.usize(64..4096),
                    every: Duration::from_millis(5),
                }
            } else {
                Reading::Eager
            },
            writing: if slowly == 1 {
                Writing::Trickle {
                    bytes: rng.usize(32..4096),
                    every: Duration::from_millis(2),
                }
            } else {
                Writing::Whole
            },
            ending: if ends_when_sent {
                Ending::Fin
            } else {
                Ending::Close
            },
            ends_when_sent,
            ..Plan::default()
        }
    }

    /// Whether messages have a CRC, and messages of which one is refused.
    fn any_fault(rng: &mut fastrand::Rng) -> (bool, Vec<u8>) {
        let header = |version, kind, bytes: u32| {
            let mut header = vec![b'M', b'C', version, kind];
            header.extend(bytes.to_be_bytes());
            header
        };
        let alone = |bytes| (false, bytes);
        match rng.u8(..7) {
            0 => alone(header(2, 1, 0)),
            1 => alone(header(1, 0x7F, 0)),
            2 => alone(header(1, 0x10, u32::MAX)),
            // A message that only servers send.
            3 => alone([header(1, 5, 4), vec![0, 0, 0, 1]].concat()),
            // A PING with a CRC that is not its own.
            4 => (true, [header(1, 1, 4), vec![0; 4]].concat()),
            // UNSUBSCRIBE of nothing, more often than a second allows.
            5 => {
                let one = [header(1, 0x12, 8), vec![0, 0, 0, 1, 0, 0, 1, b'a']].concat();
                alone(one.repeat(12))
            }
            _ => alone(header(1, 0x10, 3).into_iter().chain([1, 2, 3]).collect()),
        }
    }

    /// A client that disconnects abruptly, falls silent, or sends noise.
    pub fn ill_behaved(rng: &mut fastrand::Rng) -> Plan {
        let mut plan = Plan {
            requests: rng.u32(0..20),
            depth: 8,
            think: Duration::from_millis(1),
            lifetime_max: Duration::from_millis(rng.u64(0..200)),
            ..Plan::default()
        };
        plan.ending = match rng.u8(..5) {
            0 => Ending::Fin,
            1 => Ending::Reset,
            2 => Ending::Vanish,
            3 => Ending::Close,
            _ => Ending::Stay,
        };
        let mut noise = vec![0; rng.usize(1..200)];
        rng.fill(&mut noise);
        match rng.u8(..9) {
            0 => plan.opening = Opening::Silent,
            1 => plan.opening = Opening::SynOnly,
            2 => plan.opening = Opening::Raw(noise),
            3 => plan.tail = noise,
            // The beginning of a message that never ends.
            4 => plan.tail = vec![b'M', b'C', 1, 0x20, 0, 0, 1, 0, 7],
            5 => plan.reading = Reading::Never,
            6 => (plan.checksum, plan.tail) = Plan::any_fault(rng),
            _ => {}
        }
        plan
    }
}
