//! What a client knows beyond its connection: its script, its record, what it waits for.
//! Here is what carries over from one connection to the next; `speak` and `hear` add what
//! it says and hears.
//!
//! Invariant: `unanswered` holds the operations sent on this connection and neither
//! answered by OK nor by ERROR, in the order in which they were sent; between connections
//! those of the last one.

use super::plan::{Act, Traffic};
use super::record::{Grant, Membership, Record};
use super::voice::Voice;
use crate::base::clock::Instant;
use crate::proto::message::Message;
use crate::ring::sim::client::{ClientId, Ending};
use std::collections::VecDeque;
use std::rc::Rc;

/// AUTH's method of a token.
const METHOD_JWT: u8 = 1;

/// What an operation was about: places in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matter {
    Publish(u32),
    Subscribe(usize),
    Unsubscribe(usize),
    Serve(usize),
    Unserve(usize),
    /// The place among the membership's wills.
    Will(usize),
}

/// An operation that OK or ERROR answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) id: u32,
    pub(super) matter: Matter,
}

/// How far a connection has got with who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Nobody,
    /// AUTH was sent.
    Showing,
    /// SESSION was sent.
    Asking,
    Member,
}

/// A RESPONSE that is given later.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) id: u32,
    pub(super) flags: u8,
    pub(super) payload: Vec<u8>,
}

pub(super) struct Mind {
    pub(super) id: ClientId,
    pub(super) plan: Rc<Traffic>,
    pub(super) record: Record,
    pub(super) acts: VecDeque<Act>,
    pub(super) act_at: Instant,
    pub(super) unanswered: VecDeque<Operation>,
    pub(super) next_id: u32,
    pub(super) standing: Standing,
    /// The tokens of AUTHs that are not answered.
    pub(super) shown: VecDeque<Rc<str>>,
    pub(super) due: Vec<Due>,
    /// The first REQUEST made on this connection.
    pub(super) asked_from: usize,
    /// How the connection shall end now.
    pub(super) ending: Option<Ending>,
}

impl Mind {
    pub(super) fn new(id: ClientId, plan: Rc<Traffic>) -> Mind {
        Mind {
            id,
            acts: plan.acts.iter().cloned().collect(),
            plan,
            record: Record::default(),
            act_at: Instant::ZERO,
            unanswered: VecDeque::new(),
            next_id: 1,
            standing: Standing::Nobody,
            shown: VecDeque::new(),
            due: Vec::new(),
            asked_from: 0,
            ending: None,
        }
    }

    /// The handshake is over.
    pub(super) fn establish(&mut self, shard: Option<u16>, voice: &mut Voice, now: Instant) {
        if let Some(connection) = self.record.connection_mut() {
            connection.established_at = Some(now);
            connection.shard = shard;
        }
        self.asked_from = self.record.asked.len();
        if self.plan.token.is_some() {
            self.standing = Standing::Showing;
            return self.authenticate(voice);
        }
        self.enter(voice, now);
    }

    /// Sends AUTH.
    pub(super) fn authenticate(&mut self, voice: &mut Voice) {
        if let Some(token) = &self.plan.token {
            let credential = token.as_bytes();
            voice.send(&Message::Auth {
                method: METHOD_JWT,
                credential,
            });
            self.shown.push_back(token.clone());
        }
    }

    /// AUTH_OK.
    pub(super) fn take_grant(&mut self, principal: &str, voice: &mut Voice, now: Instant) {
        let Some(token) = self.shown.pop_front() else {
            return self.record.blame("an AUTH_OK that was not asked for");
        };
        self.record.grants.push(Grant {
            token,
            principal: principal.to_owned(),
            connection: self.record.connections.len() - 1,
            at: now,
        });
        if self.standing == Standing::Showing {
            self.enter(voice, now);
        }
    }

    /// The server knows who it is, or asks nobody.
    fn enter(&mut self, voice: &mut Voice, now: Instant) {
        if self.plan.session.is_some() {
            self.ask_for_session(voice);
        } else {
            self.begin_membership(None, voice, now);
        }
    }

