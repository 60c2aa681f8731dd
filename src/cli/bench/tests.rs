//! The engine against real sockets: an echo server in a thread, on loopback.

use super::connections::Connections;
use super::engine::{self, Pace};
use super::fault::{Fault, Halt};
use super::meter::{Meter, Outcome};
use super::schedule::{Schedule, Spacing};
use super::speaker::{Raw, Shape};
use crate::base::clock::Instant;
use clap::Parser;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Accepts one connection after the other, each served by a thread of its own; the threads
/// end with their connections.
fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Echoes and counts bytes; `before` is called with the count before each answer.
fn echo(mut stream: TcpStream, mut before: impl FnMut(u64)) {
    let mut buffer = [0; 4096];
    let mut total = 0;
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            break;
        }
        total += count as u64;
        before(total);
        if stream.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
}

fn load(address: SocketAddr, connections: usize, pace: &Pace) -> Result<Outcome, Halt> {
    load_within(address, connections, pace, TIMEOUT)
}

/// 50 ms of warm-up, 200 ms measured, 100 bytes each.
fn load_within(
    address: SocketAddr,
    connections: usize,
    pace: &Pace,
    timeout: Duration,
) -> Result<Outcome, Halt> {
    let shape = Rc::new(Shape::raw(100));
    let interrupted = Arc::new(AtomicBool::new(false));
    let speak = |_, _: &mut Vec<u8>| Ok::<_, Fault>(Raw::open(&shape));
    let mut connections = Connections::open(address, connections, TIMEOUT, &interrupted, speak)?;
    let now = Instant::now();
    let is_open = matches!(pace, Pace::Open(_));
    let meter = Meter::start(now, ms(50), ms(200), is_open, None, None);
    let outcome = engine::run(&mut connections, pace, meter, now, timeout)?;
    connections.close();
    Ok(outcome)
}

/// A server and the count of bytes it has echoed.
fn counted_echo() -> (SocketAddr, Arc<AtomicU64>) {
    let echoed = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&echoed);
    let address = listen(move |stream| {
        let mut last = 0;
        echo(stream, |total| {
            counter.fetch_add(total - last, Ordering::SeqCst);
            last = total;
        });
    });
    (address, echoed)
}

#[test]
fn a_closed_loop_counts_each_answer_of_the_window_and_leaves_none_open() {
    let (address, echoed) = counted_echo();
    let pace = Pace::Closed {
        depth: 4,
        spin: false,
    };
    let outcome = load(address, 3, &pace).unwrap();
    let message_bytes = Shape::raw(100).request_bytes() as u64;
    let echoed = echoed.load(Ordering::SeqCst);
    assert_eq!(echoed % message_bytes, 0, "a request was cut short");
    assert!(outcome.messages > 0 && outcome.messages <= echoed / message_bytes);
    assert_eq!(outcome.latency.len(), outcome.messages);
    // However slow this machine is: a closed loop's window is moved, not cut.
    assert!(outcome.window >= ms(200));
    assert!(outcome.generator_cpu > Duration::ZERO);
}

#[test]
fn an_open_loop_sends_its_schedule_and_nothing_else() {
    let (address, echoed) = counted_echo();
    let schedule = Schedule::plan(Spacing::Poisson, 2000.0, ms(250), 9).unwrap();
    let times = schedule.times_ns();
    let sent = times.len() as u64;
    let in_window = times.iter().filter(|&&at| at >= 50_000_000).count() as u64;
    let outcome = load(address, 3, &Pace::Open(schedule)).unwrap();
    let message_bytes = Shape::raw(100).request_bytes() as u64;
    assert_eq!(echoed.load(Ordering::SeqCst), sent * message_bytes);
    assert_eq!(outcome.latency.len(), in_window);
    assert_eq!(outcome.lag.unwrap().len(), in_window);
}

/// The server stalls once for 150 ms. Of a message every millisecond, all that were meant
/// to go while it stalled are late by what was left of the stall: 100 of them by 50 ms or
/// more, however fast or slow this machine is. A generator that waits for answers before it
/// sends on would see one.
#[test]
fn a_stall_shows_in_all_messages_meant_to_be_sent_meanwhile() {
    let message_bytes = Shape::raw(100).request_bytes() as u64;
    let stalled = AtomicBool::new(false);
    let address = listen(move |stream| {
        echo(stream, |total| {
            // After 60 of 250 messages: within the window, and over before its end.
            if total >= 60 * message_bytes && !stalled.swap(true, Ordering::SeqCst) {
                thread::sleep(ms(150));
            }
        });
    });
    let schedule = Schedule::plan(Spacing::Constant, 1000.0, ms(250), 0).unwrap();
    let outcome = load(address, 1, &Pace::Open(schedule)).unwrap();
    let late = outcome.latency.len() - outcome.latency.count_between(0, 49_000_000);
    assert!(late >= 99, "{late} messages show the stall");
}

#[test]
fn a_server_that_goes_away_ends_the_run_with_its_reason() {
    let address = listen(|mut stream| {
        let mut buffer = [0; 64];
        let _ = stream.read(&mut buffer);
    });
    let pace = Pace::Closed {
        depth: 1,
        spin: true,
    };
    let halt = load(address, 2, &pace).unwrap_err();
    assert!(
        matches!(
            halt,
            Halt::Connection {
                count: 2,
                fault: Fault::Eof | Fault::Broken(_),
                ..
            }
        ),
        "{halt}"
    );
}

#[test]
fn a_server_that_says_nothing_ends_the_run() {
    let address = listen(|mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
    });
    let pace = Pace::Closed {
        depth: 2,
        spin: false,
    };
    let halt = load_within(address, 1, &pace, ms(100)).unwrap_err();
    assert!(matches!(halt, Halt::Silent { in_flight: 2, .. }), "{halt}");
}

#[test]
fn no_server_at_the_address_is_unavailable() {
    // Nobody listens there.
    let address = "127.0.0.1:1".parse().unwrap();
    let pace = Pace::Closed {
        depth: 1,
        spin: false,
    };
    let halt = load(address, 1, &pace).unwrap_err();
    assert!(
        halt.to_string()
            .starts_with("connection 1 of 1: cannot connect")
    );
    let failure = crate::cli::failure::Failure::from(halt);
    assert_eq!(failure.status, crate::base::exit::Status::Unavailable);
}

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    args: super::Args,
}

#[test]
fn arguments_that_do_not_go_together_are_refused() {
    let parse = |line: &str| Command::try_parse_from(format!("bench {line}").split(' '));
    for right in [
        "echo",
        "echo --connections 3 --depth 16 --bytes 64 --duration 10s --warm-up 500ms",
        "echo --rate 1000 --schedule constant --seed 4",
        "echo --spawn --spawn-shards 0-1 --server-config x.toml --core 1",
        "idle --connections 15000 --spawn",
    ] {
        assert!(parse(right).is_ok(), "{right}: {:?}", parse(right).err());
    }
    for wrong in [
        "",
        "echo --connections 0",
        "echo --depth 2 --rate 10",
        "echo --schedule poisson",
        "echo --rate 0",
        "echo --rate nan",
        "echo --duration 0s",
        "echo --spawn --server-pid 1",
        "echo --server-config x.toml",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
    let huge = "echo --connections 1000 --depth 1000 --bytes 100000";
    let failure = super::run(&parse(huge).unwrap().args).unwrap_err();
    assert_eq!(failure.status, crate::base::exit::Status::Usage);
}
