//! Deadlines: handshake, authentication, a message begun, a peer gone silent.

use super::{Event, Session, State};
use crate::base::clock::Instant;
use crate::proto::error::{Code, Refusal};
use crate::proto::message::Message;
use crate::proto::output::Output;
use std::num::NonZeroU32;
use std::time::Duration;

impl Session {
    /// When [`Session::handle_timeout`] wants to be called; `NEVER` when nothing is due.
    ///
    /// Hearing something only moves it later, so an owner may keep its timer where it is
    /// and ask again when that fires. Only two things move it earlier: the handshake's end
    /// and a message begun.
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
                match self.is_authenticated() {
                    true => Session::full(),
                    false => Refusal::new(Code::AuthRequired, "no AUTH came in time"),
                }
            }
            State::Open | State::PeerClosing => {
                if self.outlasts_silence(now, out) {
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

    /// What the owner has of the peer is not yet bytes of a message (`partial`: a TLS record
    /// that has begun), or is none any more. The time for a message runs from there.
    pub fn note_undelivered(&mut self, partial: bool, now: Instant) {
        if !partial {
            self.frame_started = Instant::NEVER;
        } else if self.frame_started == Instant::NEVER && self.is_established() {
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

    /// From the last PING of this side to its PONG; none so far: a peer that is never silent
    /// is not asked.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.took()
    }

    fn frame_deadline(&self) -> Instant {
        self.frame_started + self.settings.frame_timeout
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.heartbeat_ms.max(1)))
    }

    /// When silence next has a consequence: a PING after one interval and this session's
    /// jitter, the end at last. In between nothing happens, but the owner is called after
    /// each interval: after what it hears meanwhile the next PING is due one interval later,
    /// not at the end.
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
            // Nobody asked at the time for the PING: this side slept (a stopped process, a
            // suspended machine), the peer did not fall silent. It gets its PING, and the
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
            // The payload lets a reader of a capture see how long the answer took, and us.
            self.round_trip.ask(now);
            self.send(&Message::Ping(&now.as_nanos().to_be_bytes()), out);
        }
        true
    }
}

/// How long the last PING's answer took. When a PING was sent stands in its payload, which
/// its PONG brings back; of what is kept here only that such a PONG is awaited, and the low
/// bits of its time, so that a PONG nobody asked for measures nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip {
    asked_us: Option<NonZeroU32>,
    took_us: Option<NonZeroU32>,
}

impl RoundTrip {
    pub(super) fn took(self) -> Option<Duration> {
        let took = self.took_us?;
        Some(Duration::from_micros(u64::from(took.get())))
    }

    pub(super) fn ask(&mut self, now: Instant) {
        self.asked_us = low_micros(now);
    }

    /// Takes a PONG's payload.
    pub(super) fn take_pong(&mut self, payload: &[u8], now: Instant) {
        let Ok(bytes) = payload.try_into() else {
            return;
        };
        let sent = Instant::from_nanos(u64::from_be_bytes(bytes));
        if self.asked_us.is_none() || self.asked_us != low_micros(sent) || sent > now {
            return;
        }
        self.asked_us = None;
        let took = u32::try_from(now.since(sent).as_micros()).unwrap_or(u32::MAX);
        self.took_us = NonZeroU32::new(took.max(1));
    }
}

fn low_micros(at: Instant) -> Option<NonZeroU32> {
    NonZeroU32::new(((at.as_nanos() / 1000) as u32).max(1))
}

/// What a session adds to the silence before its PING, so that sessions which began
/// together, as after a server's restart, do not ask together for ever.
///
/// ```text
///   interval                        spread: at most a sixteenth of it    coalescing
///  ├───────────────────────────────┼───── by salt ─────┼── by turn ──┼┈┈ up to a grain ┈┈►
/// ```
///
/// The salt's share is the same each time, so sessions drift apart by up to that much with
/// every PING. Coalescing alone would undo this: of all salts it leaves the few periods
/// that are whole grains, and the sessions of one period would go together. The turn's
/// share, even over a grain in the course of the PINGs, makes the mean period the salt's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jitter {
    salt: u16,
    turn: u8,
}

impl Jitter {
    pub(super) fn new(seq: u32) -> Jitter {
        let salt = seq as u16;
        // Sessions of neighbouring salts take their turns at other places.
        let turn = (salt as u8).wrapping_mul(97);
        Jitter { salt, turn }
    }

    pub(super) fn advance(&mut self) {
        // About the golden section of 256: few steps already lie evenly, 256 take each place.
        self.turn = self.turn.wrapping_add(159);
    }

    /// The share of `interval`: nearer to the interval's end than to the timeout's.
    pub(super) fn of(self, interval: Duration, timeout: Duration) -> Duration {
        let room = timeout.saturating_sub(interval) / 2;
        let spread = (interval / 16).min(room).as_nanos() as u64;
        let by_turn = grain(interval).min(spread);
        let by_salt = spread - by_turn;
        let by_salt = by_salt / (1 << 16) * u64::from(self.salt);
        let by_turn = by_turn / (1 << 8) * u64::from(self.turn);
        Duration::from_nanos(by_salt + by_turn)
    }
}

/// Rounds a deadline up to a multiple of its interval's grain, so that thousands of idle
/// connections wake their shard together, not one by one.
pub(super) fn coalesced(at: Instant, interval: Duration) -> Instant {
    Instant::from_nanos(
        at.as_nanos()
            .checked_next_multiple_of(grain(interval))
            .unwrap_or(u64::MAX),
    )
}

/// Nanoseconds, a power of two: a sixty-fourth to a thirty-second of the interval, and
/// about a second at most.
fn grain(interval: Duration) -> u64 {
    let slack = (interval.as_nanos() as u64 / 32).clamp(1, 1 << 30);
    1 << slack.ilog2()
}
