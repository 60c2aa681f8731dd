//! A collector that takes OTLP over HTTP/protobuf: bytes read and answered by hand, messages
//! decoded by OpenTelemetry's own definitions.

use crate::wire::PATIENCE;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How it answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Takes,
    /// 503.
    Refuses,
    /// It reads, and says nothing.
    Stalls,
}

pub type Attributes = BTreeMap<String, String>;

#[derive(Default)]
struct Taken {
    spans: Vec<Span>,
    resources: Vec<Attributes>,
    heads: Vec<String>,
    /// Requests, answered or not.
    asked: usize,
}

pub struct Collector {
    pub address: SocketAddr,
    mood: Arc<AtomicU8>,
    taken: Arc<Mutex<Taken>>,
}

impl Collector {
    pub fn start() -> Collector {
        Collector::on("127.0.0.1:0".parse().unwrap())
    }

    /// Its threads end with the test's process.
    pub fn on(address: SocketAddr) -> Collector {
        let socket = TcpListener::bind(address).unwrap();
        let collector = Collector {
            address: socket.local_addr().unwrap(),
            mood: Arc::default(),
            taken: Arc::default(),
        };
        let (mood, taken) = (collector.mood.clone(), collector.taken.clone());
        std::thread::spawn(move || {
            for stream in socket.incoming() {
                let (mood, taken) = (mood.clone(), taken.clone());
                std::thread::spawn(move || converse(stream.unwrap(), &mood, &taken));
            }
        });
        collector
    }

    pub fn setting(&self) -> String {
        format!("trace.endpoint=http://{}", self.address)
    }

    pub fn become_(&self, mood: Mood) {
        self.mood.store(mood as u8, SeqCst);
    }

    pub fn asked(&self) -> usize {
        self.taken.lock().unwrap().asked
    }

    pub fn resources(&self) -> Vec<Attributes> {
        self.taken.lock().unwrap().resources.clone()
    }

    pub fn heads(&self) -> Vec<String> {
        self.taken.lock().unwrap().heads.clone()
    }

    pub fn spans(&self) -> Vec<Span> {
        self.taken.lock().unwrap().spans.clone()
    }

    /// Waits until `enough` of what it has taken.
    #[track_caller]
    pub fn wait(&self, what: &str, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let end = Instant::now() + PATIENCE;
        loop {
            let spans = self.spans();
            if enough(&spans) {
                return spans;
            }
            assert!(Instant::now() < end, "never {what}: {spans:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it has been asked more than `before` times.
    #[track_caller]
    pub fn wait_asked(&self, before: usize) {
        let end = Instant::now() + PATIENCE;
        while self.asked() <= before {
            assert!(Instant::now() < end, "nobody asks it any more");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// One request: it closes the connection behind its answer, so that the server's descriptors
/// are back when it has none.
fn converse(mut stream: TcpStream, mood: &AtomicU8, taken: &Mutex<Taken>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match reader.read_line(&mut head) {
            Ok(count) if count > 0 => {}
            _ => return,
        }
    }
    let head = head.to_lowercase();
    let length = head.split_once("content-length: ").unwrap().1;
    let length = length.split_once("\r\n").unwrap().0.parse().unwrap();
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let mood = mood.load(SeqCst);
    taken.lock().unwrap().asked += 1;
    if mood == Mood::Stalls as u8 {
        // Until the server gives up.
        let _ = reader.read(&mut [0]);
        return;
    }
    let status = match mood == Mood::Refuses as u8 {
        true => "503 Service Unavailable",
        false => "200 OK",
    };
    if status == "200 OK" {
        take(&mut taken.lock().unwrap(), head, &body);
    }
    let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    // It may have given up, or ended.
    let _ = stream.write_all(answer.as_bytes());
}

fn take(taken: &mut Taken, head: String, body: &[u8]) {
    let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP's");
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap_or_default();
        taken.resources.push(attributes(&resource.attributes));
        let scopes = of_resource.scope_spans.into_iter();
        taken.spans.extend(scopes.flat_map(|scope| scope.spans));
    }
    taken.heads.push(head);
}

pub fn attributes(pairs: &[KeyValue]) -> Attributes {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|one| one.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = pairs.iter();
    pairs
        .map(|pair| (pair.key.clone(), text(&pair.value)))
        .collect()
}
