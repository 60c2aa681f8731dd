//! The binary from outside: help, exit codes, what goes to standard output and what to
//! standard error, and its client subcommands against a scripted server.
//!
//! `sub`, `pub` and `reply` are tried against a real one, in `cli/`.

#[path = "cli/access.rs"]
mod access;
#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/broker.rs"]
mod broker;
#[path = "cli/identity.rs"]
mod identity;
mod peer;
#[path = "cli/pipe.rs"]
mod pipe;
#[path = "cli/publish.rs"]
mod publish;
#[path = "cli/reply.rs"]
mod reply;
#[path = "cli/subscribe.rs"]
mod subscribe;
#[path = "cli/variable.rs"]
mod variable;

use clap::{CommandFactory, ValueEnum};
use peer::{Heard, Peer, settings};
use ringmail::cli::args::Args;
use ringmail::client::Code;
use ringmail::proto::session::Settings;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn ringmail(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmail"));
    command
        .args(args)
        .stdin(Stdio::null())
        .env_remove("RINGMAIL_ADDRESS")
        .env_remove("RINGMAIL_TOKEN")
        .env_remove("RINGMAIL_API_KEY");
    command
}

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    told(ringmail(args).output().unwrap())
}

fn told(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn run_with_input(args: &[&str], input: &[u8]) -> Output {
    let mut child = ringmail(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn subcommands() -> Vec<String> {
    let command = Args::command();
    let names = command.get_subcommands().map(|sub| sub.get_name().into());
    names.collect()
}

/// The words that lead to each command, those of subcommands and the program's own (none).
fn command_paths(command: &clap::Command) -> Vec<Vec<String>> {
    let mut paths = vec![Vec::new()];
    for sub in command.get_subcommands() {
        for rest in command_paths(sub) {
            paths.push([vec![sub.get_name().to_owned()], rest].concat());
        }
    }
    paths
}

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn every_help_shows_examples_and_exit_codes() {
    let paths = command_paths(&Args::command());
    assert!(paths.contains(&vec!["bench".to_owned(), "idle".to_owned()]));
    for path in paths {
        let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
        args.push("--help");
        let (code, help, errors) = run(&args);
        assert_eq!((code, errors.as_str()), (0, ""), "{args:?}");
        assert!(help.contains("Examples:"), "{args:?} has no examples");
        assert!(help.contains("Exit codes:"), "{args:?} has no exit codes");
    }
}

#[test]
fn the_version_is_the_crates() {
    let (code, version, _) = run(&["--version"]);
    assert_eq!(code, 0);
    assert_eq!(version, format!("ringmail {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_of_every_shell_name_every_subcommand() {
    for shell in clap_complete::Shell::value_variants() {
        let (code, script, errors) = run(&["completions", &shell.to_string()]);
        assert_eq!((code, errors.as_str()), (0, ""), "{shell}");
        for name in subcommands() {
            assert!(script.contains(&name), "{shell}: {name} is missing");
        }
    }
}

#[test]
fn manual_pages_name_and_describe_every_subcommand() {
    let (code, page, _) = run(&["man"]);
    assert_eq!(code, 0);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("share/man1");
    assert_eq!(run(&["man", "--dir", dir.to_str().unwrap()]).0, 0);
    assert!(dir.join("ringmail.1").exists());
    for name in subcommands() {
        let of_its_own = format!("ringmail\\-{name}(1)");
        assert!(page.contains(&of_its_own), "{name} is not in ringmail(1)");
    }
    for path in command_paths(&Args::command()) {
        let name = [vec!["ringmail".to_owned()], path].concat().join("-");
        let page = std::fs::read_to_string(dir.join(format!("{name}.1"))).unwrap();
        let (_, examples) = page.split_once(".SH EXAMPLES\n.nf\n").expect(&name);
        let (examples, codes) = examples.split_once(".fi\n").expect(&name);
        assert!(examples.contains("  ringmail"), "{name}:\n{examples}");
        assert!(
            codes.starts_with(".SH \"EXIT CODES\"\n.nf\n"),
            "{name}:\n{codes}"
        );
    }
    // As it is read: each example is a line of its own.
    let (code, _, errors) = run(&["man", "--dir", "/dev/null"]);
    assert_eq!(code, 1);
    assert!(errors.contains("/dev/null"), "{errors}");
}

#[test]
fn a_command_line_that_is_not_understood_exits_2() {
    for args in [
        &[][..],
        &["frobnicate"],
        &["req"],
        &["req", "a", "b", "c"],
        &["req", "a", "--codec", "xml"],
        &["req", "a", "b", "--address", "http://127.0.0.1:1"],
        &["req", "a", "b", "--address", "127.0.0.1"],
        &["ping", "--count", "0"],
        &["ping", "--payload-bytes", "65"],
        &["ping", "--interval", "soon"],
        &["check", "--set", "listen=1"],
        &["completions", "tcsh-of-old"],
    ] {
        let (code, out, errors) = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {errors}");
        assert!(!errors.is_empty(), "{args:?} says nothing");
    }
}

#[test]
fn an_unreachable_server_exits_69_with_one_line_naming_address_and_remedy() {
    let address = nobody();
    for args in [
        &["req", "$sys/echo", "hello", "--address", &address][..],
        &["ping", "--count", "1", "--address", &address],
        &["sub", "#", "--address", &address],
        &["sub", "#", "--session", "--address", &address],
        &["pub", "a", "x", "--address", &address],
        &["pub", "a", "--confirm", "--address", &address],
        &["reply", "a", "--exec", "cat", "--address", &address],
    ] {
        let (code, out, errors) = run(args);
        assert_eq!((code, out.as_str()), (69, ""), "{args:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.starts_with("ringmail: "), "{errors}");
        assert!(errors.contains(&address), "{errors}");
        assert!(errors.contains("`ringmail serve`"), "{errors}");
    }
}

#[test]
fn a_server_that_refuses_exits_69_with_its_reason() {
    let peer = Peer::run(|mut served| {
        let refusal = ringmail::client::Refusal::new(Code::AddressDenied, "not from there");
        let mut out = Vec::new();
        served.session.refuse(&refusal, &mut out);
        served.write(&out);
    });
    let (code, _, errors) = run(&["req", "a", "b", "--address", &peer.address]);
    assert_eq!(code, 69, "{errors}");
    assert!(
        errors.contains("ADDRESS_DENIED: not from there"),
        "{errors}"
    );
    assert!(errors.contains(&peer.address), "{errors}");
}

#[test]
fn an_answer_is_printed_byte_for_byte() {
    let peer = Peer::echo();
    let address = format!("ringmail://{}", peer.address);
    let (code, out, errors) = run(&["req", "$sys/echo", "hello", "--address", &address]);
    assert_eq!((code, out.as_str(), errors.as_str()), (0, "hello", ""));

    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for dash in [&[][..], &["-"]] {
        let peer = Peer::echo();
        let args = ["req", "--address", &peer.address, "$sys/echo"];
        let output = run_with_input(&[&args, dash].concat(), &every_byte);
        assert_eq!(output.status.code(), Some(0));
        assert!(
            output.stdout == every_byte,
            "the payload changed on its way"
        );
    }
}

/// Each command that talks to a server, started before there is one.
#[test]
fn a_command_that_waits_is_served_by_a_server_that_comes_later() {
    let address = nobody();
    let commands: &[&[&str]] = &[
        &["ping", "--count", "1"],
        &["pub", "a", "b", "--confirm"],
        &["req", "$sys/echo", "hello"],
        // The service comes later still.
        &["req", "text/upper", "hello"],
        &["bench", "echo", "--duration", "10ms", "-c", "1"],
    ];
    let wait = ["--wait", "10m"];
    let tools: Vec<_> = commands
        .iter()
        .map(|command| broker::Tool::start(&address, &[command, &wait[..]].concat()))
        .collect();
    let mut reply = broker::Tool::start(
        &address,
        &[
            "reply",
            "text/upper",
            "--exec",
            "tr a-z A-Z",
            "--wait",
            "10m",
        ],
    );
    let _broker = broker::Broker::at(&address);
    assert!(reply.note().contains("serving text/upper"));
    for (tool, command) in tools.into_iter().zip(commands) {
        let (code, out, errors) = tool.end();
        assert_eq!(code, 0, "{command:?}: {errors}");
        if command[0] == "req" {
            assert_eq!(out.to_lowercase(), "hello", "{command:?}");
        }
    }
    reply.interrupt();
    assert_eq!(reply.end().0, 0);
}

#[test]
fn the_address_may_come_from_the_environment() {
    let peer = Peer::echo();
    let output = ringmail(&["req", "$sys/echo", "hello"])
        .env("RINGMAIL_ADDRESS", &peer.address)
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"hello");
}

#[test]
fn codec_and_timeout_reach_the_server_and_json_output_describes_the_answer() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.request();
        assert_eq!(asked.codec, 1);
        assert_eq!(asked.headers, [(2, 1500u32.to_be_bytes().to_vec())]);
        served.answer(&asked);
        served.echo();
    });
    let args = [
        "req",
        "a/b",
        "text",
        "--codec",
        "json",
        "--timeout",
        "1500ms",
        "--output",
        "json",
        "--address",
        &peer.address,
    ];
    let (code, out, errors) = run(&args);
    assert_eq!(code, 0, "{errors}");
    let record: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(record["service"], "a/b");
    assert_eq!(record["payload"], "text");
    assert_eq!(record["codec"], "bytes"); // of the answer, which names none
    assert_eq!(record["bytes"], 4);
    assert!(record["time_ms"].as_f64().is_some_and(|ms| ms > 0.0));
}

#[test]
fn a_failed_request_exits_1_with_the_services_words() {
    let peer = Peer::echo();
    let (code, out, errors) = run(&["req", "nobody", "x", "--address", &peer.address]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("NO_SERVICE: nobody serves it"), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn a_request_without_an_answer_exits_1() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.request();
        while served.hear() != Heard::Eof {}
    });
    let args = [
        "req",
        "mute",
        "x",
        "--timeout",
        "500ms",
        "--address",
        &peer.address,
    ];
    let (code, out, errors) = run(&args);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("no answer within 500ms"), "{errors}");
}

