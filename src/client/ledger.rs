//! What a client knows across its connections: operations waited for, PUBLISHes in flight,
//! what has come, what stands at the server, the session. Fed by a link's arrivals; it sends
//! nothing itself, but notes what the conversation has to send, and what its owner has to
//! hand to those who wait (`answers`).

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
use crate::proto::envelope::Envelope;
use crate::proto::error::{Code, Refusal};
use crate::proto::message::MessageType;
use std::collections::{HashMap, VecDeque};
use std::io;

/// Failures of PUBLISHes that wait to be told at most; older ones are dropped.
const COMPLAINTS_MAX: usize = 256;

/// How far the present connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake.
    Greeting,
    /// The handshake is over.
    Greeted,
    /// AUTH was sent.
    Proving,
    /// The server knows who this is, or does not ask.
    Admitted,
    /// SESSION was sent.
    Joining,
    /// SESSION_OK has come.
    Joined {
        resumed: bool,
    },
    /// The session asked for is unknown.
    Unknown,
    /// What stood at the server is asked for again.
    Restoring,
    Open,
}

/// An operation or request without an answer.
#[derive(Debug)]
struct Asked {
    kind: MessageType,
    change: Change,
    /// Somebody waits; else only the change matters.
    is_awaited: bool,
}

/// What came of the operation, request, PING or PUBLISH with this id, of which somebody waits
/// for the answer. An OK is an empty response.
pub(super) type Answered = (u32, Result<Response, Error>);