    /// Sends SESSION with the key it holds, or for a new one.
    fn ask_for_session(&mut self, voice: &mut Voice) {
        self.standing = Standing::Asking;
        let mut asked = self.plan.session.and_then(|keeping| keeping.resumes);
        if let Some(membership) = self.record.membership() {
            let alive = membership.lost_at.is_none() && membership.closed_at.is_none();
            let key = membership.key.filter(|_| alive);
            asked = key.map(|key| (key, membership.received));
        }
        let (key, received) = asked.unwrap_or_default();
        voice.send(&Message::Session { key, received });
    }

    /// SESSION_OK.
    pub(super) fn take_session(
        &mut self,
        key: [u8; 16],
        resumed: bool,
        last_publish_id: u32,
        voice: &mut Voice,
        now: Instant,
    ) {
        if self.standing != Standing::Asking {
            return self.record.blame("a SESSION_OK that was not asked for");
        }
        if key == [0; 16] {
            self.record.blame("a session's key is nought");
        }
        if !resumed {
            if last_publish_id != 0 {
                let wrong = format!("a new session begins at PUBLISH {last_publish_id}");
                self.record.blame(wrong);
            }
            return self.begin_membership(Some(key), voice, now);
        }
        if self.record.memberships.is_empty() {
            // Another client's, whose key it was given.
            let received = self.plan.session.and_then(|keeping| keeping.resumes);
            let received = received.map_or(0, |(_, received)| received);
            self.next_id = last_publish_id + 1;
            self.push_membership(Some(key), received, now);
            return;
        }
        let Some(membership) = self.record.membership_mut() else {
            return;
        };
        if membership.key != Some(key) {
            return self.record.blame("resumed under another key");
        }
        membership.resumed += 1;
        if last_publish_id >= self.next_id {
            let wrong = format!("PUBLISH {last_publish_id} confirmed, never sent");
            self.record.blame(wrong);
        }
        self.standing = Standing::Member;
        self.note_membership();
        self.repeat_unanswered(last_publish_id, voice, now);
    }

    /// The session is gone at the server: another one begins.
    pub(super) fn lose_session(&mut self, voice: &mut Voice, now: Instant) {
        if let Some(membership) = self.record.membership_mut() {
            membership.unknown = true;
            membership.lost_at = Some(now);
        }
        if self.record.memberships.is_empty() {
            // The key was not its own: no second try with it.
            let plan = Rc::make_mut(&mut self.plan);
            plan.session = plan.session.map(|keeping| super::plan::Keeping {
                resumes: None,
                ..keeping
            });
        }
        self.ask_for_session(voice);
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
        self.standing = Standing::Member;
        self.note_membership();
    }

    fn note_membership(&mut self) {
        let membership = self.record.memberships.len() - 1;
        if let Some(connection) = self.record.connection_mut() {
            connection.membership = membership;
        }
    }

    /// Begins anew: what was unanswered is given up, what stood is asked for again.
    fn begin_membership(&mut self, key: Option<[u8; 16]>, voice: &mut Voice, now: Instant) {
        let will = self.record.membership().and_then(|last| last.wills.last());
        let will = will.and_then(|will| will.number);
        self.push_membership(key, 0, now);
        self.unanswered.clear();
        self.due.clear();
        self.stand_again(will, voice, now);
    }

    /// The connection is over; says whether the client comes back.
    pub(super) fn take_end(&mut self, now: Instant) -> bool {
        let closing = self.ending == Some(Ending::Close);
        let answered = self.record.connections.last();
        let answered = answered.is_some_and(|connection| connection.close_answered);
        if let Some(connection) = self.record.connection_mut() {
            connection.ended_at = Some(now);
            connection.ending = self.ending;
        }
        let was_member = self.standing == Standing::Member;
        if let Some(membership) = self.record.membership_mut().filter(|_| was_member) {
            if closing && answered {
                membership.closed_at = Some(now);
            } else if closing || membership.key.is_none() {
                membership.lost_at = Some(now);
            }
        }
        self.standing = Standing::Nobody;
        self.shown.clear();
        self.ending = None;
        self.plan.reconnect.is_some() && !closing
    }
}