#[test]
fn ping_prints_each_round_trip_and_a_summary() {
    let peer = Peer::echo();
    let args = [
        "ping",
        "--count",
        "3",
        "--interval",
        "1ms",
        "--payload-bytes",
        "16",
    ];
    let (code, out, errors) = run(&[&args[..], &["--address", &peer.address]].concat());
    assert_eq!((code, errors.as_str()), (0, ""));
    for seq in 1..=3 {
        let line = format!("16 bytes from {}: seq={seq} time=", peer.address);
        assert!(out.contains(&line), "{out}");
    }
    assert!(out.contains("3 sent, 3 received, 0.000% loss"), "{out}");
    assert!(out.contains("min/avg/max/mdev"), "{out}");
}

#[test]
fn ping_in_json_is_one_object_a_line_and_quiet_is_the_summary_alone() {
    for (flags, kinds) in [
        (&[][..], &["pong", "pong", "summary"][..]),
        (&["--quiet"], &["summary"]),
    ] {
        let peer = Peer::echo();
        let args = [
            "ping",
            "--count",
            "2",
            "--interval",
            "0",
            "--output",
            "json",
        ];
        let (code, out, errors) = run(&[&args[..], flags, &["--address", &peer.address]].concat());
        assert_eq!(code, 0, "{errors}");
        let lines: Vec<serde_json::Value> = out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let seen: Vec<_> = lines.iter().map(|line| line["type"].clone()).collect();
        assert_eq!(seen, kinds);
        let summary = lines.last().unwrap();
        assert_eq!(
            (&summary["sent"], &summary["received"]),
            (&2.into(), &2.into())
        );
        let [min, p50, max] = ["min_ms", "p50_ms", "max_ms"].map(|key| summary[key].as_f64());
        // A percentile is exact to a thousandth.
        assert!(min.unwrap() <= p50.unwrap() * 1.001, "{summary}");
        assert!(p50.unwrap() <= max.unwrap() * 1.001, "{summary}");
    }
}

