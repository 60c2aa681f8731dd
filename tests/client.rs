//! The blocking client against a scripted server over real loopback sockets: what it sends,
//! what it makes of answers, of endings, and of a server that misbehaves.

mod peer;

#[path = "client/flood.rs"]
mod flood;
#[path = "client/incoming.rs"]
mod incoming;
#[path = "client/publish.rs"]
mod publish;
#[path = "client/reconnect.rs"]
mod reconnect;
#[path = "client/session.rs"]
mod session;

use peer::{Heard, PRODUCT, Peer, SHARD, settings};
use ringmail::base::reason::Reason;
use ringmail::blocking::Client;
use ringmail::client::{Code, Codec, Error, Publish, Reconnect, Request};
use ringmail::proto::envelope::{Envelope, header};
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::option::{AUTH_JWT, AUTH_OPTIONAL};
use ringmail::proto::session::Settings;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(50);

fn close(code: Code, reason: &str) -> Message<'_> {
    Message::Close { code, reason }
}

#[test]
fn a_request_is_answered_and_close_is_shaken_hands_on() {
    let peer = Peer::echo();
    let mut client = Client::connect(&peer.address).unwrap();
    assert_eq!(client.server().product, PRODUCT);
    assert_eq!(client.server().shard, SHARD);
    assert_eq!(client.server().message_bytes_max, 1 << 20);
    assert_eq!(client.server().heartbeat, Duration::from_secs(30));
    assert_eq!(client.server().auth, 0);
    assert!(!client.server().has_checksum());
    for payload in ["", "hello"] {
        let response = client.request("$sys/echo", payload).unwrap();
        assert_eq!(response.payload, payload.as_bytes());
        assert_eq!(response.codec, Codec::Bytes);
    }
    client.ping().unwrap();
    client.close().unwrap();
}

#[test]
fn what_the_builder_is_told_reaches_the_server() {
    let peer = Peer::run(|mut served| {
        assert_eq!(served.establish().as_deref(), Some("thermostat-17"));
        assert_eq!(served.session.peer_message_bytes_max(), 2048);
        assert!(served.session.has_checksum());
        served.echo();
    });
    let mut client = Client::builder()
        .client_id("thermostat-17")
        .message_bytes_max(2048)
        .heartbeat(Duration::from_millis(1500))
        .checksum(true)
        .connect(&format!("ringmail://{}", peer.address))
        .unwrap();
    assert!(client.server().has_checksum());
    assert_eq!(client.server().heartbeat, Duration::from_millis(1500));
    let response = client.request("$sys/echo", "summed").unwrap();
    assert_eq!(response.payload, b"summed");
    client.close().unwrap();
}

#[test]
fn codec_timeout_and_headers_travel_with_a_request() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.request();
        assert_eq!((asked.service.as_str(), asked.codec), ("a/b", 1));
        let timeout = (header::TIMEOUT_MS, 25_000u32.to_be_bytes().to_vec());
        assert_eq!(asked.headers, [timeout, (0x40, b"tenant".to_vec())]);
        let envelope = Envelope {
            id: asked.id,
            codec: Codec::Protobuf,
            payload: b"answer",
            ..Envelope::default()
        };
        served.send(&Message::Envelope(MessageType::Response, envelope));
        // A request without a timeout of its own says nothing of one.
        assert!(served.request().headers.is_empty());
    });
    let mut client = Client::builder()
        .request_timeout(SHORT)
        .connect(&peer.address)
        .unwrap();
    let request = Request::new("a/b")
        .payload(b"{}")
        .codec(Codec::Json)
        .timeout(Duration::from_secs(25))
        .header(0x40, b"tenant");
    let response = client.request_with(&request).unwrap();
    assert_eq!(response.payload, b"answer");
    assert_eq!(response.codec, Codec::Protobuf);
    let unanswered = client.request("a/b", "");
    assert!(unanswered.is_err());
}

