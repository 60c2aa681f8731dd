//! A server inside another program: its own services, the four ways to answer, the bounds on
//! answers still due, and what happens when a service fails.

#[path = "server/stream.rs"]
#[allow(dead_code)] // likewise
mod stream;
#[path = "server/wire.rs"]
#[allow(dead_code)] // the raw client of tests/server.rs
mod wire;

use ringmail::blocking::Client;
use ringmail::proto::envelope::{Envelope, Headers, header};
use ringmail::proto::error::Code;
use ringmail::proto::message::{Message, MessageType};
use ringmail::server::config::Config;
use ringmail::{Deferred, Failure, Reply, Request, Running, Server};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use wire::{PATIENCE, Wire, encode};

/// A builder of a server with one shard and these limits.
fn server(limits: &str) -> Server {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"\"\nshards = [0]\ndrain_timeout_ms = 10000\n[limits]\n{limits}"
    );
    Server::builder().config(Config::from_toml(&text).unwrap())
}

fn end(running: Running) {
    running.drain();
    running.wait().unwrap();
}

fn wait_until(running: &Running, what: &str, met: impl Fn(&Running) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !met(running) {
        assert!(Instant::now() < end, "never {what}: {:?}", running.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn closed(running: &Running, reason: &str) -> u64 {
    running.stats().closed.get(reason).copied().unwrap_or(0)
}

thread_local! {
    /// Requests of "hold" that wait on this shard for "release".
    static HELD: RefCell<Vec<Deferred>> = const { RefCell::new(Vec::new()) };
}

/// "hold" answers when somebody asks "release" on the same shard, whose answer says how many.
fn with_hold(server: Server) -> Server {
    let hold = |_shard| {
        |_: Request<'_>, reply: Reply<'_>| {
            if let Some(deferred) = reply.defer() {
                HELD.with_borrow_mut(|held| held.push(deferred));
            }
        }
    };
    let release = |_shard| {
        |_: Request<'_>, reply: Reply<'_>| {
            let held = HELD.take();
            reply.send(held.len().to_string().as_bytes());
            for deferred in held {
                deferred.finish(Ok("released".into()));
            }
        }
    };
    server.service("hold", hold).service("release", release)
}

#[test]
fn a_service_answers_inline_with_a_state_of_its_own() {
    let running = server("")
        .service("count", |shard| {
            let mut calls = 0;
            move |request: Request<'_>, reply: Reply<'_>| {
                calls += 1;
                let text = String::from_utf8_lossy(request.payload());
                reply.send(format!("{shard} {calls} {text}").as_bytes());
            }
        })
        .service("fail", |_| {
            |_: Request<'_>, reply: Reply<'_>| reply.fail(&Failure::new(0x1234, "as asked"))
        })
        .start()
        .unwrap();
    let mut wire = Wire::greet(running.address());
    assert_eq!(wire.request("count", b"a").unwrap(), b"0 1 a");
    assert_eq!(wire.request("count", b"b").unwrap(), b"0 2 b");
    assert_eq!(wire.request("fail", b""), Err(Code::Application(0x1234)));
    wire.close();
    end(running);
}

#[test]
fn a_future_answers_later_and_others_are_served_meanwhile() {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = gate.clone();
    let running = server("")
        .service("gated", move |_| {
            let gate = gate.clone();
            move |request: Request<'_>, reply: Reply<'_>| {
                let (gate, payload) = (gate.clone(), request.payload().to_vec());
                reply.spawn(async move {
                    while !gate.load(Ordering::Relaxed) {
                        glommio::timer::sleep(Duration::from_millis(1)).await;
                    }
                    Ok(payload.into())
                });
            }
        })
        .start()
        .unwrap();
    let mut wire = Wire::greet(running.address());
    for id in 0..10 {
        wire.ask(id, "gated", &[id as u8]);
    }
    for id in 100..200 {
        wire.ask(id, "$sys/echo", b"");
        assert_eq!(wire.response(), (id, Ok(Vec::new())));
    }
    opened.store(true, Ordering::Relaxed);
    let answered: BTreeSet<u32> = (0..10)
        .map(|_| {
            let (id, result) = wire.response();
            assert_eq!(result.unwrap(), [id as u8]);
            id
        })
        .collect();
    assert_eq!(answered.len(), 10);
    wire.close();
    end(running);
}

#[test]
fn a_large_answer_arrives_whole_between_small_ones_whether_shared_or_summed() {
    let large: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let shared = bytes::Bytes::from(large.clone());
    let running = server("")
        .service("large", move |_| {
            let shared = shared.clone();
            move |_: Request<'_>, reply: Reply<'_>| {
                let shared = shared.clone();
                reply.offload(move || Ok(shared.into()));
            }
        })
        .start()
        .unwrap();
    let mut wire = Wire::greet(running.address());
    for round in 0..20 {
        wire.ask(round, "large", b"");
        assert_eq!(wire.response(), (round, Ok(large.clone())));
        assert_eq!(wire.request("$sys/echo", b"small").unwrap(), b"small");
    }
    wire.close();
    // With CHECKSUM the bytes are summed, so they are copied; they are the same.
    let address = running.address().to_string();
    let mut summed = Client::builder().checksum(true).connect(&address).unwrap();
    assert_eq!(summed.request("large", "").unwrap().payload, large);
    summed.close().unwrap();
    end(running);
}

/// Each burn goes on until others were answered beside it: computed on the shard, none would be.
#[test]
fn work_that_burns_leaves_the_echoes_of_others_alone() {
    const BURNS: u32 = 24;
    let echoes = Arc::new(AtomicU32::new(0));
    let heard = echoes.clone();
    let running = server("")
        .service("burn", move |_| {
            let heard = heard.clone();
            move |_: Request<'_>, reply: Reply<'_>| {
                let heard = heard.clone();
                reply.offload(move || {
                    let (begin, before) = (Instant::now(), heard.load(Ordering::SeqCst));
                    while heard.load(Ordering::SeqCst) < before + 2 {
                        if begin.elapsed() > PATIENCE / 2 {
                            return Err(Failure::new(0x1234, "nobody else is answered"));
                        }
                        std::hint::spin_loop();
                    }
                    Ok("burnt".into())
                });
            }
        })
        .start()
        .unwrap();
    let mut burner = Wire::greet(running.address());
    let mut other = Wire::greet(running.address());
    for id in 0..BURNS {
        burner.ask(id, "burn", b"");
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                other.echoes();
                echoes.fetch_add(1, Ordering::SeqCst);
            }
        });
        let answers: Vec<_> = (0..BURNS).map(|_| burner.response().1).collect();
        over.store(true, Ordering::Relaxed);
        for answer in answers {
            answer.unwrap();
        }
    });
    burner.close();
    other.close();
    end(running);
}

