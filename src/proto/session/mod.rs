//! The session: one end of one connection as a state machine. Bytes and `now` in; messages
//! for the owner, bytes to send and deadlines out. No I/O, no clock, no threads.
//!
//! ```text
//!  server   AwaitSyn ──SYN──► AwaitAck ──ACK──┐                 close()
//!                                             ├──► Open ───────────────────► Closing ─CLOSE─► Ended
//!  client   AwaitSynAck ────────SYN-ACK───────┘     └─CLOSE─► PeerClosing ──finish()────────► Ended
//!                        every refusal, from anywhere: RST or fatal ERROR ──────────────────► Ended
//! ```
//!
//! The owner calls [`Session::handle`] with the received bytes until it returns `Incomplete`,
//! keeps the rest (see `reassembly`), and calls [`Session::handle_timeout`] when
//! [`Session::timeout`] has passed. What the protocol answers by itself (the handshake, PING,
//! refusals) is written to `out` before the call returns.
//!
//! Invariants: after `Ended` nothing more is written; a message is returned only if it is
//! complete, its checksum correct, its type allowed now and its body well-formed.

mod admission;
mod ending;
mod handshake;
mod heartbeat;
mod pulse;
mod send;
mod standing;
#[cfg(test)]
mod tests;

use super::budget::Budget;
use super::envelope::{Codec, Envelope};
use super::error::{Code, Refusal};
use super::frame::{Frame, FrameType, Parsed};
use super::kind::Bound;
use super::message::{Header, Message, MessageType, open};
use super::option::Options;
use super::output::Output;
use crate::base::clock::Instant;
use crate::base::limits::{
    AUTH_BYTES_MAX, CHECKSUM_BYTES, CONTROLS_PER_S_MAX, ENVELOPE_FIXED_BYTES, MESSAGE_HEADER_BYTES,
    UNAUTHENTICATED_BYTES_MAX,
};
use crate::base::reason::Reason;
use pulse::{Jitter, RoundTrip};
use standing::Standing;
use std::sync::Arc;
use std::time::Duration;

/// What all sessions of one owner have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of the largest payload this side accepts, a CRC not counted.
    pub message_bytes_max: u32,
    pub handshake_timeout: Duration,
    pub frame_timeout: Duration,
    /// Silence after which this side sends PING, unless the handshake agrees on another.
    pub heartbeat_interval: Duration,
    /// Silence after which the peer is taken for dead.
    pub heartbeat_timeout: Duration,
    /// Server: accepted AUTH methods (`option::AUTH_*`); 0: none needed.
    pub auth_methods: u8,
    /// Server: how long an established client may take to authenticate.
    pub auth_timeout: Duration,
    /// Server: product and version, as SYN-ACK tells them.
    pub product: String,
    /// Server: the shard that serves this session.
    pub shard: u16,
}

/// What one call of [`Session::handle`] made of the bytes.
#[derive(Debug, PartialEq)]
pub enum Step<'a> {
    /// No whole frame or message is there. With `need` bytes in all it gets further.
    Incomplete { need: usize },
    /// The first `used` bytes are done with once the event is handled.
    Taken { used: usize, event: Event<'a> },
}

