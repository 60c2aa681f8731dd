//! The load: a closed loop or an open one, over a fleet, into a meter.
//!
//! **Closed**: each connection keeps `depth` requests in flight; latency runs from the
//! actual send. It finds the throughput; its tail is too kind (see `schedule`).
//!
//! **Open**: the schedule's messages go round the connections in turn, each at its intended
//! time, whatever is still unanswered; latency runs from the intended time. The thread
//! sleeps in epoll only while the next message is more than two milliseconds away (epoll
//! counts milliseconds and rounds up) and spins on it otherwise: it costs its core, and
//! the sender's own lag stays in microseconds.
//!
//! One thread: the server is to be the bottleneck, and a second thread would need a third
//! core. After the window both loops wait until all is answered, so that each request is
//! seen to be answered exactly once.

use super::fault::Halt;
use super::fleet::Fleet;
use super::meter::{LATENCY_MAX, Meter, Outcome, Phase};
use super::schedule::Schedule;
use super::speaker::Speaker;
use crate::base::clock::Instant;
use std::time::Duration;

/// Nearer than this to the next message, epoll is not slept in.
const SPIN_WITHIN: Duration = Duration::from_millis(2);
/// Messages of the schedule sent before answers are looked at again.
const SENDS_PER_TURN: usize = 256;
/// The longest sleep, so that silence is noticed.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// Bytes that may wait for a server that reads too slowly, over all connections: beyond
/// it the generator would measure its own memory.
const BACKLOG_BYTES_MAX: usize = 256 << 20;

/// How requests are timed.
#[derive(Debug)]
pub enum Pace {
    /// `depth` requests in flight on each connection; `spin`: never sleep in epoll.
    Closed {
        depth: usize,
        spin: bool,
    },
    Open(Schedule),
}

/// Runs the load to its end.
///
/// # Errors
/// The first fault of any connection, and silence for longer than `silence_max`.
pub fn run<S: Speaker>(
    fleet: &mut Fleet<S>,
    pace: &Pace,
    mut meter: Meter,
    begin: Instant,
    silence_max: Duration,
) -> Result<Outcome, Halt> {
    let mut guard = Guard {
        silence_max,
        next: begin,
    };
    match pace {
        Pace::Closed { depth, spin } => closed(fleet, *depth, *spin, &mut meter, &guard)?,
        Pace::Open(schedule) => open(fleet, schedule, begin, &mut meter, &mut guard)?,
    }
    Ok(meter.finish())
}

/// Ends runs that would not end.
struct Guard {
    silence_max: Duration,
    /// When the backlog is next added up.
    next: Instant,
}

impl Guard {
    fn check(&self, meter: &Meter, in_flight: u64, now: Instant) -> Result<(), Halt> {
        let silence = meter.silence(now);
        if in_flight > 0 && silence > self.silence_max {
            return Err(Halt::Silent { silence, in_flight });
        }
        Ok(())
    }

    fn check_backlog<S: Speaker>(&mut self, fleet: &Fleet<S>, now: Instant) -> Result<(), Halt> {
        if now < self.next {
            return Ok(());
        }
        self.next = now + SLEEP_MAX;
        let bytes = fleet.backlog_bytes();
        if bytes > BACKLOG_BYTES_MAX {
            return Err(Halt::Backlog { bytes });
        }
        Ok(())
    }
}

/// How long to sleep in epoll when nothing else is due before `edge`.
fn sleep(edge: Instant, now: Instant) -> Duration {
    (edge - now).min(SLEEP_MAX)
}

