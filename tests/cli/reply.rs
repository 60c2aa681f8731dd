//! `ringmail reply` against a real server.

use crate::broker::{Broker, Tool};

fn serve(broker: &Broker, service: &str, exec: &str, flags: &[&str]) -> Tool {
    let args = ["reply", service, "--exec", exec];
    broker.tool(&[&args, flags].concat()).ready()
}

#[test]
fn a_request_is_answered_by_the_commands_output() {
    let broker = Broker::start();
    let reply = serve(&broker, "text/upper", "tr a-z A-Z", &[]);
    for payload in ["hello", "", "line one\nline two\n"] {
        let answer = broker.run(&["req", "text/upper", payload]);
        assert_eq!(answer, (0, payload.to_uppercase(), String::new()));
    }
    let large = vec![b'x'; 900_000];
    let answer = broker.run_with_input(&["req", "text/upper"], &large);
    assert!(answer.1.as_bytes() == large.to_ascii_uppercase());
    reply.interrupt();
    assert_eq!(reply.end(), (0, String::new(), String::new()));
    let (code, _, errors) = broker.run(&["req", "text/upper", "x"]);
    assert_eq!(code, 1);
    assert!(errors.contains("NO_SERVICE"), "{errors}");
}

#[test]
fn a_failing_command_fails_the_request_with_its_status_and_last_words() {
    let broker = Broker::start();
    let exec = "echo first >&2; echo no forecast today >&2; exit 3";
    let reply = serve(&broker, "forecast", exec, &["--count", "1"]);
    let (code, out, errors) = broker.run(&["req", "forecast", "x"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("0x1003: no forecast today"), "{errors}");
    // What the command said is told here too.
    let (code, _, errors) = reply.end();
    assert_eq!((code, errors.as_str()), (0, "first\nno forecast today\n"));
}

#[test]
fn a_command_that_takes_too_long_fails_with_124_and_the_next_is_served() {
    let broker = Broker::start();
    let exec = "read word; [ \"$word\" = quick ] && echo done || sleep 1000";
    let _reply = serve(&broker, "work", exec, &["--timeout", "1s"]);
    let (code, _, errors) = broker.run(&["req", "work", "slow\n"]);
    assert_eq!(code, 1);
    assert!(errors.contains("0x107c"), "{errors}");
    assert!(errors.contains("longer than 1s"), "{errors}");
    let answer = broker.run(&["req", "work", "quick\n"]);
    assert_eq!(answer, (0, "done\n".to_owned(), String::new()));
}

#[test]
fn as_many_commands_run_at_once_as_allowed() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    // The first waits for the second.
    let exec = format!(
        "if mkdir {dir}/first 2> /dev/null; then \
         until [ -d {dir}/second ]; do sleep 0.01; done; \
         else mkdir {dir}/second; fi; cat"
    );
    let _reply = serve(&broker, "pair", &exec, &["--parallel", "2"]);
    let asking = ["one", "two"].map(|word| broker.tool(&["req", "pair", word]));
    let answers = asking.map(|tool| tool.end());
    assert_eq!(answers.map(|answer| answer.1), ["one", "two"]);
}

#[test]
fn requests_beyond_that_wait_and_are_answered_in_turn() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    // Two at once would find the directory there.
    let exec = format!("mkdir {dir}/alone && cat && sleep 0.02 && rmdir {dir}/alone");
    let reply = serve(&broker, "one", &exec, &["--count", "5"]);
    let words = ["a", "b", "c", "d", "e"];
    let asking = words.map(|word| broker.tool(&["req", "one", word]));
    assert_eq!(asking.map(|tool| tool.end().1), words);
    assert_eq!(reply.end().0, 0, "the count ends it");
}

#[test]
fn the_command_knows_its_request() {
    let broker = Broker::start();
    let exec = "printf '%s %s %s ' \"$RINGMAIL_SERVICE\" $RINGMAIL_CODEC $RINGMAIL_TIMEOUT_MS; \
        ringmail_address=$RINGMAIL_ADDRESS; [ -n \"$ringmail_address\" ] && cat";
    let _reply = serve(&broker, "site/+/info", exec, &[]);
    let args = [
        "req",
        "site/7/info",
        "{}",
        "--codec",
        "json",
        "--timeout",
        "9s",
        "--output",
        "json",
    ];
    let (code, out, errors) = broker.run(&args);
    assert_eq!(code, 0, "{errors}");
    let record: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(record["payload"], "site/7/info json 9000 {}");
    // What the answer is written in is what the request was, unless told otherwise.
    assert_eq!(record["codec"], "json");
}

#[test]
fn the_answers_codec_may_be_chosen() {
    let broker = Broker::start();
    let _reply = serve(&broker, "x", "echo '{\"a\": 1}'", &["--codec", "json"]);
    let (_, out, _) = broker.run(&["req", "x", "", "--output", "json"]);
    let record: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(record["payload"]["a"], 1);
}

#[test]
fn an_answer_larger_than_the_server_takes_fails_the_request() {
    let broker = Broker::with(&["limits.message_bytes_max=2000"]);
    let _reply = serve(&broker, "x", "head -c $(cat) /dev/zero", &[]);
    assert_eq!(broker.run(&["req", "x", "1900"]).1.len(), 1900);
    let (code, _, errors) = broker.run(&["req", "x", "2000"]);
    assert_eq!(code, 1);
    assert!(errors.contains("0x107d"), "{errors}");
    assert!(
        errors.contains("too large") || errors.contains("larger"),
        "{errors}"
    );
}

#[test]
fn ctrl_c_ends_the_commands_too() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("held");
    let name = path.to_str().unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(name)
        .status()
        .unwrap();
    assert!(made.success());
    let exec = format!("exec 3>{name}; echo up >&3; sleep 1000 & sleep 1000");
    let reply = serve(&broker, "x", &exec, &["--timeout", "1h"]);
    let asking = broker.tool(&["req", "x", ""]);
    // Its end comes when the last of the command's processes has gone.
    let mut held = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut held, &mut line).unwrap();
    assert_eq!(line, "up\n");
    reply.interrupt();
    assert_eq!(reply.end().0, 0);
    line.clear();
    std::io::Read::read_to_string(&mut held, &mut line).unwrap();
    let (code, _, errors) = asking.end();
    assert_eq!(code, 1);
    assert!(errors.contains("SERVICE_GONE"), "{errors}");
}

#[test]
fn what_cannot_be_served_exits_2() {
    let broker = Broker::start();
    for args in [
        &["reply"][..],
        &["reply", "x"],
        &["reply", "a/#/b", "--exec", "cat"],
        &["reply", "x", "--exec", "cat", "--parallel", "0"],
        &["reply", "x", "--exec", "cat", "--timeout", "0"],
        &["reply", "x", "--exec", "cat", "--codec", "xml"],
    ] {
        let (code, out, errors) = broker.run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {errors}");
    }
}

#[test]
fn a_server_that_goes_away_exits_1() {
    let broker = Broker::start();
    let cable = crate::broker::Cable::to(&broker.address);
    let args = ["reply", "x", "--exec", "cat"];
    let reply = Tool::start(&cable.address, &args).ready();
    cable.cut();
    let (code, _, errors) = reply.end();
    assert_eq!(code, 1);
    assert!(errors.contains("connection"), "{errors}");
}
