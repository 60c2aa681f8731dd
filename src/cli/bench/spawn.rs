//! `--spawn`: a server of the benchmark's own, and its orderly end.
//!
//! The child is this very binary (`serve`), told to listen on a free loopback port; its log
//! on standard error says which. The log is read on by a thread, so that the child never
//! blocks on it, and its last lines are kept: they are the reason when it dies.
//!
//! Spawn before pinning the generator: a child inherits its parent's cores.

use crate::base::exit::Status;
use crate::cli::access::without_secrets;
use crate::cli::failure::Failure;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long the server may take to listen.
const START_MAX: Duration = Duration::from_secs(10);
/// How long it may take to end: its default drain, and some more.
const STOP_MAX: Duration = Duration::from_secs(15);
/// Lines of its log that are kept.
const LINES_KEPT: usize = 8;
const POLL: Duration = Duration::from_millis(10);
/// What the server logs before its address.
const MARK: &str = "listening on ";

/// A server that lives as long as this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    log: Log,
}

/// The last lines of the server's log.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    fn push(&self, line: String) {
        if let Ok(mut lines) = self.0.lock() {
            if lines.len() == LINES_KEPT {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }

    fn text(&self) -> String {
        let lines = self.0.lock().map(|lines| Vec::from(lines.clone()));
        lines.unwrap_or_default().join("\n")
    }
}

impl Server {
    /// Starts `ringmail serve` on the given cores and waits until it listens.
    ///
    /// # Errors
    /// It cannot be started, ends, or says nothing of an address in time.
    pub fn start(shards: &str, config: Option<&Path>) -> Result<Server, Failure> {
        let program = std::env::current_exe().map_err(|error| {
            failure(format_args!(
                "--spawn: the path of this program cannot be \
                                                   found: {error}"
            ))
        })?;
        let mut command = Command::new(program);
        without_secrets(&mut command)
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "text"])
            .args(["--shards", shards])
            // Several may run beside each other, and beside a server of the user's.
            .args(["--set", "server.admin="]);
        if let Some(path) = config {
            command.arg("--config").arg(path);
        }
        Server::launch(command)
    }

    fn launch(mut command: Command) -> Result<Server, Failure> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // A group of its own: Ctrl-C on the terminal is for the generator, which reports what
        // it has measured and then ends the server.
        let mut child = command
            .process_group(0)
            .spawn()
            .map_err(|error| failure(format_args!("--spawn: {error}")))?;
        let log = Log::default();
        let (found, address) = mpsc::sync_channel(1);
        if let Some(stderr) = child.stderr.take() {
            let log = log.clone();
            thread::spawn(move || read_log(stderr, &log, &found));
        }
        let mut server = Server {
            child,
            // Not yet known; replaced before anyone sees it.
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
        };
        match address.recv_timeout(START_MAX) {
            Ok(address) => {
                server.address = address;
                Ok(server)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Err(failure(format_args!(
                "--spawn: the server did not say where it listens within {START_MAX:?}:\n{}",
                server.log.text()
            ))),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(server.death().unwrap_or_else(|| {
                failure("--spawn: the server closed its log before it listened")
            })),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// If the server has ended: how, and its last words.
    pub fn death(&mut self) -> Option<Failure> {
        // Its end of the connection may be seen a little before its end as a process.
        let deadline = Instant::now() + Duration::from_millis(500);
        let status = wait_until(&mut self.child, deadline)?;
        let message = format!("the spawned server ended ({status}):\n{}", self.log.text());
        Some(failure(message))
    }

    /// Ends the server as an operator would, and waits for it.
    ///
    /// # Errors
    /// It does not end in time (and is killed), or not with success.
    pub fn stop(mut self) -> Result<(), Failure> {
        match self.terminate() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(failure(format_args!(
                "the spawned server failed ({status}):\n{}",
                self.log.text()
            ))),
            None => Err(failure(format_args!(
                "the spawned server did not end within {STOP_MAX:?} of SIGTERM"
            ))),
        }
    }

    fn terminate(&mut self) -> Option<std::process::ExitStatus> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        // Not yet waited for, so the number is still this child's.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        wait_until(&mut self.child, Instant::now() + STOP_MAX)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.terminate().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn wait_until(child: &mut Child, deadline: Instant) -> Option<std::process::ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(POLL);
    }
}

/// Reads the log to its end; tells the first address it finds.
fn read_log(stderr: impl Read, log: &Log, found: &mpsc::SyncSender<SocketAddr>) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    // Bytes, not text: a stray byte must not end the reading.
    while matches!(lines.read_until(b'\n', &mut line), Ok(count) if count > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if let Some(address) = address_in(&text) {
            // Full, or nobody waits any more: only the first counts.
            let _ = found.try_send(address);
        }
        log.push(text);
        line.clear();
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(MARK)?;
    let rest = rest.strip_prefix("ringmail://").unwrap_or(rest);
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)));
    let address = rest[..end.unwrap_or(rest.len())].trim_end_matches(['.', ':']);
    address.parse().ok()
}

fn failure(message: impl std::fmt::Display) -> Failure {
    Failure::new(Status::Runtime, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_address_is_found_in_a_line_of_the_log() {
        let address = |line: &str| address_in(line).map(|address| address.to_string());
        let at = Some("127.0.0.1:40123".to_owned());
        assert_eq!(address("INFO listening on 127.0.0.1:40123"), at);
        assert_eq!(
            address("listening on 127.0.0.1:40123, 2 shards"),
            at,
            "with something behind"
        );
        assert_eq!(address("listening on ringmail://127.0.0.1:40123."), at);
        assert_eq!(address("listening on [::1]:7"), Some("[::1]:7".to_owned()));
        assert_eq!(address("listening on nothing"), None);
        assert_eq!(address("starting"), None);
    }

    #[test]
    fn a_server_is_found_and_ended_by_sigterm() {
        let script = "trap 'exit 0' TERM; echo 'x listening on 127.0.0.1:9' >&2; \
                      while :; do sleep 0.01; done";
        let server = Server::launch(shell(script)).unwrap();
        assert_eq!(server.address.port(), 9);
        server.stop().unwrap();
    }

    #[test]
    fn a_server_that_dies_at_start_leaves_its_last_words() {
        let failure = Server::launch(shell("echo 'memlock too short' >&2; exit 77")).unwrap_err();
        assert!(failure.message.contains("memlock too short"), "{failure}");
        assert!(failure.message.contains("77"));
    }
}