#[test]
fn a_server_that_writes_byte_by_byte_is_understood() {
    let peer = Peer::run(|mut served| {
        served.chunk_bytes = 1;
        served.establish();
        served.echo();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    let response = client.request("$sys/echo", "in pieces").unwrap();
    assert_eq!(response.payload, b"in pieces");
    client.close().unwrap();
}

#[test]
fn payloads_larger_than_any_socket_buffer_pass_both_ways() {
    let peer = Peer::with(
        Settings {
            message_bytes_max: 16 << 20,
            ..settings()
        },
        |mut served| {
            served.establish();
            served.echo();
        },
    );
    let mut client = Client::connect(&peer.address).unwrap();
    let payload: Vec<u8> = (0..12u32 << 20).map(|i| (i * 7) as u8).collect();
    let response = client.request("$sys/echo", &payload).unwrap();
    assert!(
        response.payload == payload,
        "the payload changed on its way"
    );
    client.close().unwrap();
}

#[test]
fn a_payload_the_server_would_refuse_is_not_sent() {
    for checksum in [false, true] {
        let small = Settings {
            message_bytes_max: 1024,
            ..settings()
        };
        let peer = Peer::with(small, |mut served| {
            served.establish();
            served.echo();
        });
        let mut client = Client::builder()
            .checksum(checksum)
            .connect(&peer.address)
            .unwrap();
        // A CRC does not count.
        let fits = 1024 - 7 - "$sys/echo".len();
        let error = client.request("$sys/echo", vec![0; fits + 1]).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert!(error.to_string().contains("message_bytes_max"), "{error}");
        client.request("$sys/echo", vec![0; fits]).unwrap();
        client.close().unwrap();
    }
}

#[test]
fn a_failed_response_is_an_error_and_the_connection_stands() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.request();
        served.fail(asked.id, Code::Application(0x1001), "out of paper");
        let asked = served.request();
        served.send(&Message::Error {
            code: Code::RateLimited,
            id: asked.id,
            fatal: false,
            text: "slower",
        });
        let asked = served.request();
        served.respond(asked.id, ringmail::proto::envelope::FLAG_FAILED, &[1]);
        served.echo();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    match client.request("print", "page").unwrap_err() {
        Error::Failed { code, text } => {
            assert_eq!(
                (code, text.as_str()),
                (Code::Application(0x1001), "out of paper")
            );
        }
        other => panic!("{other}"),
    }
    let error = client.request("print", "page").unwrap_err();
    assert_eq!(error.code(), Some(Code::RateLimited));
    assert!(error.is_retryable());
    let error = client.request("print", "page").unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error}");
    client.request("$sys/echo", "").unwrap();
    let error = client.request("nobody", "").unwrap_err();
    assert_eq!(error.code(), Some(Code::NoService));
    client.close().unwrap();
}

#[test]
fn what_comes_in_between_is_handled_and_late_answers_are_dropped() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let first = served.request(); // the client gives up on it
        let second = served.request();
        served.respond(first.id, 0, b"late");
        served.send(&Message::Ok { id: second.id });
        served.send(&Message::Ping(b"alive?"));
        served.send(&Message::Pong(b"nobody asked"));
        served.send(&Message::Error {
            code: Code::Overloaded,
            id: 0,
            fatal: false,
            text: "",
        });
        served.send(&Message::Drain {
            deadline_ms: 1000,
            reconnect_after_ms: 20,
            alternative: "other:7411",
        });
        served.respond(second.id.wrapping_add(1), 0, b"another's");
        served.answer(&second);
        served.echo();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    assert!(client.drain().is_none());
    let impatient = Request::new("slow").timeout(SHORT);
    let error = client.request_with(&impatient).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let response = client.request("$sys/echo", "right").unwrap();
    assert_eq!(response.payload, b"right");
    let drain = client.drain().unwrap();
    assert_eq!(drain.deadline, Duration::from_secs(1));
    assert_eq!(drain.reconnect_after, Duration::from_millis(20));
    assert_eq!(drain.alternative, "other:7411");
    client.close().unwrap();
}

#[test]
fn a_ping_of_the_servers_is_answered_while_a_call_waits_and_by_keep_alive() {
    let (ponged, pong) = std::sync::mpsc::channel();
    let peer = Peer::run(move |mut served| {
        served.establish();
        let asked = served.request();
        served.send(&Message::Ping(b"first"));
        served.hear_bytes(b"first");
        served.answer(&asked);
        served.send(&Message::Ping(b"second"));
        served.hear_bytes(b"second");
        ponged.send(()).unwrap();
        served.echo();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    client.request("$sys/echo", "").unwrap();
    let answered = (0..5000).any(|_| {
        client.keep_alive().unwrap();
        pong.recv_timeout(Duration::from_millis(1)).is_ok()
    });
    assert!(answered, "keep_alive did not answer the PING");
    client.close().unwrap();
}

#[test]
fn keep_alive_tells_how_the_connection_ended() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.send(&close(Code::HeartbeatTimeout, "nothing was heard"));
    });
    let mut client = Client::connect(&peer.address).unwrap();
    let ended = (0..5000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(1));
        client.keep_alive().err()
    });
    let text = ended.unwrap().to_string();
    assert!(text.contains("stalled for too long"), "{text}");
}