#[test]
fn ping_exits_1_when_nothing_comes_back() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.ignore();
    });
    let args = [
        "ping",
        "--count",
        "2",
        "--interval",
        "0",
        "--timeout",
        "500ms",
    ];
    let (code, out, errors) = run(&[&args[..], &["--address", &peer.address]].concat());
    assert_eq!(code, 1, "{errors}");
    assert!(out.contains("2 sent, 0 received, 100.000% loss"), "{out}");
    assert!(errors.contains("did not answer"), "{errors}");
}

#[test]
fn ping_exits_1_with_its_summary_when_the_connection_breaks() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let mut out = Vec::new();
        served.session.close(Code::Draining, "going down", &mut out);
        served.write(&out);
        served.hear();
    });
    let (code, out, errors) = run(&["ping", "--interval", "20ms", "--address", &peer.address]);
    assert_eq!(code, 1, "{errors}");
    assert!(out.contains("ping statistics"), "{out}");
    assert!(errors.contains("DRAINING: going down"), "{errors}");
}

#[test]
fn ctrl_c_ends_ping_with_its_summary_also_while_it_waits() {
    // An hour between PINGs, or an hour's wait for an answer.
    for mute in [false, true] {
        let (heard, ping) = std::sync::mpsc::channel();
        let peer = Peer::run(move |mut served| {
            served.establish();
            served.hear_bytes(b"MC\x01\x01");
            heard.send(()).unwrap();
            if mute {
                served.ignore();
            } else {
                // The head just heard, of a PING with 8 bytes, and the number 1 in them.
                served.write(b"MC\x01\x02\0\0\0\x08\x01\0\0\0\0\0\0\0");
                while served.hear() != Heard::Eof {}
            }
        });
        let args = ["ping", "--interval", "1h", "--timeout", "1h"];
        let mut child = ringmail(&[&args[..], &["--address", &peer.address]].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().starts_with("PING "));
        ping.recv().unwrap();
        if !mute {
            assert!(lines.next().unwrap().unwrap().contains("seq=1"));
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert!(
            rest.iter().any(|line| line.starts_with("1 sent")),
            "{rest:?}"
        );
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(i32::from(mute)));
    }
}

