//! Slow readers: connections that subscribe and then never read, and a publisher that keeps
//! sending to them, alongside the measured load.
//!
//! ```text
//!   publisher ──► bench/slow ──► slow readers     never read, hold next to nothing themselves
//!   (--slow-rate)     └─ none ─► idle readers     --slow-idle: bench/elsewhere, the baseline
//! ```
//!
//! They are separate from the run's connections, all of which are read as soon as data arrives:
//! each is a plain socket outside of epoll, with the smallest receive buffer the kernel allows,
//! so that data sent to it stays with the server. They are established and subscribed one after
//! the other, before the load begins.
//!
//! Their fate is taken from the server (`$sys/stats`, before and after, and its memory in
//! /proc): a socket that is not read does not notice that it has been closed. The server
//! considers them dead after `heartbeat.timeout_ms`: runs are shorter than that.
//!
//! The publisher is paced by a constant schedule of its own. When the server stops reading
//! from it, it waits: `published` is what the server has taken.

use super::fault::{Fault, Halt};
use super::impact::Impact;
use super::process::Process;
use super::run::positive;
use super::speaker;
use super::target::{Site, Target};
use crate::base::clock::Instant;
use crate::cli::args::SlowPolicy as Policy;
use crate::client::blocking::Client;
use crate::proto::envelope::{Envelope, Headers, SlowPolicy, header};
use crate::proto::message::{Message, MessageType};
use crate::proto::option::AUTH_OPTIONAL;
use crate::proto::reassembly::Reassembly;
use crate::proto::session::{Event, Session, Settings, Step};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const TOPIC: &str = "bench/slow";
const TOPIC_IDLE: &str = "bench/elsewhere";
/// Asked for as receive buffer; the kernel makes it its least, about 2 KiB.
const RECEIVE_BYTES: usize = 1;
/// Messages of the schedule that may be encoded and wait for the socket: what is more stays
/// in the schedule.
const BACKLOG_BYTES_MAX: usize = 256 << 10;
/// How long a full socket is left alone.
const BLOCKED: Duration = Duration::from_millis(1);
/// The server's own timings in `$sys/stats` are this old at most.
const STATS_AGE_MAX: Duration = Duration::from_millis(1100);

#[derive(Debug, clap::Args)]
// Its group would have the name of the benchmark's own.
#[group(skip)]
pub struct Args {
    /// Slow readers beside the load: connections that subscribe to a topic of their own and
    /// never read
    #[arg(long = "slow", id = "slow", value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub readers: u32,

    /// The slow readers' slow-consumer policy; by default the server's own
    #[arg(long = "slow-policy", value_enum, requires = "slow")]
    policy: Option<Policy>,

    /// Bytes of payload per second to publish to the slow readers, all of it to each of them
    #[arg(long = "slow-rate", value_name = "BYTES", default_value_t = 1_000_000, requires = "slow", value_parser = positive(1 << 30))]
    bytes_per_second: u32,

    /// Bytes of each payload published to them
    #[arg(long = "slow-bytes", id = "slow_bytes", value_name = "N", default_value_t = 1024, requires = "slow", value_parser = positive(1 << 20))]
    payload_bytes: u32,

    /// The baseline for slow readers: as many connections and as much published, but on a
    /// topic that none of them subscribes to
    #[arg(long = "slow-idle", requires = "slow")]
    idle: bool,
}

/// Counters of the server, by their names in `$sys/stats`.
#[derive(Clone, Debug, Default)]
struct Stats(serde_json::Value);

impl Stats {
    fn ask(address: SocketAddr, timeout: Duration) -> Result<Stats, Halt> {
        let failed = |text: String| Halt::Stats(text);
        let builder = Client::builder().connect_timeout(timeout);
        let mut client = (builder.request_timeout(timeout))
            .connect(&address.to_string())
            .map_err(|error| failed(error.to_string()))?;
        let response = client
            .request("$sys/stats", b"")
            .map_err(|error| failed(error.to_string()))?;
        let stats = serde_json::from_slice(&response.payload);
        // A farewell that is not answered costs nothing.
        let _ = client.close();
        stats.map(Stats).map_err(|error| failed(error.to_string()))
    }

