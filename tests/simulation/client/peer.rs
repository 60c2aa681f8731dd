//! A scripted server at the other end of a client's network: the protocol's own session, which does
//! what a test tells it to, mistakes included.

use super::network::{End, Id, Net};
use ringmail::base::clock::Instant;
use ringmail::proto::envelope::Envelope;
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::reassembly::Reassembly;
use ringmail::proto::session::{Event, Session, Settings, Step};
use std::sync::Arc;
use std::time::Duration;

/// What a client says.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Established,
    /// An operation, a PUBLISH, a request or its answer: type, id, name, payload.
    Asked(MessageType, u32, String, Vec<u8>),
    Session {
        key: [u8; 16],
        received: u32,
    },
    Auth(String),
    Ack(u32),
    Other(MessageType),
    Closed,
    /// The connection has ended.
    Gone,
}

pub struct Peer {
    pub net: Net,
    pub id: Id,
    session: Session,
    input: Reassembly,
    unread: Vec<u8>,
    /// What had no room yet.
    unsent: Vec<u8>,
}

pub fn now() -> Instant {
    Instant::of(tokio::time::Instant::now().into_std())
}

impl Peer {
    /// The next connection, its handshake done.
    pub async fn accept(net: &Net, auth_methods: u8) -> Peer {
        loop {
            if let Some(peer) = Peer::try_accept(net, auth_methods).await {
                return peer;
            }
        }
    }

    /// The next connection; `None` if it ended before its handshake was done.
    pub async fn try_accept(net: &Net, auth_methods: u8) -> Option<Peer> {
        let settings = Settings {
            auth_methods,
            auth_timeout: Duration::from_secs(3600),
            ..super::super::server::settings()
        };
        let id = loop {
            match net.accept() {
                Some(id) => break id,
                None => net.changed().await,
            }
        };
        let mut peer = Peer {
            net: net.clone(),
            id,
            session: Session::accept(Arc::new(settings), 9, now()),
            input: Reassembly::default(),
            unread: Vec::new(),
            unsent: Vec::new(),
        };
        (peer.hear().await == Heard::Established).then_some(peer)
    }

    /// The client has shown who it is.
    pub fn admit(&mut self) {
        self.session.authenticate();
        let admitted = Message::AuthOk {
            expires_in_s: 0,
            principal: "somebody",
            access_token: b"",
            refresh_token: b"",
        };
        self.send(&admitted);
    }

    /// The next thing the client does; what the session answers by itself is sent.
    pub async fn hear(&mut self) -> Heard {
        loop {
            let bytes = std::mem::take(&mut self.unread);
            let (mut rest, mut out, mut heard) = (&bytes[..], Vec::new(), None);
            while heard.is_none() {
                let view = self.input.view(rest);
                match self.session.handle(view, now(), &mut out) {
                    Step::Taken { used, event } => {
                        heard = own(event);
                        self.input.consume(used, &mut rest);
                    }
                    Step::Incomplete { need } => {
                        if !self.input.fill(need, &mut rest) {
                            break;
                        }
                    }
                }
            }
            self.unread = rest.to_vec();
            self.write(&out);
            if let Some(heard) = heard {
                return heard;
            }
            self.unread = self.net.take(self.id, usize::MAX);
            if self.unread.is_empty() {
                if self.net.is_dropped(self.id) || self.net.ended(self.id).is_some() {
                    return Heard::Gone;
                }
                self.net.changed().await;
            }
        }
    }

    /// The next operation, of any type.
    pub async fn hear_operation(&mut self) -> (u32, String) {
        match self.hear().await {
            Heard::Asked(_, id, name, _) => (id, name),
            other => panic!("an operation was expected, not {other:?}"),
        }
    }

    /// The next operation, which must be of this type: its id and name.
    pub async fn operation(&mut self, kind: MessageType) -> (u32, String) {
        match self.hear().await {
            Heard::Asked(heard, id, name, _) if heard == kind => (id, name),
            other => panic!("{kind:?} was expected, not {other:?}"),
        }
    }

    pub async fn confirm(&mut self, kind: MessageType) {
        let (id, _) = self.operation(kind).await;
        self.send(&Message::Ok { id });
    }

    /// Goes out as there is room, while the client is heard.
    pub fn send(&mut self, message: &Message<'_>) {
        let mut out = Vec::new();
        self.session.send(message, &mut out);
        self.write(&out);
    }

    /// Waits until it has gone out. Given up, a part has; the rest goes with the next.
    pub async fn deliver(&mut self, kind: MessageType, id: u32, name: &str, payload: &[u8]) {
        let envelope = Envelope {
            id,
            name,
            payload,
            ..Envelope::default()
        };
        self.send(&Message::Envelope(kind, envelope));
        self.flushed().await;
    }

    /// Sends what there is room for; returns what has none yet.
    pub fn push(&mut self) -> usize {
        self.write(&[]);
        self.unsent.len()
    }

    async fn flushed(&mut self) {
        while !self.unsent.is_empty() && self.net.ended(self.id).is_none() {
            self.net.changed().await;
            self.write(&[]);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
        loop {
            match self.net.give(self.id, &self.unsent) {
                0 => return,
                count => drop(self.unsent.drain(..count)),
            }
        }
    }

    /// Answers CLOSE.
    pub async fn finish(&mut self) {
        let mut out = Vec::new();
        self.session.finish(&mut out);
        self.write(&out);
        self.flushed().await;
        self.net.end(self.id, End::Eof);
    }

    /// Does what a server does: OK to operations, PONG, echoes, until the client leaves.
    pub async fn serve(&mut self) {
        loop {
            match self.hear().await {
                Heard::Asked(MessageType::Request, id, _, payload) => {
                    let envelope = Envelope {
                        id,
                        payload: &payload,
                        ..Envelope::default()
                    };
                    self.send(&Message::Envelope(MessageType::Response, envelope));
                }
                Heard::Asked(MessageType::Response | MessageType::Publish, 0, ..) => {}
                Heard::Asked(MessageType::Response, ..) => {}
                Heard::Asked(_, id, ..) => self.send(&Message::Ok { id }),
                Heard::Session { .. } => {
                    self.send(&Message::SessionOk {
                        key: [1; 16],
                        resumed: false,
                        last_publish_id: 0,
                    });
                }
                Heard::Closed => return self.finish().await,
                Heard::Gone => return,
                Heard::Auth(_) | Heard::Ack(_) | Heard::Other(_) | Heard::Established => {}
            }
        }
    }
}

fn own(event: Event<'_>) -> Option<Heard> {
    Some(match event {
        Event::Handled => return None,
        Event::Established(_) => Heard::Established,
        Event::Message(Message::Envelope(kind, envelope)) => Heard::Asked(
            kind,
            envelope.id,
            envelope.name.to_owned(),
            envelope.payload.to_vec(),
        ),
        Event::Message(Message::Session { key, received }) => Heard::Session { key, received },
        Event::Message(Message::Auth { credential, .. }) => {
            Heard::Auth(String::from_utf8_lossy(credential).into_owned())
        }
        Event::Message(Message::Ack { received }) => Heard::Ack(received),
        Event::Message(message) => Heard::Other(message.kind()),
        Event::PeerClosed { .. } => Heard::Closed,
        Event::Refused { .. } | Event::Ended(_) => Heard::Gone,
    })
}
