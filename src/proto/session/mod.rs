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

/// Settings shared by all sessions of one owner.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of the largest payload this side accepts, without a CRC.
    pub message_bytes_max: u32,
    pub handshake_timeout: Duration,
    pub frame_timeout: Duration,
    /// Silence after which this side sends PING, unless the handshake agrees on another.
    pub heartbeat_interval: Duration,
    /// Silence after which the peer counts as dead.
    pub heartbeat_timeout: Duration,
    /// Server: accepted AUTH methods (`option::AUTH_*`); 0: none needed.
    pub auth_methods: u8,
    /// Server: how long an established client may take to authenticate.
    pub auth_timeout: Duration,
    /// Server: product and version, for SYN-ACK.
    pub product: String,
    /// Server: the shard that serves this session.
    pub shard: u16,
}

/// The result of one call of [`Session::handle`].
#[derive(Debug, PartialEq)]
pub enum Step<'a> {
    /// There is no complete frame or message. With `need` bytes in all, parsing gets further.
    Incomplete { need: usize },
    /// The first `used` bytes are consumed; the owner drops them once it has handled the event.
    Taken { used: usize, event: Event<'a> },
}

/// What the owner has to act on.
#[derive(Debug, PartialEq)]
pub enum Event<'a> {
    /// Nothing: the session has handled it.
    Handled,
    /// The handshake is complete, with these options of the peer.
    Established(Options<'a>),
    /// A message for the owner.
    Message(Message<'a>),
    /// The peer sent CLOSE: send the answers it still waits for, then call [`Session::finish`].
    PeerClosed { code: Code, reason: &'a str },
    /// The peer refused the handshake with RST; the session has ended.
    Refused { code: Code, reason: String },
    /// The session has ended: flush, then end the connection as PROTOCOL.md "Ending" says.
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
    /// The peer sent CLOSE, and this side has not answered yet.
    PeerClosing,
    /// This side sent CLOSE and waits for the peer's.
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
    /// How many heartbeat intervals of silence since `heard` have been acted on: the first by a
    /// PING.
    silent_count: u32,
    jitter: Jitter,
    round_trip: RoundTrip,
    /// Complete messages received, and messages written; without frames of the handshake.
    messages_in: u64,
    messages_out: u64,
    client_id: Option<Box<str>>,
    /// In the link phase: when it began. Afterwards: when the last complete message arrived.
    heard: Instant,
    /// When the first byte of the incomplete message arrived.
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

    // ---- state ----

    pub fn is_established(&self) -> bool {
        matches!(
            self.state,
            State::Open | State::PeerClosing | State::Closing
        )
    }

    /// Whether it is established and neither side has sent CLOSE.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the peer sent CLOSE and waits for [`Session::finish`].
    pub fn is_peer_closing(&self) -> bool {
        self.state == State::PeerClosing
    }

    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Complete messages received, however they were handled.
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

    /// Bytes of the largest payload the peer accepts, without a CRC.
    pub fn peer_message_bytes_max(&self) -> u32 {
        self.peer_message_bytes_max
    }

    /// Bytes of the largest complete message the peer accepts, without a CRC.
    #[inline]
    pub fn peer_whole_bytes_max(&self) -> usize {
        self.peer_message_bytes_max as usize + MESSAGE_HEADER_BYTES
    }

    /// Whether the peer accepts a RESPONSE with a payload of this size.
    #[inline]
    pub fn peer_accepts_response(&self, payload_bytes: usize) -> bool {
        ENVELOPE_FIXED_BYTES + payload_bytes <= self.peer_message_bytes_max as usize
    }

    // ---- bytes in ----

    /// Handles the frame or message at the head of `bytes`.
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

    /// Whether a message of this type is allowed now: the check between checksum and body.
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

    /// The header of an AUTH that is longer than any other message may be before authentication.
    #[cold]
    fn long_auth(&self, bytes: &[u8]) -> Option<Header> {
        let waits = self.is_server && !self.is_authenticated() && self.settings.auth_methods != 0;
        let most = AUTH_BYTES_MAX.min(self.settings.message_bytes_max) + self.crc_bytes();
        let header = Header::parse(bytes, most).ok()??;
        (waits && header.kind == MessageType::Auth).then_some(header)
    }

    /// Handles what the protocol answers by itself and passes the rest to the owner.
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
            // A client's PONGs go to its owner, which measures with them; a server's PINGs check
            // for life, and it only records how long the answer took.
            Message::Pong(bytes) if self.is_server => {
                self.round_trip.take_pong(bytes, now);
                Event::Handled
            }
            Message::Close { code, reason } => {
                self.state = State::PeerClosing;
                Event::PeerClosed { code, reason }
            }
            other @ (Message::Pong(_)
            | Message::Error { .. }
            | Message::Ok { .. }
            | Message::Auth { .. }
            | Message::AuthOk { .. }
            | Message::Drain { .. }
            | Message::Ack { .. }
            | Message::Session { .. }
            | Message::SessionOk { .. }
            | Message::Envelope(..)) => Event::Message(other),
        }
    }

    #[cold]
    fn flooded(&mut self, now: Instant, out: &mut impl Output) -> Event<'static> {
        let text = "too many PINGs in a second";
        if self.is_server {
            self.error(Code::RateLimited, 0, text, now, out)
        } else {
            // Only a server may send ERROR.
            self.refuse(&Refusal::new(Code::RateLimited, text), out)
        }
    }

    /// One side has sent CLOSE: only the other side's CLOSE still matters.
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

    /// A refused header may be one of two special cases: the RST of a server that gave up on the
    /// handshake while this client's ACK was on its way (as a message it would have version 4), or
    /// a message too large for a client that has not authenticated yet.
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

    /// What CHECKSUM adds to a payload: it does not count against the payload's limit.
    #[inline]
    const fn crc_bytes(&self) -> u32 {
        if self.checksum {
            CHECKSUM_BYTES as u32
        } else {
            0
        }
    }

    /// The largest length a header may have now: for a server, less before AUTH than after it.
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

/// Drops what arrives after the end. No bytes left is `Incomplete`, as everywhere, so that the
/// owner's loop ends.
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