/// What the owner has to act on.
#[derive(Debug, PartialEq)]
pub enum Event<'a> {
    /// Nothing: the session did all there was to do.
    Handled,
    /// The handshake is over, with these options of the peer's.
    Established(Options<'a>),
    /// A message for the owner.
    Message(Message<'a>),
    /// The peer sent CLOSE: answer what it still waits for, then call [`Session::finish`].
    PeerClosed { code: Code, reason: &'a str },
    /// The peer refused the handshake with RST; the session is over.
    Refused { code: Code, reason: String },
    /// The session is over: flush, then end the connection as PROTOCOL.md "Ending" says.
    Ended(Reason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitSyn {
        seq: u32,
    },
    AwaitAck {
        seq: u32,
        acknowledgement: u32,
    },
    AwaitSynAck {
        acknowledgement: u32,
    },
    Open,
    /// The peer sent CLOSE, we have not answered yet.
    PeerClosing,
    /// We sent CLOSE and wait for the peer's.
    Closing,
    Ended,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    state: State,
    is_server: bool,
    checksum: bool,
    standing: Standing,
    codec: Codec,
    /// Bytes of the largest payload the peer accepts.
    peer_message_bytes_max: u32,
    heartbeat_ms: u32,
    /// Heartbeat intervals of silence since `heard` that were acted on: a PING at the first.
    silent_count: u32,
    jitter: Jitter,
    round_trip: RoundTrip,
    /// Whole messages that came, and those that were written; frames of the handshake aside.
    messages_in: u64,
    messages_out: u64,
    client_id: Option<Box<str>>,
    /// Link phase: when it began. Then: when the last complete message came.
    heard: Instant,
    /// When the first byte of a message still incomplete came.
    frame_started: Instant,
    auth_deadline: Instant,
    errors: Budget,
    controls: Budget,
}

impl Session {
    fn new(
        settings: Arc<Settings>,
        state: State,
        seq: u32,
        is_server: bool,
        now: Instant,
    ) -> Session {
        let heartbeat_ms =
            u32::try_from(settings.heartbeat_interval.as_millis()).unwrap_or(u32::MAX);
        Session {
            settings,
            state,
            is_server,
            checksum: false,
            standing: Standing::Stranger,
            codec: Codec::Bytes,
            peer_message_bytes_max: u32::MAX,
            heartbeat_ms,
            silent_count: 0,
            jitter: Jitter::new(seq),
            round_trip: RoundTrip::default(),
            messages_in: 0,
            messages_out: 0,
            client_id: None,
            heard: now,
            frame_started: Instant::NEVER,
            auth_deadline: Instant::NEVER,
            errors: Budget::default(),
            controls: Budget::default(),
        }
    }

    // ---- what it knows ----

    pub fn is_established(&self) -> bool {
        matches!(
            self.state,
            State::Open | State::PeerClosing | State::Closing
        )
    }

    /// Established, and nobody has asked to end it.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// The peer sent CLOSE and waits for [`Session::finish`].
    pub fn is_peer_closing(&self) -> bool {
        self.state == State::PeerClosing
    }

    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whole messages that came, whatever became of them.
    pub fn messages_in(&self) -> u64 {
        self.messages_in
    }

    /// Messages written.
    pub fn messages_out(&self) -> u64 {
        self.messages_out
    }

    /// Whether CHECKSUM is in force.
    pub fn has_checksum(&self) -> bool {
        self.checksum
    }

    /// The codec the client prefers to receive.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// Bytes of the largest payload the peer accepts, a CRC not counted.
    pub fn peer_message_bytes_max(&self) -> u32 {
        self.peer_message_bytes_max
    }

    /// Bytes of the largest whole message the peer accepts, a CRC not counted.
    #[inline]
    pub fn peer_whole_bytes_max(&self) -> usize {
        self.peer_message_bytes_max as usize + MESSAGE_HEADER_BYTES
    }

    /// Whether the peer accepts a RESPONSE with a payload of so many bytes.
    #[inline]
    pub fn peer_accepts_response(&self, payload_bytes: usize) -> bool {
        ENVELOPE_FIXED_BYTES + payload_bytes <= self.peer_message_bytes_max as usize
    }

    // ---- bytes in ----

    /// Takes the frame or message at the head of `bytes`.
    #[inline]
    pub fn handle<'a>(&mut self, bytes: &'a [u8], now: Instant, out: &mut impl Output) -> Step<'a> {
        match self.state {
            State::Open => self.handle_message(bytes, now, out),
            State::Ended => drop_all(bytes),
            State::PeerClosing | State::Closing => self.handle_message(bytes, now, out),
            _ => self.handle_frame(bytes, now, out),
        }
    }

    #[inline]
    fn handle_message<'a>(
        &mut self,
        bytes: &'a [u8],
        now: Instant,
        out: &mut impl Output,
    ) -> Step<'a> {
        let header = match Header::parse(bytes, self.length_max()) {
            Ok(Some(header)) => header,
            Ok(None) => {
                return self.incomplete(bytes, crate::base::limits::MESSAGE_HEADER_BYTES, now);
            }
            Err(refusal) => match self.long_auth(bytes) {
                Some(header) => header,
                None => return self.refuse_header(bytes, refusal, now, out),
            },
        };
        let used = header.message_bytes();
        let Some(message) = bytes.get(..used) else {
            return self.incomplete(bytes, used, now);
        };
        self.heard = now;
        self.silent_count = 0;
        self.frame_started = Instant::NEVER;
        self.messages_in += 1;
        let kind = header.kind;
        let body = match open(message, self.checksum) {
            Ok(body) => body,
            Err(refusal) => return self.refuse_all(bytes, &refusal, out),
        };
        if let Err(refusal) = self.accept_kind(kind) {
            return self.refuse_all(bytes, &refusal, out);
        }
        if kind.has_envelope() {
            return match Envelope::parse_from(self.is_server, kind, body) {
                // The common case: the event is built where it is returned, not moved there.
                Ok(envelope) if self.state == State::Open => Step::Taken {
                    used,
                    event: Event::Message(Message::Envelope(kind, envelope)),
                },
                // One side has sent CLOSE.
                Ok(_) => Step::Taken {
                    used,
                    event: Event::Handled,
                },
                Err(refusal) => self.refuse_all(bytes, &refusal, out),
            };
        }
        match Message::parse(kind, body) {
            Ok(message) => Step::Taken {
                used,
                event: self.answer(message, now, out),
            },
            Err(refusal) => self.refuse_all(bytes, &refusal, out),
        }
    }

    /// Whether a message of this type may come now: the check between checksum and body.
    #[inline]
    fn accept_kind(&self, kind: MessageType) -> Result<(), Refusal> {
        let allowed = if self.is_server {
            kind.from_client()
        } else {
            kind.from_server()
        };
        if !allowed {
            return Err(Refusal::new(
                Code::Unexpected,
                "a message of the other direction",
            ));
        }
        if self.is_server && (self.standing != Standing::Admitted || kind == MessageType::Auth) {
            return self.accept_by_rights(kind);
        }
        Ok(())
    }

    /// The header of an AUTH that is longer than other messages may be before it.
    #[cold]
    fn long_auth(&self, bytes: &[u8]) -> Option<Header> {
        let waits = self.is_server && !self.is_authenticated() && self.settings.auth_methods != 0;
        let most = AUTH_BYTES_MAX.min(self.settings.message_bytes_max) + self.crc_bytes();
        let header = Header::parse(bytes, most).ok()??;
        (waits && header.kind == MessageType::Auth).then_some(header)
    }

    /// Does what the protocol does by itself and hands the rest to the owner.
    fn answer<'a>(
        &mut self,
        message: Message<'a>,
        now: Instant,
        out: &mut impl Output,
    ) -> Event<'a> {
        if self.state != State::Open {
            return self.answer_late(message);
        }
        let bound = message.kind().bound();
        if bound == Bound::Controls && !self.controls.spend(CONTROLS_PER_S_MAX, now) {
            return self.flooded(now, out);
        }
        match message {
            Message::Ping(bytes) => {
                self.send(&Message::Pong(bytes), out);
                Event::Handled
            }
            // A client measures by PONGs of its own; a server's PINGs ask for life, and how
            // long the answer took is only noted.
            Message::Pong(bytes) if self.is_server => {
                self.round_trip.take_pong(bytes, now);
                Event::Handled
            }
            Message::Close { code, reason } => {
                self.state = State::PeerClosing;
                Event::PeerClosed { code, reason }
            }
            other => Event::Message(other),
        }
    }

    #[cold]
    fn flooded(&mut self, now: Instant, out: &mut impl Output) -> Event<'static> {
        let text = "too many PINGs in a second";
        if self.is_server {
            self.error(Code::RateLimited, 0, text, now, out)
        } else {
            // ERROR is the server's to send.
            self.refuse(&Refusal::new(Code::RateLimited, text), out)
        }
    }

    /// One side has sent CLOSE: only the other's CLOSE still counts.
    fn answer_late<'a>(&mut self, message: Message<'a>) -> Event<'a> {
        if self.state == State::Closing && matches!(message, Message::Close { .. }) {
            self.state = State::Ended;
            return Event::Ended(Reason::Shutdown);
        }
        Event::Handled
    }

    fn incomplete<'a>(&mut self, bytes: &[u8], need: usize, now: Instant) -> Step<'a> {
        if self.frame_started == Instant::NEVER && !bytes.is_empty() {
            self.frame_started = now;
        }
        Step::Incomplete { need }
    }

    /// Two things may stand behind a header that is refused: the RST of a server that gave
    /// up on the handshake while our ACK was on its way to it (as a message it would be of
    /// version 4), and a message too large for a client that has not authenticated yet.
    #[cold]
    fn refuse_header<'a>(
        &mut self,
        bytes: &'a [u8],
        refusal: Refusal,
        now: Instant,
        out: &mut impl Output,
    ) -> Step<'a> {
        if !self.is_server && bytes.get(2) == Some(&(FrameType::Rst as u8)) {
            match Frame::parse(bytes) {
                Ok(Parsed::Incomplete { need }) => return self.incomplete(bytes, need, now),
                Ok(Parsed::Whole { used, value }) => {
                    let event = self.take_rst(value);
                    return Step::Taken { used, event };
                }
                Err(_) => {}
            }
        }
        let most = self
            .settings
            .message_bytes_max
            .saturating_add(self.crc_bytes());
        let refusal = match Header::parse(bytes, most) {
            Ok(Some(Header {
                kind: MessageType::Auth,
                ..
            })) => Refusal::new(Code::AuthFailed, "a credential this long is none"),
            Ok(Some(header)) => self.accept_by_rights(header.kind).err().unwrap_or(refusal),
            _ => refusal,
        };
        self.refuse_all(bytes, &refusal, out)
    }

    fn refuse_all<'a>(
        &mut self,
        bytes: &[u8],
        refusal: &Refusal,
        out: &mut impl Output,
    ) -> Step<'a> {
        Step::Taken {
            used: bytes.len(),
            event: self.refuse(refusal, out),
        }
    }

    /// What CHECKSUM adds to a payload: it does not count against what one may have.
    #[inline]
    const fn crc_bytes(&self) -> u32 {
        if self.checksum {
            CHECKSUM_BYTES as u32
        } else {
            0
        }
    }

    /// What a header's length may be now: a server's less before AUTH than after it.
    #[inline]
    fn length_max(&self) -> u32 {
        let most = self
            .settings
            .message_bytes_max
            .saturating_add(self.crc_bytes());
        match self.is_server && self.standing != Standing::Admitted {
            true => most.min(UNAUTHENTICATED_BYTES_MAX),
            false => most,
        }
    }
}

/// What comes after the end is dropped. Nothing left is `Incomplete`, like everywhere: an
/// owner's loop ends on it.
#[cold]
fn drop_all(bytes: &[u8]) -> Step<'static> {
    if bytes.is_empty() {
        return Step::Incomplete { need: 1 };
    }
    Step::Taken {
        used: bytes.len(),
        event: Event::Handled,
    }
}
