//! One line a second on a terminal's standard error: the run lives, and how it goes.

use crate::base::clock::Instant;
use hdrhistogram::Histogram;
use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(1);
/// Back to the first column, and the old line away (ECMA-48 EL).
const RESTART: &str = "\r\x1b[K";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    WarmUp,
    Window,
    Drain,
}

pub struct Progress {
    next: Instant,
    shown: Instant,
    messages: u64,
}

impl Progress {
    /// None when nobody watches, or nobody wants to.
    pub fn start(now: Instant, quiet: bool) -> Option<Progress> {
        (!quiet && stderr().is_terminal()).then_some(Progress {
            next: now + INTERVAL,
            shown: now,
            messages: 0,
        })
    }

    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    pub fn next(&self) -> Instant {
        self.next
    }

    pub fn show(&mut self, now: Instant, phase: Phase, recent: &Histogram<u64>, messages: u64) {
        let seconds = (now - self.shown).as_secs_f64();
        let rate = messages.saturating_sub(self.messages) as f64 / seconds;
        let line = line(phase, rate, recent);
        // A terminal that is gone does not end the run.
        let _ = write!(stderr(), "{RESTART}{line}");
        (self.shown, self.next, self.messages) = (now, now + INTERVAL, messages);
    }

    pub fn clear(self) {
        let _ = write!(stderr(), "{RESTART}");
    }
}

fn line(phase: Phase, rate: f64, recent: &Histogram<u64>) -> String {
    let us = |quantile| recent.value_at_quantile(quantile) as f64 / 1000.0;
    match phase {
        Phase::WarmUp => "warming up".to_owned(),
        Phase::Drain => "waiting for the last answers".to_owned(),
        Phase::Window => format!(
            "{rate:.0} messages/s   p50 {:.1} µs   p99 {:.1} µs",
            us(0.5),
            us(0.99)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_rate_and_latencies_of_the_last_second() {
        let mut recent = super::super::meter::histogram();
        (1..=100).for_each(|us| recent.record(us * 1000).unwrap());
        let text = line(Phase::Window, 1234.4, &recent);
        assert!(text.starts_with("1234 messages/s"), "{text}");
        assert!(
            text.contains("p50 50.0 µs") && text.contains("p99 99.0 µs"),
            "{text}"
        );
    }
}