/// What an operation that restores something was.
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
    /// Whether there is to be a session.
    pub(super) wants_session: bool,
    /// The session in force, or to be resumed.
    pub(super) key: Option<[u8; 16]>,
    /// The connection has stood before: this one is another.
    pub(super) has_stood: bool,
    /// Rises with each connection or session that does not go on from the one before.
    pub(super) epoch: u32,
    /// Encoded answers to requests of this session, to be sent when it goes on.
    pub(super) responses: Vec<Box<[u8]>>,
    /// Requests to be declined: this client serves nothing.
    pub(super) declined: Vec<u32>,
    /// An AUTH_OK that nobody has dealt with.
    pub(super) login: Option<Login>,
    /// Why the server would not have a session.
    pub(super) session_refusal: Option<Refusal>,
    /// Connections that came to stand; how many of them did not go on from the one before.
    pub(super) stood_count: u64,
    pub(super) lapse_count: u64,
    answers: Vec<Answered>,
    asked: HashMap<u32, Asked>,
    /// SERVEs among them.
    serves_asked: usize,
    /// PINGs without their PONG, oldest first.
    pings: VecDeque<(u32, Box<[u8]>)>,
    restoring: Vec<Restored>,
    /// Failures of what nobody waits for.
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
            wants_session,
            key: None,
            has_stood: false,
            epoch: 0,
            responses: Vec::new(),
            declined: Vec::new(),
            login: None,
            session_refusal: None,
            stood_count: 0,
            lapse_count: 0,
            answers: Vec::new(),
            asked: HashMap::new(),
            serves_asked: 0,
            pings: VecDeque::new(),
            restoring: Vec::new(),
            complaints: VecDeque::new(),
        }
    }

    // ---- what was asked ----

    pub(super) fn ask(&mut self, id: u32, kind: MessageType, change: Change) {
        self.serves_asked += usize::from(kind == MessageType::Serve);
        let asked = Asked {
            kind,
            change,
            is_awaited: true,
        };
        self.asked.insert(id, asked);
    }

    /// A PING went out with these bytes.
    pub(super) fn ping(&mut self, id: u32, payload: &[u8]) {
        self.pings.push_back((id, payload.into()));
    }

    /// What has been answered since the last call.
    pub(super) fn take_answers(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answers)
    }

    /// Nobody waits for this id any more. An operation that is confirmed late has changed
    /// something all the same.
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

    /// A subscription or service that nobody holds any more; `kind` is what ends it.
    pub(super) fn withdraw(&mut self, kind: MessageType, interest: &Interest) {
        let begun = match kind == MessageType::Unserve {
            true => MessageType::Serve,
            false => MessageType::Subscribe,
        };
        for asked in self.asked.values_mut().filter(|asked| asked.kind == begun) {
            // Its OK may be on the way: the end is behind it.
            let change = &asked.change;
            if matches!(change, Change::Interest(wanted) if wanted.is_same(interest)) {
                asked.change = Change::None;
            }
        }
        self.registry
            .note(kind, Change::Interest(interest.identity()));
        self.withdrawals.push(kind, interest);
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
        self.restoring.is_empty()
    }

    // ---- complaints ----

    /// The oldest failure of something nobody waits for that nobody was told.
    pub(super) fn take_complaint(&mut self) -> Option<Error> {
        self.complaints.pop_front()
    }

    fn complain(&mut self, error: Error) {
        if self.complaints.len() >= COMPLAINTS_MAX {
            self.complaints.pop_front();
        }
        self.complaints.push_back(error);
    }

    // ---- the connection's end ----

    /// The connection is gone, and another will be made. Who waits for an answer is told;
    /// PUBLISHes stay in flight only if a session repeats them.
    pub(super) fn disconnect(&mut self) {
        let broken = || Error::Io {
            what: "the connection broke before the answer came",
            source: io::ErrorKind::ConnectionReset.into(),
        };
        let asked = self.asked.drain().filter(|(_, asked)| asked.is_awaited);
        let ids = asked
            .map(|(id, _)| id)
            .chain(self.pings.drain(..).map(|(id, _)| id));
        self.answers.extend(ids.map(|id| (id, Err(broken()))));
        self.serves_asked = 0;
        self.withdrawals.disconnect();
        self.restoring.clear();
        self.declined.clear();
        self.login = None;
        self.session_refusal = None;
        self.stage = Stage::Greeting;
        if !self.wants_session {
            let (awaited, others) = self.flight.abandon();
            let awaited = awaited.into_iter().map(|(id, error)| (id, Err(error)));
            self.answers.extend(awaited);
            if let Some(error) = others {
                self.complain(error);
            }
        }
    }

    /// Nothing of the connection before goes on in this one.
    pub(super) fn renew(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.withdrawals.clear();
        self.responses.clear();
        self.inbox.renew(self.wants_session);
        self.tell_reconnected(false);
    }

    fn tell_reconnected(&mut self, resumed: bool) {
        if self.has_stood {
            self.lapse_count += u64::from(!resumed);
            self.inbox.push_event(Incoming::Reconnected { resumed });
        }
    }

    // ---- arrivals ----

    pub(super) fn take(&mut self, arrival: &Arrival<'_>) {
        match *arrival {
            Arrival::Established => self.stage = Stage::Greeted,
            Arrival::AuthOk(ref login) => {
                self.login = Some(login.clone());
                if self.stage == Stage::Proving {
                    self.stage = Stage::Admitted;
                }
            }
            Arrival::Publish(envelope) => {
                self.inbox.push(Incoming::Message(Message::of(envelope)));
            }
            Arrival::Request(envelope) => self.take_request(envelope),
            Arrival::Response(envelope) => {
                self.inbox.count();
                let is_request = |kind| kind == MessageType::Request;
                self.answer(envelope.id, is_request, || Response::outcome(envelope));
            }
            Arrival::Ok { id } => match self.flight.confirm(id) {
                Some(true) => self.answers.push((id, Ok(Response::default()))),
                Some(false) => {}
                None if self.withdrawals.finish(id) || self.finish_restoring(id, None) => {}
                None => {
                    let is_operation = |kind| kind != MessageType::Request;
                    self.answer(id, is_operation, || Ok(Response::default()));
                }
            },
            Arrival::Error { id, code, text } => self.take_error(id, code, text),
            Arrival::Pong(bytes) => self.take_pong(bytes),
            Arrival::SessionOk {
                key,
                resumed,
                last_publish_id,
            } => self.join(key, resumed, last_publish_id),
        }
    }

    fn take_request(&mut self, envelope: &Envelope<'_>) {
        // A SERVE may be in force elsewhere before its OK is here.
        let serves = self.registry.serves() || self.serves_asked > 0;
        let request = Incoming::Request(IncomingRequest::of(envelope, self.epoch));
        if self.inbox.gathers() && !serves {
            self.inbox.count();
            self.declined.push(envelope.id);
        } else if !self.inbox.push(request) {
            self.declined.push(envelope.id);
        }
    }

    fn take_pong(&mut self, bytes: &[u8]) {
        let index = self.pings.iter().position(|(_, sent)| **sent == *bytes);
        if let Some((id, _)) = index.and_then(|index| self.pings.remove(index)) {
            self.answers.push((id, Ok(Response::default())));
        }
    }

    fn take_error(&mut self, id: u32, code: Code, text: &str) {
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

    /// The answer to `id`, of a kind that fits what was asked; an error fits everything.
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
        if answer.is_ok() {
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

    fn join(&mut self, key: [u8; 16], resumed: bool, last_publish_id: u32) {
        if self.stage != Stage::Joining {
            return;
        }
        let resumed = resumed && self.key.is_some();
        self.key = Some(key);
        if resumed {
            let confirmed = self.flight.confirm_through(last_publish_id);
            let confirmed = confirmed.into_iter();
            let answers = confirmed.map(|id| (id, Ok(Response::default())));
            self.answers.extend(answers);
            self.inbox.resume();
            self.tell_reconnected(true);
        } else {
            self.renew();
        }
        self.stage = Stage::Joined { resumed };
    }
}
