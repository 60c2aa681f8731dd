//! `ringmail top` as it is called: on a terminal (of script(1)), and off one.

use crate::scene::Scene;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// The terminal's other screen, and back (xterm's control sequences).
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

fn top(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmail"));
    command.arg("top").args(args).stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
fn once_prints_one_object_of_two_looks() {
    let scene = Scene::start(None);
    let admin = scene.admin.to_string();
    let output = top(&[&admin, "--once", "--output", "json", "--interval", "500ms"]);
    assert!(output.status.success(), "{output:?}");
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(all["server"]["messages_in_per_s"].as_f64().unwrap() > 0.0);
    assert!(all["server"]["bytes_out_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(all["server"]["connections"], 6);
    let shards = all["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 2);
    let sum = shards
        .iter()
        .map(|shard| shard["connections"].as_u64().unwrap());
    assert_eq!(sum.sum::<u64>(), 6);
    assert!(shards[0]["memory_lent_bytes"].is_u64() || shards[0]["memory_lent_bytes"].is_f64());
    assert_eq!(all["slow_consumers"].as_array().unwrap().len(), 4);
    let text = top(&[&admin, "--once", "--interval", "0.2"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("ringmail "), "{text}");
    assert!(
        text.contains("\nShards\n") && !text.contains('\u{1b}'),
        "{text}"
    );
    scene.end();
}

#[test]
fn what_cannot_be_shown_is_said_with_a_remedy() {
    let nobody = "127.0.0.1:1";
    for (args, code, words) in [
        (&[nobody, "--once"][..], 69, "is the server running"),
        (&[nobody], 2, "add --once"),
        (&["--output", "json"], 2, "needs --once"),
        (&["ringmail://x:1", "--once"], 2, "http://host:port"),
        (&["--once", "--interval", "1ms"], 2, "100ms"),
    ] {
        let output = top(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
        assert!(errors.contains(words), "{args:?}: {errors}");
    }
}

/// A terminal of 80 columns with `ringmail top` on it.
struct Terminal {
    child: Child,
    heard: Receiver<String>,
    seen: String,
}

impl Terminal {
    fn start(command: &str) -> Terminal {
        let command = format!("stty cols 80 rows 24; {command}");
        let mut child = Command::new("script")
            .args([
                "--quiet",
                "--flush",
                "--return",
                "--command",
                &command,
                "/dev/null",
            ])
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script(1) of util-linux");
        let mut stdout = child.stdout.take().unwrap();
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(bytes @ 1..) = stdout.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..bytes]).into_owned();
                if tell.send(text).is_err() {
                    return;
                }
            }
        });
        Terminal {
            child,
            heard,
            seen: String::new(),
        }
    }

    /// Shows something; and the process, so that it can be ended from outside.
    fn start_known(run: &str) -> (Terminal, Pid) {
        let mut terminal = Terminal::start(&format!("echo number $$.; exec {run}"));
        terminal.until("serving");
        let number = terminal.seen.split("number ").nth(1).unwrap();
        let number: i32 = number.split('.').next().unwrap().parse().unwrap();
        (terminal, Pid::from_raw(number).unwrap())
    }

    fn until(&mut self, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.seen.contains(words) {
            assert!(Instant::now() < end, "never {words} in {:?}", self.seen);
            if let Ok(text) = self.heard.recv_timeout(Duration::from_millis(100)) {
                self.seen.push_str(&text);
            }
        }
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_terminal_is_given_back_after_q_and_after_sigterm() {
    let scene = Scene::start(None);
    let binary = env!("CARGO_BIN_EXE_ringmail");
    let run = format!("{binary} top {} --interval 0.2", scene.admin);
    let mut terminal = Terminal::start(&format!("{run}; echo ended with $?"));
    terminal.until(ENTER);
    terminal.until("serving");
    terminal.press("p");
    terminal.until("PAUSED");
    terminal.press("q");
    terminal.until("ended with 0");
    let (shown, after) = terminal.seen.rsplit_once(LEAVE).unwrap();
    assert!(shown.contains("Shards") && after.contains("ended with 0"));
    drop(terminal);
    let (mut terminal, pid) = Terminal::start_known(&run);
    kill_process(pid, Signal::TERM).unwrap();
    terminal.until(LEAVE);
    scene.end();
}

/// Neither gone nor ended without anybody who wants to know.
fn is_running(pid: Pid) -> bool {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    !matches!(state, None | Some("Z"))
}

#[test]
fn it_ends_with_its_terminal() {
    let scene = Scene::start(None);
    let binary = env!("CARGO_BIN_EXE_ringmail");
    let run = format!("{binary} top {} --interval 0.2", scene.admin);
    let (mut terminal, pid) = Terminal::start_known(&run);
    terminal.child.kill().unwrap();
    let end = Instant::now() + PATIENCE;
    while is_running(pid) {
        if Instant::now() > end {
            kill_process(pid, Signal::KILL).unwrap();
            panic!("it goes on without a terminal");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    scene.end();
}

#[test]
fn a_server_that_is_gone_is_said_and_asked_again() {
    let scene = Scene::start(None);
    let admin = scene.admin;
    let binary = env!("CARGO_BIN_EXE_ringmail");
    let mut terminal = Terminal::start(&format!("{binary} top {admin} --interval 0.2"));
    terminal.until("serving");
    scene.end();
    terminal.until("trying again");
    terminal.seen.clear();
    let scene = Scene::start(Some(admin));
    terminal.until("serving");
    terminal.press("q");
    terminal.until(LEAVE);
    scene.end();
}
