//! What is measured: the window, the latencies, the CPU time of both sides over exactly
//! that window.
//!
//! ```text
//!   warm-up        window: --duration                 drain: nothing is sent any more
//!  ├──────────────┼──────────────────────────────────┼─────────────┤
//!                 CPU sampled                        CPU sampled
//! ```
//!
//! `messages` are the answers received within the window; throughput and CPU per message
//! are about these. Latencies: in a closed loop those of the same answers; in an open loop
//! those of the requests *meant* to be sent within the window, even if answered after it:
//! leaving the late ones out would omit what the open loop is there to show.
//!
//! The window of a closed loop is as long as asked for, or longer by what it takes to
//! notice its end: begun late, it ends late. That of an open loop stands in the schedule.

use super::fault::Halt;
use super::impact::Impact;
use super::process::{CpuTime, Process, own_cpu_time};
pub use super::progress::Phase;
use super::progress::Progress;
use crate::base::clock::Instant;
use hdrhistogram::Histogram;
use std::time::Duration;

/// Latencies above are counted as this.
pub const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;

/// A histogram of nanoseconds.
pub fn histogram() -> Histogram<u64> {
    let max = LATENCY_MAX.as_nanos() as u64;
    match Histogram::new_with_bounds(1, max, DIGITS) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("constant bounds: {error}"),
    }
}

/// What a run found.
#[derive(Debug)]
pub struct Outcome {
    pub messages: u64,
    /// The window's true length.
    pub window: Duration,
    pub latency: Histogram<u64>,
    /// Open loop: how late each request was handed to its socket.
    pub lag: Option<Histogram<u64>>,
    pub server_cpu: Option<Duration>,
    pub generator_cpu: Duration,
    /// What the server did about slow readers, if there were any.
    pub slow: Option<Impact>,
    /// The window ended early, by a signal.
    pub is_interrupted: bool,
}

pub struct Meter {
    phase: Phase,
    /// The window as planned; `began` and `ended` are as it was.
    planned: (Instant, Instant),
    began: Instant,
    ended: Instant,
    messages: u64,
    is_open: bool,
    latency: Histogram<u64>,
    /// Since the last line of progress; all of it when none is shown.
    recent: Histogram<u64>,
    lag: Histogram<u64>,
    server: Option<Process>,
    server_before: Option<CpuTime>,
    server_cpu: Option<Duration>,
    generator_cpu: Duration,
    progress: Option<Progress>,
    last_answer: Instant,
}

impl Meter {
    /// Measures from `now` on. `is_open`: latencies belong to the window by their request.
    pub fn start(
        now: Instant,
        warm_up: Duration,
        duration: Duration,
        is_open: bool,
        server: Option<Process>,
        progress: Option<Progress>,
    ) -> Meter {
        Meter {
            phase: Phase::WarmUp,
            planned: (now + warm_up, now + warm_up + duration),
            began: now,
            ended: now,
            messages: 0,
            is_open,
            latency: histogram(),
            recent: histogram(),
            lag: histogram(),
            server,
            server_before: None,
            server_cpu: None,
            generator_cpu: Duration::ZERO,
            progress,
            last_answer: now,
        }
    }

    /// An answer received at `now` to a request measured from `since`.
    #[inline]
    pub fn answered(&mut self, since: Instant, now: Instant) {
        self.last_answer = now;
        let in_window = self.phase == Phase::Window;
        self.messages += u64::from(in_window);
        let counts = if self.is_open {
            self.is_planned(since)
        } else {
            in_window
        };
        if counts {
            self.recent
                .saturating_record(now.since(since).as_nanos() as u64);
        }
    }

    /// A request meant for `intended` is handed to its socket at `now`.
    #[inline]
    pub fn sent(&mut self, intended: Instant, now: Instant) {
        if self.is_planned(intended) {
            self.lag
                .saturating_record(now.since(intended).as_nanos() as u64);
        }
    }

    fn is_planned(&self, at: Instant) -> bool {
        self.planned.0 <= at && at < self.planned.1
    }

    /// Moves on to the phase that `now` is in, taking the samples at its edges.
    pub fn tick(&mut self, now: Instant) -> Result<Phase, Halt> {
        if self.phase == Phase::WarmUp && now >= self.planned.0 {
            self.server_before = self.sample()?;
            self.generator_cpu = own_cpu_time();
            self.began = now;
            if !self.is_open {
                self.planned.1 = self.planned.1 + (now - self.planned.0);
            }
            self.phase = Phase::Window;
        }
        if self.phase == Phase::Window && now >= self.planned.1 {
            self.ended = now;
            self.generator_cpu = own_cpu_time().saturating_sub(self.generator_cpu);
            self.server_cpu = match (self.sample()?, &self.server_before) {
                (Some(after), Some(before)) => Some(after.since(before)),
                _ => None,
            };
            self.phase = Phase::Drain;
        }
        if let Some(progress) = &mut self.progress
            && progress.is_due(now)
        {
            progress.show(now, self.phase, &self.recent, self.messages);
            // Cannot fail: both have the same bounds.
            let _ = self.latency.add(&self.recent);
            self.recent.reset();
        }
        Ok(self.phase)
    }

