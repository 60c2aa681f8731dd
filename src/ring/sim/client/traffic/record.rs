//! What a traffic client has done and received, and when. Whether that is what the protocol
//! promises is for the harness to judge, which sees the records of all clients.
//!
//! A *membership* is what the server identifies a client by: a session, or a connection without
//! one. Subscriptions, services and a will belong to it, and nothing is delivered to it twice. A
//! client whose session the server no longer knows begins another membership.

use super::payload::Label;
use super::plan::{Filter, Publish};
use crate::base::clock::Instant;
use crate::base::reason::Reason;
use crate::proto::envelope::Codec;
use crate::proto::error::Code;
use crate::ring::sim::client::Ending;
use std::rc::Rc;

/// What an operation was about: an index into the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Publish(u32),
    Subscribe(usize),
    Unsubscribe(usize),
    Serve(usize),
    Unserve(usize),
    /// The index among the membership's wills.
    Will(usize),
}

/// Everything recorded of one client.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub connections: Vec<ConnectionRecord>,
    pub memberships: Vec<Membership>,
    /// AUTH_OKs, in order.
    pub grants: Vec<Grant>,
    pub published: Vec<Published>,
    pub delivered: Vec<Delivered>,
    /// SUBSCRIBE and UNSUBSCRIBE.
    pub subscriptions: Vec<Registration>,
    /// SERVE and UNSERVE.
    pub services: Vec<Registration>,
    pub requested: Vec<Requested>,
    pub served: Vec<Served>,
    /// ERRORs that were not fatal: the operation's id, the code, when.
    pub errors: Vec<(u32, Code, Instant)>,
    /// The first violation of the protocol by the server that this client could see by itself.
    pub violation: Option<String>,
    /// The client has ended and will not reconnect.
    pub ended: bool,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct ConnectionRecord {
    pub begun_at: Instant,
    pub established_at: Option<Instant>,
    /// The shard that serves it.
    pub shard: Option<u16>,
    /// The membership it had when it ended.
    pub membership: usize,
    pub ended_at: Option<Instant>,
    /// When the client began to end the connection.
    pub left_at: Option<Instant>,
    /// How the client ended it, if it did.
    pub ending: Option<Ending>,
    /// The server answered the client's CLOSE.
    pub close_answered: bool,
    /// The server's own CLOSE.
    pub close_received: Option<Code>,
    /// The code of a fatal ERROR, or of an RST.
    pub refused: Option<Code>,
    /// Why the client's own session ended, if the server's bytes violated the protocol.
    pub protocol_error: Option<Reason>,
    pub drains: u32,
    /// An injected fault broke it.
    pub broken: bool,
}

impl ConnectionRecord {
    /// Whether the server has taken everything sent on it and the client received everything owed.
    pub fn is_orderly(&self) -> bool {
        self.close_answered
    }
}

/// What the server identifies a client by.
#[derive(Clone, Debug)]
pub struct Membership {
    pub began_at: Instant,
    /// The session's key; `None` without a session.
    pub key: Option<[u8; 16]>,
    /// Messages received that ACK counts.
    pub received: u32,
    pub acknowledged: u32,
    /// How often it was resumed.
    pub resumed: u32,
    /// CLOSE was sent.
    pub closing_at: Option<Instant>,
    /// When it ended: with CLOSE answered, or (`lost_at`) otherwise.
    pub closed_at: Option<Instant>,
    pub lost_at: Option<Instant>,
    /// The server answered SESSION_UNKNOWN for its key.
    pub unknown: bool,
    /// Its wills, in order; the last one counts.
    pub wills: Vec<Will>,
}

#[derive(Clone, Debug)]
pub struct Will {
    /// The index in `published`; `None`: withdrawn.
    pub number: Option<u32>,
    pub confirmed: bool,
}

/// A message of this client; its number is its index.
#[derive(Clone, Debug)]
pub struct Published {
    pub plan: Publish,
    /// 0: no confirmation requested.
    pub id: u32,
    pub digest: u64,
    pub is_will: bool,
    pub membership: usize,
    /// The first connection it was sent on, and how often it was sent.
    pub connection: usize,
    pub sent: u32,
    pub sent_at: Instant,
    pub confirmed_at: Option<Instant>,
    pub refused: Option<Code>,
}