#[test]
fn a_reader_that_has_had_enough_is_a_quiet_end() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = ringmail(&["man"]).stdout(writer).output().unwrap();
    assert_eq!(told(output), (0, String::new(), String::new()));
}

#[test]
fn a_long_pause_between_pings_keeps_the_connection_alive() {
    let brisk = Settings {
        heartbeat_interval: Duration::from_millis(100),
        ..settings()
    };
    let peer = Peer::with(brisk, |mut served| {
        served.establish();
        served.hear_bytes(b"MC\x01\x01");
        served.write(b"MC\x01\x02\0\0\0\x08\x01\0\0\0\0\0\0\0");
        // The pause is an hour: only keep_alive can answer this.
        served.send(&ringmail::proto::message::Message::Ping(b"alive?"));
        served.hear_bytes(b"alive?");
    });
    let (code, _, errors) = run(&["ping", "--interval", "1h", "--address", &peer.address]);
    // The server has gone without a word, and that is noticed between two PINGs too.
    assert_eq!(code, 1);
    assert!(errors.contains("connection"), "{errors}");
}

#[test]
fn check_says_ok_or_every_mistake_at_once() {
    let (code, out, errors) = run(&["check"]);
    assert_eq!((code, out.as_str(), errors.as_str()), (0, "ok\n", ""));

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"[server]\nlisten = 7\nshrads = \"all\"\n")
        .unwrap();
    let path = file.path().to_str().unwrap();
    let args = [
        "check",
        "--config",
        path,
        "--set",
        "log.level=",
        "--log-format",
        "xml",
    ];
    let (code, out, errors) = run(&args);
    assert_eq!((code, out.as_str()), (78, ""), "{errors}");
    for part in ["listen", "shards", "--log-format"] {
        let line = errors.lines().find(|line| line.contains(part));
        assert!(
            line.is_some_and(|line| line.starts_with("ringmail: ")),
            "{part}: {errors}"
        );
    }
    assert!(errors.contains(&format!("{path}:2:")), "{errors}");
}

#[test]
fn flags_override_keys_and_the_named_flag_beats_the_general_one() {
    let args = [
        "check",
        "--print",
        "--listen",
        "127.0.0.1:7500",
        "--set",
        "server.listen=127.0.0.1:1",
        "--set",
        "limits.connections_max=17",
        "--log-level",
        "debug",
    ];
    let (code, printed, errors) = run(&args);
    assert_eq!(code, 0, "{errors}");
    for line in [
        "listen = \"127.0.0.1:7500\"",
        "connections_max = 17",
        "level = \"debug\"",
    ] {
        assert!(printed.contains(line), "{line} is not in\n{printed}");
    }
}
