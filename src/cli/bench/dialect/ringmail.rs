//! This project's protocol: PUBLISH and SUBSCRIBE, REQUEST and SERVE.
//!
//! It uses the session of `proto`; the messages that the load repeats are handled by templates,
//! bypassing the parser (a PUBLISH reaches its subscriber as the bytes that were sent, a REQUEST
//! its responder with only the id changed).

use super::{Dialect, Role, Script, Template, idle_filter};
use crate::base::clock::Instant;
use crate::cli::bench::fault::Fault;
use crate::cli::bench::speaker::{self, Proof, Taken};
use crate::client::Credential;
use crate::proto::encoded::id_range;
use crate::proto::envelope::{Envelope, Headers, header};
use crate::proto::error::Code;
use crate::proto::message::{Message, MessageType};
use crate::proto::session::{Event, Session, Settings, Step};
use std::sync::Arc;

/// One end of a connection.
#[derive(Debug)]
pub struct Ringmail {
    session: Session,
    /// Bytes of the largest payload of a message sent.
    message_bytes: u32,
    /// How many OKs it waits for before it is ready.
    pending: usize,
    /// OKs confirm messages from then on.
    is_confirmed: bool,
    is_responder: bool,
    shard: Option<u16>,
    proof: Proof,
}

fn encode(kind: MessageType, envelope: Envelope<'_>, out: &mut Vec<u8>) {
    Message::Envelope(kind, envelope).encode(false, out);
}

fn template(kind: MessageType, name: &str, payload: &[u8], has_id: bool) -> Template {
    let mut bytes = Vec::new();
    let envelope = Envelope {
        name,
        payload,
        ..Envelope::default()
    };
    encode(kind, envelope, &mut bytes);
    let stamp_at = bytes.len() - payload.len();
    Template::new(bytes, has_id.then_some(id_range().start), stamp_at)
}

impl Ringmail {
    /// Begins a session; `message_bytes` is what `settings` were made for.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn open(
        settings: &Arc<Settings>,
        message_bytes: usize,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Ringmail, Fault> {
        Ok(Ringmail {
            session: speaker::connect(settings, 0, now, out)?,
            message_bytes: u32::try_from(message_bytes).unwrap_or(u32::MAX),
            pending: 0,
            is_confirmed: false,
            is_responder: false,
            shard: None,
            proof: Proof::default(),
        })
    }

    /// Uses this credential if the server requires one.
    pub fn proving_by(mut self, credential: Option<&Credential>) -> Ringmail {
        self.proof = Proof::by(credential);
        self
    }

    /// An operation whose OK is waited for.
    fn ask(&mut self, kind: MessageType, name: &str, group: Option<&str>, out: &mut Vec<u8>) {
        self.pending += 1;
        let mut block = Vec::new();
        if let Some(group) = group {
            Headers::push(&mut block, header::GROUP, group.as_bytes());
        }
        let envelope = Envelope {
            id: self.pending as u32,
            name,
            // A group too long or too short is refused by the arguments.
            headers: Headers::check(&block).unwrap_or_default(),
            ..Envelope::default()
        };
        encode(kind, envelope, out);
    }

    fn handle(
        &mut self,
        event: Event<'_>,
        used: usize,
        out: &mut Vec<u8>,
    ) -> Result<Taken<u32>, Fault> {
        match event {
            Event::Handled => {}
            Event::Established(options) => {
                self.proof.begin(&options, out)?;
                self.shard = options.shard;
                let max = self.session.peer_message_bytes_max();
                if self.message_bytes > max {
                    let bytes = self.message_bytes as usize;
                    return Err(Fault::TooLarge { bytes, max });
                }
            }
            Event::Message(Message::AuthOk { .. }) if self.proof.is_open => {
                self.proof.is_open = false;
            }
            Event::Message(Message::Ok { .. }) if self.pending > 0 => self.pending -= 1,
            Event::Message(Message::Ok { id }) if self.is_confirmed => {
                return Ok(Taken::Answer { used, mark: id });
            }
            Event::Message(Message::Envelope(MessageType::Request, envelope))
                if self.is_responder =>
            {
                let answer = Envelope {
                    id: envelope.id,
                    codec: envelope.codec,
                    payload: envelope.payload,
                    ..Envelope::default()
                };
                encode(MessageType::Response, answer, out);
            }
            Event::Message(Message::Envelope(MessageType::Response, envelope))
                if envelope.failed() =>
            {
                return Err(speaker::failed(&envelope));
            }
            Event::Message(Message::Envelope(..)) => {
                return Err(Fault::Answer("a message that is not what was sent"));
            }
            event => return Err(speaker::unwanted(event)),
        }
        Ok(Taken::Other { used })
    }
}

impl Dialect for Ringmail {
    fn script(role: &Role, _index: u32, payload: &[u8]) -> Script {
        use MessageType::{Publish, Request, Response};
        match role {
            Role::Publisher { topic, confirmed } => Script {
                send: Some(template(Publish, topic, payload, *confirmed)),
                ..Script::default()
            },
            Role::Subscriber { topic, .. } => Script {
                expect: Some(template(Publish, topic, payload, true)),
                ..Script::default()
            },
            Role::Requester { service } => Script {
                send: Some(template(Request, service, payload, true)),
                expect: Some(template(Response, "", payload, true)),
                reply: None,
            },
            Role::Responder { service } => Script {
                send: None,
                expect: Some(template(Request, service, payload, true)),
                reply: Some(template(Response, "", payload, true)),
            },
            Role::Holder { .. } => Script::default(),
        }
    }

    fn is_ready(&self) -> bool {
        self.session.is_established() && !self.proof.is_open && self.pending == 0
    }

    fn assume(&mut self, role: &Role, _index: u32, out: &mut Vec<u8>) {
        use MessageType::{Serve, Subscribe};
        match role {
            Role::Subscriber { topic, group } => self.ask(Subscribe, topic, group.as_deref(), out),
            Role::Holder { filters } => {
                for number in filters.clone() {
                    self.ask(Subscribe, &idle_filter(number), None, out);
                }
            }
            Role::Responder { service } => {
                self.is_responder = true;
                self.ask(Serve, service, None, out);
            }
            Role::Publisher { confirmed, .. } => self.is_confirmed = *confirmed,
            Role::Requester { .. } => {}
        }
    }

    fn take(&mut self, bytes: &[u8], now: Instant, out: &mut Vec<u8>) -> Result<Taken<u32>, Fault> {
        match self.session.handle(bytes, now, out) {
            Step::Incomplete { need } => Ok(Taken::Incomplete { need }),
            Step::Taken { used, event } => self.handle(event, used, out),
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        self.session.close(Code::Normal, "", out);
    }

    fn shard(&self) -> Option<u16> {
        self.shard
    }
}
