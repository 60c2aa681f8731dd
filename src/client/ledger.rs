//! What a client knows across its connections: operations waited for, PUBLISHes in flight,
//! what has come, what stands at the server, the session. Fed by a link's arrivals; it sends
//! nothing itself, but notes what the conversation has to send.

use super::credential::Login;
use super::error::Error;
use super::flight::Flight;
use super::inbox::Inbox;
use super::incoming::{Incoming, IncomingRequest, Message};
use super::link::Arrival;
use super::registry::{Change, Registry};
use super::request::Response;
use crate::proto::envelope::Envelope;
use crate::proto::error::{Code, Refusal};
use crate::proto::message::MessageType;
use std::collections::VecDeque;
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

/// An operation or request without an answer, or whose answer nobody has taken.
#[derive(Debug)]
struct Asked {
    id: u32,
    kind: MessageType,
    change: Change,
    /// Somebody waits; else only the change matters.
    is_awaited: bool,
    /// An OK is an empty response.
    answer: Option<Result<Response, Error>>,
}

/// What an operation that restores something was.
#[derive(Debug)]
struct Restored {
    id: u32,
    kind: MessageType,
    name: String,
    headers: Vec<u8>,
}

/// A failure to be told: about the PUBLISHes with these ids, in both 0 where that is unknown.
#[derive(Debug)]
struct Complaint {
    from: u32,
    to: u32,
    error: Error,
}

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) stage: Stage,
    pub(super) inbox: Inbox,
    pub(super) flight: Flight,
    pub(super) registry: Registry,
    /// Whether there is to be a session.
    pub(super) wants_session: bool,
    /// The session in force, or to be resumed.
    pub(super) key: Option<[u8; 16]>,
    /// The connection has stood before: this one is another.
    pub(super) has_stood: bool,
    /// Rises with each connection or session that does not go on from the one before.
    pub(super) epoch: u32,
    /// Requests to be declined: this client serves nothing.
    pub(super) declined: Vec<u32>,
    /// An AUTH_OK that nobody has dealt with.
    pub(super) login: Option<Login>,
    /// Why the server would not have a session.
    pub(super) session_refusal: Option<Refusal>,
    asked: Vec<Asked>,
    restoring: Vec<Restored>,
    complaints: VecDeque<Complaint>,
    pong: Option<Result<Vec<u8>, Error>>,
}

impl Ledger {
    pub(super) fn new(wants_session: bool, inbox_bytes_max: usize) -> Ledger {
        Ledger {
            stage: Stage::Greeting,
            inbox: Inbox::new(inbox_bytes_max),
            flight: Flight::default(),
            registry: Registry::default(),
            wants_session,
            key: None,
            has_stood: false,
            epoch: 0,
            declined: Vec::new(),
            login: None,
            session_refusal: None,
            asked: Vec::new(),
            restoring: Vec::new(),
            complaints: VecDeque::new(),
            pong: None,
        }
    }

    // ---- what was asked ----

    pub(super) fn ask(&mut self, id: u32, kind: MessageType, change: Change) {
        self.asked.push(Asked {
            id,
            kind,
            change,
            is_awaited: true,
            answer: None,
        });
    }

    /// The answer, once it is there; then nobody waits for this id any more.
    pub(super) fn take_answer(&mut self, id: u32) -> Option<Result<Response, Error>> {
        let index = self.asked.iter().position(|asked| asked.id == id)?;
        self.asked[index].answer.as_ref()?;
        self.asked.swap_remove(index).answer
    }

