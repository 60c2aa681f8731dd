//! Deadlines: handshake, authentication, an incomplete message, a silent peer.

use super::pulse::coalesced;
use super::{Event, Session, State};
use crate::base::clock::Instant;
use crate::proto::error::{Code, Refusal};
use crate::proto::message::Message;
use crate::proto::output::Output;
use std::time::Duration;

impl Session {
    /// When to call [`Session::handle_timeout`]; `NEVER` if nothing will be due.
    ///
    /// Receiving messages only moves it later, so an owner may leave its timer as it is and ask
    /// again when it fires. Only two things move it earlier: the end of the handshake, and a
    /// message that begins.
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
                "a message was started but not completed in time",
            ),
            State::Open | State::PeerClosing if self.auth_deadline <= now => {
                match self.is_authenticated() {
                    true => Session::full(),
                    false => Refusal::new(Code::AuthRequired, "no AUTH was received in time"),
                }
            }
            State::Open | State::PeerClosing => {
                if self.outlasts_silence(now, out) {
                    return Event::Handled;
                }
                Refusal::new(Code::HeartbeatTimeout, "nothing was received for too long")
            }
        };
        self.refuse(&refusal, out)
    }

    /// The owner reads again after a pause: the time in which it could not receive the rest of a
    /// message does not count against the peer.
    pub fn restart_frame_clock(&mut self, now: Instant) {
        if self.frame_started != Instant::NEVER {
            self.frame_started = now;
        }
    }

    /// The owner holds bytes of the peer that the session cannot see yet (`partial`: an incomplete
    /// TLS record), or holds none any more. The deadline for a message counts from then.
    pub fn note_undelivered(&mut self, partial: bool, now: Instant) {
        if !partial {
            self.frame_started = Instant::NEVER;
        } else if self.frame_started == Instant::NEVER && self.is_established() {
            self.frame_started = now;
        }
    }

    /// Whether a message has begun and is not complete: [`Session::timeout`] may have moved
    /// earlier.
    #[inline]
    pub fn is_mid_message(&self) -> bool {
        self.frame_started != Instant::NEVER
    }

    /// When the last complete message came.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// From this side's last PING to its PONG. `None` so far: a peer that is never silent gets no
    /// PING.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.took()
    }

    fn frame_deadline(&self) -> Instant {
        self.frame_started + self.settings.frame_timeout
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.heartbeat_ms.max(1)))
    }

    /// When silence next has a consequence: a PING after one interval plus this session's jitter,
    /// and finally the end. In between nothing happens, but the owner is called after each
    /// interval, so that after a message in the meantime the next PING is due one interval later,
    /// not only at the end.
    fn silence_deadline(&self) -> Instant {
        let timeout = self.settings.heartbeat_timeout;
        let end = self.heard + timeout;
        let interval = self.interval();
        let mut next = interval.saturating_mul(self.silent_count.saturating_add(1));
        if self.silent_count == 0 {
            next = next.saturating_add(self.jitter.of(interval, timeout));
        }
        coalesced(self.heard + next, interval).min(end)
    }

    /// Acts on the silence so far; false when it has lasted too long.
    fn outlasts_silence(&mut self, now: Instant, out: &mut impl Output) -> bool {
        if now < self.silence_deadline() {
            return true;
        }
        let interval = self.interval();
        let timeout = self.settings.heartbeat_timeout;
        let first = self.silent_count == 0;
        if first && interval < timeout && now >= self.heard + timeout {
            // This side was not called when the PING was due: it slept (a stopped process, a
            // suspended machine), the peer did not fall silent. The peer gets its PING now, and the
            // usual time to answer it.
            self.heard = now - interval;
        }
        let silence = now.since(self.heard);
        if silence >= timeout {
            return false;
        }
        let count = silence.as_nanos() / interval.as_nanos();
        self.silent_count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        if first && self.state == State::Open {
            self.jitter.advance();
            // From the payload, this side and a reader of a capture can see how long the answer
            // took.
            self.round_trip.ask(now);
            self.send(&Message::Ping(&now.as_nanos().to_be_bytes()), out);
        }
        true
    }
}
