//! The state that a client keeps across its connections: pending operations, PUBLISHes in
//! flight, received messages, subscriptions and services, the session. Fed by a link's arrivals;
//! it sends nothing itself, but records what the conversation has to send, and what its owner
//! has to hand to waiting callers (`answers`).

mod ending;

use super::budget::{Budget, MARK};
use super::credential::Login;
use super::error::Error;
use super::flight::Flight;
use super::inbox::Inbox;
use super::incoming::{Incoming, IncomingRequest, Message};
use super::link::Arrival;
use super::registry::{Change, Registry};
use super::request::Response;
use super::subscribe::Interest;
use super::withdrawal::Withdrawals;
use crate::base::clock::Instant;
use crate::proto::envelope::Envelope;
use crate::proto::error::{Code, Refusal};
use crate::proto::message::MessageType;
use foldhash::fast::FixedState;
use std::collections::{HashMap, VecDeque};

/// The most failures of PUBLISHes that wait to be reported; older ones are dropped.
const COMPLAINTS_MAX: usize = 256;

/// How far the current connection has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake.
    Greeting,
    /// The handshake is complete.
    Greeted,
    /// AUTH was sent.
    Proving,
    /// The client is authenticated, or need not be.
    Admitted,
    /// SESSION was sent.
    Joining,
    /// SESSION_OK has arrived.
    Joined {
        resumed: bool,
    },
    /// The server answered SESSION_UNKNOWN.
    Unknown,
    /// Registrations are being restored.
    Restoring,
    Open,
}

/// An operation or request without an answer.
#[derive(Debug)]
struct Asked {
    kind: MessageType,
    change: Change,
    /// Whether a caller waits; otherwise only the change matters.
    is_awaited: bool,
}

/// The result of the operation, request, PING or PUBLISH with this id, for a waiting caller. An OK
/// is an empty response.
pub(super) type Answered = (u32, Result<Response, Error>);

/// The operation that restores a registration.
#[derive(Debug)]
struct Restored {
    id: u32,
    kind: MessageType,
    name: String,
    headers: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) stage: Stage,
    pub(super) inbox: Inbox,
    pub(super) flight: Flight,
    pub(super) registry: Registry,
    pub(super) withdrawals: Withdrawals,
    pub(super) budget: Budget,
    /// Whether the client wants a session.
    pub(super) wants_session: bool,
    /// The session in force, or to be resumed.
    pub(super) key: Option<[u8; 16]>,
    /// Whether a connection was established before this one.
    pub(super) has_stood: bool,
    /// Incremented by each connection or session that does not continue the previous one.
    pub(super) epoch: u32,
    /// Encoded answers to requests of this session, to be sent once it is resumed.
    pub(super) responses: Vec<Box<[u8]>>,
    /// Requests to be declined, since this client does not serve them.
    pub(super) declined: VecDeque<u32>,
    /// Whether messages or requests have arrived on this connection.
    pub(super) has_brought: bool,
    /// Whether CLOSE was sent: a full inbox no longer pauses reading, and what finds no room there
    /// is dropped.
    pub(super) is_closing: bool,
    /// An AUTH_OK that is not handled yet.
    pub(super) login: Option<Login>,
    /// Why the server refused a session.
    pub(super) session_refusal: Option<Refusal>,
    /// How many connections were established, and how many of them did not continue the previous
    /// one.
    pub(super) stood_count: u64,
    pub(super) lapse_count: u64,
    answers: Vec<Answered>,
    asked: HashMap<u32, Asked, FixedState>,
    /// SUBSCRIBEs and SERVEs of this session whose answer was lost with a connection.
    doubtful: Vec<(MessageType, Interest)>,
    /// SERVEs among them.
    serves_asked: usize,
    /// PINGs without their PONG, oldest first.
    pings: VecDeque<(u32, Box<[u8]>)>,
    /// Registrations still to be restored, encoded.
    pub(super) unrestored: VecDeque<(MessageType, Box<[u8]>)>,
    /// PUBLISHes in flight after this id are still to be repeated.
    pub(super) unrepeated: Option<u32>,
    restoring: Vec<Restored>,
    /// Failures of operations that no caller waits for.
    complaints: VecDeque<Error>,
}

impl Ledger {
    pub(super) fn new(wants_session: bool, inbox_bytes_max: usize) -> Ledger {
        Ledger {
            stage: Stage::Greeting,
            inbox: Inbox::new(inbox_bytes_max),
            flight: Flight::default(),
            registry: Registry::default(),
            withdrawals: Withdrawals::default(),
            budget: Budget::default(),
            wants_session,
            key: None,
            has_stood: false,
            epoch: 0,
            responses: Vec::new(),
            declined: VecDeque::new(),
            has_brought: false,
            is_closing: false,
            login: None,
            session_refusal: None,
            stood_count: 0,
            lapse_count: 0,
            answers: Vec::new(),
            asked: HashMap::default(),
            doubtful: Vec::new(),
            serves_asked: 0,
            pings: VecDeque::new(),
            unrestored: VecDeque::new(),
            unrepeated: None,
            restoring: Vec::new(),
            complaints: VecDeque::new(),
        }
    }

