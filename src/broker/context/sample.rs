//! Where a message's time goes: one message of a sampled turn is timed through its stages.
//!
//! ```text
//!   completion ─receive─► handling ─parse─► parsed ─route─► routed ─queue─► send begins ─send─► send completed
//! ```
//!
//! A turn is sampled if a millisecond has passed since the last sampled one, so an idle server
//! times nearly every message and a busy one a thousand a second: some ten clock readings each,
//! which is negligible (P1 and P2 with and without: benches/BENCHMARKS.md). The first message
//! handled in such a turn is timed; the first send handed to the kernel after it is assumed to be
//! its own, which is true of an answer or a delivery unless the message was for another shard.
//!
//! In a simulation there is no clock to read, and nothing is sampled.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::metrics::histogram::{Histograms, Timing};
use std::time::Duration;

/// Minimum time between two sampled turns.
const INTERVAL: Duration = Duration::from_millis(1);

/// Reads the time in the middle of a turn.
pub(in crate::broker) type Clock = fn() -> Instant;

#[derive(Default)]
pub(crate) struct Sampler {
    clock: Option<Clock>,
    next: Instant,
    /// This turn's message has not been handled yet.
    waits: bool,
    /// When the message was routed; zero: no send is awaited.
    routed: Instant,
    /// The connection whose send is timed, and when that send began.
    sending: Option<(Key, Instant)>,
}

impl Sampler {
    pub(crate) fn new(clock: Option<Clock>) -> Sampler {
        Sampler {
            clock,
            ..Sampler::default()
        }
    }

    /// Called at the start of a turn.
    #[inline]
    pub(in crate::broker) fn begin_turn(&mut self, now: Instant) {
        if now >= self.next && self.clock.is_some() {
            self.next = now + INTERVAL;
            self.waits = true;
            self.routed = Instant::ZERO;
        }
    }

    /// Called before a message is handled. Returns the time if this is the message to be timed.
    #[inline]
    pub(in crate::broker) fn begin_message(
        &mut self,
        turn: Instant,
        histograms: &mut Histograms,
    ) -> Option<Instant> {
        if !self.waits {
            return None;
        }
        self.waits = false;
        let now = self.clock?();
        histograms.record(Timing::Receive, now.since(turn));
        Some(now)
    }

    /// The message, whose handling began at `began`, has been parsed. Returns the time.
    #[cold]
    pub(in crate::broker) fn parsed(
        &self,
        began: Instant,
        histograms: &mut Histograms,
    ) -> Option<Instant> {
        let now = self.clock?();
        histograms.record(Timing::Parse, now.since(began));
        Some(now)
    }

    /// The message has been routed to its receivers.
    #[cold]
    pub(in crate::broker) fn routed(&mut self, parsed: Instant, histograms: &mut Histograms) {
        let Some(clock) = self.clock else { return };
        self.routed = clock();
        histograms.record(Timing::Route, self.routed.since(parsed));
    }

    /// A send is handed to the kernel.
    #[inline]
    pub(crate) fn send_begins(&mut self, key: Key, histograms: &mut Histograms) {
        if self.routed != Instant::ZERO {
            self.time_send(key, histograms);
        }
    }

    #[cold]
    fn time_send(&mut self, key: Key, histograms: &mut Histograms) {
        let Some(clock) = self.clock else { return };
        let now = clock();
        histograms.record(Timing::Queue, now.since(self.routed));
        self.routed = Instant::ZERO;
        self.sending = Some((key, now));
    }

    /// A send has completed, as of the start of this turn.
    #[inline]
    pub(crate) fn send_ended(&mut self, key: Key, now: Instant, histograms: &mut Histograms) {
        if let Some((timed, began)) = self.sending
            && timed == key
        {
            histograms.record(Timing::Send, now.since(began));
            self.sending = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Instant {
        Instant::from_nanos(5_000_000)
    }

    #[test]
    fn one_message_in_a_millisecond_is_timed_through_all_stages() {
        let mut sampler = Sampler::new(Some(clock));
        let mut histograms = Histograms::default();
        let at = Instant::from_nanos;
        let key = Key {
            slot: 1,
            generation: 1,
        };
        for turn in [4_000_000, 4_500_000, 4_999_999] {
            sampler.begin_turn(at(turn));
            if let Some(began) = sampler.begin_message(at(turn), &mut histograms) {
                let parsed = sampler.parsed(began, &mut histograms).unwrap();
                sampler.routed(parsed, &mut histograms);
            }
            assert_eq!(sampler.begin_message(at(turn), &mut histograms), None);
            sampler.send_begins(key, &mut histograms);
            sampler.send_ended(key, at(6_000_000), &mut histograms);
        }
        for timing in [
            Timing::Receive,
            Timing::Parse,
            Timing::Route,
            Timing::Queue,
            Timing::Send,
        ] {
            assert_eq!(histograms.of(timing).len(), 1, "{}", timing.label());
        }
        let close = |timing, value: u64| {
            histograms
                .of(timing)
                .equivalent(histograms.of(timing).max(), value)
        };
        assert!(close(Timing::Receive, 1_000_000) && close(Timing::Send, 1_000_000));
    }
}