#[test]
fn a_request_to_the_client_is_declined() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.request();
        let envelope = Envelope {
            id: 77,
            name: "who/are/you",
            ..Envelope::default()
        };
        served.send(&Message::Envelope(MessageType::Request, envelope));
        served.operation(MessageType::Response);
        served.answer(&asked);
        served.echo();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    client.request("$sys/echo", "").unwrap();
    client.close().unwrap();
}

#[test]
fn a_refused_handshake_names_the_servers_reason() {
    let peer = Peer::run(|mut served| {
        let refusal = ringmail::client::Refusal::new(Code::TooManyConnections, "full");
        let mut out = Vec::new();
        served.session.refuse(&refusal, &mut out);
        served.write(&out);
    });
    let error = Client::connect(&peer.address).unwrap_err();
    match &error {
        Error::Refused { code, reason } => {
            assert_eq!((*code, reason.as_str()), (Code::TooManyConnections, "full"));
        }
        other => panic!("{other}"),
    }
    assert!(error.is_retryable());
}

#[test]
fn a_fatal_error_ends_the_connection_for_every_later_call() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.request();
        let refusal = ringmail::client::Refusal::new(Code::Revoked, "the key was withdrawn");
        let mut out = Vec::new();
        served.session.refuse(&refusal, &mut out);
        served.write(&out);
    });
    let mut client = Client::connect(&peer.address).unwrap();
    for _ in 0..2 {
        let error = client.request("$sys/echo", "").unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert_eq!(error.code(), Some(Code::Revoked));
        assert!(!error.is_retryable());
    }
    assert!(client.ping().is_err());
    assert!(client.close().is_err());
}

