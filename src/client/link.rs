//! The processing of received bytes that all clients share: session, reassembly, bytes to send,
//! and how the connection ended. No socket and no clock.
//!
//! The owner passes received bytes to [`Link::receive`] and gets what it has to handle as
//! [`Arrival`]; everything else (PING, DRAIN, fatal errors, CLOSE) is handled here. A link
//! belongs to one connection; state that outlives it belongs to the conversation.
//!
//! Invariants: once `ending` is set it never changes, and nothing more is delivered;
//! `sent ≤ out.len()`.

use super::credential::{Login, Secret};
use super::error::Error;
use crate::base::clock::Instant;
use crate::proto::envelope::Envelope;
use crate::proto::error::{Code, Refusal};
use crate::proto::frame::{Frame, FrameType, Parsed};
use crate::proto::kind::Class;
use crate::proto::message::{Header, Message, open};
use crate::proto::option::{FEATURE_CHECKSUM, Options};
use crate::proto::reassembly::Reassembly;
use crate::proto::session::{Event, Session, Settings, Step};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What the server reported about itself in the handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Product and version.
    pub product: String,
    /// The shard (core) that serves this connection.
    pub shard: u16,
    /// Bytes of the largest message payload it accepts, including the envelope but not a CRC.
    pub message_bytes_max: u32,
    /// The heartbeat interval in force.
    pub heartbeat: Duration,
    /// The features granted, as PROTOCOL.md §1 numbers them.
    pub features: u32,
    /// The AUTH methods it accepts, as PROTOCOL.md §1 numbers them; 0: no authentication. With bit
    /// 7 it is optional.
    pub auth: u8,
}

impl ServerInfo {
    fn of(options: &Options<'_>, default_heartbeat: Duration) -> ServerInfo {
        let heartbeat = options.heartbeat_ms.filter(|&ms| ms > 0);
        ServerInfo {
            product: options.server.unwrap_or_default().to_owned(),
            shard: options.shard.unwrap_or_default(),
            message_bytes_max: options.message_max.unwrap_or(u32::MAX),
            heartbeat: heartbeat
                .map_or(default_heartbeat, |ms| Duration::from_millis(u64::from(ms))),
            features: options.features.unwrap_or_default(),
            auth: options.auth.unwrap_or_default(),
        }
    }

    /// Whether every message carries a CRC.
    pub fn has_checksum(&self) -> bool {
        self.features & FEATURE_CHECKSUM != 0
    }
}

/// The server is shutting down and has announced how its clients should leave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drain {
    /// How long it still answers, counted from the announcement.
    pub deadline: Duration,
    /// How long to wait before connecting again: spread over the clients.
    pub reconnect_after: Duration,
    /// Where to connect instead; empty: to the same address.
    pub alternative: String,
}

/// What the owner has to handle.
#[derive(Debug)]
pub(super) enum Arrival<'a> {
    Established,
    Response(&'a Envelope<'a>),
    Publish(&'a Envelope<'a>),
    Request(&'a Envelope<'a>),
    Pong(&'a [u8]),
    /// The operation with this id is done.
    Ok {
        id: u32,
    },
    SessionOk {
        key: [u8; 16],
        resumed: bool,
    },
    AuthOk(Login),
    /// ERROR, not fatal, to the operation with this id (0: to none in particular).
    Error {
        id: u32,
        code: Code,
        text: &'a str,
    },
}

/// How the connection ended.
#[derive(Clone, Debug)]
enum Ending {
    /// RST or a fatal ERROR.
    Refused(Refusal),
    /// The server's CLOSE, unsolicited.
    Closed(Refusal),
    /// This side left because the server violated the protocol.
    Broken(Refusal),
    /// This side left because a deadline of the connection's own passed.
    Silent(Refusal),
    /// CLOSE was sent and answered.
    Done,
    /// The stream ended or broke; its error has been reported.
    Lost,
}

/// A connection's state, without the socket.
pub(super) struct Link {
    input: Reassembly,
    state: State,
}

struct State {
    session: Session,
    settings: Arc<Settings>,
    out: Vec<u8>,
    sent: usize,
    ending: Option<Ending>,
    server: ServerInfo,
    drain: Option<Drain>,
    heard_at: Instant,
}

impl Link {
    /// Writes the SYN; `seq` comes from a cryptographic generator.
    pub(super) fn new(
        settings: Arc<Settings>,
        hello: &Options<'_>,
        seq: u32,
        now: Instant,
    ) -> Link {
        let mut out = Vec::new();
        let session = Session::connect(settings.clone(), hello, seq, now, &mut out);
        Link {
            input: Reassembly::default(),
            state: State {
                session,
                settings,
                out,
                sent: 0,
                ending: None,
                server: ServerInfo::default(),
                drain: None,
                heard_at: now,
            },
        }
    }

