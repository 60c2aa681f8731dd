//! The dialects against what their servers say, byte for byte, split at any place.

use super::mqtt::Mqtt;
use super::nats::Nats;
use super::redis::{self, Redis};
use super::ringmail::Ringmail;
use super::*;
use crate::cli::bench::speaker::{Asker, settings};
use crate::proto::encoded::Encoded;
use crate::proto::envelope::{Envelope, FLAG_FAILED};
use crate::proto::error::Code;
use crate::proto::message::{Header, Message, MessageType};
use crate::proto::reassembly::Reassembly;
use crate::proto::session::{Session, Step};
use std::sync::Arc;
use std::time::Duration;

const PAYLOAD_BYTES: usize = 20;

fn topic() -> String {
    "bench/t".to_owned()
}

fn publisher() -> Role {
    let (topic, confirmed) = (topic(), false);
    Role::Publisher { topic, confirmed }
}

fn subscriber(group: Option<&str>) -> Role {
    let (topic, group) = (topic(), group.map(str::to_owned));
    Role::Subscriber { topic, group }
}

fn requester() -> Role {
    let service = "bench/s".to_owned();
    Role::Requester { service }
}

fn responder() -> Role {
    let service = "bench/s".to_owned();
    Role::Responder { service }
}

fn actor<D: Dialect>(dialect: D, role: &Role, index: u32, out: &mut Vec<u8>) -> Actor<D> {
    let mut actor = Actor::new(dialect);
    let script = Rc::new(D::script(role, index, &payload(PAYLOAD_BYTES)));
    actor.assume(role, index, index, &script, out);
    actor
}

fn stamp(origin: u32, number: u32) -> Stamp {
    Stamp {
        since: Instant::from_nanos(1000),
        origin,
        number,
    }
}

fn stamped(origin: u32, number: u32) -> Vec<u8> {
    let mut bytes = payload(PAYLOAD_BYTES);
    bytes[..STAMP_BYTES].copy_from_slice(&stamp(origin, number).to_bytes());
    bytes
}

fn sent<D: Dialect>(actor: &Actor<D>, number: u32) -> Vec<u8> {
    let mut out = Vec::new();
    actor.send(number, Instant::from_nanos(1000), &mut out);
    out
}

/// Feeds `stream` in two parts; what was seen, and what the speaker says meanwhile.
fn feed<S: Speaker>(
    speaker: &mut S,
    stream: &[u8],
    split: usize,
) -> Result<(Vec<S::Mark>, Vec<u8>), Fault> {
    let mut input = Reassembly::default();
    let (mut seen, mut out) = (Vec::new(), Vec::new());
    for mut part in [&stream[..split], &stream[split..]] {
        loop {
            match speaker.take(input.view(part), Instant::ZERO, &mut out)? {
                Taken::Incomplete { need } => {
                    if !input.fill(need, &mut part) {
                        break;
                    }
                }
                Taken::Answer { used, mark } => {
                    seen.push(mark);
                    input.consume(used, &mut part);
                }
                Taken::Other { used } => input.consume(used, &mut part),
            }
        }
    }
    assert!(input.is_empty(), "bytes are left over");
    Ok((seen, out))
}

fn fault<S: Speaker>(speaker: &mut S, stream: &[u8]) -> String {
    match feed(speaker, stream, stream.len()) {
        Ok(_) => panic!("{} was taken", String::from_utf8_lossy(stream)),
        Err(fault) => fault.to_string(),
    }
}

const ARRIVED: [Seen; 2] = [
    Seen::Arrived(Stamp {
        since: Instant::from_nanos(1000),
        origin: 3,
        number: 8,
    }),
    Seen::Arrived(Stamp {
        since: Instant::from_nanos(1000),
        origin: 3,
        number: 9,
    }),
];

