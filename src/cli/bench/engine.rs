//! The load: a closed loop or an open one, over all connections, into a meter.
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

use super::connection::Connection;
use super::connections::Connections;
use super::fault::Halt;
use super::flight::Flight;
use super::meter::{LATENCY_MAX, Meter, Outcome, Phase};
use super::schedule::{Schedule, Walk};
use super::speaker::{Asker, Speaker};
use crate::base::clock::Instant;
use std::time::Duration;

/// Nearer than this to the next message, epoll is not slept in.
const SPIN_WITHIN: Duration = Duration::from_millis(2);
/// Messages of the schedule sent before answers are looked at again.
pub const SENDS_PER_TURN: usize = 256;
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
pub fn run<S: Asker>(
    connections: &mut Connections<S>,
    pace: &Pace,
    mut meter: Meter,
    begin: Instant,
    silence_max: Duration,
) -> Result<Outcome, Halt> {
    let mut guard = Guard::new(silence_max, begin);
    let load = match pace {
        Pace::Closed { depth, spin } => closed(connections, *depth, *spin, &mut meter, &guard),
        Pace::Open(schedule) => open(connections, schedule, begin, &mut meter, &mut guard),
    };
    meter.conclude(load)
}

/// Ends runs that would not end.
pub struct Guard {
    silence_max: Duration,
    /// When the backlog is next added up.
    next: Instant,
}

impl Guard {
    pub fn new(silence_max: Duration, begin: Instant) -> Guard {
        Guard {
            silence_max,
            next: begin,
        }
    }

    /// # Errors
    /// Nothing was answered for too long.
    pub fn check(&self, meter: &Meter, in_flight: u64, now: Instant) -> Result<(), Halt> {
        let silence = meter.silence(now);
        if in_flight > 0 && silence > self.silence_max {
            return Err(Halt::Silent { silence, in_flight });
        }
        Ok(())
    }

    /// # Errors
    /// More waits to be sent than is to be held.
    pub fn check_backlog<S: Speaker>(
        &mut self,
        connections: &Connections<S>,
        now: Instant,
    ) -> Result<(), Halt> {
        if now < self.next {
            return Ok(());
        }
        self.next = now + SLEEP_MAX;
        let bytes = connections.backlog_bytes();
        if bytes > BACKLOG_BYTES_MAX {
            return Err(Halt::Backlog { bytes });
        }
        Ok(())
    }
}

/// How long the last message of a schedule has been meant to be gone, if that is too long.
///
/// # Errors
/// `in_flight` are open, and have been for too long.
pub fn check_overdue(walk: &Walk<'_>, in_flight: u64, now: Instant) -> Result<(), Halt> {
    match walk.waited(now).filter(|&waited| waited > LATENCY_MAX) {
        Some(waited) => Err(Halt::Undrained { waited, in_flight }),
        None => Ok(()),
    }
}

/// How long to sleep in epoll when nothing else is due before `edge`.
pub fn sleep(edge: Instant, now: Instant) -> Duration {
    (edge - now).min(SLEEP_MAX)
}

/// How long to sleep in epoll when a message is due at `edge`: what is nearer is spun for.
pub fn doze(edge: Instant, now: Instant) -> Duration {
    sleep(edge, now).saturating_sub(SPIN_WITHIN)
}

/// Sends one request, measured from `since`.
#[inline]
fn ask<S: Asker>(connection: &mut Connection<S>, flight: &mut Flight, since: Instant) {
    let id = flight.push(since);
    let (speaker, out) = connection.say();
    speaker.request(id, out);
}

fn flights<S>(connections: &Connections<S>) -> Vec<Flight> {
    let flights = std::iter::repeat_with(Flight::default);
    flights.take(connections.all.len()).collect()
}

fn closed<S: Asker>(
    connections: &mut Connections<S>,
    depth: usize,
    spin: bool,
    meter: &mut Meter,
    guard: &Guard,
) -> Result<(), Halt> {
    let mut events = Connections::<S>::events();
    let mut in_flight = (connections.all.len() * depth) as u64;
    let mut flights = flights(connections);
    for (connection, flight) in connections.all.iter_mut().zip(&mut flights) {
        let now = Instant::now();
        (0..depth).for_each(|_| ask(connection, flight, now));
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
        connections.wait(&mut events, Some(timeout))?;
        for event in &events {
            let mut answers = 0;
            let flight = &mut flights[event.token().0];
            let connection = connections.handle(event, |id, now| {
                meter.answered(flight.take(id)?, now);
                answers += 1;
                Ok(())
            })?;
            if phase == Phase::Drain {
                in_flight -= answers;
            } else if answers > 0 {
                let now = Instant::now();
                (0..answers).for_each(|_| ask(connection, flight, now));
            }
            connection.flush();
        }
    }
}

fn open<S: Asker>(
    connections: &mut Connections<S>,
    schedule: &Schedule,
    begin: Instant,
    meter: &mut Meter,
    guard: &mut Guard,
) -> Result<(), Halt> {
    let mut events = Connections::<S>::events();
    let mut sender = Sender {
        walk: Walk::new(schedule, begin),
        flights: flights(connections),
        dirty: Vec::with_capacity(SENDS_PER_TURN),
    };
    let mut in_flight = 0u64;
    loop {
        let now = Instant::now();
        let sent = sender.send_due(connections, meter, now);
        if in_flight == 0 && sent > 0 {
            meter.expect(now);
        }
        in_flight += sent;
        let phase = meter.tick(now)?;
        if in_flight == 0 {
            if phase == Phase::Drain && sender.walk.is_done() {
                return Ok(());
            }
        } else {
            guard.check(meter, in_flight, now)?;
            guard.check_backlog(connections, now)?;
            check_overdue(&sender.walk, in_flight, now)?;
        }
        let next = sender.walk.next().min(meter.next_edge());
        connections.wait(&mut events, Some(doze(next, now)))?;
        for event in &events {
            let flight = &mut sender.flights[event.token().0];
            let mut seen = now;
            let connection = connections.handle(event, |id, now| {
                meter.answered(flight.take(id)?, now);
                seen = now;
                in_flight -= 1;
                Ok(())
            })?;
            connection.flush();
            // Answers of many connections take longer than the next message may wait.
            if sender.walk.next() <= seen {
                in_flight += sender.send_due(connections, meter, seen);
            }
        }
    }
}

/// Sends what the schedule says.
struct Sender<'s> {
    walk: Walk<'s>,
    flights: Vec<Flight>,
    /// Connections to flush in this turn.
    dirty: Vec<usize>,
}

impl Sender<'_> {
    /// Sends what is due, each connection's share in one write; returns how many.
    fn send_due<S: Asker>(
        &mut self,
        connections: &mut Connections<S>,
        meter: &mut Meter,
        now: Instant,
    ) -> u64 {
        let count = connections.all.len();
        let mut sent = 0;
        while sent < SENDS_PER_TURN
            && let Some((number, intended)) = self.walk.due(now)
        {
            let index = number % count;
            let flight = &mut self.flights[index];
            if !flight.is_fresh() {
                self.dirty.push(index);
            }
            ask(&mut connections.all[index], flight, intended);
            sent += 1;
        }
        for index in self.dirty.drain(..) {
            let now = Instant::now();
            for intended in self.flights[index].take_fresh() {
                meter.sent(intended, now);
            }
            connections.all[index].flush();
        }
        sent as u64
    }
}
