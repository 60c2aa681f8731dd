//! The load of an exchange: messages go out on some connections and arrive on others.
//!
//! What arrives is counted, on the generator's side, the same way for every protocol: a
//! message is done when all its copies have arrived. **Closed**: each sender keeps a window
//! of messages that are not done (or, where asked for, not confirmed). **Open**: the
//! schedule's messages go round the senders; see `engine` for both.
//!
//! A message carries its sender, its number and the time it is measured from. A copy too
//! many ends the run; a copy too few leaves its message open, and silence ends the run.

use super::connections::Connections;
use super::dialect::{Actor, Dialect, Seen};
use super::engine::{Guard, Pace, SENDS_PER_TURN, check_overdue, doze, sleep};
use super::fault::{Fault, Halt};
use super::meter::{Meter, Outcome, Phase};
use super::schedule::{Schedule, Walk};
use super::slow_readers::SlowReaders;
use super::window::Window;
use crate::base::clock::Instant;
use std::time::Duration;

/// Who sends, and what is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its connection's index.
    pub connection: usize,
    /// Copies that arrive of each of its messages.
    pub copies: u32,
}

/// What takes part beside the run's connections, and how.
pub struct Parts<'a> {
    pub senders: &'a [Sender],
    /// The window of a closed loop moves on with the server's confirmations, and not with
    /// arrivals.
    pub is_confirmed: bool,
    pub slow_readers: Option<&'a mut SlowReaders>,
}

/// Runs the load to its end.
///
/// # Errors
/// The first fault of any connection, and silence for longer than `silence_max`.
pub fn run<D: Dialect>(
    connections: &mut Connections<Actor<D>>,
    parts: Parts<'_>,
    pace: &Pace,
    mut meter: Meter,
    begin: Instant,
    silence_max: Duration,
) -> Result<Outcome, Halt> {
    let mut guard = Guard::new(silence_max, begin);
    let mut exchange = Exchange::new(parts, begin);
    let load = match pace {
        Pace::Closed { depth, spin } => {
            exchange.closed(connections, *depth, *spin, &mut meter, &guard)
        }
        Pace::Open(schedule) => exchange.open(connections, schedule, begin, &mut meter, &mut guard),
    };
    meter.conclude(load)
}

/// One sender's side of the exchange.
struct Origin {
    connection: usize,
    copies: u32,
    window: Window,
    /// The number the next confirmation has to carry: they come in order.
    unconfirmed: u32,
    /// Closed loop: messages it may send.
    room: usize,
    /// Open loop: the intended times of what the next flush sends.
    fresh: Vec<Instant>,
}

struct Exchange<'a> {
    origins: Vec<Origin>,
    is_confirmed: bool,
    /// Copies and confirmations to come.
    in_flight: u64,
    /// Origins with room in their windows (closed), or something to flush (open).
    dirty: Vec<usize>,
    slow_readers: Option<&'a mut SlowReaders>,
}