fn closed<S: Speaker>(
    fleet: &mut Fleet<S>,
    depth: usize,
    spin: bool,
    meter: &mut Meter,
    guard: &Guard,
) -> Result<(), Halt> {
    let mut events = Fleet::<S>::events();
    let mut in_flight = (fleet.connections.len() * depth) as u64;
    for connection in &mut fleet.connections {
        let now = Instant::now();
        (0..depth).for_each(|_| connection.request(now));
        connection.flush();
    }
    loop {
        let now = Instant::now();
        let phase = meter.tick(now)?;
        if phase == Phase::Drain && in_flight == 0 {
            return Ok(());
        }
        guard.check(meter, in_flight, now)?;
        let timeout = if spin {
            Duration::ZERO
        } else {
            sleep(meter.next_edge(), now)
        };
        fleet.wait(&mut events, Some(timeout))?;
        for event in &events {
            let mut answers = 0;
            let connection = fleet.handle(event, |since, now| {
                meter.answered(since, now);
                answers += 1;
            })?;
            if phase == Phase::Drain {
                in_flight -= answers;
            } else if answers > 0 {
                let now = Instant::now();
                (0..answers).for_each(|_| connection.request(now));
            }
            connection.flush();
        }
    }
}

fn open<S: Speaker>(
    fleet: &mut Fleet<S>,
    schedule: &Schedule,
    begin: Instant,
    meter: &mut Meter,
    guard: &mut Guard,
) -> Result<(), Halt> {
    let mut events = Fleet::<S>::events();
    let mut sender = Sender::new(schedule, begin);
    let mut in_flight = 0u64;
    loop {
        let now = Instant::now();
        let sent = sender.send_due(fleet, meter, now);
        if in_flight == 0 && sent > 0 {
            meter.expect(now);
        }
        in_flight += sent;
        let phase = meter.tick(now)?;
        if in_flight == 0 {
            if phase == Phase::Drain && sender.is_done() {
                return Ok(());
            }
        } else {
            guard.check(meter, in_flight, now)?;
            guard.check_backlog(fleet, now)?;
            if let Some(waited) = sender.overdue(now) {
                return Err(Halt::Undrained { waited, in_flight });
            }
        }
        let next = sender.next().min(meter.next_edge());
        let wait = sleep(next, now);
        let timeout = wait.saturating_sub(SPIN_WITHIN);
        fleet.wait(&mut events, Some(timeout))?;
        for event in &events {
            let connection = fleet.handle(event, |since, now| {
                meter.answered(since, now);
                in_flight -= 1;
            })?;
            connection.flush();
        }
    }
}

/// Walks the schedule.
struct Sender<'s> {
    times_ns: &'s [u64],
    begin: Instant,
    /// Messages sent so far.
    sent: usize,
    /// Connections to flush in this turn.
    dirty: Vec<usize>,
}

impl<'s> Sender<'s> {
    fn new(schedule: &'s Schedule, begin: Instant) -> Sender<'s> {
        Sender {
            times_ns: schedule.times_ns(),
            begin,
            sent: 0,
            dirty: Vec::with_capacity(SENDS_PER_TURN),
        }
    }

    fn is_done(&self) -> bool {
        self.sent == self.times_ns.len()
    }

    /// When the next message is meant to go.
    fn next(&self) -> Instant {
        match self.times_ns.get(self.sent) {
            Some(&at) => self.begin + Duration::from_nanos(at),
            None => Instant::NEVER,
        }
    }

    /// How long the last message has been meant to be gone, if that is too long.
    fn overdue(&self, now: Instant) -> Option<Duration> {
        let last = self.times_ns.last().filter(|_| self.is_done())?;
        let waited = now - (self.begin + Duration::from_nanos(*last));
        (waited > LATENCY_MAX).then_some(waited)
    }

    /// Sends what is due, each connection's share in one write; returns how many.
    fn send_due<S: Speaker>(
        &mut self,
        fleet: &mut Fleet<S>,
        meter: &mut Meter,
        now: Instant,
    ) -> u64 {
        let count = fleet.connections.len();
        let first = self.sent;
        while self.sent < first + SENDS_PER_TURN && self.next() <= now {
            let index = self.sent % count;
            let intended = self.next();
            let connection = &mut fleet.connections[index];
            if connection.fresh().next().is_none() {
                self.dirty.push(index);
            }
            connection.request(intended);
            self.sent += 1;
        }
        for index in self.dirty.drain(..) {
            let connection = &mut fleet.connections[index];
            let now = Instant::now();
            for intended in connection.fresh() {
                meter.sent(intended, now);
            }
            connection.flush();
        }
        (self.sent - first) as u64
    }
}
