//! The log from outside: levels changed while it runs, a file moved away, and targets that
//! take nothing: a full disk, a pipe that nobody reads.

use super::*;
use ringmail::blocking::Client;
use serde_json::Value;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::process::ChildStderr;
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// The binary, with its log in JSON.
struct Logged {
    process: Killed,
    listen: SocketAddr,
    admin: SocketAddr,
}

fn spawn(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ringmail"))
        .args(["serve", "--listen", "127.0.0.1:0", "--shards", "0-1"])
        .args(["--log-format", "json", "--set", "server.admin=127.0.0.1:0"])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A line has what every line has, once.
fn parsed(line: &str) -> Value {
    let json: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    for name in ["timestamp", "level", "message", "target"] {
        assert!(json[name].is_string(), "{name}: {line}");
        assert_eq!(line.matches(&format!("\"{name}\":")).count(), 1, "{line}");
    }
    let time = json["timestamp"].as_str().unwrap();
    assert!(time.len() == 27 && time.ends_with('Z'), "{line}");
    json
}

fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap()
}

impl Logged {
    /// From the lines that it writes at its start.
    fn found(child: Child, mut next: impl FnMut() -> Value) -> Logged {
        let (mut listen, mut admin) = (None, None);
        while listen.is_none() || admin.is_none() {
            let line = next();
            let after = |mark: &str| message(&line).strip_prefix(mark)?.parse().ok();
            listen = listen.or(after("listening on "));
            admin = admin.or(after("admin endpoints at http://"));
        }
        Logged {
            process: Killed(child),
            listen: listen.unwrap(),
            admin: admin.unwrap(),
        }
    }

    /// With standard error as the log, read on by the test only.
    fn on_stderr(args: &[&str]) -> (Logged, BufReader<ChildStderr>) {
        let mut child = spawn(args);
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let server = Logged::found(child, || {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it did not start");
            parsed(&line)
        });
        (server, lines)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends it, which it does by itself and well.
    fn end(mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert_eq!(self.process.0.wait().unwrap().code(), Some(0));
    }

    fn dropped(&self) -> u64 {
        get(self.admin, "/status").json()["log_lines_dropped"]
            .as_u64()
            .unwrap()
    }

    /// Lines at debug: connections that come and go.
    fn provoke(&self, connections: usize) {
        for _ in 0..connections {
            let stream = TcpStream::connect(self.listen).unwrap();
            // A reset: no port waits.
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
    }

    /// Requests are answered, each by its own.
    fn echoes(&self, count: usize) {
        let mut client = Client::connect(&self.listen.to_string()).unwrap();
        for number in 0..count {
            let payload = number.to_string();
            let answer = client.request("$sys/echo", &payload).unwrap();
            assert_eq!(answer.payload, payload.as_bytes());
        }
        client.close().unwrap();
    }
}

fn lines_of(mut stderr: BufReader<ChildStderr>) -> Receiver<Value> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        while stderr.read_line(&mut line).is_ok_and(|count| count > 0) {
            // The test may have ended.
            let _ = sender.send(parsed(&line));
            line.clear();
        }
    });
    lines
}

fn until(lines: &Receiver<Value>, wanted: impl Fn(&Value) -> bool) -> (Vec<Value>, Value) {
    let mut before = Vec::new();
    loop {
        let line = lines
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("the line never came; {before:#?}"));
        if wanted(&line) {
            return (before, line);
        }
        before.push(line);
    }
}

/// A configuration with an operator, and the operator's key.
fn with_operator(directory: &Path) -> (String, NewApiKey) {
    let key = generate("op").unwrap();
    let text = format!(
        "[auth]\nmode = 'required'\n[auth.issuer]\nsigning_secret = 'an HS256 secret of more than \
         32 bytes, to sign with'\n[[auth.api_key]]\nid = 'op'\nsha256 = '{}'\nprincipal = 'olga'\n\
         roles = ['admin']\n[roles.admin]\nadmin = true\n",
        key.sha256
    );
    let path = directory.join("ringmail.toml");
    fs::write(&path, text).unwrap();
    (path.to_str().unwrap().to_owned(), key)
}

