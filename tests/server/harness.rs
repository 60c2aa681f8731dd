//! A server process under test: started with settings, its log read, its statistics asked
//! for, ended in order.

use crate::peer::{Manner, Peer};
use crate::stream::Stream;
use crate::wire::{PATIENCE, Wire};
use ringmail::proto::message::Message;
use ringmail::proto::option::Options;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use rustls::ClientConfig;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the server's configuration says in every test unless the test says otherwise.
const SETTINGS: &[&str] = &[
    // Tests run beside each other.
    "server.admin=",
    "limits.handshake_timeout_ms=5000",
    "limits.frame_timeout_ms=5000",
    "server.drain_timeout_ms=5000",
];

pub type Sums = BTreeMap<String, u64>;

/// The answer of `$sys/stats`.
#[derive(Debug)]
pub struct Stats {
    pub connections: u64,
    pub total: Sums,
    pub closed: Sums,
    pub shards: Vec<Sums>,
}

impl Stats {
    fn parse(json: &[u8]) -> Stats {
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        let sums = |value: &serde_json::Value| -> Sums {
            let pairs = value.as_object().unwrap().iter();
            pairs
                .map(|(name, count)| (name.clone(), count.as_u64().unwrap()))
                .collect()
        };
        Stats {
            connections: json["connections"].as_u64().unwrap(),
            total: sums(&json["total"]),
            closed: sums(&json["closed"]),
            shards: json["shards"]
                .as_array()
                .unwrap()
                .iter()
                .map(sums)
                .collect(),
        }
    }
}

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// How its clients speak TLS, if they do.
    tls: Option<Arc<ClientConfig>>,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    descriptors: usize,
    /// Connections made by `stats`, closed in order and left out of `closed`.
    asked: u64,
    /// The API key that `stats` shows, where one has to be shown.
    pub watch: Option<String>,
    /// Of the server's state, until it has ended.
    pub state: Option<tempfile::TempDir>,
}

impl Server {
    /// A server on two shards with `settings` (`key=value`) beside the usual ones.
    pub fn start(settings: &[&str]) -> Server {
        Server::spawn(&mut command(env!("CARGO_BIN_EXE_ringmail"), &[], settings))
    }

    /// The same under a shell that first runs `prelude` (a `ulimit`) and then becomes it.
    pub fn start_after(prelude: &str, settings: &[&str]) -> Server {
        Server::spawn(&mut after(prelude, settings))
    }