#[test]
fn a_service_that_does_not_answer_or_panics_in_its_work_fails_that_request_only() {
    let running = with_hold(server(""))
        .service("drop", |_| |_: Request<'_>, _: Reply<'_>| {})
        .service("forget", |_| {
            |_: Request<'_>, reply: Reply<'_>| drop(reply.defer())
        })
        .service("panic", |_| {
            |_: Request<'_>, reply: Reply<'_>| reply.offload(|| panic!("as asked"))
        })
        .start()
        .unwrap();
    let mut wire = Wire::greet(running.address());
    for service in ["drop", "forget", "panic", "panic"] {
        assert_eq!(wire.request(service, b""), Err(Code::Internal), "{service}");
    }
    // The workers are all still there.
    for _ in 0..8 {
        assert_eq!(wire.request("panic", b""), Err(Code::Internal));
    }
    wire.echoes();
    wire.close();
    end(running);
}

#[test]
fn an_answer_past_its_deadline_is_told_once_and_dropped() {
    let running = with_hold(server("request_timeout_ms = 200"))
        .start()
        .unwrap();
    let mut wire = Wire::greet(running.address());
    wire.ask(1, "hold", b"");
    assert_eq!(wire.response(), (1, Err(Code::RequestTimeout)));
    wire.ask(2, "release", b"");
    assert_eq!(wire.response(), (2, Ok(b"1".to_vec())));
    // The next answer is the next request's, not the late one.
    wire.echoes();
    assert_eq!(running.stats().total["answers_late"], 1);
    // In time it is delivered.
    wire.ask(3, "hold", b"");
    wire.ask(4, "release", b"");
    assert_eq!(wire.response(), (4, Ok(b"1".to_vec())));
    assert_eq!(wire.response(), (3, Ok(b"released".to_vec())));
    wire.close();
    end(running);
}

