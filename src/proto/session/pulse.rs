//! Heartbeat measurements, as values: how long a PING took, and how the PINGs of many sessions
//! are spread and batched.

use crate::base::clock::Instant;
use std::num::NonZeroU32;
use std::time::Duration;

/// How long the last PING's answer took. The time a PING was sent is in its payload, which its PONG
/// returns; kept here is only whether a PONG is awaited, and the low bits of the PING's time, so
/// that an unsolicited PONG measures nothing.
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

/// What a session adds to the silence before its PING, so that sessions which began together, as
/// after a server's restart, do not send their PINGs together forever.
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
        // Sessions with neighbouring salts start at different turns.
        let turn = (salt as u8).wrapping_mul(97);
        Jitter { salt, turn }
    }

    pub(super) fn advance(&mut self) {
        // About the golden section of 256: a few steps are already spread evenly, and 256 steps
        // visit every value.
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

fn low_micros(at: Instant) -> Option<NonZeroU32> {
    NonZeroU32::new(((at.as_nanos() / 1000) as u32).max(1))
}