/// A server with an operator, what it logs, and the operator's key.
fn guarded(directory: &Path) -> (Logged, Receiver<Value>, NewApiKey) {
    let (config, key) = with_operator(directory);
    let state = directory.join("state");
    let state = state.to_str().unwrap();
    let (server, stderr) = Logged::on_stderr(&["--config", &config, "--state-directory", state]);
    (server, lines_of(stderr), key)
}

fn put(server: &Logged, credential: &str, body: &str) -> Answer {
    let headers = format!("Authorization: Bearer {credential}\r\n");
    send(server.admin, "PUT", "/log", &headers, body)
}

#[test]
fn levels_are_changed_while_it_runs_and_what_is_none_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (server, lines, key) = guarded(directory.path());
    let shown = get(server.admin, "/log");
    assert_eq!(shown.status, 200, "{shown:?}");
    let shown = shown.json();
    assert_eq!(
        (&shown["level"], &shown["format"]),
        (&"info".into(), &"json".into())
    );
    assert!(
        shown["file"].is_null() && shown["lines_dropped"] == 0,
        "{shown}"
    );
    let more = "{\"level\":\"info,ringmail::shard=debug\"}";
    assert_eq!(send(server.admin, "PUT", "/log", "", more).status, 401);
    assert_eq!(put(&server, "op.wrong", more).status, 401);
    for bad in [
        "",
        "{}",
        "[]",
        "{\"level\":7}",
        "{\"level\":\"\"}",
        "{\"level\":\"loud\"}",
        "{\"level\":\"info,ringmail\"}",
        "{\"level\":\"info,ringmail::shard=\"}",
        "{\"level\":\"debug\",\"file\":\"/etc/passwd\"}",
        "{\"level\":\"debug\"} x",
    ] {
        let answer = put(&server, &key.key, bad);
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
        answer.error();
        assert_eq!(get(server.admin, "/log").json()["level"], "info");
    }
    let long = format!("{{\"level\":\"{}\"}}", "x".repeat(8192));
    assert_eq!(put(&server, &key.key, &long).status, 413);
    server.provoke(3);
    let answer = put(&server, &key.key, more);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["level"], "info,ringmail::shard=debug");
    let (before, told) = until(&lines, |line| message(line).starts_with("log levels: "));
    assert_eq!(told["by"], "olga");
    assert!(
        before.iter().all(|line| line["level"] != "DEBUG"),
        "{before:?}"
    );
    server.provoke(1);
    let (_, line) = until(&lines, |line| message(line) == "accepted");
    assert_eq!(
        (&line["level"], &line["target"]),
        (&"DEBUG".into(), &"ringmail::shard::accept".into())
    );
    assert!(
        line["shard"].is_u64() && line["connection"].is_string(),
        "{line}"
    );
    // A line whose place names no shard has that of its thread.
    assert_eq!(put(&server, &key.key, "{\"level\":\"info\"}").status, 200);
    server.end();
    let (before, _) = until(&lines, |line| message(line) == "drained");
    let draining = before
        .iter()
        .find(|line| message(line) == "draining")
        .unwrap();
    assert!(draining["shard"].is_u64(), "{draining}");
}

#[test]
fn lines_that_say_the_same_are_summed_up_and_none_is_uncounted() {
    let directory = tempfile::tempdir().unwrap();
    let (server, lines, key) = guarded(directory.path());
    const ATTEMPTS: u64 = 40;
    for _ in 0..ATTEMPTS {
        // From some on it is not looked at any more.
        assert!([401, 429].contains(&put(&server, "op.wrong", "{}").status));
    }
    assert!(get(server.admin, "/log").json()["lines_repeated"].as_u64() > Some(0));
    server.end();
    let refused = |line: &Value| message(line).starts_with("refused at the admin address");
    let written: Vec<Value> = lines.iter().filter(refused).collect();
    let stands_for = |line: &Value| line["repeated"].as_u64().unwrap_or(1);
    assert_eq!(
        written.iter().map(stands_for).sum::<u64>(),
        ATTEMPTS,
        "{written:#?}"
    );
    assert!(written.len() < ATTEMPTS as usize / 2, "{written:#?}");
    let secret = key.key.rsplit_once('.').unwrap().1;
    assert!(!format!("{written:?}").contains(secret));
}