#[test]
fn a_request_may_bring_a_timeout_of_its_own() {
    let running = with_hold(server("request_timeout_ms = 600000"))
        .start()
        .unwrap();
    let mut wire = Wire::greet(running.address());
    let mut block = Vec::new();
    Headers::push(&mut block, header::TIMEOUT_MS, &100u32.to_be_bytes());
    let envelope = Envelope {
        id: 5,
        name: "hold",
        headers: Headers::check(&block).unwrap(),
        ..Envelope::default()
    };
    wire.say(&Message::Envelope(MessageType::Request, envelope));
    assert_eq!(wire.response(), (5, Err(Code::RequestTimeout)));
    wire.close();
    end(running);
}

#[test]
fn a_request_may_not_ask_for_more_than_the_longest_timeout() {
    let limits = "request_timeout_ms = 600000\nrequest_timeout_max_ms = 100";
    let running = with_hold(server(limits)).start().unwrap();
    let mut wire = Wire::greet(running.address());
    let mut block = Vec::new();
    Headers::push(&mut block, header::TIMEOUT_MS, &u32::MAX.to_be_bytes());
    for headers in [&block[..], &[]] {
        let envelope = Envelope {
            id: 5,
            name: "hold",
            headers: Headers::check(headers).unwrap(),
            ..Envelope::default()
        };
        wire.say(&Message::Envelope(MessageType::Request, envelope));
        assert_eq!(wire.response(), (5, Err(Code::RequestTimeout)));
    }
    wire.close();
    end(running);
}

#[test]
fn unanswered_requests_are_bounded_per_connection_and_per_shard() {
    let limits = "requests_open_max = 4\ncalls_open_max = 6";
    let running = with_hold(server(limits)).start().unwrap();
    let mut first = Wire::greet(running.address());
    let mut second = Wire::greet(running.address());
    for id in 0..5 {
        first.ask(id, "hold", b"");
    }
    assert_eq!(first.response(), (4, Err(Code::TooManyRequests)));
    for id in 0..3 {
        second.ask(id, "hold", b"");
    }
    assert_eq!(second.response(), (2, Err(Code::Overloaded)));
    // What is answered inline is not bounded by calls.
    second.echoes();
    assert_eq!(second.request("release", b"").unwrap(), b"6");
    let answered: BTreeSet<u32> = (0..4)
        .map(|_| {
            let (id, result) = first.response();
            assert_eq!(result.unwrap(), b"released");
            id
        })
        .collect();
    assert_eq!(answered, (0..4).collect());
    // The bounds are free again.
    for _ in 0..2 {
        second.response().1.unwrap();
    }
    for id in 0..4 {
        first.ask(id, "hold", b"");
    }
    first.echoes();
    assert_eq!(second.request("release", b"").unwrap(), b"4");
    end(running);
}

#[test]
fn timed_out_calls_keep_their_place_until_their_service_is_done() {
    let limits = "calls_open_max = 2\nrequest_timeout_ms = 50";
    let running = with_hold(server(limits)).start().unwrap();
    let mut wire = Wire::greet(running.address());
    for _ in 0..2 {
        assert_eq!(wire.request("hold", b""), Err(Code::RequestTimeout));
    }
    // Two services still work: patience that ran out is no reason to start a third.
    assert_eq!(wire.request("hold", b""), Err(Code::Overloaded));
    // Nor is a connection that has gone.
    wire.close();
    let mut wire = Wire::greet(running.address());
    assert_eq!(wire.request("hold", b""), Err(Code::Overloaded));
    assert_eq!(wire.request("release", b"").unwrap(), b"2");
    assert_eq!(wire.request("hold", b""), Err(Code::RequestTimeout));
    wire.close();
    end(running);
}

