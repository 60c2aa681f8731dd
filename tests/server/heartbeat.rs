//! Silence: first a PING, then the end; and how soon a client may ask for it.

use crate::harness::Server;
use crate::wire::Wire;
use ringmail::proto::error::Code;
use ringmail::proto::message::Message;
use ringmail::proto::option::Options;

const QUICK: &[&str] = &["heartbeat.interval_ms=300", "heartbeat.timeout_ms=1200"];

#[test]
fn a_silent_client_is_pinged_once_and_then_closed() {
    let mut server = Server::start(QUICK);
    let mut wire = server.greet();
    let heard = wire.message().expect("a PING");
    assert!(matches!(heard.message(), Message::Ping(_)), "{heard:?}");
    wire.expect_fatal(Code::HeartbeatTimeout);
    server.settle(&[("heartbeat_timeout", 1)]);
    server.end();
}

#[test]
fn the_interval_a_client_asks_for_is_granted_within_bounds() {
    let mut server = Server::start(&["heartbeat.interval_ms=20000", "heartbeat.timeout_ms=40000"]);
    let granted = |asked| {
        let asked = Options {
            heartbeat_ms: asked,
            ..Options::default()
        };
        let (mut wire, options) = Wire::greet_with(server.address, &asked);
        let granted = Options::parse(&options).unwrap().heartbeat_ms.unwrap();
        if granted < 1000 {
            // It is in force, not only said: the default would be twenty seconds.
            let heard = wire.message().expect("a PING");
            assert!(matches!(heard.message(), Message::Ping(_)), "{heard:?}");
        }
        wire.close();
        granted
    };
    assert_eq!(granted(None), 20_000);
    assert_eq!(granted(Some(0)), 20_000);
    assert_eq!(granted(Some(7000)), 7000);
    assert_eq!(granted(Some(250)), 250);
    assert_eq!(granted(Some(1)), 100, "the server works for nothing below");
    assert_eq!(
        granted(Some(u32::MAX)),
        20_000,
        "PING and PONG fit before the timeout"
    );
    server.settle(&[("peer_close", 6)]);
    server.end();
}