    fn of(&self, part: &str, name: &str) -> u64 {
        self.0[part][name].as_u64().unwrap_or(0)
    }
}

/// The slow readers and their publisher, ready.
pub struct SlowReaders {
    readers: Vec<TcpStream>,
    publisher: Publisher,
    before: Stats,
    impact: Impact,
}

impl Args {
    pub fn connections(&self) -> usize {
        match self.readers {
            0 => 0,
            // Their publisher, and one that asks for figures.
            readers => readers as usize + 2,
        }
    }

    /// Opens and subscribes all of them; `None` when there are none.
    ///
    /// # Errors
    /// The first connection that is refused, or not served in time.
    pub fn gather(&self, target: &Target, site: &Site) -> Result<Option<SlowReaders>, Halt> {
        if self.readers == 0 {
            return Ok(None);
        }
        let (address, count) = (site.address, self.readers as usize + 1);
        let settings = speaker::settings(1 << 20, target.timeout);
        let policy = self.policy.map(SlowPolicy::from);
        let topic = if self.idle { TOPIC_IDLE } else { TOPIC };
        let subscribe = subscribe(topic, policy);
        let mut readers = Vec::with_capacity(count - 1);
        for index in 0..self.readers as usize {
            if site.interrupted.load(Ordering::Relaxed) {
                return Err(Halt::Interrupted);
            }
            let reader = open(address, Some(RECEIVE_BYTES), &settings, &subscribe);
            readers.push(reader.map_err(|fault| super::connections::halt(index, count, fault))?);
        }
        let publisher = open(address, None, &settings, &[])
            .and_then(|stream| Publisher::new(stream, self))
            .map_err(|fault| super::connections::halt(count - 1, count, fault))?;
        Ok(Some(SlowReaders {
            readers,
            publisher,
            before: Stats::ask(address, target.timeout)?,
            impact: Impact {
                readers: self.readers,
                policy: policy.map(SlowPolicy::label),
                idle: self.idle,
                payload_bytes: self.payload_bytes,
                bytes_per_second_wanted: self.bytes_per_second,
                published: 0,
                seconds: 0.0,
                deliveries: 0,
                dropped_oldest: 0,
                dropped_newest: 0,
                replaced: 0,
                disconnected: 0,
                turn_us: serde_json::Value::Null,
                resident_bytes: None,
                resident_peak_bytes: None,
            },
        }))
    }
}

impl SlowReaders {
    /// The publisher's schedule begins.
    pub fn begin(&mut self, now: Instant) {
        self.publisher.begin(now);
    }

    /// Publishes what is due.
    ///
    /// # Errors
    /// The publisher's connection is broken.
    #[inline]
    pub fn publish_due(&mut self, now: Instant) -> Result<(), Halt> {
        let published = self.publisher.publish_due(now);
        published.map_err(|error| Halt::Publisher(Fault::Broken(error)))
    }

    /// When something is due next.
    #[inline]
    pub fn next(&self) -> Instant {
        self.publisher.next
    }

    /// What it came to. The readers are still there while the server is asked, and gone
    /// afterwards.
    ///
    /// # Errors
    /// The server does not answer, or its process cannot be read.
    pub fn finish(self, now: Instant, site: &Site, timeout: Duration) -> Result<Impact, Halt> {
        let mut impact = self.impact;
        impact.published = self.publisher.published();
        impact.seconds = (now - self.publisher.begun).as_secs_f64();
        if let Some(server) = site.process {
            let memory = server.memory().map_err(Halt::Process)?;
            impact.resident_bytes = Some(memory.resident_bytes);
            impact.resident_peak_bytes = Some(peak(server)?);
        }
        std::thread::sleep(STATS_AGE_MAX);
        let after = Stats::ask(site.address, timeout)?;
        let since = |part, name| {
            let before = self.before.of(part, name);
            after.of(part, name).saturating_sub(before)
        };
        impact.deliveries = since("total", "deliveries");
        impact.dropped_oldest = since("total", "slow_dropped_oldest");
        impact.dropped_newest = since("total", "slow_dropped_newest");
        impact.replaced = since("total", "slow_replaced");
        impact.disconnected = since("closed", "slow_consumer");
        impact.turn_us = after.0["timings_us"]["turn"].clone();
        drop(self.readers);
        Ok(impact)
    }
}