    // ---- pending operations ----

    pub(super) fn ask(&mut self, id: u32, kind: MessageType, change: Change) {
        self.serves_asked += usize::from(kind == MessageType::Serve);
        let asked = Asked {
            kind,
            change,
            is_awaited: true,
        };
        self.asked.insert(id, asked);
    }

    /// A PING was sent with these bytes.
    pub(super) fn ping(&mut self, id: u32, payload: &[u8]) {
        self.pings.push_back((id, payload.into()));
    }

    /// Takes the answers since the last call.
    pub(super) fn take_answers(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answers)
    }

    /// The caller no longer waits for this id. An operation that is confirmed late still takes
    /// effect.
    pub(super) fn forget(&mut self, id: u32) {
        self.answers.retain(|(answered, _)| *answered != id);
        self.pings.retain(|(pinged, _)| *pinged != id);
        self.flight.forget(id);
        let Some(asked) = self.asked.get_mut(&id) else {
            return;
        };
        asked.is_awaited = false;
        if matches!(asked.change, Change::None) {
            self.remove(id);
        }
    }

    /// Whether a subscription or service may exist at the server: it was confirmed, or sent and not
    /// refused. `kind` is what ends it.
    pub(super) fn may_stand(&self, kind: MessageType, interest: &Interest) -> bool {
        let begun = begun_by(kind);
        let is_it = |asked: &Asked| asked.kind == begun && asked.change.is_about(interest);
        self.registry.contains(begun, interest)
            || self.asked.values().any(is_it)
            || self.is_doubtful(begun, interest)
    }

    fn is_doubtful(&self, begun: MessageType, interest: &Interest) -> bool {
        let mut doubtful = self.doubtful.iter();
        doubtful.any(|(kind, asked)| *kind == begun && asked.is_same(interest))
    }

    /// Removes a subscription or service that no mailbox needs any more; `kind` is what ends it.
    pub(super) fn withdraw(&mut self, kind: MessageType, interest: &Interest) {
        let begun = begun_by(kind);
        self.settle_doubt(begun, interest);
        for asked in self.asked.values_mut().filter(|asked| asked.kind == begun) {
            // Its OK may still be on its way: the operation that ends it follows.
            if asked.change.is_about(interest) {
                asked.change = Change::None;
            }
        }
        self.registry
            .note(kind, Change::Interest(interest.identity()));
        self.withdrawals.push(kind, interest);
    }

    fn settle_doubt(&mut self, begun: MessageType, interest: &Interest) {
        let is_other = |(kind, asked): &(_, Interest)| *kind != begun || !asked.is_same(interest);
        self.doubtful.retain(is_other);
    }

    fn remove(&mut self, id: u32) -> Option<Asked> {
        let asked = self.asked.remove(&id)?;
        self.serves_asked -= usize::from(asked.kind == MessageType::Serve);
        Some(asked)
    }

    pub(super) fn restore(&mut self, id: u32, kind: MessageType, envelope: &Envelope<'_>) {
        self.restoring.push(Restored {
            id,
            kind,
            name: envelope.name.to_owned(),
            headers: envelope.headers.as_bytes().to_vec(),
        });
    }

    pub(super) fn is_restored(&self) -> bool {
        self.restoring.is_empty() && self.unrestored.is_empty() && self.unrepeated.is_none()
    }

    // ---- complaints ----

    /// Takes the oldest unreported failure of an operation that no caller waits for.
    pub(super) fn take_complaint(&mut self) -> Option<Error> {
        self.complaints.pop_front()
    }

    fn complain(&mut self, error: Error) {
        if self.complaints.len() >= COMPLAINTS_MAX {
            self.complaints.pop_front();
        }
        self.complaints.push_back(error);
    }

    // ---- arrivals ----

    pub(super) fn take(&mut self, arrival: &Arrival<'_>, now: Instant) {
        match *arrival {
            Arrival::Established => self.stage = Stage::Greeted,
            Arrival::AuthOk(ref login) => {
                self.login = Some(login.clone());
                if self.stage == Stage::Proving {
                    self.stage = Stage::Admitted;
                }
            }
            Arrival::Publish(_) | Arrival::Request(_)
                if self.is_closing && self.inbox.is_full() =>
            {
                self.inbox.count();
            }
            Arrival::Publish(envelope) => {
                self.has_brought = true;
                self.inbox.push(Incoming::Message(Message::of(envelope)));
            }
            Arrival::Request(envelope) => self.take_request(envelope),
            Arrival::Response(envelope) => {
                self.inbox.count();
                let is_request = |kind| kind == MessageType::Request;
                self.answer(envelope.id, is_request, || Response::outcome(envelope));
            }
            Arrival::Ok { id } => self.take_ok(id),
            Arrival::Error { id, code, text } => self.take_error(id, code, text, now),
            Arrival::Pong(MARK) => self.budget.note_pong(now),
            Arrival::Pong(bytes) => self.take_pong(bytes),
            Arrival::SessionOk { key, resumed } => self.join(key, resumed),
        }
    }

    fn take_ok(&mut self, id: u32) {
        self.budget.note_answer(id, true);
        match self.flight.confirm(id) {
            Some(true) => self.answers.push((id, Ok(Response::default()))),
            Some(false) => {}
            None if self.withdrawals.finish(id) || self.finish_restoring(id, None) => {}
            None => {
                let is_operation = |kind| kind != MessageType::Request;
                self.answer(id, is_operation, || Ok(Response::default()));
            }
        }
    }

    fn take_request(&mut self, envelope: &Envelope<'_>) {
        self.has_brought = true;
        // A SERVE may take effect on another shard before its OK arrives here.
        let serves = self.registry.serves() || self.serves_asked > 0;
        let request = Incoming::Request(IncomingRequest::of(envelope, self.epoch));
        if self.inbox.gathers() && !serves {
            self.inbox.count();
            self.declined.push_back(envelope.id);
        } else if !self.inbox.push(request) {
            self.declined.push_back(envelope.id);
        }
    }

    fn take_pong(&mut self, bytes: &[u8]) {
        let index = self.pings.iter().position(|(_, sent)| **sent == *bytes);
        if let Some((id, _)) = index.and_then(|index| self.pings.remove(index)) {
            self.answers.push((id, Ok(Response::default())));
        }
    }

    fn take_error(&mut self, id: u32, code: Code, text: &str, now: Instant) {
        if id != 0 {
            self.budget.note_answer(id, false);
        }
        if code.counts_as_error() {
            let topic = self.flight.topic(id);
            self.budget.note_error(id, topic, now);
        }
        let failed = || Error::Failed {
            code,
            text: text.to_owned(),
        };
        if id != 0 {
            if let Some((is_awaited, error)) = self.flight.reject(id, code, text) {
                match is_awaited {
                    true => self.answers.push((id, Err(error))),
                    false => self.complain(error),
                }
            } else if !self.withdrawals.finish(id) && !self.finish_restoring(id, Some(failed())) {
                self.answer(id, |_| true, || Err(failed()));
            }
            return;
        }
        match self.stage {
            Stage::Joining if code == Code::SessionUnknown => self.stage = Stage::Unknown,
            Stage::Joining => {
                self.session_refusal = Some(Refusal::with(code, text.to_owned()));
            }
            _ => {
                let pings = self.pings.drain(..).map(|(id, _)| (id, Err(failed())));
                self.answers.extend(pings);
                let rejected = Error::Rejected {
                    id,
                    topic: String::new(),
                    code,
                    text: text.to_owned(),
                };
                self.complain(rejected);
            }
        }
    }

    /// The answer to `id`, of a kind that fits the operation; an error fits every operation.
    fn answer(
        &mut self,
        id: u32,
        fits: impl Fn(MessageType) -> bool,
        answer: impl FnOnce() -> Result<Response, Error>,
    ) {
        if !self.asked.get(&id).is_some_and(|asked| fits(asked.kind)) {
            return;
        }
        let Some(asked) = self.remove(id) else {
            return;
        };
        let answer = answer();
        if let Change::Interest(interest) = &asked.change {
            self.settle_doubt(asked.kind, interest);
        }
        if answer.is_ok() {
            if let Change::Interest(interest) = &asked.change {
                let serves = asked.kind == MessageType::Serve;
                self.inbox.hand_over(serves, interest);
            }
            self.registry.note(asked.kind, asked.change);
        }
        if asked.is_awaited {
            self.answers.push((id, answer));
        }
    }

    fn finish_restoring(&mut self, id: u32, error: Option<Error>) -> bool {
        let index = self.restoring.iter().position(|restored| restored.id == id);
        let Some(index) = index else {
            return false;
        };
        let restored = self.restoring.swap_remove(index);
        if let Some(error) = error {
            self.registry
                .forget(restored.kind, &restored.name, &restored.headers);
            self.complain(error);
        }
        true
    }

    /// The session stands. The last PUBLISH that the server has confirmed says nothing of those
    /// before it, which may have been refused by an ERROR that was lost: all in flight are repeated.
    fn join(&mut self, key: [u8; 16], resumed: bool) {
        if self.stage != Stage::Joining {
            return;
        }
        let resumed = resumed && self.key.is_some();
        self.key = Some(key);
        if resumed {
            self.inbox.resume();
            self.tell_reconnected(true);
        } else {
            self.renew();
        }
        self.stage = Stage::Joined { resumed };
    }
}

/// The operation that an UNSUBSCRIBE or UNSERVE ends.
fn begun_by(ended_by: MessageType) -> MessageType {
    if ended_by == MessageType::Unserve {
        MessageType::Serve
    } else {
        MessageType::Subscribe
    }
}
