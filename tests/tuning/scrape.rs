//! `/metrics` of a loaded server: what Prometheus gets, and that what rules and board name
//! is in it.

use crate::name::{mentioned, told};
use crate::promtool::approves;
use crate::read;
use ringmail::blocking::Client;
use ringmail::client::Incoming;
use ringmail::{Config, Running, Server};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Head and body of an answer.
fn get(address: SocketAddr, accept: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{accept}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    (head.to_lowercase(), body.to_owned())
}

/// A server of two shards with a certificate.
fn start(folder: &Path) -> (Running, SocketAddr) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let config = format!(
        "[server]\nlisten = '127.0.0.1:0'\nadmin = '127.0.0.1:0'\nshards = [0, 1]\n\
         [tls]\nmode = 'optional'\ncertificate = '{}'\nkey = '{}'\n",
        certificate.display(),
        key.display()
    );
    let config = Config::from_toml(&config).unwrap();
    let running = Server::builder().config(config).start().unwrap();
    let admin = running.admin_address().unwrap();
    (running, admin)
}

/// A publication that is delivered, a request that a client answers, and one that fails.
fn load(address: SocketAddr) {
    let address = address.to_string();
    let mut server = Client::connect(&address).unwrap();
    server.serve("slow/one").unwrap();
    server.subscribe("site/#").unwrap();
    let answering = std::thread::spawn(move || {
        let (mut requests, mut messages) = (0, 0);
        while requests == 0 || messages == 0 {
            match server.receive().unwrap() {
                Incoming::Request(request) => {
                    server.respond(&request, b"yes").unwrap();
                    requests += 1;
                }
                Incoming::Message(_) => messages += 1,
                other => panic!("{other:?}"),
            }
        }
        server.close().unwrap();
    });
    let mut client = Client::connect(&address).unwrap();
    client.publish("site/1", "here").unwrap();
    assert_eq!(client.request("slow/one", "well?").unwrap().payload, b"yes");
    assert!(client.request("none/there", "").is_err());
    client.close().unwrap();
    answering.join().unwrap();
}

/// The metrics once the histograms of the load are among them.
fn loaded(admin: SocketAddr) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let (_, metrics) = get(admin, "");
        if metrics
            .lines()
            .any(|line| line == "ringmail_request_duration_seconds_count 1")
        {
            return metrics;
        }
        assert!(Instant::now() < end, "no request was timed:\n{metrics}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_loaded_server_tells_what_rules_and_board_look_at() {
    let folder = tempfile::tempdir().unwrap();
    let (running, admin) = start(folder.path());
    load(running.address());
    let metrics = loaded(admin);
    approves(&["check", "metrics"], &metrics);
    for line in [
        "ringmail_messages_sent_total{shard=",
        "ringmail_requests_failed_total{shard=",
        "ringmail_stage_duration_seconds_bucket{le=\"0.001\",shard=\"1\",stage=\"send\"}",
        "process_open_fds ",
    ] {
        assert!(
            metrics.lines().any(|told| told.starts_with(line)),
            "{line}\n{metrics}"
        );
    }
    let sum = |name: &str| -> f64 {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    assert_eq!(sum("ringmail_requests_total"), 2.0);
    assert_eq!(sum("ringmail_requests_failed_total"), 1.0);
    assert_eq!(sum("ringmail_messages_sent_total"), 1.0 + 1.0 + 2.0);
    assert_eq!(sum("ringmail_connections_opened_total"), 2.0);
    assert_eq!(sum("ringmail_draining"), 0.0);
    assert!(sum("ringmail_certificate_expiry_timestamp_seconds") > 1.7e9);

    let told = told(&metrics);
    for file in ["alerts.yml", "alerts_test.yml", "grafana.json"] {
        let text = read(file);
        let missing: Vec<_> = mentioned(&text).difference(&told).copied().collect();
        assert!(
            missing.is_empty(),
            "{file} names what no server tells: {missing:?}"
        );
    }

    let (head, body) = get(
        admin,
        "Accept: application/openmetrics-text;version=1.0.0\r\n",
    );
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(body.ends_with("\n# EOF\n") && body.contains("# UNIT process_cpu_seconds seconds\n"));
    let (head, _) = get(admin, "Accept: text/plain\r\n");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    running.drain();
    running.wait().unwrap();
}