#[test]
fn a_client_that_leaves_with_calls_open_gets_the_answers_first() {
    let running = with_hold(server("")).start().unwrap();
    let mut other = Wire::greet(running.address());
    let held = |count: u64| {
        let stats = running.stats();
        stats.total["calls_deferred"] == count
    };
    // By CLOSE.
    let mut wire = Wire::greet(running.address());
    wire.ask(1, "hold", b"");
    let code = Code::Normal;
    wire.say(&Message::Close { code, reason: "" });
    wait_until(&running, "held", |_| held(1));
    other.echoes();
    assert_eq!(other.request("release", b"").unwrap(), b"1");
    assert_eq!(wire.response(), (1, Ok(b"released".to_vec())));
    let heard = wire.message().expect("CLOSE");
    assert_eq!(heard.kind, MessageType::Close);
    wire.expect_end();
    drop(wire);
    wait_until(&running, "closed", |running| {
        closed(running, "peer_close") == 1
    });
    // By the end of its stream.
    let mut wire = Wire::greet(running.address());
    wire.ask(2, "hold", b"");
    wire.shut();
    wait_until(&running, "held", |_| held(2));
    other.echoes();
    assert_eq!(other.request("release", b"").unwrap(), b"1");
    assert_eq!(wire.response(), (2, Ok(b"released".to_vec())));
    wire.expect_end();
    drop(wire);
    wait_until(&running, "closed", |running| {
        closed(running, "peer_eof") == 1
    });
    // By a reset: nobody to answer, and no slot lost.
    let wire = Wire::greet(running.address());
    let reset = socket2::SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO));
    reset.unwrap();
    let mut wire = wire;
    wire.ask(3, "hold", b"");
    wait_until(&running, "held", |_| held(3));
    drop(wire);
    wait_until(&running, "closed", |running| {
        closed(running, "peer_reset") == 1
    });
    assert_eq!(other.request("release", b"").unwrap(), b"1");
    other.echoes();
    assert_eq!(running.stats().total["answers_late"], 1);
    assert_eq!(running.stats().connections, 1);
    end(running);
}

#[test]
fn answers_that_pile_up_beyond_the_outbox_end_a_slow_consumer() {
    const ANSWER_BYTES: usize = 1 << 20;
    let running =
        server("outbox_bytes_max = 65536\nmessage_bytes_max = 32768\nrequests_open_max = 64")
            .service("big", |_| {
                |_: Request<'_>, reply: Reply<'_>| {
                    reply.offload(|| Ok(vec![1u8; ANSWER_BYTES].into()));
                }
            })
            .start()
            .unwrap();
    let mut wire = Wire::greet(running.address());
    for id in 0..64 {
        wire.ask(id, "big", b"");
    }
    wait_until(&running, "closed", |running| {
        closed(running, "slow_consumer") == 1
    });
    assert_eq!(running.stats().connections, 0);
    end(running);
}

#[test]
fn a_drain_waits_for_calls_that_are_open() {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = gate.clone();
    let running = server("")
        .service("gated", move |_| {
            let gate = gate.clone();
            move |_: Request<'_>, reply: Reply<'_>| {
                let gate = gate.clone();
                reply.offload(move || {
                    while !gate.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Ok("at last".into())
                });
            }
        })
        .start()
        .unwrap();
    let mut wire = Wire::greet(running.address());
    wire.ask(1, "gated", b"");
    wire.echoes();
    running.drain();
    let heard = wire.message().expect("DRAIN");
    assert_eq!(heard.kind, MessageType::Drain);
    // Longer than a connection without anything open would be kept.
    std::thread::sleep(Duration::from_millis(500));
    opened.store(true, Ordering::Relaxed);
    assert_eq!(wire.response(), (1, Ok(b"at last".to_vec())));
    let heard = wire.message().expect("CLOSE");
    assert_eq!(heard.kind, MessageType::Close);
    wire.expect_end();
    drop(wire);
    running.wait().unwrap();
}

#[test]
fn two_servers_in_one_process_do_not_know_each_other() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let one = server("")
        .service("mine", |_| {
            |_: Request<'_>, reply: Reply<'_>| {
                CALLS.fetch_add(1, Ordering::Relaxed);
                reply.send(b"one");
            }
        })
        .start()
        .unwrap();
    let two = server("").start().unwrap();
    assert_eq!(
        Wire::greet(one.address()).request("mine", b"").unwrap(),
        b"one"
    );
    assert_eq!(
        Wire::greet(two.address()).request("mine", b""),
        Err(Code::NoService)
    );
    end(one);
    Wire::greet(two.address()).echoes();
    end(two);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
}

// ---- a shard that panics: in a process of its own ----

const CHILD: &str = "RINGMAIL_TEST_PANICKING_CHILD";