/// An AUTH that was accepted.
#[derive(Clone, Debug)]
pub struct Grant {
    pub token: Rc<str>,
    /// The principal that the server named.
    pub principal: String,
    pub connection: usize,
    pub at: Instant,
}

/// A PUBLISH received.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub label: Label,
    pub id: u32,
    pub digest: u64,
    pub codec: Codec,
    pub topic: String,
    pub retain: bool,
    pub connection: usize,
    pub membership: usize,
    /// The latest AUTH_OK before it, whose rights it was delivered under.
    pub grant: Option<usize>,
    pub at: Instant,
}

/// A SUBSCRIBE or SERVE, how the server answered it, and when it ended.
#[derive(Clone, Debug)]
pub struct Registration {
    pub filter: Filter,
    pub membership: usize,
    /// How often it was sent within the membership.
    pub sent: u32,
    pub sent_at: Instant,
    pub confirmed_at: Option<Instant>,
    /// How many messages the client had received before its OK.
    pub received_before: usize,
    pub refused: Option<Code>,
    /// UNSUBSCRIBE or UNSERVE.
    pub left_at: Option<Instant>,
    pub left_confirmed_at: Option<Instant>,
}

/// A REQUEST of this client; its number is its index.
#[derive(Clone, Debug)]
pub struct Requested {
    pub service: String,
    /// Bytes of payload beside the label.
    pub bytes: usize,
    pub timeout_ms: Option<u32>,
    pub membership: usize,
    pub connection: usize,
    pub at: Instant,
    pub answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub at: Instant,
    /// The client that answered, unless it failed.
    pub by: Option<u32>,
    /// The code of a failure.
    pub failed: Option<Code>,
}

/// A REQUEST received.
#[derive(Clone, Debug)]
pub struct Served {
    pub label: Label,
    pub service: String,
    pub membership: usize,
    pub at: Instant,
}

impl Record {
    /// Records a violation, if it is the first.
    pub(super) fn note_violation(&mut self, what: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(what.into());
        }
    }

    /// An UNSUBSCRIBE or UNSERVE was refused: what it was to end stands.
    pub(super) fn note_stays(&mut self, subject: Subject) {
        let (all, place) = match subject {
            Subject::Unserve(place) => (&mut self.services, place),
            Subject::Unsubscribe(place) => (&mut self.subscriptions, place),
            _ => return,
        };
        let Some(one) = all.get(place).cloned() else {
            return;
        };
        for other in all.iter_mut() {
            let is_same =
                (&other.filter.name, &other.filter.group) == (&one.filter.name, &one.filter.group);
            if is_same && other.membership == one.membership && other.left_at == one.left_at {
                other.left_at = None;
            }
        }
    }

    pub(super) fn connection_mut(&mut self) -> Option<&mut ConnectionRecord> {
        self.connections.last_mut()
    }

    pub fn membership(&self) -> Option<&Membership> {
        self.memberships.last()
    }

    pub(super) fn membership_mut(&mut self) -> Option<&mut Membership> {
        self.memberships.last_mut()
    }

    /// The numbers of the messages received from one sender on one topic, in order.
    pub fn numbers(&self, sender: crate::ring::sim::client::ClientId, topic: &str) -> Vec<u32> {
        let of = |one: &&Delivered| one.label.sender == sender && one.topic == topic;
        let numbers = self.delivered.iter().filter(of);
        numbers.map(|one| one.label.number).collect()
    }

    /// The session's key, once there is a session.
    pub fn key(&self) -> Option<[u8; 16]> {
        self.membership()?.key
    }

    /// The outcome of each REQUEST, in order: who answered or the failure's code; `None` while
    /// unanswered.
    pub fn outcomes(&self) -> Vec<Option<Result<u32, Code>>> {
        let outcome = |asked: &Requested| {
            let answer = asked.answer?;
            Some(answer.failed.map_or(Ok(answer.by.unwrap_or(u32::MAX)), Err))
        };
        self.requested.iter().map(outcome).collect()
    }
}
