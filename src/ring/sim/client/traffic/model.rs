//! A client's state across its connections: its script, its record, the answers it waits for. This
//! file has what carries over from one connection to the next; `encode` and `decode` add the
//! messages out and in.
//!
//! Invariant: `unanswered` holds the operations sent on this connection that have had neither OK
//! nor ERROR, in the order in which they were sent; between connections, those of the last one.

use super::endpoint::Endpoint;
use super::plan::{Act, Traffic};
use super::record::{Grant, Membership, Record, Subject};
use crate::base::clock::Instant;
use crate::proto::message::Message;
use crate::ring::sim::client::{ClientId, Ending};
use std::collections::VecDeque;
use std::rc::Rc;

/// AUTH's method for tokens.
const METHOD_JWT: u8 = 1;

/// An operation that OK or ERROR answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) id: u32,
    pub(super) subject: Subject,
}

/// How far a connection has got towards its membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Unidentified,
    /// AUTH was sent.
    Authenticating,
    /// SESSION was sent.
    OpeningSession,
    Member,
}

/// A RESPONSE to be sent later.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) id: u32,
    pub(super) flags: u8,
    pub(super) payload: Vec<u8>,
}

/// The id after this one: modulo 2^32, never 0.
pub(super) const fn next(id: u32) -> u32 {
    match id.wrapping_add(1) {
        0 => 1,
        id => id,
    }
}

/// Whether an id is not behind another, of half of all ids that are compared with it.
pub(super) const fn is_up_to(id: u32, last: u32) -> bool {
    last.wrapping_sub(id) as i32 >= 0
}

pub(super) struct Model {
    pub(super) id: ClientId,
    pub(super) plan: Rc<Traffic>,
    pub(super) record: Record,
    pub(super) acts: VecDeque<Act>,
    pub(super) act_at: Instant,
    pub(super) unanswered: VecDeque<Operation>,
    pub(super) next_id: u32,
    pub(super) progress: Progress,
    /// The tokens of AUTHs that wait for AUTH_OK.
    pub(super) auths_unanswered: VecDeque<Rc<str>>,
    pub(super) due: Vec<Due>,
    /// The number of the first REQUEST made on this connection.
    pub(super) requested_from: usize,
    /// How the client is ending the connection.
    pub(super) ending: Option<Ending>,
}

impl Model {
    pub(super) fn new(id: ClientId, plan: Rc<Traffic>) -> Model {
        Model {
            id,
            acts: plan.acts.iter().cloned().collect(),
            next_id: plan.first_id,
            plan,
            record: Record::default(),
            act_at: Instant::ZERO,
            unanswered: VecDeque::new(),
            progress: Progress::Unidentified,
            auths_unanswered: VecDeque::new(),
            due: Vec::new(),
            requested_from: 0,
            ending: None,
        }
    }

    /// The handshake is complete.
    pub(super) fn establish(&mut self, shard: Option<u16>, endpoint: &mut Endpoint, now: Instant) {
        if let Some(connection) = self.record.connection_mut() {
            connection.established_at = Some(now);
            connection.shard = shard;
        }
        self.requested_from = self.record.requested.len();
        if self.plan.token.is_some() {
            self.progress = Progress::Authenticating;
            return self.authenticate(endpoint);
        }
        self.join(endpoint, now);
    }

    /// Sends AUTH.
    pub(super) fn authenticate(&mut self, endpoint: &mut Endpoint) {
        if let Some(token) = &self.plan.token {
            let credential = token.as_bytes();
            endpoint.send(&Message::Auth {
                method: METHOD_JWT,
                credential,
            });
            self.auths_unanswered.push_back(token.clone());
        }
    }

    /// AUTH_OK.
    pub(super) fn take_grant(&mut self, principal: &str, endpoint: &mut Endpoint, now: Instant) {
        let Some(token) = self.auths_unanswered.pop_front() else {
            return self
                .record
                .note_violation("an AUTH_OK that was not asked for");
        };
        self.record.grants.push(Grant {
            token,
            principal: principal.to_owned(),
            connection: self.record.connections.len() - 1,
            at: now,
        });
        if self.progress == Progress::Authenticating {
            self.join(endpoint, now);
        }
    }

    /// The client is authenticated, or does not authenticate: opens its session, or begins a
    /// membership without one.
    fn join(&mut self, endpoint: &mut Endpoint, now: Instant) {
        if self.plan.session.is_some() {
            self.ask_for_session(endpoint);
        } else {
            self.begin_membership(None, endpoint, now);
        }
    }