impl<'a> Exchange<'a> {
    fn new(mut parts: Parts<'a>, begin: Instant) -> Exchange<'a> {
        if let Some(slow_readers) = &mut parts.slow_readers {
            slow_readers.begin(begin);
        }
        let origin = |sender: &Sender| Origin {
            connection: sender.connection,
            copies: sender.copies,
            window: Window::default(),
            unconfirmed: 1,
            room: 0,
            fresh: Vec::new(),
        };
        Exchange {
            origins: parts.senders.iter().map(origin).collect(),
            is_confirmed: parts.is_confirmed,
            in_flight: 0,
            dirty: Vec::with_capacity(parts.senders.len()),
            slow_readers: parts.slow_readers,
        }
    }

    /// Publishes to the slow readers what is due; returns when more is.
    #[inline]
    fn feed_crowd(&mut self, now: Instant) -> Result<Instant, Halt> {
        let Some(slow_readers) = &mut self.slow_readers else {
            return Ok(Instant::NEVER);
        };
        slow_readers.publish_due(now)?;
        Ok(slow_readers.next())
    }

    /// Encodes one message of a sender.
    #[inline]
    fn send<D: Dialect>(
        &mut self,
        index: usize,
        since: Instant,
        connections: &mut Connections<Actor<D>>,
    ) {
        let origin = &mut self.origins[index];
        let number = origin.window.push(origin.copies);
        let (actor, out) = connections.all[origin.connection].say();
        actor.send(number, since, out);
        self.in_flight += u64::from(origin.copies) + u64::from(self.is_confirmed);
    }

    /// Something has come back.
    #[inline]
    fn take(&mut self, seen: Seen, now: Instant, meter: &mut Meter) -> Result<(), Fault> {
        let index = match seen {
            Seen::Arrived(stamp) => {
                let index = stamp.origin as usize;
                let Some(origin) = self.origins.get_mut(index) else {
                    return Err(Fault::Answer("a message from an unknown sender"));
                };
                let is_done = origin.window.take(stamp.number)?;
                meter.answered(stamp.since, now);
                self.in_flight -= 1;
                if self.is_confirmed || !is_done {
                    return Ok(());
                }
                index
            }
            Seen::Confirmed { origin, number } => {
                let index = origin as usize;
                let origin = &mut self.origins[index];
                if !self.is_confirmed || number != origin.unconfirmed {
                    return Err(Fault::Answer("a confirmation out of order"));
                }
                origin.unconfirmed = number.wrapping_add(1);
                self.in_flight -= 1;
                index
            }
        };
        let origin = &mut self.origins[index];
        origin.room += 1;
        if origin.room == 1 {
            self.dirty.push(index);
        }
        Ok(())
    }

    /// Fills the windows that have room.
    fn refill<D: Dialect>(&mut self, connections: &mut Connections<Actor<D>>) {
        while let Some(index) = self.dirty.pop() {
            let now = Instant::now();
            for _ in 0..std::mem::take(&mut self.origins[index].room) {
                self.send(index, now, connections);
            }
            connections.all[self.origins[index].connection].flush();
        }
    }

    fn closed<D: Dialect>(
        &mut self,
        connections: &mut Connections<Actor<D>>,
        depth: usize,
        spin: bool,
        meter: &mut Meter,
        guard: &Guard,
    ) -> Result<(), Halt> {
        let mut events = Connections::<Actor<D>>::events();
        for (index, origin) in self.origins.iter_mut().enumerate() {
            origin.room = depth;
            self.dirty.push(index);
        }
        loop {
            let now = Instant::now();
            let phase = meter.tick(now)?;
            if phase != Phase::Drain {
                self.refill(connections);
            } else if self.in_flight == 0 {
                return Ok(());
            }
            guard.check(meter, self.in_flight, now)?;
            let next = self.feed_crowd(now)?.min(meter.next_edge());
            let timeout = match spin {
                true => Duration::ZERO,
                false => sleep(next, now),
            };
            connections.wait(&mut events, Some(timeout))?;
            for event in &events {
                let connection =
                    connections.handle(event, |seen, now| self.take(seen, now, meter))?;
                connection.flush();
            }
        }
    }

    fn open<D: Dialect>(
        &mut self,
        connections: &mut Connections<Actor<D>>,
        schedule: &Schedule,
        begin: Instant,
        meter: &mut Meter,
        guard: &mut Guard,
    ) -> Result<(), Halt> {
        let mut events = Connections::<Actor<D>>::events();
        let mut walk = Walk::new(schedule, begin);
        loop {
            let now = Instant::now();
            if self.in_flight == 0 {
                meter.expect(now);
            }
            self.send_due(&mut walk, connections, meter, now);
            let phase = meter.tick(now)?;
            if self.in_flight == 0 {
                if phase == Phase::Drain && walk.is_done() {
                    return Ok(());
                }
            } else {
                guard.check(meter, self.in_flight, now)?;
                guard.check_backlog(connections, now)?;
                check_overdue(&walk, self.in_flight, now)?;
            }
            let fed = self.feed_crowd(now)?;
            let next = walk.next().min(meter.next_edge()).min(fed);
            connections.wait(&mut events, Some(doze(next, now)))?;
            for event in &events {
                let mut last = now;
                let connection = connections.handle(event, |seen, now| {
                    last = now;
                    self.take(seen, now, meter)
                })?;
                connection.flush();
                // A fan-out's arrivals take longer than the next message may wait.
                if walk.next() <= last {
                    self.send_due(&mut walk, connections, meter, last);
                }
            }
        }
    }

    /// Sends what is due, each sender's share in one write.
    fn send_due<D: Dialect>(
        &mut self,
        walk: &mut Walk<'_>,
        connections: &mut Connections<Actor<D>>,
        meter: &mut Meter,
        now: Instant,
    ) {
        // In an open loop windows do not count.
        self.dirty.clear();
        for _ in 0..SENDS_PER_TURN {
            let Some((number, intended)) = walk.due(now) else {
                break;
            };
            let index = number % self.origins.len();
            self.send(index, intended, connections);
            let fresh = &mut self.origins[index].fresh;
            if fresh.is_empty() {
                self.dirty.push(index);
            }
            fresh.push(intended);
        }
        while let Some(index) = self.dirty.pop() {
            let origin = &mut self.origins[index];
            let now = Instant::now();
            for intended in origin.fresh.drain(..) {
                meter.sent(intended, now);
            }
            connections.all[origin.connection].flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::redis::Redis;
    use super::super::dialect::{Role, payload};
    use super::super::schedule::Spacing;
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::rc::Rc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::thread;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn publisher() -> Role {
        Role::Publisher {
            topic: "t".to_owned(),
            confirmed: false,
        }
    }

    fn subscriber() -> Role {
        Role::Subscriber {
            topic: "t".to_owned(),
            group: None,
        }
    }

    /// Just enough of a Redis for one channel: what is published is delivered, the n-th
    /// message `copies(n)` times to each subscriber.
    struct Hub {
        published: AtomicU64,
        subscribers: Mutex<Vec<TcpStream>>,
        copies: fn(u64) -> usize,
    }

    impl Hub {
        fn listen(copies: fn(u64) -> usize) -> (SocketAddr, Arc<Hub>) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let hub = Arc::new(Hub {
                published: AtomicU64::new(0),
                subscribers: Mutex::default(),
                copies,
            });
            let shared = Arc::clone(&hub);
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let hub = Arc::clone(&shared);
                    thread::spawn(move || hub.serve(stream));
                }
            });
            (address, hub)
        }