/// Not a test of its own: the program that `a_panic_…` starts, this binary called again.
#[test]
fn the_program_with_a_service_that_panics() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let running = server("")
        .service("inline", |_| {
            |_: Request<'_>, _: Reply<'_>| panic!("inline, as asked")
        })
        .service("future", |_| {
            |_: Request<'_>, reply: Reply<'_>| {
                reply.spawn(async { panic!("in a future, as asked") });
            }
        })
        .start()
        .unwrap();
    println!("\nserving on {}", running.address());
    wait_or_exit(running);
}

/// What a program that embeds a server must do: a shard that failed has taken its connections
/// with it, so end, and let whoever watches start again.
fn wait_or_exit(running: Running) {
    if let Err(error) = running.wait() {
        eprintln!("program: {error}");
        std::process::exit(i32::from(error.status().code()));
    }
}

/// Starts this binary again as the program of that name, until it serves at an address.
fn start_program(name: &str) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.strip_prefix("serving on ")?.to_owned()))
        .expect("the child serves");
    (child, address.parse().unwrap())
}

/// Waits for its end: the exit status and what it said on standard error.
fn end_of(mut child: Child) -> (Option<i32>, String) {
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the process lives on, half alive");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut errors = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut errors).unwrap();
    (status.code(), errors)
}

#[test]
fn a_panic_on_a_shard_ends_the_process_with_its_reason() {
    for service in ["inline", "future"] {
        let (child, address) = start_program("the_program_with_a_service_that_panics");
        let mut wire = Wire::greet(address);
        wire.echoes();
        let request = encode(
            &Message::Envelope(
                MessageType::Request,
                Envelope {
                    name: service,
                    ..Envelope::default()
                },
            ),
            false,
        );
        wire.send(&request);
        let (status, errors) = end_of(child);
        assert_eq!(status, Some(1), "{service}: {errors}");
        let told = "program: shard 0 failed: it panicked: ";
        assert!(errors.contains(told), "{service}: {errors}");
        assert!(errors.contains("as asked"), "{service}: {errors}");
    }
}

#[test]
fn a_service_sees_the_span_of_its_call_where_the_server_traces() {
    // Nobody listens there, which is none of the service's business.
    let traced = "request_timeout_ms = 10000\n[trace]\nendpoint = \"http://127.0.0.1:9\"\nsample_ratio = 1.0";
    for (settings, is_traced) in [("", false), (traced, true)] {
        let service = |_shard| {
            |request: Request<'_>, reply: Reply<'_>| {
                let trace = request.trace().map(|context| context.to_string());
                reply.send(trace.unwrap_or_default().as_bytes());
            }
        };
        let running = server(settings).service("trace", service).start().unwrap();
        let mut client = Client::connect(&running.address().to_string()).unwrap();
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            let answer = client.request("trace", "").unwrap().payload;
            seen.insert(String::from_utf8(answer.to_vec()).unwrap());
        }
        let is_context =
            |text: &String| text.len() == 55 && text.starts_with("00-") && text.ends_with("-01");
        let contexts = if is_traced { 3 } else { 0 };
        let found = seen.iter().filter(|text| is_context(text)).count();
        assert_eq!(found, contexts, "{seen:?}");
        client.close().unwrap();
        end(running);
    }
}
// ---- the same of the control thread ----

/// The log of a program, which panics at what the admin endpoints say of a broken request.
struct BadLog;

impl<S: tracing::Subscriber> Layer<S> for BadLog {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let of = event.metadata();
        let is_broken = *of.level() == tracing::Level::DEBUG;
        if is_broken && of.target().starts_with("ringmail::server::control::http") {
            panic!("in the log, as asked");
        }
    }
}

/// Not a test of its own: the program that the next one starts.
#[test]
fn the_program_whose_log_panics() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    tracing_subscriber::registry().with(BadLog).init();
    let text = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nshards = [0]\n";
    let config = Config::from_toml(text).unwrap();
    let running = Server::builder().config(config).start().unwrap();
    println!("\nserving on {}", running.admin_address().unwrap());
    wait_or_exit(running);
}

#[test]
fn a_panic_on_the_control_thread_ends_the_process_with_its_reason() {
    let (child, admin) = start_program("the_program_whose_log_panics");
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"no HTTP at all\r\n\r\n").unwrap();
    let (status, errors) = end_of(child);
    assert_eq!(status, Some(1), "{errors}");
    let told = "program: the control thread failed: it panicked: in the log, as asked";
    assert!(errors.contains(told), "{errors}");
}