    pub(super) fn server(&self) -> &ServerInfo {
        &self.state.server
    }

    pub(super) fn drain(&self) -> Option<&Drain> {
        self.state.drain.as_ref()
    }

    /// Bytes of the largest message body the server accepts.
    pub(super) fn body_bytes_max(&self) -> usize {
        self.state.session.peer_message_bytes_max() as usize
    }

    // ---- bytes and time in ----

    /// Handles received bytes: complete messages and parts of one.
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        now: Instant,
        deliver: &mut impl FnMut(Arrival<'_>),
    ) {
        let Link { input, state } = self;
        while state.ending.is_none() {
            let written = state.out.len();
            let step = state.session.handle(input.view(bytes), now, &mut state.out);
            match step {
                Step::Taken { used, event } => {
                    state.heard_at = now;
                    state.act(event, written, deliver);
                    input.consume(used, &mut bytes);
                }
                Step::Incomplete { need } => {
                    if !input.fill(need, &mut bytes) {
                        return;
                    }
                }
            }
        }
    }

    /// When to call [`Link::handle_timeout`].
    pub(super) fn timeout(&self) -> Instant {
        self.state.session.timeout()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let state = &mut self.state;
        let written = state.out.len();
        if let Event::Ended(_) = state.session.handle_timeout(now, &mut state.out) {
            let refusal = state.told(written);
            state.ending.get_or_insert(Ending::Silent(refusal));
        }
    }

    /// Reading goes on after a pause, whose time does not count against a message that has begun.
    pub(super) fn resume(&mut self, now: Instant) {
        self.state.session.restart_frame_clock(now);
    }

    // ---- messages and bytes out ----

    pub(super) fn send(&mut self, message: &Message<'_>) {
        self.state.session.send(message, &mut self.state.out);
    }

    /// Sends CLOSE; the server's answer is the ending.
    pub(super) fn close(&mut self) {
        self.state
            .session
            .close(Code::Normal, "", &mut self.state.out);
    }

    /// The bytes still to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.state.out[self.state.sent..]
    }

    /// The first `count` of the unsent bytes have been sent.
    pub(super) fn advance(&mut self, count: usize) {
        let state = &mut self.state;
        state.sent += count;
        debug_assert!(state.sent <= state.out.len(), "sent more than was written");
        if state.sent == state.out.len() {
            state.out.clear();
            state.sent = 0;
            // One large request must not keep its memory for the life of the connection.
            state.out.shrink_to(64 * 1024);
        } else if state.sent >= 1 << 20 {
            // Nor must sent bytes, while more is written than sent.
            state.out.drain(..state.sent);
            state.sent = 0;
        }
    }

    // ---- the end ----

    /// The stream ended or broke without CLOSE.
    pub(super) fn lose(&mut self) {
        self.state.ending.get_or_insert(Ending::Lost);
        self.state.session.finish(&mut Vec::new());
    }

    pub(super) fn is_ended(&self) -> bool {
        self.state.ending.is_some()
    }

    /// Whether the server sent CLOSE, and has not got the answer yet.
    pub(super) fn is_left(&self) -> bool {
        matches!(self.state.ending, Some(Ending::Closed(_)))
    }

    /// Whether the end is the one that [`Link::close`] asked for.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state.ending, Some(Ending::Done))
    }

    /// Whether the server ended it because of the credential.
    pub(super) fn is_denied(&self) -> bool {
        let ending = self.state.ending.as_ref();
        ending.is_some_and(|ending| {
            let Ending::Refused(refusal) = ending else {
                return false;
            };
            matches!(refusal.code, Code::AuthFailed | Code::AuthExpired)
        })
    }

    /// Whether the server ended it because of too many ERRORs: the last one's code alone would not
    /// have.
    pub(super) fn is_shut_out(&self) -> bool {
        let ending = self.state.ending.as_ref();
        matches!(ending, Some(Ending::Refused(refusal)) if !refusal.code.is_fatal())
    }

    /// When the last complete message arrived.
    pub(super) fn heard_at(&self) -> Instant {
        self.state.heard_at
    }

    /// How the connection ended, as an error.
    pub(super) fn ending(&self) -> Option<Error> {
        Some(match self.state.ending.clone()? {
            Ending::Refused(Refusal { code, text }) => Error::Refused {
                code,
                reason: text.into_owned(),
            },
            Ending::Closed(Refusal { code, text }) => Error::Closed {
                code,
                reason: text.into_owned(),
            },
            Ending::Broken(refusal) => Error::Protocol(refusal),
            Ending::Silent(refusal) => Error::Io {
                what: "the server has gone silent",
                source: io::Error::new(io::ErrorKind::TimedOut, refusal),
            },
            Ending::Done | Ending::Lost => Error::Io {
                what: "the connection has ended",
                source: io::ErrorKind::NotConnected.into(),
            },
        })
    }
}