    /// Nobody waits for this id any more. An operation that is confirmed late has changed
    /// something all the same.
    pub(super) fn forget(&mut self, id: u32) {
        let changes = |asked: &Asked| !matches!(asked.change, Change::None);
        self.asked
            .retain(|asked| asked.id != id || (asked.answer.is_none() && changes(asked)));
        let late = self.asked.iter_mut().find(|asked| asked.id == id);
        if let Some(asked) = late {
            asked.is_awaited = false;
        }
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

    /// The bytes of a PONG, or why there will be none.
    pub(super) fn take_pong(&mut self) -> Option<Result<Vec<u8>, Error>> {
        self.pong.take()
    }

    // ---- complaints ----

    /// The oldest failure of a PUBLISH that nobody was told.
    pub(super) fn take_complaint(&mut self) -> Option<Error> {
        Some(self.complaints.pop_front()?.error)
    }

    /// The failure of this PUBLISH, if there is one.
    pub(super) fn take_complaint_about(&mut self, id: u32) -> Option<Error> {
        let about = |complaint: &Complaint| complaint.from <= id && id <= complaint.to;
        let index = self.complaints.iter().position(about)?;
        Some(self.complaints.remove(index)?.error)
    }

    fn complain(&mut self, from: u32, to: u32, error: Error) {
        if self.complaints.len() >= COMPLAINTS_MAX {
            self.complaints.pop_front();
        }
        self.complaints.push_back(Complaint { from, to, error });
    }

    // ---- the connection's end ----

    /// The connection is gone, and another will be made. Who waits for an answer is told;
    /// PUBLISHes stay in flight only if a session repeats them.
    pub(super) fn disconnect(&mut self) {
        self.asked.retain(|asked| asked.is_awaited);
        for asked in &mut self.asked {
            asked.answer.get_or_insert_with(|| {
                Err(Error::Io {
                    what: "the connection broke before the answer came",
                    source: io::ErrorKind::ConnectionReset.into(),
                })
            });
        }
        self.restoring.clear();
        self.declined.clear();
        self.pong = None;
        self.login = None;
        self.session_refusal = None;
        self.stage = Stage::Greeting;
        if !self.wants_session
            && let Some((from, to, error)) = self.flight.abandon()
        {
            self.complain(from, to, error);
        }
    }

    /// Nothing of the connection before goes on in this one.
    pub(super) fn renew(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.inbox.renew(self.wants_session);
        self.tell_reconnected(false);
    }

    fn tell_reconnected(&mut self, resumed: bool) {
        if self.has_stood {
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
            Arrival::Ok { id } => {
                if !self.flight.confirm(id) && !self.finish_restoring(id, None) {
                    let is_operation = |kind| kind != MessageType::Request;
                    self.answer(id, is_operation, || Ok(Response::default()));
                }
            }
            Arrival::Error { id, code, text } => self.take_error(id, code, text),
            Arrival::Pong(bytes) => self.pong = Some(Ok(bytes.to_vec())),
            Arrival::SessionOk {
                key,
                resumed,
                last_publish_id,
            } => self.join(key, resumed, last_publish_id),
        }
    }

    fn take_request(&mut self, envelope: &Envelope<'_>) {
        // A SERVE may be in force elsewhere before its OK is here.
        let asking = |asked: &Asked| asked.kind == MessageType::Serve;
        if self.registry.serves() || self.asked.iter().any(asking) {
            let request = IncomingRequest::of(envelope, self.epoch);
            self.inbox.push(Incoming::Request(request));
        } else {
            self.inbox.count();
            self.declined.push(envelope.id);
        }
    }

    fn take_error(&mut self, id: u32, code: Code, text: &str) {
        let failed = || Error::Failed {
            code,
            text: text.to_owned(),
        };
        if id != 0 {
            if let Some(error) = self.flight.reject(id, code, text) {
                self.complain(id, id, error);
            } else if !self.finish_restoring(id, Some(failed())) {
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
                self.pong.get_or_insert_with(|| Err(failed()));
                let rejected = Error::Rejected {
                    id,
                    topic: String::new(),
                    code,
                    text: text.to_owned(),
                };
                self.complain(0, 0, rejected);
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
        let is_it = |asked: &Asked| asked.id == id && asked.answer.is_none() && fits(asked.kind);
        let Some(index) = self.asked.iter().position(is_it) else {
            return;
        };
        let asked = &mut self.asked[index];
        let answer = answer();
        if answer.is_ok() {
            let change = std::mem::replace(&mut asked.change, Change::None);
            self.registry.note(asked.kind, change);
        }
        asked.answer = Some(answer);
        if !asked.is_awaited {
            self.asked.swap_remove(index);
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
            self.complain(0, 0, error);
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
            self.flight.confirm_through(last_publish_id);
            self.inbox.resume();
            self.tell_reconnected(true);
        } else {
            self.renew();
        }
        self.stage = Stage::Joined { resumed };
    }
}
