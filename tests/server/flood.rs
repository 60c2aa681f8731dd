//! Peers that make the server work for nothing: floods and garbage. They are shut out by budget,
//! and the others notice nothing.

use crate::harness::Server;
use crate::wire::{Wire, encode};
use ringmail::proto::error::Code;
use ringmail::proto::message::Message;
use ringmail::proto::option::Options;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs `flood` while a connection of the same shard asks for echoes; how many it got.
fn echoes_beside(server: &Server, flood: impl FnOnce(Wire)) -> u32 {
    let (flooder, options) = Wire::greet_with(server.address, &Options::default());
    let shard = Options::parse(&options).unwrap().shard.unwrap();
    let mut other = server.greet_on(shard);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let echoing = scope.spawn(|| {
            let mut answered = 0;
            while !over.load(Ordering::Relaxed) {
                other.echoes();
                answered += 1;
            }
            other.close();
            answered
        });
        flood(flooder);
        over.store(true, Ordering::Relaxed);
        echoing.join().unwrap()
    })
}

#[test]
fn a_flood_of_pings_is_rate_limited_and_then_shut_out_while_others_are_served() {
    const PINGS_MAX: usize = 3_000_000;
    let mut server = Server::start(&[]);
    let mut limited = 0;
    let echoes = echoes_beside(&server, |mut wire| {
        let mut writer = wire.stream.try_clone().unwrap();
        let flood = encode(&Message::Ping(b""), false).repeat(1000);
        let writing = std::thread::spawn(move || {
            let sent = (0..PINGS_MAX / 1000).take_while(|_| writer.write_all(&flood).is_ok());
            sent.count()
        });
        let fatal = loop {
            let heard = wire.message().expect("an ERROR before the end");
            match heard.message() {
                Message::Pong(b"") => {}
                Message::Error { code, fatal, .. } => {
                    assert_eq!(code, Code::RateLimited);
                    limited += 1;
                    if fatal {
                        break true;
                    }
                }
                other => panic!("{other:?}"),
            }
        };
        assert!(fatal);
        wire.expect_end();
        drop(wire);
        writing.join().unwrap();
    });
    assert_eq!(limited, 11, "ten warnings and the end");
    // A hundred thousand PINGs and more are handled in turns of 64: many hundreds are usual.
    assert!(echoes >= 20, "{echoes} echoes beside the flood");
    let stats = server.wait_for("closed", |stats| stats.connections == 1);
    assert_eq!(stats.closed["too_many_errors"], 1, "{stats:?}");
    server.end();
}

#[test]
fn garbage_is_refused_at_its_first_byte_and_costs_bounded_work() {
    const FLOODS: u64 = 20;
    let mut server = Server::start(&[]);
    let garbage: Vec<u8> = (0..4u32 << 20).map(|i| (i * 31 + 7) as u8 | 0x80).collect();
    let echoes = echoes_beside(&server, |mut wire| {
        wire.send_anyway(&garbage);
        wire.expect_fatal(Code::Malformed);
        for _ in 1..FLOODS {
            let mut wire = server.greet();
            wire.send_anyway(&garbage);
            wire.expect_fatal(Code::Malformed);
        }
    });
    // Each of the floods takes several round trips, too.
    assert!(
        u64::from(echoes) >= FLOODS,
        "{echoes} echoes beside the floods"
    );
    let stats = server.wait_for("closed", |stats| stats.connections == 1);
    assert_eq!(stats.closed["malformed"], FLOODS, "{stats:?}");
    server.end();
}
