//! What a client that takes part in routing will do: its acts in their order, and how it
//! reads, writes, answers, breaks off and comes back.
//!
//! A plan is a script rather than a set of rates, so that a scenario of three acts and a
//! random load of hundreds are the same thing; [`super::Command::Act`] adds to it while the
//! client lives. The script goes on where it stood when a connection broke.

use crate::proto::envelope::{Codec, SlowPolicy};
use crate::ring::sim::client::{Ending, Reading, Writing};
use std::rc::Rc;
use std::time::Duration;

/// A client's behaviour. [`Traffic::default`] shakes hands, does nothing and stays.
#[derive(Clone, Debug)]
pub struct Traffic {
    pub checksum: bool,
    /// The codec it prefers to receive, if it says so in its SYN.
    pub codec: Option<Codec>,
    /// The token with which each of its connections begins; none: no AUTH.
    pub token: Option<Rc<str>>,
    /// Whether it keeps a session across its connections.
    pub session: Option<Keeping>,
    pub acts: Vec<Act>,
    /// It pauses up to this before each act.
    pub think: Duration,
    /// Operations unconfirmed at once; beyond them it waits.
    pub window: usize,
    pub reading: Reading,
    pub writing: Writing,
    /// What it does with REQUESTs, taking these in turn.
    pub answering: Vec<Answering>,
    /// Its connection breaks this long after it began, this way, whatever is open then.
    pub cuts: Vec<(Duration, Ending)>,
    /// It comes back within this when its connection ended without its CLOSE. `None`: never.
    pub reconnect: Option<Duration>,
}

/// How a client keeps its session.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    /// It sends ACK after so many counted messages; 0: never.
    pub ack_every: u32,
    /// On resumption it repeats all it saw no OK for, even what the server says is
    /// confirmed.
    pub repeats_all: bool,
    /// The key it begins with, another client's, and what that one has received.
    pub resumes: Option<([u8; 16], u32)>,
}

impl Default for Keeping {
    fn default() -> Keeping {
        Keeping {
            ack_every: 4,
            repeats_all: true,
            resumes: None,
        }
    }
}

/// What becomes of a REQUEST.
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

/// One thing a client does.
#[derive(Clone, Debug)]
pub enum Act {
    Publish(Publish),
    Subscribe(Filter),
    Unsubscribe(Filter),
    Serve(Filter),
    Unserve(Filter),
    Will(Publish),
    /// Withdraws the will.
    NoWill,
    Request(Request),
    Pause(Duration),
    /// Reads this way from now on.
    Read(Reading),
    /// Waits until every operation so far is answered.
    Settle,
    /// Sends these bytes as they are.
    Say(Vec<u8>),
    /// Sends AUTH with this token, which later connections begin with too.
    Auth(Rc<str>),
    /// Sends ACK with this number, whatever it has counted.
    Ack(u32),
    /// Sends ACK with all it has counted, if it has a session.
    AckAll,
    /// Ends the connection this way. With `Ending::Close` the client is over.
    End(Ending),
}

/// A message to publish. What it carries is made from who sends it and its number.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    pub topic: String,
    /// Wants an OK.
    pub confirmed: bool,
    pub retain: bool,
    /// An empty payload: clears what is retained.
    pub empty: bool,
    /// Bytes of payload beside those that tell who sent it.
    pub bytes: usize,
    pub expires_ms: Option<u32>,
    pub key: Option<Vec<u8>>,
    /// What it is written in: see `cargo`.
    pub codec: Codec,
}

/// A filter with what SUBSCRIBE and SERVE take beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub name: String,
    pub group: Option<String>,
    pub policy: Option<SlowPolicy>,
    /// What SUBSCRIBE says it wants.
    pub codec: Codec,
}

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub service: String,
    pub timeout_ms: Option<u32>,
    pub bytes: usize,
}

impl Default for Traffic {
    fn default() -> Traffic {
        Traffic {
            checksum: false,
            codec: None,
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
    /// A client that does this and stays.
    pub fn of(acts: impl Into<Vec<Act>>) -> Traffic {
        Traffic {
            acts: acts.into(),
            ..Traffic::default()
        }
    }

    /// The same, with a session, coming back within 20 ms.
    pub fn kept(acts: impl Into<Vec<Act>>) -> Traffic {
        Traffic {
            session: Some(Keeping::default()),
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