#[test]
fn the_servers_close_is_answered_and_told() {
    let kicked = "an operator closed this connection";
    for (said, why, line) in [
        (
            Code::Draining,
            "bye",
            "DRAINING: bye; the server is shutting down",
        ),
        // Of the server itself nothing is known.
        (
            Code::Shutdown,
            kicked,
            "SHUTDOWN: an operator closed this connection; connect",
        ),
    ] {
        let peer = Peer::run(move |mut served| {
            served.establish();
            served.request();
            let mut out = Vec::new();
            served.session.close(said, why, &mut out);
            served.write(&out);
            assert_eq!(served.hear(), Heard::Ended(Reason::Shutdown));
        });
        let mut client = Client::connect(&peer.address).unwrap();
        let error = client.request("$sys/echo", "").unwrap_err();
        assert!(error.to_string().contains(line), "{error}");
        match error {
            Error::Closed { code, reason } => assert_eq!((code, reason.as_str()), (said, why)),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_close_that_came_between_calls_is_heard_before_anything_is_sent() {
    let (told, tell) = std::sync::mpsc::channel();
    let peer = Peer::run(move |mut served| {
        served.establish();
        served.send(&close(Code::Normal, "bye"));
        told.send(()).unwrap();
        // CLOSE is all that comes: no request.
        let heard = served.hear();
        assert!(matches!(heard, Heard::Closed { .. }), "{heard:?}");
        assert_eq!(served.hear(), Heard::Eof);
    });
    let mut client = Client::connect(&peer.address).unwrap();
    tell.recv().unwrap();
    std::thread::sleep(SHORT); // for the kernel to bring it over
    let error = client.request("$sys/echo", "never sent").unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

#[test]
fn garbage_is_refused_with_the_reason_on_the_wire() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.request();
        served.write(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        match served.hear() {
            Heard::Closed { code, reason } => {
                assert_eq!(code, Code::Malformed);
                assert!(reason.contains("0x4D 0x43"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    });
    let mut client = Client::connect(&peer.address).unwrap();
    for _ in 0..2 {
        match client.request("$sys/echo", "").unwrap_err() {
            Error::Protocol(refusal) => {
                assert_eq!(refusal.code, Code::Malformed);
                assert!(refusal.text.contains("0x4D 0x43"));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn something_else_than_a_server_is_told_apart() {
    let peer = Peer::run(|mut served| served.write(b"SSH-2.0-OpenSSH_9.2\r\n"));
    let error = Client::connect(&peer.address).unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error}");
    assert!(error.to_string().contains("is it a ringmail server"));

    let peer = Peer::run(drop);
    let error = Client::connect(&peer.address).unwrap_err();
    match &error {
        Error::Connect { address, .. } => assert_eq!(*address, peer.address),
        other => panic!("{other}"),
    }
}

#[test]
fn a_client_with_nothing_to_show_goes_on_where_that_may_be_left_out() {
    let optional = Settings {
        auth_methods: AUTH_OPTIONAL | AUTH_JWT,
        ..settings()
    };
    let peer = Peer::with(optional, |mut served| {
        served.establish();
        served.admit();
        served.echo();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    assert_eq!(client.server().auth, AUTH_OPTIONAL | AUTH_JWT);
    assert_eq!(client.request("$sys/echo", "x").unwrap().payload, b"x"[..]);
    client.close().unwrap();
}

#[test]
fn an_ok_may_say_more_than_whose_it_is() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.operation(MessageType::Subscribe);
        let mut ok = b"MC\x01\x05\0\0\0\x0c".to_vec();
        ok.extend(asked.id.to_be_bytes());
        ok.extend(7u64.to_be_bytes());
        served.write(&ok);
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    client.subscribe("a").unwrap();
    client.close().unwrap();
}

#[test]
fn a_message_larger_than_agreed_is_refused() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.request();
        served.respond(asked.id, 0, &[0; 2000]);
        let heard = served.hear();
        assert!(
            matches!(
                heard,
                Heard::Closed {
                    code: Code::TooLarge,
                    ..
                }
            ),
            "{heard:?}"
        );
    });
    let mut client = Client::builder()
        .message_bytes_max(1024)
        .connect(&peer.address)
        .unwrap();
    let error = client.request("$sys/echo", "").unwrap_err();
    assert_eq!(error.code(), Some(Code::TooLarge));
}

#[test]
fn a_damaged_message_is_refused_where_a_checksum_is_agreed() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let asked = served.request();
        let envelope = Envelope {
            id: asked.id,
            payload: b"sound",
            ..Envelope::default()
        };
        let mut bytes = Vec::new();
        let message = Message::Envelope(MessageType::Response, envelope);
        served.session.send(&message, &mut bytes);
        bytes[16] ^= 1;
        served.write(&bytes);
        served.hear();
    });
    let mut client = Client::builder()
        .checksum(true)
        .connect(&peer.address)
        .unwrap();
    let error = client.request("$sys/echo", "").unwrap_err();
    assert_eq!(error.code(), Some(Code::BadChecksum), "{error}");
}

#[test]
fn a_server_that_vanishes_is_an_error_of_the_network() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.request();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    let error = client.request("$sys/echo", "").unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(error.is_retryable());
    let error = client.ping().unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn a_server_that_says_nothing_times_out_in_each_phase() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let peer = Peer::run(move |served| {
        let _ = held.recv();
        drop(served);
    });
    let error = Client::builder()
        .connect_timeout(SHORT)
        .connect(&peer.address)
        .unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(error.to_string().contains("handshake"), "{error}");
    drop(hold);

    let peer = Peer::run(|mut served| {
        served.establish();
        while served.hear() != Heard::Eof {}
    });
    let mut client = Client::builder()
        .request_timeout(SHORT)
        .connect(&peer.address)
        .unwrap();
    let error = client.request("$sys/echo", "").unwrap_err();
    assert!(error.to_string().contains("the request"), "{error}");
    // PONG is the session's own answer: the connection stands.
    client.ping_with(8, Duration::from_secs(20)).unwrap();
    let error = client.close().unwrap_err();
    assert!(error.to_string().contains("the close"), "{error}");
}

#[test]
fn a_silent_server_is_noticed_by_the_heartbeat_before_the_request_times_out() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.request();
        // Neither answers nor PONGs: nothing is handled, only read.
        served.ignore();
    });
    let mut client = Client::builder()
        .heartbeat(Duration::from_millis(100))
        .request_timeout(Duration::from_secs(3600))
        .connect(&peer.address)
        .unwrap();
    let error = client.request("$sys/echo", "").unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(error.to_string().contains("silent"), "{error}");
}