#[test]
fn redis_subscribes_publishes_and_reads_what_is_pushed() {
    let mut out = Vec::new();
    let sender = actor(Redis::default(), &publisher(), 3, &mut out);
    assert!(sender.is_ready() && out.is_empty());
    let wanted = [
        &b"*3\r\n$7\r\nPUBLISH\r\n$7\r\nbench/t\r\n$20\r\n"[..],
        &stamped(3, 8),
        b"\r\n",
    ];
    assert_eq!(sent(&sender, 8), wanted.concat());

    let pushed = |number| {
        let head = b"*3\r\n$7\r\nmessage\r\n$7\r\nbench/t\r\n$20\r\n";
        [&head[..], &stamped(3, number), b"\r\n"].concat()
    };
    let confirmation = b"*3\r\n$9\r\nsubscribe\r\n$7\r\nbench/t\r\n:1\r\n".to_vec();
    let stream = [confirmation, pushed(8), pushed(9)].concat();
    for split in 0..=stream.len() {
        let mut out = Vec::new();
        let mut receiver = actor(Redis::default(), &subscriber(None), 0, &mut out);
        assert_eq!(out, b"*2\r\n$9\r\nSUBSCRIBE\r\n$7\r\nbench/t\r\n");
        assert!(!receiver.is_ready());
        let (seen, _) = feed(&mut receiver, &stream, split).unwrap();
        assert_eq!(seen, ARRIVED, "split at {split}");
        assert!(receiver.is_ready());
    }
}

#[test]
fn redis_counts_of_receivers_are_dropped_and_errors_end_the_run() {
    let mut sender = actor(Redis::default(), &publisher(), 3, &mut Vec::new());
    let (seen, out) = feed(&mut sender, b":50\r\n:50\r\n", 3).unwrap();
    assert!(seen.is_empty() && out.is_empty());
    assert!(fault(&mut sender, b"-NOAUTH Authentication required.\r\n").contains("NOAUTH"));
    assert!(fault(&mut sender, b"HTTP/1.1 400\r\n").contains("not RESP"));
    assert!(fault(&mut sender, b"*1000000\r\n").contains("unsolicited"));
    let mut receiver = actor(Redis::default(), &subscriber(None), 0, &mut Vec::new());
    assert!(fault(&mut receiver, b":50\r\n").contains("without a command"));
}

#[test]
fn redis_echoes_are_answered_in_order_and_compared() {
    let shape = Rc::new(redis::EchoShape::new(9));
    let mut echo = redis::Echo::open(&shape);
    let mut request = Vec::new();
    echo.request(0, &mut request);
    let head = b"*2\r\n$4\r\nECHO\r\n";
    assert!(request.starts_with(head));
    let answer = &request[head.len()..];
    let stream = [answer, answer].concat();
    for split in 0..=stream.len() {
        let mut echo = redis::Echo::open(&shape);
        assert_eq!(feed(&mut echo, &stream, split).unwrap().0, [0, 1]);
    }
    let mut other = answer.to_vec();
    other[6] ^= 1;
    assert!(fault(&mut echo, &other).contains("did not echo"));
}

const INFO: &[u8] = b"INFO {\"server_id\":\"N\",\"max_payload\":1048576}\r\n";

/// A connection after CONNECT.
fn nats(role: &Role, index: u32) -> (Actor<Nats>, Vec<u8>) {
    let mut nats = Nats::default();
    let mut out = Vec::new();
    let greeting = [INFO, b"PONG\r\n"].concat();
    let mut rest = &greeting[..];
    while !rest.is_empty() {
        assert!(!nats.is_ready());
        match nats.take(rest, Instant::ZERO, &mut out).unwrap() {
            Taken::Other { used } => rest = &rest[used..],
            other => panic!("{other:?}"),
        }
    }
    assert!(out.starts_with(b"CONNECT {\"verbose\":false") && out.ends_with(b"}\r\nPING\r\n"));
    assert!(nats.is_ready());
    let mut out = Vec::new();
    (actor(nats, role, index, &mut out), out)
}

#[test]
fn nats_subscribes_publishes_and_answers_pings_meanwhile() {
    let (sender, out) = nats(&publisher(), 3);
    assert!(sender.is_ready() && out.is_empty());
    let wanted = [&b"PUB bench.t 20\r\n"[..], &stamped(3, 8), b"\r\n"].concat();
    assert_eq!(sent(&sender, 8), wanted);

    let message = |number| {
        let head = b"MSG bench.t 1 20\r\n";
        [&head[..], &stamped(3, number), b"\r\n"].concat()
    };
    let stream = [
        b"PONG\r\n".to_vec(),
        message(8),
        b"PING\r\n".to_vec(),
        message(9),
        INFO.to_vec(),
    ]
    .concat();
    for split in 0..=stream.len() {
        let (mut receiver, out) = nats(&subscriber(Some("g")), 0);
        assert_eq!(out, b"SUB bench.t g 1\r\nPING\r\n");
        assert!(!receiver.is_ready());
        let (seen, out) = feed(&mut receiver, &stream, split).unwrap();
        assert_eq!(seen, ARRIVED, "split at {split}");
        assert_eq!(out, b"PONG\r\n");
        assert!(receiver.is_ready());
    }
}

