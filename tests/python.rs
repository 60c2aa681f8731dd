//! Clients in another language, written from the protocol's page alone, against the server.
//!
//! `python/echo.py` shares no code with this crate, so it shares none of its misreadings;
//! `python/reading.py` has the protobuf library of Google's beside that, and the descriptor set
//! that protoc makes. The server is the built binary on a port of its own choosing. No time is asserted: the one bound
//! here only turns a server that hangs into a failure.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/echo.py");
/// Where the tests' .proto files are.
const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema");
const HANG: Duration = Duration::from_secs(60);

/// The server's process: killed when a test fails before it has ended by itself.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start() -> (Server, Receiver<String>) {
        Server::start_with(&[])
    }

    fn start_with(args: &[&OsStr]) -> (Server, Receiver<String>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringmail"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "text"])
            .args(["--set", "server.admin="])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = lines(child.stderr.take().unwrap());
        (Server(child), log)
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }

    /// How it ended. `log` ends with the process, which is what this waits for.
    fn ended(&mut self, log: &Receiver<String>) -> (ExitStatus, String) {
        let mut said = String::new();
        loop {
            match log.recv_timeout(HANG) {
                Ok(line) => said += &(line + "\n"),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(_) => panic!("still running after SIGTERM:\n{said}"),
            }
        }
        (self.0.wait().unwrap(), said)
    }
}

/// What the server logs, read all the time, so that a full pipe never stops it.
fn lines(log: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

/// The address in `… listening on 127.0.0.1:PORT …`.
fn address(log: &Receiver<String>) -> String {
    let mut said = String::new();
    while let Ok(line) = log.recv_timeout(HANG) {
        if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            return format!("127.0.0.1:{port}");
        }
        said += &(line + "\n");
    }
    panic!("the server never listened; it said:\n{said}");
}

#[test]
fn a_client_written_from_the_protocol_page_alone_echoes() {
    let (mut server, log) = Server::start();
    let address = address(&log);
    let client = Command::new("python3")
        .args(["-B", SCRIPT, &address])
        .output();
    let client = client.expect("python3, to run a client in another language");
    let said = String::from_utf8_lossy(&client.stderr);
    assert!(client.status.success(), "{}: {said}", client.status);
    assert_eq!(String::from_utf8_lossy(&client.stdout), "ok\n");

    server.terminate();
    let (status, said) = server.ended(&log);
    assert_eq!(status.code(), Some(0), "after SIGTERM: {status}\n{said}");
}

#[test]
fn googles_library_reads_what_a_json_device_published_and_the_other_way_round() {
    let directory = tempfile::tempdir().unwrap();
    let (set, config) = (
        directory.path().join("set"),
        directory.path().join("config"),
    );
    let mut out = OsString::from("--descriptor_set_out=");
    out.push(&set);
    let made = Command::new("protoc")
        .args(["--proto_path", SCHEMA])
        .arg(out)
        .arg("site.proto")
        .status();
    let made = made.expect("protoc, to make a descriptor set (Debian: protobuf-compiler)");
    assert!(made.success(), "{made}");
    let topic = format!(
        "[[topic]]\nfilter = \"site/+/reading\"\nschema_file = {set:?}\nmessage = \"site.Reading\"\n"
    );
    std::fs::write(&config, topic).unwrap();
    let (mut server, log) = Server::start_with(&["--config".as_ref(), config.as_ref()]);
    let address = address(&log);
    // The system's own, which Debian's python3-protobuf is for; whatever else is on the path.
    let client = Command::new("/usr/bin/python3")
        .args([
            "-B",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/reading.py"),
            &address,
        ])
        .arg(&set)
        .output();
    let client = client.expect("/usr/bin/python3 with google.protobuf (Debian: python3-protobuf)");
    let said = String::from_utf8_lossy(&client.stderr);
    assert!(client.status.success(), "{}: {said}", client.status);
    assert_eq!(String::from_utf8_lossy(&client.stdout), "ok\n");
    server.terminate();
    let (status, said) = server.ended(&log);
    assert_eq!(status.code(), Some(0), "after SIGTERM: {status}\n{said}");
}

#[test]
fn the_client_is_forty_lines_of_the_standard_library() {
    let script = std::fs::read_to_string(SCRIPT).unwrap();
    let count = script.lines().count();
    assert!(count <= 40, "{count} lines");
    let imports: Vec<_> = script
        .lines()
        .filter(|line| line.contains("import"))
        .collect();
    assert_eq!(imports, ["import socket, struct, sys, zlib"]); // sys: its argument, its exit code
}
