//! The link phase: the three-way handshake, as server and as client (PROTOCOL.md §1).

use super::{Event, Session, Settings, State, Step};
use crate::base::clock::Instant;
use crate::base::limits::{FRAME_PAYLOAD_BYTES_MAX, HEARTBEAT_MS_MIN};
use crate::base::reason::Reason;
use crate::proto::error::{Code, Refusal};
use crate::proto::frame::{Frame, FrameType, Parsed};
use crate::proto::option::{FEATURE_CHECKSUM, Options};
use crate::proto::output::Output;
use std::sync::Arc;

/// The first byte of a TLS record that opens a handshake (PROTOCOL.md §4).
const TLS_HANDSHAKE: u8 = 0x16;

impl Session {
    /// The server's end of a connection just accepted. `seq` is this side's initial
    /// number, from a cryptographic generator.
    pub fn accept(settings: Arc<Settings>, seq: u32, now: Instant) -> Session {
        Session::new(settings, State::AwaitSyn { seq }, seq, true, now)
    }

    /// The client's end: writes the SYN.
    pub fn connect(
        settings: Arc<Settings>,
        hello: &Options<'_>,
        seq: u32,
        now: Instant,
        out: &mut impl Output,
    ) -> Session {
        let mut payload = Vec::with_capacity(FRAME_PAYLOAD_BYTES_MAX);
        hello.encode(&mut payload);
        Frame {
            kind: FrameType::Syn,
            seq,
            payload: &payload,
        }
        .encode(out);
        let state = State::AwaitSynAck {
            acknowledgement: seq.wrapping_add(1),
        };
        Session::new(settings, state, seq, false, now)
    }