fn peak(server: Process) -> Result<u64, Halt> {
    server.resident_peak_bytes().map_err(Halt::Process)
}

/// The connection that publishes to the slow readers.
struct Publisher {
    stream: TcpStream,
    message: Vec<u8>,
    interval: Duration,
    begun: Instant,
    /// Messages of the schedule encoded so far.
    encoded: u64,
    output: Vec<u8>,
    written: usize,
    next: Instant,
}

impl Publisher {
    fn new(stream: TcpStream, args: &Args) -> Result<Publisher, Fault> {
        stream.set_nonblocking(true).map_err(Fault::connect)?;
        let envelope = Envelope {
            name: TOPIC,
            payload: &speaker::payload(args.payload_bytes as usize),
            ..Envelope::default()
        };
        let mut message = Vec::new();
        Message::Envelope(MessageType::Publish, envelope).encode(false, &mut message);
        let per_second = f64::from(args.bytes_per_second) / f64::from(args.payload_bytes);
        Ok(Publisher {
            stream,
            message,
            interval: Duration::from_secs_f64(1.0 / per_second),
            begun: Instant::NEVER,
            encoded: 0,
            output: Vec::new(),
            written: 0,
            next: Instant::NEVER,
        })
    }

    fn begin(&mut self, now: Instant) {
        (self.begun, self.next) = (now, now);
    }

    #[inline]
    fn publish_due(&mut self, now: Instant) -> io::Result<()> {
        if now < self.next {
            return Ok(());
        }
        self.encode_due(now);
        let is_blocked = !self.write()?;
        let due = self.begun + self.interval.mul_f64(self.encoded as f64);
        self.next = if is_blocked { now + BLOCKED } else { due };
        Ok(())
    }

    fn encode_due(&mut self, now: Instant) {
        let due = (now - self.begun).as_nanos() / self.interval.as_nanos().max(1) + 1;
        while u128::from(self.encoded) < due && self.output.len() < BACKLOG_BYTES_MAX {
            self.output.extend_from_slice(&self.message);
            self.encoded += 1;
        }
    }

    /// False when the socket takes no more.
    fn write(&mut self) -> io::Result<bool> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(true)
    }

    /// Messages that the socket has taken whole.
    fn published(&self) -> u64 {
        let waiting = (self.output.len() - self.written).div_ceil(self.message.len());
        self.encoded - waiting as u64
    }
}

fn subscribe(topic: &str, policy: Option<SlowPolicy>) -> Vec<u8> {
    let mut block = Vec::new();
    if let Some(policy) = policy {
        Headers::push(&mut block, header::SLOW_POLICY, &[policy as u8]);
    }
    let envelope = Envelope {
        id: 1,
        name: topic,
        headers: Headers::check(&block).unwrap_or_default(),
        ..Envelope::default()
    };
    let mut out = Vec::new();
    Message::Envelope(MessageType::Subscribe, envelope).encode(false, &mut out);
    out
}

/// Connects, shakes hands and says `words`, whose OK is waited for if there are any.
fn open(
    address: SocketAddr,
    receive_bytes: Option<usize>,
    settings: &Arc<Settings>,
    words: &[u8],
) -> Result<TcpStream, Fault> {
    let mut stream = connect(address, receive_bytes, settings.handshake_timeout)?;
    let mut out = Vec::new();
    let mut session = speaker::connect(settings, 0, Instant::now(), &mut out)?;
    stream.write_all(&out).map_err(Fault::Broken)?;
    let mut input = Reassembly::default();
    let mut buffer = [0; 4096];
    loop {
        let count = stream
            .read(&mut buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => Fault::HandshakeTimeout(settings.handshake_timeout),
                _ => Fault::Broken(error),
            })?;
        if count == 0 {
            return Err(Fault::Eof);
        }
        out.clear();
        let mut bytes = &buffer[..count];
        let is_done = listen(&mut session, &mut input, &mut bytes, words, &mut out)?;
        stream.write_all(&out).map_err(Fault::Broken)?;
        if is_done {
            return Ok(stream);
        }
    }
}

