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
    /// and ask again when that fires. Only a message begun moves it earlier.
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
                    if self.silent_intervals == 0 {
                        // The payload lets a reader of a capture see how long the answer took.
                        self.send(&Message::Ping(&now.as_nanos().to_be_bytes()), out);
                    }
                    self.silent_intervals = self.silent_intervals.saturating_add(1);
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

    /// When silence is next looked at: first for a PING, then at every interval, in the end
    /// for the end. The intervals between are not idle curiosity: an answer to the PING
    /// makes the next one due an interval later, which must not be before this.
    fn silence_deadline(&self) -> Instant {
        let end = self.heard + self.settings.heartbeat_timeout;
        if self.silent_intervals == u16::MAX {
            return end;
        }
        let interval = Duration::from_millis(u64::from(self.heartbeat_ms));
        let silence = interval * (u32::from(self.silent_intervals) + 1);
        coalesced(self.heard + silence, interval).min(end)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::session::Settings;
    use std::sync::Arc;

    const SECOND: Duration = Duration::from_secs(1);

    fn open() -> Session {
        let settings = Settings {
            message_bytes_max: 1024,
            handshake_timeout: SECOND,
            frame_timeout: SECOND,
            heartbeat_interval: 30 * SECOND,
            heartbeat_timeout: 90 * SECOND,
            auth_methods: 0,
            auth_timeout: SECOND,
            product: String::new(),
            shard: 0,
        };
        let now = Instant::ZERO + 100 * SECOND;
        Session::new(Arc::new(settings), State::Open, true, now)
    }

    #[test]
    fn an_answered_ping_is_followed_by_the_next_after_one_interval_with_the_timer_left_alone() {
        let (mut session, mut out) = (open(), Vec::new());
        let mut pings = 0;
        let mut timer = session.timeout();
        while timer < Instant::ZERO + 1000 * SECOND {
            let before = out.len();
            session.handle_timeout(timer, &mut out);
            let now = timer;
            timer = session.timeout();
            if out.len() > before {
                pings += 1;
                let mut pong = Vec::new();
                Message::Pong(&[]).encode(false, &mut pong);
                let _ = session.handle(&pong, now + SECOND, &mut out);
                assert!(session.timeout() >= timer, "hearing moves it later only");
            }
        }
        // 900 s; 30 s, a second for each answer, and the rounding of deadlines.
        assert!((28..=29).contains(&pings), "{pings} PINGs");
    }

    #[test]
    fn silence_has_one_ping_and_then_the_end_at_its_time() {
        let (mut session, mut out) = (open(), Vec::new());
        let mut events = Vec::new();
        while !session.is_ended() {
            let now = session.timeout();
            events.push((now, session.handle_timeout(now, &mut out)));
        }
        let (end, _) = events.pop().unwrap();
        assert_eq!(end, Instant::ZERO + 190 * SECOND);
        assert_eq!(events.len(), 2);
        assert_eq!(out.windows(4).filter(|w| w == b"MC\x01\x01").count(), 1);
    }
}
