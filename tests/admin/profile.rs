//! Profiles from outside: what they hold can be read, and what is asked meanwhile answered.

use super::*;
use flate2::read::GzDecoder;
use prost::Message;
use ringmail::blocking::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// The part of pprof's `profile.proto` that is looked at.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    fn decode_gzipped(bytes: &[u8]) -> Profile {
        let mut plain = Vec::new();
        GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        Profile::decode(&*plain).unwrap()
    }

    fn quantity(&self) -> (&str, &str) {
        let of = &self.sample_type[0];
        let text = |at: i64| self.string_table[at as usize].as_str();
        (text(of.kind), text(of.unit))
    }

    /// The names of a sample's functions, innermost first.
    fn stack(&self, sample: &Sample) -> Vec<&str> {
        let locations = sample.location_id.iter();
        let lines = locations.flat_map(|id| {
            let location = self.location.iter().find(|one| one.id == *id).unwrap();
            &location.line
        });
        let names = lines.map(|line| {
            let function = self.function.iter().find(|one| one.id == line.function_id);
            self.string_table[function.unwrap().name as usize].as_str()
        });
        names.collect()
    }
}

/// Status, head and body, which is no text.
fn fetch(address: SocketAddr, path: &str) -> (u16, String, Vec<u8>) {
    let mut stream = connect(address);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let at = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(bytes[..at].to_vec())
        .unwrap()
        .to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, bytes[at + 4..].to_vec())
}

/// Clients that ask until they are told to stop; each answer is compared.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Load {
    fn begin(listen: SocketAddr) -> Load {
        let (stop, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let clients = (0..4).map(|client| {
            let (stop, answered) = (stop.clone(), answered.clone());
            thread::spawn(move || {
                let mut connection = Client::connect(&listen.to_string()).unwrap();
                let mut number = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    let payload = format!("{client} {number}");
                    let answer = connection.request("$sys/echo", &payload).unwrap();
                    assert_eq!(answer.payload, payload.as_bytes());
                    number += 1;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                connection.close().unwrap();
            })
        });
        let clients = clients.collect();
        Load {
            stop,
            answered,
            clients,
        }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
    }
}

#[test]
fn a_cpu_profile_under_load_disturbs_no_ring_and_can_be_read() {
    let mut server = Process::start();
    let load = Load::begin(server.listen);
    let admin = server.admin;
    let path = "/debug/pprof/profile?seconds=2&frequency=997";
    let taking = thread::spawn(move || {
        loop {
            // The question below may have come first.
            match fetch(admin, path) {
                (409, ..) => thread::sleep(Duration::from_millis(1)),
                taken => return taken,
            }
        }
    });
    // While one is being taken there is no other.
    let end = Instant::now() + PATIENCE;
    let mut refused = false;
    while !refused && !taking.is_finished() {
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(50));
        let (status, _, body) = fetch(admin, "/debug/pprof/heap");
        refused = status == 409;
        if refused {
            let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert!(error["error"].as_str().unwrap().contains(';'));
        }
    }
    assert!(refused, "two at once");
    let (status, head, body) = taking.join().unwrap();
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: application/octet-stream"),
        "{head}"
    );
    assert!(
        head.contains("attachment; filename=\"profile.pb.gz\""),
        "{head}"
    );
    let profile = Profile::decode_gzipped(&body);
    assert_eq!(profile.quantity(), ("cpu", "nanoseconds"));
    assert!(profile.sample.iter().all(|sample| sample.value[0] > 0));
    let stacks: Vec<Vec<&str>> = profile
        .sample
        .iter()
        .map(|one| profile.stack(one))
        .collect();
    let of_shard = |stack: &&Vec<&str>| stack.iter().any(|name| name.contains("ringmail::shard::"));
    assert!(stacks.iter().filter(of_shard).count() > 5, "{stacks:#?}");
    // What takes the samples is in none of them.
    let sampling = |stack: &Vec<&str>| stack.iter().any(|name| name.contains("signal_hook"));
    assert!(!stacks.iter().any(sampling));
    let (status, head, body) = fetch(admin, "/debug/pprof/profile?seconds=1&format=svg");
    let svg = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{svg}");
    assert!(head.contains("content-type: image/svg+xml"), "{head}");
    assert!(
        svg.contains("<svg") && svg.contains("ringmail::shard::"),
        "{svg}"
    );
    // Both shards worked, and go on.
    let shards = get(admin, "/status").json()["shards"].clone();
    for shard in 0..2 {
        let asked = shards[shard]["received"]["REQUEST"].as_u64();
        assert!(asked > Some(0), "{shards:#}");
    }
    let before = load.answered();
    let end = Instant::now() + PATIENCE;
    while load.answered() < before + 1000 {
        assert!(Instant::now() < end, "no answers after a profile");
        thread::sleep(Duration::from_millis(1));
    }
    load.end();
    server.terminate();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_heap_is_told_by_who_holds_it() {
    let server = Process::start();
    let (status, head, body) = fetch(server.admin, "/debug/pprof/heap");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    assert!(
        head.contains("attachment; filename=\"heap.pb.gz\""),
        "{head}"
    );
    let profile = Profile::decode_gzipped(&body);
    assert_eq!(profile.quantity(), ("inuse_space", "bytes"));
    let held: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
    assert!(held > 512 << 10, "{held} bytes");
    let ours = |sample: &Sample| {
        let stack = profile.stack(sample);
        stack.iter().any(|name| name.contains("ringmail::"))
    };
    assert!(profile.sample.iter().any(ours));
    // Who asked for it is at the top, not the allocator that noted it.
    for sample in &profile.sample {
        let stack = profile.stack(sample);
        assert!(!stack[0].contains("prof_backtrace"), "{stack:#?}");
    }
    let (status, _, body) = fetch(server.admin, "/debug/pprof/heap?format=svg");
    assert_eq!(status, 200);
    assert!(String::from_utf8(body).unwrap().contains("<svg"));
}

#[test]
fn a_profile_that_cannot_be_is_refused_with_what_can() {
    let running = Server::builder().config(configuration()).start().unwrap();
    let admin = running.admin_address().unwrap();
    for bad in [
        "seconds=0",
        "seconds=61",
        "seconds=-1",
        "seconds=1e1",
        "seconds=",
        "seconds=18446744073709551616",
        "frequency=0",
        "frequency=1001",
        "format=png",
        "seconds=1&more=1",
        "seconds=1&seconds=2",
    ] {
        let answer = get(admin, &format!("/debug/pprof/profile?{bad}"));
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
        answer.error();
    }
    for bad in ["format=", "format=SVG", "seconds=1"] {
        let answer = get(admin, &format!("/debug/pprof/heap?{bad}"));
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
        answer.error();
    }
    let answer = send(admin, "POST", "/debug/pprof/profile", "", "");
    assert_eq!(answer.status, 405);
    // This program has another allocator.
    let answer = get(admin, "/debug/pprof/heap");
    assert_eq!(answer.status, 501, "{answer:?}");
    answer.error();
    running.drain();
    running.wait().unwrap();
}