#[test]
fn nobody_at_the_address_is_told_with_address_and_remedy() {
    // Nobody listens there.
    let address = "127.0.0.1:1";
    let error = Client::connect(address).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }));
    let text = error.to_string();
    assert!(
        text.contains(address) && text.contains("ringmail serve"),
        "{text}"
    );
}

#[test]
fn options_no_server_would_take_are_refused_before_connecting() {
    // Nobody listens there: getting as far as connecting would be another error.
    let address = "127.0.0.1:1";
    let (zero, new) = (Duration::ZERO, Client::builder);
    let reconnect = Reconnect::default;
    for (builder, named) in [
        (new().client_id(""), "client id"),
        (new().client_id("spaces are out"), "client id"),
        (new().client_id(&"x".repeat(65)), "client id"),
        (new().message_bytes_max(0), "message_bytes_max"),
        (new().message_bytes_max(u32::MAX), "message_bytes_max"),
        (new().inbox_bytes_max(0), "inbox_bytes_max"),
        (new().connect_timeout(zero), "connect_timeout"),
        (new().request_timeout(zero), "request_timeout"),
        (new().heartbeat(zero), "heartbeat"),
        (new().reconnect(reconnect().delay_base(zero)), "delay_base"),
        (new().reconnect(reconnect().delay_max(zero)), "delay_max"),
    ] {
        let error = builder.connect(address).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn a_ping_of_any_allowed_size_comes_back() {
    let peer = Peer::echo();
    let mut client = Client::connect(&peer.address).unwrap();
    for bytes in [0, 1, 8, 64] {
        client.ping_with(bytes, Duration::from_secs(10)).unwrap();
    }
    let error = client.ping_with(65, SHORT).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    client.close().unwrap();
}

#[test]
fn a_dropped_client_says_close() {
    let peer = Peer::run(|mut served| {
        served.establish();
        let heard = served.hear();
        assert!(
            matches!(
                heard,
                Heard::Closed {
                    code: Code::Normal,
                    ..
                }
            ),
            "{heard:?}"
        );
    });
    drop(Client::connect(&peer.address).unwrap());
}

#[test]
fn times_without_end_are_no_limit() {
    let peer = Peer::echo();
    let max = Duration::MAX;
    let mut client = Client::builder()
        .connect_timeout(max)
        .request_timeout(max)
        .heartbeat(max)
        .wait(max)
        .reconnect(Reconnect::default().delay_base(max).delay_max(max))
        .connect(&peer.address)
        .unwrap();
    client.request("$sys/echo", "").unwrap();
    let request = Request::new("$sys/echo").timeout(max);
    client.request_with(&request).unwrap();
    client.close().unwrap();
}

/// A copy of a client in a process that was forked off has no thread under it, and no
/// connection of its own.
#[test]
fn a_forked_process_is_told_that_the_connection_is_its_parents() {
    let peer = Peer::echo();
    let mut client = Client::connect(&peer.address).unwrap();
    client.request("$sys/echo", "before").unwrap();
    // SAFETY: the child allocates, which the C library allows, takes no lock that another
    // thread may have held, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: a call without memory; a child that hangs is ended.
        unsafe { libc::alarm(20) };
        let told = |outcome: Result<(), Error>| matches!(outcome, Err(error @ Error::Io { .. }) if error.to_string().contains("forked"));
        let publish = Publish::new("t");
        let all = [
            told(client.request("$sys/echo", "").map(drop)),
            told(client.ping().map(drop)),
            told(client.publish("t", "")),
            told(client.publish_confirmed("t", "")),
            told(client.flush()),
            told(client.wait_confirmed()),
            told(client.subscribe("t")),
            told(client.will(&publish)),
            told(client.receive().map(drop)),
            told(client.keep_alive()),
        ];
        drop(client);
        // SAFETY: ends this process, without what the test harness does at its end.
        unsafe { libc::_exit(i32::from(!all.iter().all(|told| *told))) };
    }
    let mut status = -1;
    // SAFETY: `status` is there for the call.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0), "the child");
    client.request("$sys/echo", "after").unwrap();
    client.close().unwrap();
}
