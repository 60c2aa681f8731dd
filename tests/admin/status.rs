//! `GET /status`: what clients did is what it tells.

use super::{answer_on, configuration, connect, get};
use ringmail::Server;
use ringmail::blocking::Client;
use std::io::Write;
use std::time::{Duration, Instant};

#[test]
fn what_clients_did_is_told_by_shard_and_in_all() {
    let running = Server::builder().config(configuration()).start().unwrap();
    let admin = running.admin_address().unwrap();
    let mut client = Client::connect(&running.address().to_string()).unwrap();
    for _ in 0..100 {
        client.request("$sys/echo", "x").unwrap();
    }
    client.subscribe("a/#").unwrap();
    // Once a second the shards are asked what they have timed and what they hold.
    let began = Instant::now();
    let (status, shard) = loop {
        let status = get(admin, "/status").json();
        let timed = status["timings_us"]["parse"]["count"].as_u64().unwrap();
        let shards = status["shards"].as_array().unwrap();
        let busy = shards.iter().position(|shard| shard["connections"] == 1);
        let busy = busy.unwrap_or_else(|| panic!("no shard has it: {status}"));
        let buffers = shards[busy]["gauges"]["buffers"].as_u64().unwrap();
        if timed > 0 && buffers > 0 {
            break (status.clone(), status["shards"][busy].clone());
        }
        assert!(began.elapsed() < super::PATIENCE, "{status}");
        client.request("$sys/echo", "y").unwrap();
    };
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["protocol"], 1);
    assert_eq!(status["connections"], 1);
    assert_eq!(status["draining"], false);
    assert_eq!(status["config_digest"].as_str().unwrap().len(), 16);
    assert_eq!(shard["connections"], 1);
    assert_eq!(shard["received"]["SUBSCRIBE"], 1);
    assert!(shard["received"]["REQUEST"].as_u64().unwrap() >= 100);
    assert_eq!(shard["received"]["PUBLISH"], serde_json::Value::Null);
    assert!(shard["gauges"]["buffers_free"].as_u64().unwrap() > 0);
    assert!(shard["gauges"]["memory_max_bytes"].as_u64().unwrap() > 0);
    for stage in ["receive", "parse", "route", "queue", "send"] {
        for span in ["timings_us", "recent_us"] {
            let of_all = status[span][stage]["count"].as_u64().unwrap();
            assert!(of_all > 0, "{span} {stage}: {status}");
            assert_eq!(shard[span][stage]["count"], of_all, "{span} {stage}");
        }
    }
    client.close().unwrap();
    running.drain();
    running.wait().unwrap();
}

#[test]
fn spans_that_no_collector_takes_are_counted() {
    let mut config = configuration();
    // Nobody listens there.
    config.trace.endpoint = "http://127.0.0.1:9".to_owned();
    config.trace.sample_ratio = 1.0;
    let running = Server::builder().config(config).start().unwrap();
    let admin = running.admin_address().unwrap();
    let mut client = Client::connect(&running.address().to_string()).unwrap();
    client.request("$sys/echo", "x").unwrap();
    let began = Instant::now();
    let traces = loop {
        let traces = get(admin, "/status").json()["traces"].clone();
        if traces["failed"].as_u64().unwrap() > 0 {
            break traces;
        }
        assert!(began.elapsed() < super::PATIENCE, "{traces}");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(traces["exported"], 0);
    assert_eq!(traces["failing"], true);
    client.close().unwrap();
    running.drain();
    running.wait().unwrap();
}

#[test]
fn a_page_from_elsewhere_reads_nothing_under_a_name_of_its_own() {
    let running = Server::builder().config(configuration()).start().unwrap();
    let admin = running.admin_address().unwrap();
    for (host, status) in [
        ("rebound.example:7412", 403),
        ("rebound.example", 403),
        (&*admin.to_string(), 200),
        ("localhost", 200),
    ] {
        for path in ["/status", "/metrics", "/connections", "/topics", "/"] {
            let mut stream = connect(admin);
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let answer = answer_on(&mut stream);
            // The page itself tells nothing; what it asks for does.
            let expected = if path == "/" { 200 } else { status };
            assert_eq!(answer.status, expected, "{path} as {host}");
            if answer.status == 403 {
                assert!(answer.error().contains("localhost"));
            }
        }
    }
    running.drain();
    running.wait().unwrap();
}