    fn sample(&self) -> Result<Option<CpuTime>, Halt> {
        let sample = self.server.map(|server| server.cpu_time()).transpose();
        sample.map_err(Halt::Process)
    }

    /// Time until [`Meter::tick`] has something to do.
    pub fn next_edge(&self) -> Instant {
        let phase = match self.phase {
            Phase::WarmUp => self.planned.0,
            Phase::Window => self.planned.1,
            Phase::Drain => Instant::NEVER,
        };
        match &self.progress {
            Some(progress) => phase.min(progress.next()),
            None => phase,
        }
    }

    /// An answer is waited for from `now` on: the silence before does not count.
    pub fn expect(&mut self, now: Instant) {
        self.last_answer = now;
    }

    /// How long nothing has been answered.
    pub fn silence(&self, now: Instant) -> Duration {
        now - self.last_answer
    }

    /// What a load that ended so has measured. One that was interrupted within the window
    /// has measured until now; what was still open then is in no figure.
    ///
    /// # Errors
    /// The load's own, and an interruption before the window began.
    pub fn conclude(mut self, load: Result<(), Halt>) -> Result<Outcome, Halt> {
        match load {
            Ok(()) => Ok(self.finish()),
            Err(Halt::Interrupted) if self.phase != Phase::WarmUp => {
                let now = Instant::now();
                self.planned.1 = self.planned.1.min(now);
                self.tick(now)?;
                let is_interrupted = true;
                Ok(Outcome {
                    is_interrupted,
                    ..self.finish()
                })
            }
            Err(halt) => Err(halt),
        }
    }

    fn finish(mut self) -> Outcome {
        if let Some(progress) = self.progress.take() {
            progress.clear();
        }
        let _ = self.latency.add(&self.recent);
        Outcome {
            messages: self.messages,
            window: self.ended - self.began,
            latency: self.latency,
            lag: self.is_open.then_some(self.lag),
            server_cpu: self.server_cpu,
            generator_cpu: self.generator_cpu,
            slow: None,
            is_interrupted: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn meter(is_open: bool) -> Meter {
        let (warm_up, duration) = (Duration::from_millis(100), Duration::from_millis(1000));
        Meter::start(at(0), warm_up, duration, is_open, None, None)
    }

    /// Answers at 50 (warm-up), 500 and 1050 (window), 1400 ms (drain).
    fn feed(meter: &mut Meter) {
        for (since, now) in [(10, 50), (60, 500), (900, 1050), (1090, 1400)] {
            // Whoever drives a meter wakes at its edges.
            while meter.next_edge() <= at(now) {
                meter.tick(meter.next_edge()).unwrap();
            }
            meter.answered(at(since), at(now));
        }
    }

    #[test]
    fn a_closed_loop_measures_what_is_answered_within_the_window() {
        let mut meter = meter(false);
        feed(&mut meter);
        let outcome = meter.finish();
        assert_eq!((outcome.messages, outcome.latency.len()), (2, 2));
        assert!(outcome.latency.max() >= 440_000_000);
        assert!(outcome.lag.is_none());
    }

    #[test]
    fn a_closed_loop_begun_late_measures_for_as_long_as_asked_and_an_open_one_to_its_end() {
        for (is_open, end_ms, seen_ms) in [(false, 1_130, 1_005), (true, 1_100, 975)] {
            let mut meter = meter(is_open);
            assert_eq!(meter.tick(at(130)).unwrap(), Phase::Window);
            assert_eq!(meter.next_edge(), at(end_ms));
            assert_eq!(meter.tick(at(end_ms - 1)).unwrap(), Phase::Window);
            assert_eq!(meter.tick(at(end_ms + 5)).unwrap(), Phase::Drain);
            let window = meter.finish().window;
            assert_eq!(window, Duration::from_millis(seen_ms));
        }
    }

    #[test]
    fn an_interrupted_run_has_measured_until_then_and_nothing_before_the_window() {
        assert!(meter(false).conclude(Err(Halt::Interrupted)).is_err());
        for is_open in [false, true] {
            let now = Instant::now();
            let day = Duration::from_secs(86_400);
            let mut meter = Meter::start(now, Duration::ZERO, day, is_open, None, None);
            meter.tick(now).unwrap();
            meter.answered(now, Instant::now());
            let outcome = meter.conclude(Err(Halt::Interrupted)).unwrap();
            assert!(outcome.is_interrupted && outcome.window < day);
            assert_eq!((outcome.messages, outcome.latency.len()), (1, 1));
        }
    }

    #[test]
    fn an_open_loop_measures_what_was_meant_for_the_window_even_if_answered_late() {
        let mut meter = meter(true);
        feed(&mut meter);
        meter.sent(at(50), at(99));
        meter.sent(at(900), at(901));
        let outcome = meter.finish();
        assert_eq!((outcome.messages, outcome.latency.len()), (2, 2));
        let max_ms = outcome.latency.max() / 1_000_000;
        assert!((309..=311).contains(&max_ms), "{max_ms}");
        assert_eq!(outcome.lag.unwrap().len(), 1);
    }
}
