//! What a client that takes part in routing has done and met with, with the times of both.
//! Whether that is what the protocol promises is for a harness to say, which knows all
//! clients' records.
//!
//! A *membership* is what the server knows a client by: a session, or a connection without
//! one. Subscriptions, services and a will belong to it, and nothing is delivered to it
//! twice. A client whose session is gone begins another.

use super::cargo::Label;
use super::plan::{Filter, Publish};
use crate::base::clock::Instant;
use crate::base::reason::Reason;
use crate::proto::envelope::Codec;
use crate::proto::error::Code;
use crate::ring::sim::client::Ending;
use std::rc::Rc;

/// All that is known of one client.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub connections: Vec<Connection>,
    pub memberships: Vec<Membership>,
    /// AUTH_OKs, in their order.
    pub grants: Vec<Grant>,
    pub published: Vec<Published>,
    pub delivered: Vec<Delivered>,
    /// SUBSCRIBE and UNSUBSCRIBE.
    pub subscriptions: Vec<Standing>,
    /// SERVE and UNSERVE.
    pub services: Vec<Standing>,
    pub asked: Vec<Asked>,
    pub served: Vec<Served>,
    /// ERRORs that were not fatal: the operation's id, the code, when.
    pub errors: Vec<(u32, Code, Instant)>,
    /// The first thing that was not as it should be, whatever others did.
    pub wrong: Option<String>,
    /// It has ended, or gone for good.
    pub over: bool,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Connection {
    pub begun_at: Instant,
    pub established_at: Option<Instant>,
    /// The shard that serves it.
    pub shard: Option<u16>,
    /// The membership it had when it ended.
    pub membership: usize,
    pub ended_at: Option<Instant>,
    /// When the client began to end it.
    pub left_at: Option<Instant>,
    /// How the client ended it, if it did.
    pub ending: Option<Ending>,
    /// The server's last word was the answer to the client's CLOSE.
    pub close_answered: bool,
    /// The server's own CLOSE.
    pub close_heard: Option<Code>,
    /// The code of a fatal ERROR, or of an RST.
    pub refused: Option<Code>,
    /// What the client's own end of the protocol ended for: the server's bytes were wrong.
    pub offended: Option<Reason>,
    pub drains: u32,
    /// A fault broke it, or nobody listened.
    pub broken: bool,
}

impl Connection {
    /// Whether all that was sent on it has been taken, and all that was owed was received.
    pub fn is_orderly(&self) -> bool {
        self.close_answered
    }
}

/// What the server knows a client by.
#[derive(Clone, Debug)]
pub struct Membership {
    pub began_at: Instant,
    /// The session's key; `None` without a session.
    pub key: Option<[u8; 16]>,
    /// Counted messages.
    pub received: u32,
    pub acknowledged: u32,
    /// How often it was resumed.
    pub resumed: u32,
    /// CLOSE was sent.
    pub closing_at: Option<Instant>,
    /// It is over: with CLOSE answered, or else.
    pub closed_at: Option<Instant>,
    pub lost_at: Option<Instant>,
    /// SESSION_UNKNOWN came for its key.
    pub unknown: bool,
    /// Its wills, in their order; the last one counts.
    pub wills: Vec<Will>,
}

#[derive(Clone, Debug)]
pub struct Will {
    /// The number in `published`; `None`: withdrawn.
    pub number: Option<u32>,
    pub confirmed: bool,
}

/// A message made by this client; its number is its place.
#[derive(Clone, Debug)]
pub struct Published {
    pub plan: Publish,
    /// 0: no confirmation wanted.
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
    /// Whom the server takes it for.
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
    /// The AUTH_OK before it: the rights by which it came.
    pub grant: Option<usize>,
    pub at: Instant,
}

/// A SUBSCRIBE or SERVE and what became of it.
#[derive(Clone, Debug)]
pub struct Standing {
    pub filter: Filter,
    pub membership: usize,
    /// How often it was asked for within the membership.
    pub asked: u32,
    pub asked_at: Instant,
    pub confirmed_at: Option<Instant>,
    /// Messages that had been received before its OK.
    pub received_before: usize,
    pub refused: Option<Code>,
    /// UNSUBSCRIBE or UNSERVE.
    pub left_at: Option<Instant>,
    pub left_confirmed_at: Option<Instant>,
}

/// A REQUEST of this client; its number is its place.
#[derive(Clone, Debug)]
pub struct Asked {
    pub service: String,
    /// Bytes of payload beside those that tell who asked.
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
    /// Who answered, if it was not a failure.
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
    /// Notes what is wrong; the first counts.
    pub(super) fn blame(&mut self, what: impl Into<String>) {
        if self.wrong.is_none() {
            self.wrong = Some(what.into());
        }
    }

    pub(super) fn connection_mut(&mut self) -> Option<&mut Connection> {
        self.connections.last_mut()
    }

    pub fn membership(&self) -> Option<&Membership> {
        self.memberships.last()
    }

    pub(super) fn membership_mut(&mut self) -> Option<&mut Membership> {
        self.memberships.last_mut()
    }

    /// The numbers of messages received of one maker on one topic, in their order.
    pub fn numbers(&self, maker: crate::ring::sim::client::ClientId, topic: &str) -> Vec<u32> {
        let of = |one: &&Delivered| one.label.maker == maker && one.topic == topic;
        let numbers = self.delivered.iter().filter(of);
        numbers.map(|one| one.label.number).collect()
    }

    /// The session's key, once there is one.
    pub fn key(&self) -> Option<[u8; 16]> {
        self.membership()?.key
    }

    /// Codes of all failures of REQUESTs, `None` for an answer, in the order asked.
    pub fn outcomes(&self) -> Vec<Option<Result<u32, Code>>> {
        let outcome = |asked: &Asked| {
            let answer = asked.answer?;
            Some(answer.failed.map_or(Ok(answer.by.unwrap_or(u32::MAX)), Err))
        };
        self.asked.iter().map(outcome).collect()
    }
}