impl State {
    /// Acts on an event; what the session wrote for it is in `out` from `written` on.
    fn act(&mut self, event: Event<'_>, written: usize, deliver: &mut impl FnMut(Arrival<'_>)) {
        match event {
            Event::Handled => {}
            Event::Established(options) => {
                self.server = ServerInfo::of(&options, self.settings.heartbeat_interval);
                deliver(Arrival::Established);
            }
            Event::Message(message) => self.take(&message, deliver),
            Event::PeerClosed { code, reason } => {
                let refusal = Refusal::with(code, reason.to_owned());
                self.session.finish(&mut self.out);
                self.ending = Some(Ending::Closed(refusal));
            }
            Event::Refused { code, reason } => {
                self.ending = Some(Ending::Refused(Refusal::with(code, reason)));
            }
            Event::Ended(_) if self.out.len() == written => self.ending = Some(Ending::Done),
            Event::Ended(_) => self.ending = Some(Ending::Broken(self.told(written))),
        }
    }

    fn take(&mut self, message: &Message<'_>, deliver: &mut impl FnMut(Arrival<'_>)) {
        match *message {
            Message::Pong(bytes) => deliver(Arrival::Pong(bytes)),
            Message::Envelope(kind, ref envelope) => match kind.class() {
                Class::Response => deliver(Arrival::Response(envelope)),
                Class::Publication => deliver(Arrival::Publish(envelope)),
                Class::Request => deliver(Arrival::Request(envelope)),
                Class::Change(_) | Class::Control(_) => {
                    debug_assert!(!kind.from_server(), "{kind:?}");
                }
            },
            Message::Ok { id } => deliver(Arrival::Ok { id }),
            Message::SessionOk { key, resumed, .. } => {
                deliver(Arrival::SessionOk { key, resumed });
            }
            Message::Error {
                code,
                fatal: true,
                text,
                ..
            } => {
                self.ending = Some(Ending::Refused(Refusal::with(code, text.to_owned())));
                // The server no longer reads: nothing is sent, not even CLOSE.
                self.session.finish(&mut self.out);
            }
            Message::Error { code, id, text, .. } => deliver(Arrival::Error { id, code, text }),
            Message::Drain {
                deadline_ms,
                reconnect_after_ms,
                alternative,
            } => {
                self.drain = Some(Drain {
                    deadline: Duration::from_millis(u64::from(deadline_ms)),
                    reconnect_after: Duration::from_millis(u64::from(reconnect_after_ms)),
                    alternative: alternative.to_owned(),
                });
            }
            Message::AuthOk {
                expires_in_s,
                principal,
                access_token,
                refresh_token,
            } => {
                let secret = |bytes| Secret::new(String::from_utf8_lossy(bytes));
                let life = Duration::from_secs(u64::from(expires_in_s));
                deliver(Arrival::AuthOk(Login {
                    principal: principal.to_owned(),
                    expires_in: Some(life).filter(|life| !life.is_zero()),
                    access_token: secret(access_token),
                    refresh_token: secret(refresh_token),
                }));
            }
            // Messages that the session has handled, or refused because only a client sends them.
            Message::Ping(_)
            | Message::Close { .. }
            | Message::Auth { .. }
            | Message::Ack { .. }
            | Message::Session { .. } => {}
        }
    }

    /// Why this side left. The session writes the reason only into its output, so it is read back
    /// from there: from RST before the end of the handshake, from CLOSE after it.
    fn told(&self, written: usize) -> Refusal {
        let bytes = self.out.get(written..).unwrap_or_default();
        if let Ok(Parsed::Whole { value, .. }) = Frame::parse(bytes)
            && value.kind == FrameType::Rst
        {
            return value.rst_refusal();
        }
        let body = open(bytes, self.session.has_checksum());
        if let (Ok(Some(header)), Ok(body)) = (Header::parse(bytes, u32::MAX), body)
            && let Ok(Message::Close { code, reason: text } | Message::Error { code, text, .. }) =
                Message::parse(header.kind, body)
        {
            return Refusal::with(code, text.to_owned());
        }
        Refusal::new(Code::Internal, "this side closed the connection")
    }
}
