//! What a traffic client will do: its acts in order, and how it reads, writes, answers, disconnects
//! and reconnects.
//!
//! A plan is a script rather than a set of rates, so that a scenario of three acts and a random
//! load of hundreds are the same thing; [`super::Command::Act`] appends to it while the client
//! runs. After a reconnect the script continues where it was.

use crate::proto::envelope::{Codec, SlowPolicy};
use crate::ring::sim::client::{Ending, Reading, Writing};
use std::rc::Rc;
use std::time::Duration;

/// A client's behaviour. [`Traffic::default`] shakes hands, does nothing and stays.
#[derive(Clone, Debug)]
pub struct Traffic {
    pub checksum: bool,
    /// The codec it asks for in its SYN; `None`: no option.
    pub codec: Option<Codec>,
    /// The MESSAGE_MAX of its SYN: more is a violation by the server. `None`: no option.
    pub message_max: Option<u32>,
    /// The id of its first operation; the ids after it rise modulo 2^32.
    pub first_id: u32,
    /// The token for the AUTH of each connection; `None`: no AUTH.
    pub token: Option<Rc<str>>,
    /// Whether it keeps a session across its connections.
    pub session: Option<SessionPlan>,
    pub acts: Vec<Act>,
    /// The longest pause before each act.
    pub think: Duration,
    /// How many operations may be unanswered at a time.
    pub window: usize,
    pub reading: Reading,
    pub writing: Writing,
    /// What it does with the REQUESTs it receives, taking these in turn.
    pub answering: Vec<Answering>,
    /// Ends its connection this way, this long after the client's start, whatever is open then.
    pub cuts: Vec<(Duration, Ending)>,
    /// It reconnects within this time after a connection that ended without its CLOSE. `None`:
    /// never.
    pub reconnect: Option<Duration>,
}

/// How a client uses its session.
#[derive(Clone, Copy, Debug)]
pub struct SessionPlan {
    /// It sends ACK after this many counted messages; 0: never.
    pub ack_every: u32,
    /// On resumption it repeats every operation without an OK, even a PUBLISH that SESSION_OK
    /// reports as confirmed.
    pub repeats_all: bool,
    /// The key of another client's session to begin with, and how many messages that one has
    /// received.
    pub resumes: Option<([u8; 16], u32)>,
}

impl Default for SessionPlan {
    fn default() -> SessionPlan {
        SessionPlan {
            ack_every: 4,
            repeats_all: true,
            resumes: None,
        }
    }
}

/// What a client does with a REQUEST it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    AtOnce,
    After(Duration),
    Never,
    /// FAILED with this code.
    Fails(u16),
    /// The same RESPONSE twice.
    Twice,
}

/// One step of a client's script.
#[derive(Clone, Debug)]
pub enum Act {
    Publish(Publish),
    Subscribe(Filter),
    Unsubscribe(Filter),
    Serve(Filter),
    Unserve(Filter),
    Will(Publish),
    /// Withdraws the will.
    WithdrawWill,
    Request(Request),
    Pause(Duration),
    /// Reads this way from now on.
    Read(Reading),
    /// Waits until every operation so far is answered.
    AwaitAnswers,
    /// Sends these bytes as they are.
    Raw(Vec<u8>),
    /// Sends AUTH with this token; later connections use it too.
    Auth(Rc<str>),
    /// Sends ACK with this number, whatever it has counted.
    Ack(u32),
    /// Sends ACK with all it has counted, if it has a session.
    AckAll,
    /// Ends the connection this way, and with `Ending::Close` the client.
    End(Ending),
}

/// A message to publish. Its payload is derived from its sender and its number.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    pub topic: String,
    /// Whether it has an id, so that the server answers with OK.
    pub confirmed: bool,
    pub retain: bool,
    /// An empty payload: clears what is retained.
    pub empty: bool,
    /// Bytes of payload beside the label.
    pub bytes: usize,
    pub expires_ms: Option<u32>,
    pub key: Option<Vec<u8>>,
    /// More headers, by key.
    pub headers: Vec<(u8, Vec<u8>)>,
    /// The codec of its payload: see `payload`.
    pub codec: Codec,
}

/// A filter, and what SUBSCRIBE and SERVE take beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub name: String,
    pub group: Option<String>,
    pub policy: Option<SlowPolicy>,
    /// The codec that SUBSCRIBE asks for.
    pub codec: Codec,
    /// More headers, by key.
    pub headers: Vec<(u8, Vec<u8>)>,
}

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub service: String,
    pub timeout_ms: Option<u32>,
    pub bytes: usize,
    /// More headers, by key.
    pub headers: Vec<(u8, Vec<u8>)>,
}

impl Default for Traffic {
    fn default() -> Traffic {
        Traffic {
            checksum: false,
            codec: None,
            message_max: None,
            first_id: 1,
            token: None,
            session: None,
            acts: Vec::new(),
            think: Duration::ZERO,
            window: 64,
            reading: Reading::Eager,
            writing: Writing::Whole,
            answering: vec![Answering::AtOnce],
            cuts: Vec::new(),
            reconnect: None,
        }
    }
}

impl Traffic {
    /// A client that performs these acts and stays.
    pub fn of(acts: impl Into<Vec<Act>>) -> Traffic {
        Traffic {
            acts: acts.into(),
            ..Traffic::default()
        }
    }

    /// The same, with a session and reconnecting within 20 ms.
    pub fn with_session(acts: impl Into<Vec<Act>>) -> Traffic {
        Traffic {
            session: Some(SessionPlan::default()),
            reconnect: Some(Duration::from_millis(20)),
            ..Traffic::of(acts)
        }
    }
}

impl Act {
    pub fn subscribe(name: &str) -> Act {
        Act::Subscribe(Filter::of(name))
    }

    pub fn unsubscribe(name: &str) -> Act {
        Act::Unsubscribe(Filter::of(name))
    }

    pub fn serve(name: &str) -> Act {
        Act::Serve(Filter::of(name))
    }

    /// A PUBLISH with an id.
    pub fn publish(topic: &str) -> Act {
        Act::Publish(Publish::of(topic))
    }

    pub fn request(service: &str) -> Act {
        Act::Request(Request {
            service: service.to_owned(),
            ..Request::default()
        })
    }
}

impl Publish {
    /// A small message with an id.
    pub fn of(topic: &str) -> Publish {
        Publish {
            topic: topic.to_owned(),
            confirmed: true,
            ..Publish::default()
        }
    }

    pub fn in_codec(topic: &str, codec: Codec) -> Publish {
        Publish {
            codec,
            ..Publish::of(topic)
        }
    }

    pub fn retained(topic: &str) -> Publish {
        Publish {
            retain: true,
            ..Publish::of(topic)
        }
    }
}

impl Filter {
    pub fn of(name: &str) -> Filter {
        Filter {
            name: name.to_owned(),
            ..Filter::default()
        }
    }

    pub fn in_group(name: &str, group: &str) -> Filter {
        Filter {
            group: Some(group.to_owned()),
            ..Filter::of(name)
        }
    }

    pub fn in_codec(name: &str, codec: Codec) -> Filter {
        Filter {
            codec,
            ..Filter::of(name)
        }
    }

    pub fn with_policy(name: &str, policy: SlowPolicy) -> Filter {
        Filter {
            policy: Some(policy),
            ..Filter::of(name)
        }
    }
}