/// Takes what has come. True when nothing more is waited for.
fn listen(
    session: &mut Session,
    input: &mut Reassembly,
    bytes: &mut &[u8],
    words: &[u8],
    out: &mut Vec<u8>,
) -> Result<bool, Fault> {
    loop {
        let view = input.view(bytes);
        match session.handle(view, Instant::now(), out) {
            Step::Incomplete { need } => {
                if !input.fill(need, bytes) {
                    return Ok(false);
                }
            }
            Step::Taken { used, event } => {
                let is_done = match event {
                    Event::Established(options)
                        if !matches!(options.auth.unwrap_or(0), 0 | AUTH_OPTIONAL..) =>
                    {
                        return Err(Fault::AuthRequired);
                    }
                    Event::Established(_) => {
                        out.extend_from_slice(words);
                        words.is_empty()
                    }
                    Event::Message(Message::Ok { .. }) => true,
                    Event::Handled => false,
                    event => return Err(speaker::unwanted(event)),
                };
                input.consume(used, bytes);
                if is_done {
                    return Ok(true);
                }
            }
        }
    }
}

fn connect(
    address: SocketAddr,
    receive_bytes: Option<usize>,
    timeout: Duration,
) -> Result<TcpStream, Fault> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // Before connecting: the window that is announced follows from it.
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        socket.connect_timeout(&address.into(), timeout)?;
        Ok(TcpStream::from(socket))
    };
    open().map_err(Fault::connect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::net::TcpListener;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    /// A publisher of 1,000 messages a second and the other end of its connection.
    fn publisher() -> (Publisher, TcpStream) {
        let words = [
            "slow",
            "--slow",
            "1",
            "--slow-rate",
            "1000000",
            "--slow-bytes",
            "1000",
        ];
        let args = Command::try_parse_from(words).unwrap().args;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        (Publisher::new(stream, &args).unwrap(), peer)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn only_due_messages_are_published() {
        let (mut publisher, mut peer) = publisher();
        publisher.begin(at(0));
        for (now, published) in [(0, 1), (1, 2), (1, 2), (20, 21)] {
            publisher.publish_due(at(now)).unwrap();
            assert_eq!(publisher.published(), published, "at {now} ms");
        }
        assert!(publisher.next > at(20) && publisher.next <= at(21));
        let mut bytes = vec![0; publisher.message.len() * 21];
        peer.read_exact(&mut bytes).unwrap();
        assert!(
            bytes
                .chunks(publisher.message.len())
                .all(|one| one == publisher.message)
        );
    }

    #[test]
    fn a_server_that_does_not_read_leaves_the_rest_in_the_schedule() {
        let (mut publisher, _peer) = publisher();
        publisher.begin(at(0));
        for now in 1..1000 {
            publisher.publish_due(at(now * 1000)).unwrap();
        }
        let waiting = publisher.output.len() - publisher.written;
        assert!(waiting > 0 && waiting <= BACKLOG_BYTES_MAX + publisher.message.len());
        assert!(publisher.published() < publisher.encoded);
        assert_eq!(publisher.next, at(999 * 1000) + BLOCKED);
    }

    #[test]
    fn slow_readers_arguments_need_slow_readers() {
        let parse = |words: &[&str]| Command::try_parse_from([&["slow"], words].concat());
        assert!(parse(&["--slow", "3", "--slow-policy", "drop-newest", "--slow-idle"]).is_ok());
        assert!(parse(&["--slow-policy", "drop-newest"]).is_err());
        assert!(parse(&["--slow", "3", "--slow-policy", "none"]).is_err());
        assert_eq!(parse(&["--slow", "3"]).unwrap().args.connections(), 5);
        assert_eq!(parse(&[]).unwrap().args.connections(), 0);
    }
}
