//! `/metrics` of a loaded server: what Prometheus gets, and that what rules and board name
//! is in it.

use crate::name::{mentioned, told};
use crate::promtool::approves;
use crate::read;
use ringmail::blocking::Client;
use ringmail::client::{Code, Incoming};
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
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{accept}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    (head.to_lowercase(), body.to_owned())
}

/// Writes a certificate that expires on that day, and its key.
fn certify(folder: &Path, (year, month, day): (i32, u8, u8)) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, month, day);
    let certificate = params.self_signed(&key).unwrap();
    // Moved into place: never half a file, and the key first.
    for (name, pem) in [
        ("key.pem", key.serialize_pem()),
        ("cert.pem", certificate.pem()),
    ] {
        std::fs::write(folder.join("new"), pem).unwrap();
        std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
    }
}

/// A server of two shards with a certificate that expires on 2031-05-06.
fn start(folder: &Path) -> (Running, SocketAddr) {
    certify(folder, (2031, 5, 6));
    let config = format!(
        "[server]\nlisten = '127.0.0.1:0'\nadmin = '127.0.0.1:0'\nshards = [0, 1]\n\
         [tls]\nmode = 'optional'\ncertificate = '{0}/cert.pem'\nkey = '{0}/key.pem'\n",
        folder.display()
    );
    let config = Config::from_toml(&config).unwrap();
    let running = Server::builder().config(config).start().unwrap();
    let admin = running.admin_address().unwrap();
    (running, admin)
}

/// A publication that is delivered; requests that a client answers, with yes and with no, and
/// one that nobody does.
fn load(address: SocketAddr) {
    let address = address.to_string();
    let mut server = Client::connect(&address).unwrap();
    server.serve("slow/one").unwrap();
    server.subscribe("site/#").unwrap();
    let answering = std::thread::spawn(move || {
        let (mut requests, mut messages) = (0, 0);
        while requests < 2 || messages == 0 {
            match server.receive().unwrap() {
                Incoming::Request(request) => {
                    match requests {
                        0 => server.respond(&request, b"yes").unwrap(),
                        _ => {
                            let code = Code::Application(0x1001);
                            server.respond_failed(&request, code, "no").unwrap();
                        }
                    }
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
    assert!(client.request("slow/one", "really?").is_err());
    assert!(client.request("none/there", "").is_err());
    client.close().unwrap();
    answering.join().unwrap();
}

/// What a metric's samples add up to.
fn sum(metrics: &str, name: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.sum()
}

/// The metrics once the histograms of the load are among them.
fn loaded(admin: SocketAddr) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let (_, metrics) = get(admin, "");
        if metrics
            .lines()
            .any(|line| line == "ringmail_request_duration_seconds_count 2")
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
    let expected = [
        ("ringmail_requests_total", 3.0),
        ("ringmail_requests_failed_total", 2.0),
        // One delivered, two asked of the service, three answered.
        ("ringmail_messages_sent_total", 6.0),
        ("ringmail_connections_opened_total", 2.0),
        ("ringmail_draining", 0.0),
        (
            "ringmail_certificate_expiry_timestamp_seconds",
            1_935_792_000.0,
        ),
    ];
    for (name, value) in expected {
        assert_eq!(sum(&metrics, name), value, "{name}\n{metrics}");
    }

    let told = told(&metrics);
    for file in [
        "alerts.yml",
        "alerts_test.yml",
        "grafana.json",
        "OPERATING.md",
    ] {
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

#[test]
fn a_certificates_expiry_follows_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (running, admin) = start(folder.path());
    let expiry = || {
        sum(
            &get(admin, "").1,
            "ringmail_certificate_expiry_timestamp_seconds",
        )
    };
    assert_eq!(expiry(), 1_935_792_000.0);
    certify(folder.path(), (2033, 1, 2));
    let end = Instant::now() + PATIENCE;
    while expiry() != 1_988_236_800.0 {
        assert!(Instant::now() < end, "the new certificate is not told of");
        std::thread::sleep(Duration::from_millis(100));
    }
    running.drain();
    running.wait().unwrap();
}
