//! One run of the command that answers: the payload in, the answer out, bounded in time and
//! size.
//!
//! One `poll` waits for the three pipes and the process's end, so that a command may read and
//! write in any order, or not at all. The command leads its own process group, so that killing
//! it also kills everything it started. A command that ended by itself may leave processes
//! running; their output is not waited for.
//!
//! Invariant: the process has been waited for when [`run`] returns.

use crate::base::clock::Instant;
use crate::cli::access::without_secrets;
use crate::cli::interrupt::SLICE;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The status of a command that took too long, as in timeout(1).
const TOO_LONG: u16 = 124;
/// The status if no answer could be made.
const NO_ANSWER: u16 = 125;
/// How much of standard error is kept to find its last line.
const STDERR_BYTES_KEPT: usize = 4096;
/// The most bytes of a failure's text.
const TEXT_BYTES_MAX: usize = 1024;

/// What to run, and its bounds.
pub struct Task<'a> {
    pub exec: &'a OsStr,
    pub environment: Vec<(String, OsString)>,
    pub payload: &'a [u8],
    pub answer_bytes_max: usize,
    pub timeout: Duration,
}

/// The outcome.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Answer(Vec<u8>),
    Failed { status: u16, text: String },
}

impl Outcome {
    pub fn none(text: impl Into<String>) -> Outcome {
        Outcome::Failed {
            status: NO_ANSWER,
            text: text.into(),
        }
    }
}

/// Runs the command to its end, or until `stop` is set.
pub fn run(task: &Task<'_>, stop: &AtomicBool) -> Outcome {
    match Running::start(task) {
        Ok(mut running) => {
            let outcome = running.attend(task, stop);
            drop(running);
            outcome.unwrap_or_else(|error| Outcome::none(format!("the command was lost: {error}")))
        }
        Err(error) => Outcome::none(format!("cannot run sh: {error}")),
    }
}

struct Running {
    child: Child,
    exit: OwnedFd,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// Bytes of the payload that the command has taken.
    written: usize,
    answer: Vec<u8>,
    complaint: Vec<u8>,
}

impl Running {
    fn start(task: &Task<'_>) -> io::Result<Running> {
        let mut command = Command::new("sh");
        let mut child = without_secrets(&mut command)
            .arg("-c")
            .arg(task.exec)
            .envs(task.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let watched = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
            .and_then(|exit| stdin.as_ref().map_or(Ok(()), unblocked).map(|()| exit))
            .and_then(|exit| stdout.as_ref().map_or(Ok(()), unblocked).map(|()| exit))
            .and_then(|exit| stderr.as_ref().map_or(Ok(()), unblocked).map(|()| exit));
        match watched {
            Ok(exit) => Ok(Running {
                child,
                exit,
                stdin,
                stdout,
                stderr,
                written: 0,
                answer: Vec::new(),
                complaint: Vec::new(),
            }),
            Err(errno) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(errno.into())
            }
        }
    }

    fn attend(&mut self, task: &Task<'_>, stop: &AtomicBool) -> io::Result<Outcome> {
        let deadline = Instant::now() + task.timeout;
        loop {
            // In this order: everything an ended command has written is available.
            let exit = self.child.try_wait()?;
            self.pump(task)?;
            if self.answer.len() > task.answer_bytes_max {
                let text = "the answer is larger than the server accepts";
                return Ok(Outcome::none(text));
            }
            if let Some(exit) = exit {
                return Ok(self.outcome(exit));
            }
            let now = Instant::now();
            if stop.load(Ordering::Relaxed) {
                return Ok(Outcome::none("the service is shutting down"));
            }
            if now >= deadline {
                return Ok(Outcome::Failed {
                    status: TOO_LONG,
                    text: format!("the command took longer than {:?}", task.timeout),
                });
            }
            self.poll(SLICE.min(deadline - now))?;
        }
    }

