//! Deadlines: handshake, authentication, a message begun, a peer gone silent.

use super::{Event, Session, State};
use crate::base::clock::Instant;
use crate::proto::error::{Code, Refusal};
use crate::proto::message::Message;
use crate::proto::output::Output;
use std::time::Duration;

impl Session {
    /// When [`Session::handle_timeout`] wants to be called; `NEVER` when nothing is due.
    ///
    /// Hearing something only moves it later, so an owner may keep its timer where it is
    /// and ask again when that fires. Only the end of the handshake and a message begun move
    /// it earlier.
    pub fn timeout(&self) -> Instant {
        match self.state {
            State::AwaitSyn { .. } | State::AwaitAck { .. } | State::AwaitSynAck { .. } => {
                self.heard + self.settings.handshake_timeout
            }
            State::Open | State::PeerClosing => self
                .silence_deadline()
                .min(self.frame_deadline())
                .min(self.auth_deadline),
            State::Closing | State::Ended => Instant::NEVER,
        }
    }

    /// Acts on the deadlines that have passed.
    #[cold]
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl Output) -> Event<'static> {
        let refusal = match self.state {
            State::Closing | State::Ended => return Event::Handled,
            State::AwaitSyn { .. } | State::AwaitAck { .. } | State::AwaitSynAck { .. } => {
                if now < self.heard + self.settings.handshake_timeout {
                    return Event::Handled;
                }
                Refusal::new(Code::HandshakeTimeout, "the handshake took too long")
            }
            State::Open | State::PeerClosing if self.frame_deadline() <= now => Refusal::new(
                Code::FrameTimeout,
                "a message was begun and not finished in time",
            ),
            State::Open | State::PeerClosing if self.auth_deadline <= now => {
                Refusal::new(Code::AuthRequired, "no AUTH came in time")
            }
            State::Open | State::PeerClosing => {
                if now < self.silence_deadline() {
                    return Event::Handled;
                }
                if now < self.heard + self.settings.heartbeat_timeout {
                    self.pinged = true;
                    // The payload lets a reader of a capture see how long the answer took.
                    self.send(&Message::Ping(&now.as_nanos().to_be_bytes()), out);
                    return Event::Handled;
                }
                Refusal::new(Code::HeartbeatTimeout, "nothing was heard for too long")
            }
        };
        self.refuse(&refusal, out)
    }

    /// The owner reads again after it has not been reading: time in which it could not hear
    /// the rest of a message does not count against the peer.
    pub fn restart_frame_clock(&mut self, now: Instant) {
        if self.frame_started != Instant::NEVER {
            self.frame_started = now;
        }
    }

    /// A message has begun and is not complete: [`Session::timeout`] may have moved earlier.
    #[inline]
    pub fn is_mid_message(&self) -> bool {
        self.frame_started != Instant::NEVER
    }

    /// When the last complete message came.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    fn frame_deadline(&self) -> Instant {
        self.frame_started + self.settings.frame_timeout
    }

    /// When silence next has a consequence: first a PING, then the end.
    fn silence_deadline(&self) -> Instant {
        let end = self.heard + self.settings.heartbeat_timeout;
        if self.pinged {
            return end;
        }
        let interval = Duration::from_millis(u64::from(self.heartbeat_ms));
        coalesced(self.heard + interval, interval).min(end)
    }
}

/// Rounds a deadline up to a multiple of about a thirty-second of its interval (a second at
/// most), so that thousands of idle connections wake their shard together, not one by one.
fn coalesced(at: Instant, interval: Duration) -> Instant {
    let slack = (interval.as_nanos() as u64 / 32).clamp(1, 1 << 30);
    let grain = 1u64 << slack.ilog2();
    Instant::from_nanos(
        at.as_nanos()
            .checked_next_multiple_of(grain)
            .unwrap_or(u64::MAX),
    )
}
