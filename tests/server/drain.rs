//! SIGTERM: everyone is told once, what was taken is answered, and the process ends whatever
//! its clients do.

use crate::harness::Server;
use crate::peer::{CLOSE, DRAIN, OK, PING, PONG, PUBLISH, Peer, publish};
use crate::wire::{Wire, encode, syn};
use ringmail::proto::error::Code;
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::option::Options;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const DEPTH: u32 = 16;

/// Keeps `DEPTH` requests open until told to drain, then takes the answers still due.
fn pipeline(mut wire: Wire, answered: &AtomicU64) {
    let (mut asked, mut got) = (0u32, 0u32);
    let mut drains = 0;
    while asked < DEPTH {
        wire.ask(asked, "$sys/echo", &asked.to_be_bytes());
        asked += 1;
    }
    loop {
        let heard = wire.message().expect("CLOSE before the end");
        match heard.message() {
            Message::Drain { deadline_ms, .. } => {
                assert!((1..=20_000).contains(&deadline_ms), "{deadline_ms}");
                drains += 1;
            }
            Message::Close { code, .. } => {
                assert_eq!(code, Code::Shutdown);
                break;
            }
            _ => {
                assert_eq!(heard.response(), (got, Ok(got.to_be_bytes().to_vec())));
                got += 1;
                answered.fetch_add(1, Ordering::Relaxed);
                if drains == 0 {
                    wire.ask(asked, "$sys/echo", &asked.to_be_bytes());
                    asked += 1;
                }
            }
        }
    }
    assert_eq!((got, drains), (asked, 1), "answers, and times it was told");
    wire.say(&Message::Close {
        code: Code::Normal,
        reason: "",
    });
    wire.shut();
    wire.expect_end();
}

#[test]
fn under_load_everyone_is_told_once_and_everything_asked_is_answered() {
    let mut server = Server::start(&["server.drain_timeout_ms=20000", "log.level=debug"]);
    let answered = AtomicU64::new(0);
    let wires: Vec<Wire> = (0..16).map(|_| server.greet()).collect();
    std::thread::scope(|scope| {
        for wire in wires {
            scope.spawn(|| pipeline(wire, &answered));
        }
        while answered.load(Ordering::Relaxed) < 5000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        server.terminate();
    });
    let status = server.wait();
    let log = server.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(log.matches("reason=drained").count(), 16, "{log}");
}

#[test]
fn idle_and_half_open_connections_are_told_in_their_own_phase() {
    let mut server = Server::start(&[]);
    let mut silent = server.connect();
    let mut begun = server.connect();
    begun.send(&syn(&Options::default()));
    begun.syn_ack();
    let mut idle = server.greet();
    idle.echoes();
    server.wait_for("accepted", |stats| stats.connections == 4);
    server.terminate();
    silent.expect_rst(Code::Draining);
    begun.expect_rst(Code::Draining);
    let heard = idle.message().expect("DRAIN");
    assert_eq!(heard.kind, MessageType::Drain);
    let heard = idle.message().expect("CLOSE");
    assert_eq!(heard.kind, MessageType::Close);
    idle.expect_end();
    drop((silent, begun, idle));
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

/// PINGs without end, so that the connection is never quiet; reads nothing.
fn pester(stream: TcpStream) -> std::thread::JoinHandle<()> {
    let mut stream = stream;
    std::thread::spawn(move || {
        let ping = encode(&Message::Ping(b""), false);
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end && stream.write_all(&ping).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    })
}

fn begin_drain(server: &Server) {
    server.terminate();
    let end = Instant::now() + Duration::from_secs(20);
    while server.log().matches(": draining shard=").count() < 2 {
        assert!(Instant::now() < end, "it does not drain:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn clients_that_ignore_everything_do_not_keep_the_server() {
    let mut server = Server::start(&["server.drain_timeout_ms=1500"]);
    let pesterer = server.greet();
    let pestering = pester(pesterer.stream.try_clone().unwrap());
    let mut deaf = server.greet();
    // Answers it will never read: more than the sockets hold.
    deaf.stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    for id in 0..400 {
        let request = crate::wire::request_bytes(id, "$sys/echo", &[9; 65_536], false);
        if deaf.stream.write_all(&request).is_err() {
            break;
        }
    }
    let half_open = server.connect();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    pestering.join().unwrap();
    drop((pesterer, deaf, half_open));
}

#[test]
fn newcomers_are_refused_while_it_drains_and_a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&["server.drain_timeout_ms=600000"]);
    let pesterer = server.greet();
    let pestering = pester(pesterer.stream.try_clone().unwrap());
    begin_drain(&server);
    let end = Instant::now() + Duration::from_secs(10);
    let refused = loop {
        match TcpStream::connect(server.address) {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < end, "still accepting"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    // With ten minutes to drain and a client that never rests, only this ends it.
    server.terminate();
    assert_eq!(server.wait().code(), Some(1), "{}", server.log());
    assert!(server.log().contains("exiting at once"), "{}", server.log());
    drop(pesterer);
    pestering.join().unwrap();
}

/// Takes what is published until the server says CLOSE.
fn listen(mut listener: Peer) -> Vec<u32> {
    let mut numbers = Vec::new();
    loop {
        let got = listener.read().expect("CLOSE before the end");
        match got.kind {
            PUBLISH => numbers.push(got.text().parse().unwrap()),
            PING => listener.send(PONG, &got.body),
            CLOSE => break,
            _ => assert_eq!(got.kind, DRAIN, "{got:?}"),
        }
    }
    listener.send(CLOSE, &[0, 0]);
    listener.ended();
    numbers
}

/// Publishes, each confirmed before the next, until it has been told of the drain and has
/// gone on for a while; the numbers confirmed, and how many of them when it had been told.
fn publish_on(publisher: &mut Peer, mut begin: impl FnMut(u32)) -> (Vec<u32>, usize) {
    const LONGER: usize = 3000;
    let (mut confirmed, mut told) = (Vec::new(), None);
    let mut last = 0;
    publisher.start(&publish("t", "0"));
    loop {
        let got = publisher.read().expect("CLOSE before the end");
        match got.kind {
            OK => {
                confirmed.push(last);
                begin(last);
                let is_over = told.is_some_and(|told| confirmed.len() > told + LONGER);
                if !is_over {
                    last += 1;
                    publisher.start(&publish("t", last.to_string()));
                }
            }
            DRAIN => told = Some(confirmed.len()),
            PING => publisher.send(PONG, &got.body),
            CLOSE => break,
            _ => panic!("{got:?}"),
        }
    }
    publisher.send(CLOSE, &[0, 0]);
    (confirmed, told.expect("DRAIN before CLOSE"))
}

#[test]
fn what_is_confirmed_during_a_drain_reaches_who_only_listens() {
    for (listening, publishing) in [(0, 1), (1, 0), (0, 0)] {
        let mut server = Server::start(&["server.drain_timeout_ms=60000"]);
        let mut listener = server.peer(listening);
        listener.subscribe("t");
        let mut publisher = server.peer(publishing);
        let listener = std::thread::spawn(move || listen(listener));
        let (confirmed, told) = publish_on(&mut publisher, |number| {
            if number == 100 {
                server.terminate();
            }
        });
        assert!(confirmed.len() > told, "the drain confirmed nothing");
        let heard = listener.join().unwrap();
        let lost: Vec<_> = confirmed.iter().filter(|n| !heard.contains(n)).collect();
        assert!(lost.is_empty(), "confirmed and not delivered: {lost:?}");
        publisher.ended();
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    }
}
