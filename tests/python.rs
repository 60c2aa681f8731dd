//! Clients in another language, written from the protocol's page alone, against the server.
//!
//! `python/echo.py` shares no code with this crate, so it shares none of its misreadings;
//! `python/reading.py` has the protobuf library of Google's beside that, and the descriptor set
//! that protoc makes. The server is the built binary on a port of its own choosing. No time is asserted: the one bound
//! here only turns a server that hangs into a failure.
//!
//! `python/mapping.py` has no server: it says what that library makes of some ten thousand
//! payloads, which `codec` has to make of them too. `RINGMAIL_SEED=n` makes others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringmail::codec::{Descriptors, Schema};
use ringmail::proto::envelope::Codec;
use serde_json::Value;
use std::collections::HashMap;
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

/// What a payload of a schema is in the other codec; else why it is none.
fn translated(schema: &Schema, codec: Codec, payload: &[u8]) -> Result<Vec<u8>, String> {
    let other = match codec {
        Codec::Json => Codec::Protobuf,
        Codec::Bytes | Codec::Protobuf => Codec::Json,
    };
    let checked = schema.check(codec, payload).map_err(|misfit| misfit.text)?;
    let mut out = Vec::new();
    let written = checked.write(other, usize::MAX, &mut out);
    assert!(written.is_ok(), "what fits can be written");
    Ok(out)
}

/// JSON with its keys in order.
fn in_order(json: &[u8]) -> String {
    let value: Value = serde_json::from_slice(json).unwrap();
    value.to_string()
}

#[test]
fn payloads_are_to_us_what_they_are_to_googles_library() {
    let seed = std::env::var("RINGMAIL_SEED").unwrap_or_else(|_| "1".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/mapping.py");
    let set = format!("{SCHEMA}/mapping.binpb");
    let said = Command::new("/usr/bin/python3")
        .args(["-B", script, &set, &seed, "40"])
        .output();
    let said = said.expect("/usr/bin/python3 with google.protobuf (Debian: python3-protobuf)");
    let errors = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{}: {errors}", said.status);
    let bytes = |value: &Value| value.as_str().map(|text| STANDARD.decode(text).unwrap());

    let mut known = None;
    let mut schemas: HashMap<String, Schema> = HashMap::new();
    let mut wrong = Vec::new();
    let (mut taken, mut refused) = (0, 0);
    for line in String::from_utf8(said.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(set) = bytes(&line["set"]) {
            known = Some(Descriptors::decode(&set).unwrap());
            continue;
        }
        let name = line["message"].as_str().unwrap();
        let schema = schemas.entry(name.to_owned()).or_insert_with(|| {
            let known = known.as_ref().expect("a set before its messages");
            known.schema(name).unwrap()
        });
        let codec = match line["codec"].as_str() {
            Some("json") => Codec::Json,
            _ => Codec::Protobuf,
        };
        let payload = bytes(&line["payload"]).unwrap();
        let wanted = bytes(&line["wanted"]);
        let made = translated(schema, codec, &payload);
        let is_same = match (&made, &wanted) {
            (Err(_), None) => true,
            (Ok(made), Some(wanted)) if codec == Codec::Json => made == wanted,
            (Ok(made), Some(wanted)) => in_order(made) == in_order(wanted),
            _ => false,
        };
        *(if wanted.is_some() {
            &mut taken
        } else {
            &mut refused
        }) += 1;
        if !is_same {
            wrong.push(format!(
                "{name} in {codec:?} {}\n  is to us    {}\n  is to Google {}",
                payload.escape_ascii(),
                made.map_or_else(|text| text, |made| made.escape_ascii().to_string()),
                wanted.map_or("nothing".to_owned(), |wanted| wanted
                    .escape_ascii()
                    .to_string()),
            ));
        }
    }
    assert!(taken > 2000 && refused > 5000, "{taken} and {refused}");
    let some = wrong.iter().take(10).map(String::as_str);
    let some = some.collect::<Vec<_>>().join("\n");
    assert!(
        wrong.is_empty(),
        "RINGMAIL_SEED={seed}: {} differ\n{some}",
        wrong.len()
    );
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