#[test]
fn nats_requests_are_answered_to_the_inbox_they_name() {
    let (asker, out) = nats(&requester(), 3);
    assert_eq!(out, b"SUB _INBOX.bench.3 1\r\nPING\r\n");
    let request = sent(&asker, 8);
    let head = b"PUB bench.s _INBOX.bench.3 20\r\n";
    assert_eq!(request, [&head[..], &stamped(3, 8), b"\r\n"].concat());

    let (mut answerer, out) = nats(&responder(), 0);
    assert_eq!(out, b"SUB bench.s responders 1\r\nPING\r\n");
    let head = b"PONG\r\nMSG bench.s 1 _INBOX.bench.3 20\r\n";
    let stream = [&head[..], &stamped(3, 8), b"\r\n"].concat();
    for split in 6..=stream.len() {
        let (seen, out) = feed(&mut answerer, &stream, split).unwrap();
        let wanted = [&b"PUB _INBOX.bench.3 20\r\n"[..], &stamped(3, 8), b"\r\n"];
        assert_eq!((seen.len(), out), (0, wanted.concat()), "split at {split}");
        answerer = nats(&responder(), 0).0;
    }

    let (mut asker, _) = nats(&requester(), 3);
    let head = b"PONG\r\nMSG _INBOX.bench.3 1 20\r\n";
    let stream = [&head[..], &stamped(3, 8), b"\r\n"].concat();
    assert_eq!(feed(&mut asker, &stream, 9).unwrap().0, ARRIVED[..1]);
}

#[test]
fn nats_errors_and_strange_lines_end_the_run() {
    let (mut sender, _) = nats(&publisher(), 3);
    assert!(fault(&mut sender, b"-ERR 'Authorization Violation'\r\n").contains("Authorization"));
    assert!(fault(&mut sender, b"HELLO\r\n").contains("not in NATS"));
    assert!(fault(&mut sender, b"PONG\r\n").contains("without a PING"));
    let (mut receiver, _) = nats(&subscriber(None), 0);
    assert!(fault(&mut receiver, b"MSG bench.t 1 2\r\nno\r\n").contains("not what was published"));
    assert!(fault(&mut receiver, b"MSG bench.t 1 999999999999\r\n").contains("not what"));
}

