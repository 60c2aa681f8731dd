//! Files of readings through `pub` and `sub`: what comes out is what went in.

use crate::broker::Broker;
use std::io::Write;
use std::process::{Command, Stdio};

const READINGS: usize = 10_000;

fn piped(publish: &[&str], file: &[u8]) {
    let broker = Broker::start();
    let count = READINGS.to_string();
    let sub = broker.tool(&["sub", "site/#", "--count", &count]).ready();
    let (code, out, errors) = broker.run_with_input(publish, file);
    assert_eq!((code, out.as_str(), errors.as_str()), (0, "", ""));
    let output = sub.output();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == file, "the readings are not what they were");
}

#[test]
fn csv_comes_out_as_it_went_in() {
    let line = |turn| {
        format!(
            "{turn},2024-05-01T00:{:02}:00Z,\"Köln, {turn}\",-3.10\r\n",
            turn % 60
        )
    };
    let file: String = (0..READINGS).map(line).collect();
    piped(&["pub", "site/7/csv"], file.as_bytes());
}

#[test]
fn json_lines_of_one_sensor_come_out_as_they_went_in() {
    let line = |turn| format!("{{\"sensor\":\"7/c\", \"turn\":{turn},\"c\":21.50,\"ok\":true}}\n");
    let file: String = (0..READINGS).map(line).collect();
    let args = ["pub", "site", "--topic-from-json", "sensor", "--confirm"];
    piped(&args, file.as_bytes());
}

/// One publisher's messages keep their order on each topic; over topics nothing is promised.
#[test]
fn json_lines_of_many_sensors_keep_each_ones_order() {
    let broker = Broker::start();
    let count = READINGS.to_string();
    let sub = broker.tool(&["sub", "site/#", "--count", &count]).ready();
    let line = |turn| {
        format!(
            "{{\"at\":{{\"sensor\":\"site/{}\"}},\"turn\":{turn}}}\n",
            turn % 100
        )
    };
    let file: String = (0..READINGS).map(line).collect();
    let args = ["pub", "--topic-from-json", "at.sensor"];
    let (code, out, errors) = broker.run_with_input(&args, file.as_bytes());
    assert_eq!((code, out.as_str(), errors.as_str()), (0, "", ""));
    let by_sensor = |text: &str| {
        let mut lines: Vec<(String, String)> = text
            .lines()
            .map(|line| (line.split(',').next().unwrap().to_owned(), line.to_owned()))
            .collect();
        lines.sort_by(|one, other| one.0.cmp(&other.0)); // stable: within a sensor as it came
        lines
    };
    let got = sub.end().1;
    assert!(by_sensor(&got) == by_sensor(&file), "an order changed");
}

/// The pipe that `ringmail req --help` shows.
#[test]
fn statistics_in_protobuf_are_what_protoc_reads_by_the_schema() {
    let broker = Broker::start();
    let args = ["req", "$sys/stats", "--codec", "protobuf"];
    let asked = broker.tool(&args).output();
    assert_eq!(asked.status.code(), Some(0));
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/src/proto");
    let mut protoc = Command::new("protoc")
        .args(["--decode=ringmail.Stats", "ringmail.proto", "--proto_path"])
        .arg(schema)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("protoc is needed (Debian: protobuf-compiler)");
    let mut stdin = protoc.stdin.take().unwrap();
    stdin.write_all(&asked.stdout).unwrap();
    drop(stdin);
    let decoded = protoc.wait_with_output().unwrap();
    assert!(decoded.status.success());
    let text = String::from_utf8(decoded.stdout).unwrap();
    assert!(text.starts_with("connections: 1\n"), "{text}");
    assert!(
        text.contains("key: \"connections_opened\"\n  value: 1\n"),
        "{text}"
    );
}