    /// Waits for room to write, for output, or for the end.
    fn poll(&self, wait: Duration) -> io::Result<()> {
        let mut polled = vec![PollFd::new(&self.exit, PollFlags::IN)];
        if let Some(stdin) = &self.stdin {
            polled.push(PollFd::new(stdin, PollFlags::OUT));
        }
        if let Some(stdout) = &self.stdout {
            polled.push(PollFd::new(stdout, PollFlags::IN));
        }
        if let Some(stderr) = &self.stderr {
            polled.push(PollFd::new(stderr, PollFlags::IN));
        }
        match rustix::event::poll(&mut polled, Timespec::try_from(wait).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Moves what can be moved without waiting; a pipe that has ended is closed.
    fn pump(&mut self, task: &Task<'_>) -> io::Result<()> {
        while let Some(stdin) = &mut self.stdin {
            let rest = &task.payload[self.written..];
            match stdin.write(rest) {
                Ok(count) if count < rest.len() => self.written += count,
                Err(error) if is_moment(&error) => break,
                // All of it is written, or the command does not read the rest.
                _ => self.stdin = None,
            }
        }
        let answer = &mut self.answer;
        // One byte more than allowed shows that it is too large.
        drain(&mut self.stdout, |bytes| {
            let room = (task.answer_bytes_max + 1).saturating_sub(answer.len());
            answer.extend_from_slice(&bytes[..bytes.len().min(room)]);
            answer.len() <= task.answer_bytes_max
        })?;
        let complaint = &mut self.complaint;
        drain(&mut self.stderr, |bytes| {
            let _ = io::stderr().write_all(bytes);
            complaint.extend_from_slice(bytes);
            let excess = complaint.len().saturating_sub(STDERR_BYTES_KEPT);
            complaint.drain(..excess);
            true
        })
    }

    fn outcome(&mut self, exit: ExitStatus) -> Outcome {
        if exit.success() {
            return Outcome::Answer(std::mem::take(&mut self.answer));
        }
        let (status, text) = match (exit.code(), exit.signal()) {
            (Some(code), _) => (code, format!("the command exited with status {code}")),
            (None, signal) => {
                let signal = signal.unwrap_or_default();
                (
                    128 + signal,
                    format!("the command was killed by signal {signal}"),
                )
            }
        };
        Outcome::Failed {
            status: u16::try_from(status).unwrap_or(NO_ANSWER),
            text: last_line(&self.complaint).unwrap_or(text),
        }
    }
}

impl Drop for Running {
    /// Kills a command that has not ended by itself, with everything it started.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn unblocked(pipe: &impl AsFd) -> rustix::io::Result<()> {
    rustix::io::ioctl_fionbio(pipe, true)
}

fn is_moment(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Reads what is available until `take` has enough; closes the pipe at its end.
fn drain<R: Read>(pipe: &mut Option<R>, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    while let Some(reader) = pipe {
        match reader.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(count) if !take(&buffer[..count]) => return Ok(()),
            Ok(_) => {}
            Err(error) if is_moment(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The last line that is not empty.
fn last_line(complaint: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(complaint);
    let line = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    let end = line.floor_char_boundary(TEXT_BYTES_MAX);
    Some(line[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task<'a>(exec: &'a str, payload: &'a [u8]) -> Task<'a> {
        Task {
            exec: OsStr::new(exec),
            environment: vec![("RINGMAIL_SERVICE".to_owned(), "text/upper".into())],
            payload,
            answer_bytes_max: 1 << 20,
            timeout: Duration::from_secs(20),
        }
    }

    fn outcome(exec: &str, payload: &[u8]) -> Outcome {
        run(&task(exec, payload), &AtomicBool::new(false))
    }

    fn failed(status: u16, text: &str) -> Outcome {
        Outcome::Failed {
            status,
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_payload_goes_in_and_the_output_is_the_answer() {
        assert_eq!(
            outcome("tr a-z A-Z", b"hello"),
            Outcome::Answer(b"HELLO".to_vec())
        );
        let every_byte: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        assert_eq!(outcome("cat", &every_byte), Outcome::Answer(every_byte));
        let answer = Outcome::Answer(b"text/upper".to_vec());
        assert_eq!(outcome("printf %s \"$RINGMAIL_SERVICE\"", b""), answer);
    }

    #[test]
    fn a_command_that_does_not_read_is_no_failure() {
        let payload = vec![0; 1 << 20];
        assert_eq!(
            outcome("echo done", &payload),
            Outcome::Answer(b"done\n".to_vec())
        );
    }

    #[test]
    fn a_failing_command_reports_its_status_and_its_last_line() {
        let exec = "echo first >&2; echo 'no forecast  ' >&2; echo >&2; exit 3";
        assert_eq!(outcome(exec, b""), failed(3, "no forecast"));
        assert_eq!(
            outcome("exit 7", b""),
            failed(7, "the command exited with status 7")
        );
        assert_eq!(
            outcome("kill -9 $$", b""),
            failed(137, "the command was killed by signal 9")
        );
        let Outcome::Failed { status: 127, text } = outcome("/no/such/command", b"") else {
            panic!("sh says 127");
        };
        assert!(text.contains("/no/such/command"), "{text}");
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_all_it_started() {
        // The reader of a named pipe sees its end once all writers have closed it.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held");
        let path = path.to_str().unwrap();
        assert_eq!(
            outcome(&format!("mkfifo {path}"), b""),
            Outcome::Answer(Vec::new())
        );
        let opened = path.to_owned();
        let reader = std::thread::spawn(move || std::fs::read(opened).unwrap());
        let exec = format!("exec 3>{path}; echo held >&3; sleep 1000 & sleep 1000");
        let task = Task {
            timeout: Duration::from_millis(500),
            ..task(&exec, b"")
        };
        let outcome = run(&task, &AtomicBool::new(false));
        let Outcome::Failed {
            status: TOO_LONG,
            text,
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        assert!(text.contains("500ms"), "{text}");
        assert_eq!(reader.join().unwrap(), b"held\n");
    }

    #[test]
    fn an_answer_that_is_too_large_is_not_gathered() {
        let task = Task {
            answer_bytes_max: 1000,
            ..task("cat /dev/zero", b"")
        };
        let text = "the answer is larger than the server accepts";
        assert_eq!(run(&task, &AtomicBool::new(false)), failed(NO_ANSWER, text));
        let whole = Task {
            exec: OsStr::new("head -c 1000 /dev/zero"),
            ..task
        };
        let answer = Outcome::Answer(vec![0; 1000]);
        assert_eq!(run(&whole, &AtomicBool::new(false)), answer);
    }

    #[test]
    fn processes_that_a_command_leaves_running_are_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held");
        let name = path.to_str().unwrap();
        // The process left behind holds standard output until it is released.
        let exec = format!("mkfifo {name}; cat {name} & echo early");
        assert_eq!(outcome(&exec, b""), Outcome::Answer(b"early\n".to_vec()));
        std::fs::write(path, b"go").unwrap();
    }

    #[test]
    fn a_command_ends_when_the_service_does() {
        let stopped = AtomicBool::new(true);
        let outcome = run(&task("sleep 1000", b""), &stopped);
        assert_eq!(outcome, Outcome::none("the service is shutting down"));
    }
}