        fn serve(&self, mut stream: TcpStream) {
            let mut template = Vec::new();
            let script = Redis::script(&publisher(), 0, &payload(32));
            let any = super::super::dialect::Stamp::from_bytes(&[0; 16]);
            script.send.unwrap().put(0, any, &mut template);
            let mut message = vec![0; template.len()];
            loop {
                if stream.read_exact(&mut message[..13]).is_err() {
                    return;
                }
                if message[..4] == *b"*2\r\n" {
                    let mut rest = [0; b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nt\r\n".len() - 13];
                    stream.read_exact(&mut rest).unwrap();
                    // Under the lock: who has read the answer gets whatever is published from then on.
                    let mut subscribers = self.subscribers.lock().unwrap();
                    stream
                        .write_all(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nt\r\n:1\r\n")
                        .unwrap();
                    subscribers.push(stream.try_clone().unwrap());
                    continue;
                }
                stream.read_exact(&mut message[13..]).unwrap();
                let pushed = [b"*3\r\n$7\r\nmessage", &message[15..]].concat();
                let number = self.published.fetch_add(1, Ordering::SeqCst);
                let copies = (self.copies)(number);
                for subscriber in self.subscribers.lock().unwrap().iter_mut() {
                    // The load may have ended already.
                    (0..copies).for_each(|_| drop(subscriber.write_all(&pushed)));
                }
                if stream.write_all(b":1\r\n").is_err() {
                    return;
                }
            }
        }
    }

    /// Two publishers, three subscribers; 50 ms of warm-up, 200 ms measured.
    fn load(address: SocketAddr, pace: &Pace, silence_max: Duration) -> Result<Outcome, Halt> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let open = |_, _: &mut Vec<u8>| Ok(Actor::new(Redis::default()));
        let mut connections = Connections::open(address, 5, ms(10_000), &interrupted, open)?;
        connections.settle(|index, actor, out| {
            let role = if index < 2 { publisher() } else { subscriber() };
            let script = Rc::new(Redis::script(&role, 0, &payload(32)));
            actor.assume(&role, index as u32, index as u32, &script, out);
        })?;
        let senders = [0, 1].map(|connection| Sender {
            connection,
            copies: 3,
        });
        let now = Instant::now();
        let is_open = matches!(pace, Pace::Open(_));
        let meter = Meter::start(now, ms(50), ms(200), is_open, None, None);
        let parts = Parts {
            senders: &senders,
            is_confirmed: false,
            slow_readers: None,
        };
        run(&mut connections, parts, pace, meter, now, silence_max)
    }

    const CLOSED: Pace = Pace::Closed {
        depth: 4,
        spin: false,
    };

    #[test]
    fn a_closed_loop_counts_each_delivery_of_the_window_and_leaves_none_open() {
        let (address, hub) = Hub::listen(|_| 1);
        let outcome = load(address, &CLOSED, ms(10_000)).unwrap();
        let published = hub.published.load(Ordering::SeqCst);
        assert!(outcome.messages > 0 && outcome.messages <= 3 * published);
        assert_eq!(outcome.latency.len(), outcome.messages);
    }

    #[test]
    fn an_open_loop_publishes_its_schedule_and_waits_for_every_delivery() {
        let (address, hub) = Hub::listen(|_| 1);
        let schedule = Schedule::plan(Spacing::Poisson, 2000.0, ms(250), 9).unwrap();
        let times = schedule.times_ns();
        let sent = times.len() as u64;
        let in_window = times.iter().filter(|&&at| at >= 50_000_000).count() as u64;
        let outcome = load(address, &Pace::Open(schedule), ms(10_000)).unwrap();
        assert_eq!(hub.published.load(Ordering::SeqCst), sent);
        assert_eq!(outcome.latency.len(), 3 * in_window);
        assert_eq!(outcome.lag.unwrap().len(), in_window);
    }

    #[test]
    fn a_delivery_too_many_ends_the_run() {
        let (address, _) = Hub::listen(|number| if number == 20 { 2 } else { 1 });
        let halt = load(address, &CLOSED, ms(10_000)).unwrap_err();
        assert!(halt.to_string().contains("not in flight"), "{halt}");
    }

    #[test]
    fn a_delivery_too_few_ends_the_run() {
        let (address, _) = Hub::listen(|number| usize::from(number % 50 != 20));
        let halt = load(address, &CLOSED, ms(100)).unwrap_err();
        assert!(matches!(halt, Halt::Silent { .. }), "{halt}");
    }
}