    /// Sends SESSION: with the key it holds, or for a new session.
    fn ask_for_session(&mut self, endpoint: &mut Endpoint) {
        self.progress = Progress::OpeningSession;
        let mut asked = self.plan.session.and_then(|session| session.resumes);
        if let Some(membership) = self.record.membership() {
            let alive = membership.lost_at.is_none() && membership.closed_at.is_none();
            let key = membership.key.filter(|_| alive);
            asked = key.map(|key| (key, membership.received));
        }
        let (key, received) = asked.unwrap_or_default();
        endpoint.send(&Message::Session { key, received });
    }

    /// SESSION_OK.
    pub(super) fn take_session(
        &mut self,
        key: [u8; 16],
        resumed: bool,
        last_publish_id: u32,
        endpoint: &mut Endpoint,
        now: Instant,
    ) {
        if self.progress != Progress::OpeningSession {
            return self
                .record
                .note_violation("a SESSION_OK that was not asked for");
        }
        if key == [0; 16] {
            self.record
                .note_violation("the key of a session is all zeros");
        }
        if !resumed {
            if last_publish_id != 0 {
                let wrong = format!("a new session begins at PUBLISH {last_publish_id}");
                self.record.note_violation(wrong);
            }
            return self.begin_membership(Some(key), endpoint, now);
        }
        if self.record.memberships.is_empty() {
            // It is another client's session, whose key the plan gave.
            let received = self.plan.session.and_then(|session| session.resumes);
            let received = received.map_or(0, |(_, received)| received);
            self.next_id = next(last_publish_id);
            self.push_membership(Some(key), received, now);
            return;
        }
        let Some(membership) = self.record.membership_mut() else {
            return;
        };
        if membership.key != Some(key) {
            return self.record.note_violation("resumed under another key");
        }
        membership.resumed += 1;
        if last_publish_id != 0 && !is_up_to(next(last_publish_id), self.next_id) {
            let wrong = format!("PUBLISH {last_publish_id} confirmed, never sent");
            self.record.note_violation(wrong);
        }
        self.progress = Progress::Member;
        self.note_membership();
        self.repeat_unanswered(last_publish_id, endpoint, now);
    }

    /// The server no longer knows the session: asks for a new one.
    pub(super) fn lose_session(&mut self, endpoint: &mut Endpoint, now: Instant) {
        if let Some(membership) = self.record.membership_mut() {
            membership.unknown = true;
            membership.lost_at = Some(now);
        }
        if self.record.memberships.is_empty() {
            // The key was another client's: not to be tried again.
            let plan = Rc::make_mut(&mut self.plan);
            plan.session = plan.session.map(|session| super::plan::SessionPlan {
                resumes: None,
                ..session
            });
        }
        self.ask_for_session(endpoint);
    }

    fn push_membership(&mut self, key: Option<[u8; 16]>, received: u32, now: Instant) {
        self.record.memberships.push(Membership {
            began_at: now,
            key,
            received,
            acknowledged: received,
            resumed: 0,
            closing_at: None,
            closed_at: None,
            lost_at: None,
            unknown: false,
            wills: Vec::new(),
        });
        self.progress = Progress::Member;
        self.note_membership();
    }

    fn note_membership(&mut self) {
        let membership = self.record.memberships.len() - 1;
        if let Some(connection) = self.record.connection_mut() {
            connection.membership = membership;
        }
    }

    /// Begins a new membership: drops unanswered operations, registers everything again.
    fn begin_membership(&mut self, key: Option<[u8; 16]>, endpoint: &mut Endpoint, now: Instant) {
        let will = self.record.membership().and_then(|last| last.wills.last());
        let will = will.and_then(|will| will.number);
        self.push_membership(key, 0, now);
        self.unanswered.clear();
        self.due.clear();
        self.register_again(will, endpoint, now);
    }

    /// The connection has ended; returns whether the client reconnects.
    pub(super) fn take_end(&mut self, now: Instant) -> bool {
        let closing = self.ending == Some(Ending::Close);
        let answered = self.record.connections.last();
        let answered = answered.is_some_and(|connection| connection.close_answered);
        if let Some(connection) = self.record.connection_mut() {
            connection.ended_at = Some(now);
            connection.ending = self.ending;
        }
        let was_member = self.progress == Progress::Member;
        if let Some(membership) = self.record.membership_mut().filter(|_| was_member) {
            if closing && answered {
                membership.closed_at = Some(now);
            } else if closing || membership.key.is_none() {
                membership.lost_at = Some(now);
            }
        }
        self.progress = Progress::Unidentified;
        self.auths_unanswered.clear();
        self.ending = None;
        self.plan.reconnect.is_some() && !closing
    }
}