/// A connection after CONNACK.
fn mqtt(role: &Role) -> (Actor<Mqtt>, Vec<u8>) {
    let mut out = Vec::new();
    let mut mqtt = Mqtt::open(&mut out);
    assert_eq!(out, b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0\0");
    assert!(!mqtt.is_ready());
    let taken = mqtt.take(b"\x20\x02\0\0", Instant::ZERO, &mut out).unwrap();
    assert_eq!(taken, Taken::Other { used: 4 });
    assert!(mqtt.is_ready());
    let mut out = Vec::new();
    (actor(mqtt, role, 3, &mut out), out)
}

#[test]
fn mqtt_subscribes_and_gets_what_was_published_as_it_was() {
    let (sender, out) = mqtt(&publisher());
    assert!(sender.is_ready() && out.is_empty());
    let wanted = [&b"\x30\x1D\0\x07bench/t"[..], &stamped(3, 8)].concat();
    assert_eq!(sent(&sender, 8), wanted);
    let stream = [
        b"\x90\x03\0\x01\0".to_vec(),
        sent(&sender, 8),
        b"\xD0\0".to_vec(),
        sent(&sender, 9),
    ]
    .concat();
    for split in 0..=stream.len() {
        let (mut receiver, out) = mqtt(&subscriber(None));
        assert_eq!(out, b"\x82\x0C\0\x01\0\x07bench/t\0");
        assert!(!receiver.is_ready());
        assert_eq!(feed(&mut receiver, &stream, split).unwrap().0, ARRIVED);
        assert!(receiver.is_ready());
    }
    let (_, out) = mqtt(&subscriber(Some("g")));
    assert_eq!(out, b"\x82\x15\0\x01\0\x10$share/g/bench/t\0");
}

#[test]
fn mqtt_lengths_take_as_many_bytes_as_they_need() {
    let role = publisher();
    for (bytes, head) in [(100, &b"\x30\x6D"[..]), (1024, &b"\x30\x89\x08"[..])] {
        let script = Mqtt::script(&role, 0, &payload(bytes));
        let mut out = Vec::new();
        script.send.unwrap().put(0, stamp(0, 0), &mut out);
        assert!(out.starts_with(head), "{:x?}", &out[..4]);
        assert_eq!(out.len(), head.len() + 9 + bytes);
    }
}

#[test]
fn mqtt_refusals_end_the_run() {
    let mut mqtt = Mqtt::open(&mut Vec::new());
    let refused = mqtt.take(b"\x20\x02\0\x05", Instant::ZERO, &mut Vec::new());
    assert!(refused.unwrap_err().to_string().contains("return code 5"));
    let (mut receiver, _) = self::mqtt(&subscriber(None));
    assert!(fault(&mut receiver, b"\x90\x03\0\x01\x80").contains("refused"));
    assert!(fault(&mut receiver, b"\x30\x03\0\x01x").contains("not what was published"));
    assert!(fault(&mut receiver, b"HTTP/1.1 400 Bad").contains("not MQTT"));
}

/// Both ends of an open session, the client's as an actor in its role.
fn ringmail(role: &Role) -> (Actor<Ringmail>, Session, Vec<u8>) {
    let settings = settings(PAYLOAD_BYTES + 300, Duration::from_secs(1));
    let now = Instant::ZERO;
    let (mut out, mut back) = (Vec::new(), Vec::new());
    let mut client = Ringmail::open(&settings, PAYLOAD_BYTES, now, &mut out).unwrap();
    let mut server = Session::accept(Arc::clone(&settings), 7, now);
    assert!(matches!(
        server.handle(&out, now, &mut back),
        Step::Taken { .. }
    ));
    out.clear();
    assert!(!client.is_ready());
    client.take(&back, now, &mut out).unwrap();
    assert!(client.is_ready());
    assert_eq!(client.shard(), Some(0));
    server.handle(&out, now, &mut Vec::new());
    out.clear();
    (actor(client, role, 3, &mut out), server, out)
}

fn encoded(message: Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(false, &mut out);
    out
}

fn envelope(kind: MessageType, id: u32, name: &str, payload: &[u8]) -> Vec<u8> {
    encoded(Message::Envelope(
        kind,
        Envelope {
            id,
            name,
            payload,
            ..Envelope::default()
        },
    ))
}

#[test]
fn ringmail_subscribes_in_a_group_and_reads_the_bytes_that_were_published() {
    let (sender, mut server, out) = ringmail(&publisher());
    assert!(sender.is_ready() && out.is_empty());
    let message = sent(&sender, 8);
    assert_eq!(
        message,
        envelope(MessageType::Publish, 0, "bench/t", &stamped(3, 8))
    );
    // A server takes it for what it is.
    let step = server.handle(&message, Instant::ZERO, &mut Vec::new());
    assert!(matches!(step, Step::Taken { used, .. } if used == message.len()));

    let stream = [
        encoded(Message::Ok { id: 1 }),
        envelope(MessageType::Publish, 77, "bench/t", &stamped(3, 8)),
        encoded(Message::Ping(b"alive")),
        envelope(MessageType::Publish, 0, "bench/t", &stamped(3, 9)),
    ]
    .concat();
    for split in 0..=stream.len() {
        let (mut receiver, _, out) = ringmail(&subscriber(Some("g")));
        assert!(!receiver.is_ready());
        let asked = Encoded::of(&out).envelope().unwrap();
        assert_eq!(asked.name, "bench/t");
        let group = crate::proto::envelope::header::GROUP;
        assert_eq!(asked.headers.find(group), Some(&b"g"[..]));
        let (seen, out) = feed(&mut receiver, &stream, split).unwrap();
        assert_eq!(seen, ARRIVED, "split at {split}");
        assert_eq!(out, encoded(Message::Pong(b"alive")));
        assert!(receiver.is_ready());
    }
}

#[test]
fn ringmail_confirmations_carry_the_message_they_confirm() {
    let (topic, confirmed) = (topic(), true);
    let (mut sender, _, _) = ringmail(&Role::Publisher { topic, confirmed });
    let message = sent(&sender, 8);
    assert_eq!(
        message,
        envelope(MessageType::Publish, 8, "bench/t", &stamped(3, 8))
    );
    let (seen, _) = feed(&mut sender, &encoded(Message::Ok { id: 8 }), 5).unwrap();
    let (origin, number) = (3, 8);
    assert_eq!(seen, [Seen::Confirmed { origin, number }]);
}

#[test]
fn ringmail_requests_are_answered_under_the_id_they_come_with() {
    let (asker, ..) = ringmail(&requester());
    assert_eq!(
        sent(&asker, 8),
        envelope(MessageType::Request, 8, "bench/s", &stamped(3, 8))
    );
    let answer = envelope(MessageType::Response, 4711, "", &stamped(3, 8));
    let (mut answerer, _, out) = ringmail(&responder());
    assert_eq!(out[3], MessageType::Serve as u8);
    feed(&mut answerer, &encoded(Message::Ok { id: 1 }), 0).unwrap();
    let forwarded = envelope(MessageType::Request, 4711, "bench/s", &stamped(3, 8));
    assert_eq!(feed(&mut answerer, &forwarded, 30).unwrap().1, answer);
    // Another name than the one asked for, as a filter would bring: past the template.
    let other = envelope(MessageType::Request, 4711, "bench/other", &stamped(3, 8));
    assert_eq!(feed(&mut answerer, &other, 30).unwrap().1, answer);

    let (mut asker, ..) = ringmail(&requester());
    assert_eq!(feed(&mut asker, &answer, 30).unwrap().0, ARRIVED[..1]);
}

#[test]
fn ringmail_refusals_and_strange_answers_end_the_run() {
    let (mut asker, ..) = ringmail(&requester());
    let no_service = [&0x0301u16.to_be_bytes()[..], b"none"].concat();
    let failed = encoded(Message::Envelope(
        MessageType::Response,
        Envelope {
            flags: FLAG_FAILED,
            payload: &no_service,
            ..Envelope::default()
        },
    ));
    assert!(fault(&mut asker, &failed).contains("NO_SERVICE: none"));
    let (mut receiver, ..) = ringmail(&subscriber(None));
    let refused = encoded(Message::Error {
        code: Code::Forbidden,
        id: 1,
        fatal: false,
        text: "no",
    });
    assert!(fault(&mut receiver, &refused).contains("FORBIDDEN: no"));
    let other = envelope(MessageType::Publish, 0, "bench/u", &stamped(3, 8));
    assert!(fault(&mut receiver, &other).contains("not what was sent"));
    let (mut sender, ..) = ringmail(&publisher());
    assert!(fault(&mut sender, &encoded(Message::Ok { id: 1 })).contains("without a request"));
}

#[test]
fn a_server_that_asks_for_a_credential_or_takes_too_little_is_refused() {
    let now = Instant::ZERO;
    let ours = settings(5000, Duration::from_secs(1));
    let open = |theirs: &Arc<crate::proto::session::Settings>| {
        let (mut out, mut back) = (Vec::new(), Vec::new());
        let mut client = Ringmail::open(&ours, 5000, now, &mut out).unwrap();
        let mut server = Session::accept(Arc::clone(theirs), 7, now);
        server.handle(&out, now, &mut back);
        client.take(&back, now, &mut Vec::new()).unwrap_err()
    };
    let mut theirs = (*ours).clone();
    theirs.auth_methods = 1;
    assert!(matches!(
        open(&Arc::new(theirs.clone())),
        Fault::AuthRequired
    ));
    theirs.auth_methods = 0;
    theirs.message_bytes_max = 1024;
    let (bytes, max) = (5000, 1024);
    let fault = open(&Arc::new(theirs));
    assert!(matches!(fault, Fault::TooLarge { bytes: b, max: m } if (b, m) == (bytes, max)));
}

#[test]
fn idle_subscriptions_are_confirmed_each_and_match_no_topic_of_the_load() {
    let holder = Role::Holder { filters: 5..9 };
    let (mut idle, _, out) = ringmail(&holder);
    let mut names = Vec::new();
    let mut rest = &out[..];
    while let Some(header) = Header::parse(rest, u32::MAX).unwrap() {
        let (message, behind) = rest.split_at(header.message_bytes());
        let asked = Encoded::of(message).envelope().unwrap();
        names.push(asked.name.to_owned());
        rest = behind;
    }
    assert_eq!(
        names,
        [
            "bench/idle-5/+/state",
            "+/idle/6",
            "bench/idle-7/#",
            "bench/idle-8"
        ]
    );
    for id in 1..=4 {
        assert!(!idle.is_ready());
        feed(&mut idle, &encoded(Message::Ok { id }), 0).unwrap();
    }
    assert!(idle.is_ready());

    let (_, out) = nats(&holder, 0);
    assert!(out.starts_with(b"SUB bench.idle-5.*.state 5\r\nSUB *.idle.6 6\r\n"));
}