    pub(super) fn handle_frame<'a>(
        &mut self,
        bytes: &'a [u8],
        now: Instant,
        out: &mut impl Output,
    ) -> Step<'a> {
        if matches!(self.state, State::AwaitSyn { .. }) && bytes.first() == Some(&TLS_HANDSHAKE) {
            // TLS is off: a TLS client could not read an RST, so none is sent.
            self.state = State::Ended;
            return Step::Taken {
                used: bytes.len(),
                event: Event::Ended(Reason::Malformed),
            };
        }
        match Frame::parse(bytes) {
            Ok(Parsed::Incomplete { need }) => Step::Incomplete { need },
            Ok(Parsed::Whole { used, value }) => match self.take_frame(value, now, out) {
                Ok(event) => Step::Taken { used, event },
                Err(refusal) => self.refuse_all(bytes, &refusal, out),
            },
            Err(refusal) => self.refuse_all(bytes, &refusal, out),
        }
    }

    fn take_frame<'a>(
        &mut self,
        frame: Frame<'a>,
        now: Instant,
        out: &mut impl Output,
    ) -> Result<Event<'a>, Refusal> {
        if frame.kind == FrameType::Rst {
            return Ok(self.take_rst(frame));
        }
        match (self.state, frame.kind) {
            (State::AwaitSyn { seq }, FrameType::Syn) => self.take_syn(frame, seq, out),
            (
                State::AwaitAck {
                    seq,
                    acknowledgement,
                },
                FrameType::Ack,
            ) => self.take_ack(frame, seq, acknowledgement, now),
            (State::AwaitSynAck { acknowledgement }, FrameType::SynAck) => {
                self.take_syn_ack(frame, acknowledgement, now, out)
            }
            _ => Err(unexpected("a control frame that is not expected here")),
        }
    }

    pub(super) fn take_rst(&mut self, frame: Frame<'_>) -> Event<'static> {
        self.state = State::Ended;
        let Refusal { code, text } = frame.rst_refusal();
        Event::Refused {
            code,
            reason: text.into_owned(),
        }
    }

    fn take_syn<'a>(
        &mut self,
        frame: Frame<'a>,
        seq: u32,
        out: &mut impl Output,
    ) -> Result<Event<'a>, Refusal> {
        let asked = Options::parse(frame.payload)?;
        self.peer_message_bytes_max = asked.message_max.unwrap_or(u32::MAX);
        self.agree_on_heartbeat(asked.heartbeat_ms);
        let features = asked.features.unwrap_or(0) & FEATURE_CHECKSUM;
        self.checksum = features & FEATURE_CHECKSUM != 0;
        self.codec = asked.codec.unwrap_or_default();
        self.client_id = asked.client_id.map(Box::from);

        let mut payload = Vec::with_capacity(128);
        payload.extend_from_slice(&frame.seq.wrapping_add(1).to_be_bytes());
        Options {
            heartbeat_ms: Some(self.heartbeat_ms),
            message_max: Some(self.settings.message_bytes_max),
            features: Some(features),
            client_id: None,
            codec: asked.codec,
            server: Some(&self.settings.product),
            auth: Some(if self.is_authenticated() {
                0
            } else {
                self.settings.auth_methods
            }),
            shard: Some(self.settings.shard),
        }
        .encode(&mut payload);
        Frame {
            kind: FrameType::SynAck,
            seq,
            payload: &payload,
        }
        .encode(out);
        self.state = State::AwaitAck {
            seq: frame.seq.wrapping_add(1),
            acknowledgement: seq.wrapping_add(1),
        };
        Ok(Event::Handled)
    }

    fn take_ack<'a>(
        &mut self,
        frame: Frame<'a>,
        seq: u32,
        acknowledgement: u32,
        now: Instant,
    ) -> Result<Event<'a>, Refusal> {
        if frame.seq != seq {
            return Err(unexpected(
                "the ACK's sequence number is not the SYN's plus one",
            ));
        }
        let options = split_acknowledgement(frame.payload, acknowledgement)?;
        let event = Event::Established(Options::parse(options)?);
        self.establish(now);
        self.auth_deadline = now + self.settings.auth_timeout;
        if self.settings.auth_methods == 0 || self.is_authenticated() {
            self.authenticate();
        }
        Ok(event)
    }

    fn take_syn_ack<'a>(
        &mut self,
        frame: Frame<'a>,
        acknowledgement: u32,
        now: Instant,
        out: &mut impl Output,
    ) -> Result<Event<'a>, Refusal> {
        let options = split_acknowledgement(frame.payload, acknowledgement)?;
        let granted = Options::parse(options)?;
        self.peer_message_bytes_max = granted.message_max.unwrap_or(u32::MAX);
        self.checksum = granted.features.unwrap_or(0) & FEATURE_CHECKSUM != 0;
        self.codec = granted.codec.unwrap_or_default();
        self.agree_on_heartbeat(granted.heartbeat_ms);
        let payload = frame.seq.wrapping_add(1).to_be_bytes();
        Frame {
            kind: FrameType::Ack,
            seq: acknowledgement,
            payload: &payload,
        }
        .encode(out);
        self.establish(now);
        Ok(Event::Established(granted))
    }

    /// The interval in force is the one that the peer names, clamped to this side's bounds. A
    /// client needs bounds, too: a server's interval may be longer than the client's own timeout.
    fn agree_on_heartbeat(&mut self, named_ms: Option<u32>) {
        if let Some(ms) = named_ms.filter(|&ms| ms > 0) {
            // Half the timeout, so that a PING and its PONG fit before it.
            let half = u32::try_from(self.settings.heartbeat_timeout.as_millis() / 2)
                .unwrap_or(u32::MAX)
                .max(HEARTBEAT_MS_MIN);
            self.heartbeat_ms = ms.clamp(HEARTBEAT_MS_MIN, half);
        }
    }

    fn establish(&mut self, now: Instant) {
        self.state = State::Open;
        self.heard = now;
    }
}

/// Checks the acknowledgement at the head of a payload; what follows are options.
fn split_acknowledgement(payload: &[u8], acknowledgement: u32) -> Result<&[u8], Refusal> {
    match payload.split_first_chunk() {
        Some((number, options)) if u32::from_be_bytes(*number) == acknowledgement => Ok(options),
        _ => Err(unexpected(
            "the acknowledgement is not this side's number plus one",
        )),
    }
}

const fn unexpected(text: &'static str) -> Refusal {
    Refusal::new(Code::Unexpected, text)
}
