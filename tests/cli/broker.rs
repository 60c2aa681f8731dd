//! A real server with two shards, subcommands that run against it, and a line between them
//! that can be cut.

use crate::{ringmail, told};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// `ringmail serve` on a port of its own.
pub struct Broker {
    child: Child,
    pub address: String,
    log: Option<JoinHandle<String>>,
    /// What the server keeps, until it has ended.
    _state: TempDir,
}

impl Broker {
    pub fn start() -> Broker {
        Broker::with(&[])
    }

    /// With settings (`key=value`) of the test's own.
    pub fn with(settings: &[&str]) -> Broker {
        Broker::with_file(None, settings)
    }

    /// With a configuration file, and settings that win over it.
    pub fn with_file(file: Option<&Path>, settings: &[&str]) -> Broker {
        Broker::listening("127.0.0.1:0", file, settings)
    }

    /// At an address where nobody listens.
    pub fn at(address: &str) -> Broker {
        Broker::listening(address, None, &[])
    }

    /// Another one, where one has been killed.
    pub fn in_place_of(killed: Broker) -> Broker {
        let address = killed.address.clone();
        drop(killed);
        Broker::at(&address)
    }

    fn listening(address: &str, file: Option<&Path>, settings: &[&str]) -> Broker {
        let mut command = ringmail(&["serve", "--listen", address, "--shards", "0-1"]);
        command.args(["--log-format", "text", "--set", "server.admin="]);
        if let Some(file) = file {
            command.arg("--config").arg(file);
        }
        for setting in settings {
            command.args(["--set", setting]);
        }
        let state = tempfile::tempdir().unwrap();
        command.arg("--state-directory").arg(state.path());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        let address = loop {
            let from = log.len();
            assert!(stderr.read_line(&mut log).unwrap() > 0, "no server:\n{log}");
            if let Some((_, rest)) = log[from..].split_once("listening on ") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        let rest = std::thread::spawn(move || {
            let _ = stderr.read_to_string(&mut log);
            log
        });
        Broker {
            child,
            address,
            log: Some(rest),
            _state: state,
        }
    }

    /// Starts a subcommand that talks to it.
    pub fn tool(&self, args: &[&str]) -> Tool {
        Tool::start(&self.address, args)
    }

    /// Runs one to its end, without input.
    pub fn run(&self, args: &[&str]) -> (i32, String, String) {
        self.run_with_input(args, b"")
    }

    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> (i32, String, String) {
        let mut tool = self.tool(args);
        tool.write(input);
        tool.end()
    }

    /// Publishes lines and waits until each is confirmed.
    pub fn publish(&self, topic: &str, lines: &str) {
        let published = self.run_with_input(&["pub", topic, "--confirm"], lines.as_bytes());
        assert_eq!(published, (0, String::new(), String::new()));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log.take().unwrap().join().unwrap();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{log}");
        } else {
            assert!(!log.contains("panicked"), "{log}");
        }
    }
}

/// A process that a failed test leaves behind no more than one that has passed.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running subcommand.
pub struct Tool {
    child: Owned,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    errors: BufReader<std::process::ChildStderr>,
}

impl Tool {
    pub fn start(address: &str, args: &[&str]) -> Tool {
        let mut child = ringmail(args)
            .env("RINGMAIL_ADDRESS", address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Tool {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            errors: BufReader::new(child.stderr.take().unwrap()),
            child: Owned(child),
        }
    }

    /// Once it has said that it subscribed or serves.
    pub fn ready(mut self) -> Tool {
        let line = self.note();
        let is_ready = line.contains("subscribed to") || line.contains("serving");
        assert!(is_ready, "{line}");
        self
    }

    /// The next line on standard output.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// The next line on standard error.
    pub fn note(&mut self) -> String {
        let mut line = String::new();
        self.errors.read_line(&mut line).unwrap();
        line
    }

    pub fn write(&mut self, input: &[u8]) {
        // A subcommand that ends early does not read it all.
        let _ = self.stdin.as_mut().unwrap().write_all(input);
    }

    /// Nobody reads its standard output any more.
    pub fn stop_reading(mut self) -> (i32, String) {
        drop(self.stdout);
        let mut errors = String::new();
        self.errors.read_to_string(&mut errors).unwrap();
        (self.child.0.wait().unwrap().code().unwrap(), errors)
    }

    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    pub fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    /// Closes its input and waits: exit code, the rest of standard output and of standard
    /// error.
    pub fn end(self) -> (i32, String, String) {
        told(self.output())
    }

    pub fn output(mut self) -> Output {
        drop(self.stdin);
        let mut stdout = self.stdout;
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let mut stderr = Vec::new();
        self.errors.read_to_end(&mut stderr).unwrap();
        Output {
            status: self.child.0.wait().unwrap(),
            stdout: reader.join().unwrap(),
            stderr,
        }
    }
}

/// A line to a server that can be cut: both ends lose their connection without a word.
pub struct Cable {
    pub address: String,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    pub fn to(address: &str) -> Cable {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = listener.local_addr().unwrap().to_string();
        let far = address.to_owned();
        let ends = Arc::new(Mutex::new(Vec::new()));
        let kept = ends.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect(&far) else {
                    return;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                kept.lock().unwrap().extend([client, server]);
            }
        });
        Cable {
            address: near,
            ends,
        }
    }

    pub fn cut(&self) {
        for end in self.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}