#[test]
fn a_program_that_embeds_the_server_has_its_own_log() {
    let running = Server::builder().config(configuration()).start().unwrap();
    let answer = get(running.admin_address().unwrap(), "/log");
    assert_eq!(answer.status, 404);
    answer.error();
    running.drain();
    running.wait().unwrap();
}

/// The server with its log in the file at `path`.
fn in_file(path: &Path, args: &[&str]) -> Logged {
    let set = format!("log.file={}", path.display());
    let child = spawn(&[&["--set", &set], args].concat());
    let (mut seen, end) = (0, Instant::now() + PATIENCE);
    Logged::found(child, || {
        loop {
            assert!(Instant::now() < end, "it did not start");
            let text = fs::read_to_string(path).unwrap_or_default();
            // Whole lines.
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            if let Some(line) = lines.get(seen).filter(|line| line.ends_with('\n')) {
                seen += 1;
                return parsed(line);
            }
            thread::sleep(Duration::from_millis(5));
        }
    })
}

fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew_on_sigusr1() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let server = in_file(&path, &[]);
    assert_eq!(
        get(server.admin, "/log").json()["file"],
        path.to_str().unwrap()
    );
    let moved = directory.path().join("log.1");
    fs::rename(&path, &moved).unwrap();
    server.signal(rustix::process::Signal::USR1);
    let told = |path: &Path, text: &str| {
        let written = fs::read_to_string(path).unwrap_or_default();
        written.contains(text)
    };
    wait_for("a new file", || told(&path, "SIGUSR1"));
    // And once more, with nothing at all in its place: deleted, not moved.
    fs::remove_file(&path).unwrap();
    server.signal(rustix::process::Signal::USR1);
    wait_for("a new file", || told(&path, "SIGUSR1"));
    server.echoes(10);
    server.end();
    assert!(told(&path, "drained"));
    assert!(told(&moved, "listening on") && !told(&moved, "SIGUSR1"));
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (path, room) = (directory.path().join("log"), directory.path().join("room"));
    symlink(&room, &path).unwrap();
    let server = in_file(&path, &["--log-level", "info,ringmail=debug"]);
    assert_eq!(server.dropped(), 0);
    // The disk is full from now on.
    fs::remove_file(&path).unwrap();
    symlink("/dev/full", &path).unwrap();
    server.signal(rustix::process::Signal::USR1);
    wait_for("lost lines", || {
        server.provoke(10);
        server.dropped() > 20
    });
    server.echoes(2000);
    // There is room again: what was lost is told.
    fs::remove_file(&path).unwrap();
    symlink(&room, &path).unwrap();
    server.signal(rustix::process::Signal::USR1);
    wait_for("the loss told", || {
        server.provoke(1);
        let written = fs::read_to_string(&room).unwrap();
        written.contains("lines of this log were lost")
    });
    server.end();
}

#[test]
fn a_pipe_that_nobody_reads_costs_lines_and_nothing_else() {
    let (server, stderr) = Logged::on_stderr(&["--log-level", "info,ringmail=debug"]);
    let end = Instant::now() + PATIENCE;
    // The pipe's room, and the queue's.
    while server.dropped() == 0 {
        assert!(Instant::now() < end, "nothing was ever lost");
        server.provoke(500);
    }
    server.echoes(2000);
    // Nor does its end wait for the pipe.
    server.end();
    drop(stderr);
}