    pub fn spawn(command: &mut Command) -> Server {
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let written = log.clone();
        let (told, listening) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).unwrap_or(0) > 0 {
                written.lock().unwrap().push_str(&line);
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let address = rest.split(' ').next().unwrap().trim().parse();
                    let _ = told.send(address.unwrap());
                }
                line.clear();
            }
        });
        let Ok(address) = listening.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the server did not start:\n{}", log.lock().unwrap());
        };
        let mut server = Server {
            child,
            address,
            tls: None,
            log,
            reader: Some(reader),
            descriptors: 0,
            asked: 0,
            watch: None,
            state: None,
        };
        server.wait_for_handlers();
        server.descriptors = server.open_descriptors();
        server
    }

    /// The same server, to whom those that ask it for connections speak TLS.
    pub fn secured(mut self, tls: &Arc<ClientConfig>) -> Server {
        self.tls = Some(tls.clone());
        self
    }

    /// Until SIGTERM and SIGINT are caught, which is the first thing a start does.
    fn wait_for_handlers(&self) {
        const BOTH: u64 = 1 << (15 - 1) | 1 << (2 - 1);
        let end = Instant::now() + PATIENCE;
        loop {
            let caught = u64::from_str_radix(&self.status("SigCgt:"), 16).unwrap();
            if caught & BOTH == BOTH {
                return;
            }
            assert!(Instant::now() < end, "no signal handlers");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A field of /proc/PID/status.
    fn status(&self, field: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.unwrap().trim().to_owned()
    }

    /// Where its admin endpoints are; a test asks for them by `server.admin`.
    pub fn admin(&self) -> SocketAddr {
        let log = self.log();
        let (_, rest) = log.split_once("admin endpoints at http://").unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub fn connect(&self) -> Wire {
        Wire::of(Stream::connect(self.address, self.tls.as_ref()))
    }

    /// A connection that has shaken hands, without options.
    pub fn greet(&self) -> Wire {
        let mut wire = self.connect();
        wire.shake(&Options::default());
        wire
    }

    /// One that this shard serves.
    pub fn greet_on(&self, shard: u16) -> Wire {
        let mut others = Vec::new();
        loop {
            let mut wire = self.connect();
            let options = wire.shake(&Options::default());
            if Options::parse(&options).unwrap().shard == Some(shard) {
                others.into_iter().for_each(Wire::close);
                return wire;
            }
            // Kept for now, so that the next goes elsewhere.
            others.push(wire);
        }
    }

    /// A peer of the message phase that this shard serves.
    pub fn peer(&self, shard: u16) -> Peer {
        self.peer_with(shard, Manner::default())
    }

    pub fn peer_with(&self, shard: u16, manner: Manner) -> Peer {
        const TRIES: usize = 64;
        let mut others = Vec::new();
        for _ in 0..TRIES {
            let peer = Peer::join(self.address, manner, self.tls.as_ref());
            if peer.shard == shard {
                others.into_iter().for_each(Peer::close);
                return peer;
            }
            // Kept for now, so that the next goes elsewhere.
            others.push(peer);
        }
        panic!("{TRIES} connections, none on shard {shard}");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log has `count` lines that are `wanted`: it is written by a thread of
    /// its own, a moment later. More of them fail as too few do.
    pub fn expect_lines(&self, count: usize, wanted: impl Fn(&str) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            let found = log.lines().filter(|line| wanted(line)).count();
            assert!(found <= count, "{found} lines, not {count}:\n{log}");
            if found == count {
                return;
            }
            assert!(Instant::now() < end, "{found} lines, not {count}:\n{log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks `$sys/stats` over a connection of its own.
    pub fn stats(&mut self) -> Stats {
        self.asked += 1;
        let mut wire = self.greet();
        if let Some(key) = &self.watch {
            let credential = key.as_bytes();
            wire.say(&Message::Auth {
                method: 2,
                credential,
            });
            let heard = wire.message().expect("AUTH_OK, not the end");
            let said = heard.message();
            assert!(matches!(said, Message::AuthOk { .. }), "{said:?}");
        }
        // In a turn of its own: what the turn of the ACK counts is counted at its end.
        wire.pings();
        let stats = stats_over(&mut wire);
        wire.close();
        stats
    }

    /// How many requests `stats` has made.
    pub fn asked_requests(&self) -> u64 {
        self.asked
    }

    /// Asks until `met` says yes.
    pub fn wait_for(&mut self, what: &str, met: impl Fn(&Stats) -> bool) -> Stats {
        let end = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats();
            if met(&stats) {
                return stats;
            }
            assert!(Instant::now() < end, "never {what}: {stats:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until no connection is open, then holds every one of them to its close reason:
    /// those of `expected`, and nothing else. Descriptors must be back at the baseline.
    pub fn settle(&mut self, expected: &[(&str, u64)]) -> Stats {
        let stats = self.wait_for("settled", |stats| stats.connections == 1);
        let asked = self.asked - 1;
        let mut closed = stats.closed.clone();
        // What asked for the statistics before has said CLOSE; a counter may be read before
        // the last of these is counted, but then `connections` would have been 2.
        if let Some(count) = closed.get_mut("peer_close") {
            *count -= asked;
        }
        self.account(&stats, closed, expected);
        stats
    }

    /// The same for tests that do not count the connections that said CLOSE.
    pub fn settle_beside_closes(&mut self, expected: &[(&str, u64)]) -> Stats {
        let stats = self.wait_for("settled", |stats| stats.connections == 1);
        let mut closed = stats.closed.clone();
        closed.remove("peer_close");
        self.account(&stats, closed, expected);
        stats
    }

    fn account(&self, stats: &Stats, mut closed: Sums, expected: &[(&str, u64)]) {
        assert_eq!(
            stats.closed.values().sum::<u64>(),
            stats.total["connections_opened"] - stats.connections,
            "reasons do not sum up: {stats:#?}"
        );
        closed.retain(|_, count| *count > 0);
        let expected: Sums = expected
            .iter()
            .map(|&(reason, count)| (reason.to_owned(), count))
            .collect();
        assert_eq!(closed, expected, "close reasons; log:\n{}", self.log());
        let end = Instant::now() + PATIENCE;
        while self.open_descriptors() > self.descriptors {
            assert!(Instant::now() < end, "descriptors leak");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the server after a test whose connections all said CLOSE, but for `expected`.
    pub fn end_beside_closes(mut self, expected: &[(&str, u64)]) {
        self.settle_beside_closes(expected);
        self.end();
    }

    pub fn open_descriptors(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(directory).unwrap().count()
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// That of it which is no file's: the program's own pages come and go as they are run.
    pub fn anonymous_bytes(&self) -> u64 {
        self.status_bytes("RssAnon:")
    }

    /// The most of it so far.
    pub fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let bytes = self.status(name);
        let kib = bytes.strip_suffix("kB").unwrap().trim();
        kib.parse::<u64>().unwrap() * 1024
    }

    /// CPU used so far, in clock ticks (100 a second), all threads.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    pub fn signal(&self, number: i32) {
        let mut kill = Command::new("bash");
        let script = format!("kill -{number} {}", self.pid());
        assert!(kill.args(["-c", &script]).status().unwrap().success());
    }

    /// Sets a soft limit of the running process; `None`: to the hard one.
    pub fn limit(&self, resource: Resource, soft: Option<u64>) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        let hard = getrlimit(resource).maximum;
        let limit = Rlimit {
            current: soft.or(hard),
            maximum: hard,
        };
        prlimit(Some(pid), resource, limit).unwrap();
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "did not end; log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        };
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }

    /// Ends the server in order: exit 0, and no panic on the way.
    pub fn end(mut self) {
        self.terminate();
        let status = self.wait();
        let log = self.log();
        assert_eq!(status.code(), Some(0), "log:\n{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

impl Drop for Server {
    /// A failed test leaves no process behind.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            if std::thread::panicking() {
                eprintln!("the server's log:\n{}", self.log());
            }
        }
    }
}

/// Two connections' places, each on a shard.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub a: u16,
    pub b: u16,
}

impl Place {
    /// A name of this placement's own, so that one server serves all four.
    pub fn name(&self, rest: &str) -> String {
        format!("place-{}{}/{rest}", self.a, self.b)
    }
}

/// Tries a rule with both connections on each shard, and on one each, both ways round.
pub fn each_placement(mut rule: impl FnMut(Place)) {
    for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        // Shown only if the rule fails.
        println!("placement: {a} and {b}");
        rule(Place { a, b });
    }
}

pub fn stats_over(wire: &mut Wire) -> Stats {
    Stats::parse(&wire.request("$sys/stats", b"").unwrap())
}

/// `ringmail serve` on a port of its own, with `program` and `args` before its own arguments.
pub fn command(program: &str, args: &[&str], settings: &[&str]) -> Command {
    command_at("127.0.0.1:0", program, args, settings)
}

pub fn command_at(listen: &str, program: &str, args: &[&str], settings: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command.args(["serve", "--listen", listen, "--shards", "0-1"]);
    command.args(["--log-format", "text"]);
    for setting in SETTINGS.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

pub fn after(prelude: &str, settings: &[&str]) -> Command {
    let script = format!("{prelude}; exec \"$@\"");
    let args = ["-c", &script, "bash", env!("CARGO_BIN_EXE_ringmail")];
    command("bash", &args, settings)
}

/// The sum of a metric over its labels.
///
/// # Panics
/// If the server tells none of that name.
pub fn metric(text: &str, name: &str) -> u64 {
    let rests = text.lines().filter_map(|line| line.strip_prefix(name));
    let values = rests.filter(|rest| rest.starts_with(['{', ' ']));
    let value = |rest: &str| rest.rsplit(' ').next()?.parse::<f64>().ok();
    let values: Vec<_> = values.filter_map(value).collect();
    assert!(!values.is_empty(), "no metric {name} in:\n{text}");
    values.iter().sum::<f64>() as u64
}

/// The status and the body that an admin endpoint answers.
pub fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

/// Runs something that is expected not to start: exit code and standard error.
pub fn refused(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), errors)
}
