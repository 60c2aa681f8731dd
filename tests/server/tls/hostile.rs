//! X5 of the catalogue: each ends with one reason, and others do not notice.

use super::authority::{Authority, Habit, VERSIONS};
use super::mode::refusal;
use crate::harness::Server;
use crate::peer::Peer;
use crate::stream::Stream;
use crate::wire::{Wire, request_bytes};
use ringmail::proto::error::Code;
use ringmail::proto::option::Options;
use rustls::version::TLS13;
use rustls::{AlertDescription, ClientConnection, Error};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

/// A ClientHello's records.
fn hello(authority: &Authority) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(authority.client(), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Sends these bytes over plain TCP and reads what comes until the server ends it.
fn told(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = Stream::connect(server.address, None);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn a_hello_and_all_that_follows_may_come_byte_by_byte() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    for version in VERSIONS {
        let client = authority.client_with(Habit {
            version: Some(version),
            ..Habit::default()
        });
        let mut stream = Stream::connect(server.address, Some(&client));
        stream.set_nodelay(true).unwrap();
        let mut tcp = stream.try_clone().unwrap();
        let tls = stream.tls.as_mut().unwrap();
        while tls.is_handshaking() {
            let mut records = Vec::new();
            tls.write_tls(&mut records).unwrap();
            for byte in records {
                tcp.write_all(&[byte]).unwrap();
            }
            if tls.is_handshaking() && tls.wants_read() {
                tls.read_tls(&mut tcp).unwrap();
                tls.process_new_packets().unwrap();
            }
        }
        let mut records = Vec::new();
        tls.write_tls(&mut records).unwrap();
        for byte in records {
            tcp.write_all(&[byte]).unwrap();
        }
        let mut wire = Wire::of(stream);
        wire.shake(&Options::default());
        wire.echoes();
        wire.close();
    }
    server.settle(&[("peer_close", 2)]);
    server.end();
}

#[test]
fn garbage_is_answered_with_an_alert_and_closed() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    let mut standing = server.peer(0);
    standing.subscribe("t");
    let mut ended = 0;
    let long = [&[0x16, 3, 1, 0x40, 0][..], &[1, 0, 0x7f, 0xff], &[0; 8000]].concat();
    let garbage: [&[u8]; 5] = [
        &[0x16; 64],
        b"\x16\x03\x01\x00\x05hello",
        // A record larger than there are.
        &[0x16, 3, 1, 0xff, 0xff, 0, 0, 0],
        // No handshake, but an alert and application data.
        &[0x16, 3, 1, 0, 4, 14, 0, 0, 0, 0x17, 3, 3, 0, 1, 0],
        // More than a hello may be.
        &long,
    ];
    for bytes in garbage {
        let answer = told(&server, bytes);
        // An alert, unless it is not even a record.
        assert_eq!(answer.first().copied().unwrap_or(0x15), 0x15, "{answer:?}");
        ended += 1;
    }
    standing.publish("t", "unharmed");
    assert_eq!(standing.published().text(), "unharmed");
    // Who comes from anywhere does not fill the log.
    assert!(!server.log().contains("rustls"), "{}", server.log());
    standing.close();
    server.settle_beside_closes(&[("tls_failed", ended)]);
    server.end();
}

#[test]
fn who_leaves_in_the_midst_of_a_handshake_is_gone() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    let hello = hello(&authority);
    let mut left = 0;
    for end in [1, 5, 6, hello.len() / 2, hello.len() - 1, hello.len()] {
        let mut stream = Stream::connect(server.address, None);
        stream.write_all(&hello[..end]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        left += 1;
    }
    let halves = [1, hello.len() - 1].map(|end| {
        let mut stream = Stream::connect(server.address, None);
        stream.write_all(&hello[..end]).unwrap();
        stream
    });
    // A reset before the accept would leave no trace.
    server.wait_for("accepted", |stats| stats.connections == 3);
    for stream in halves {
        let socket = socket2::SockRef::from(&stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
    server.settle(&[("peer_eof", left), ("peer_reset", 2)]);
    server.end();
}

#[test]
fn a_handshake_that_does_not_end_ends_with_its_timeout() {
    let authority = Authority::new();
    let mut server = authority.server(&["limits.handshake_timeout_ms=200"]);
    let hello = hello(&authority);
    for bytes in [&hello[..1], &hello[..hello.len() - 1], &hello] {
        let answer = told(&server, bytes);
        // Nothing that is not TLS.
        assert!(answer.is_empty() || answer[0] == 0x16, "{answer:?}");
    }
    // TLS is done, and SYN does not come: told in TLS.
    let mut stream = Stream::connect(server.address, Some(&authority.client()));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(
        (answer[..3].to_vec(), &answer[13..15]),
        (b"MC\x04".to_vec(), &[0, 7][..])
    );
    server.settle(&[("handshake_timeout", 4)]);
    server.end();
}

#[test]
fn a_flood_of_key_updates_ends_the_connection_and_some_do_not() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    let client = authority.client_with(Habit {
        version: Some(&TLS13),
        ..Habit::default()
    });
    let mut peer = Peer::join(server.address, Default::default(), Some(&client));
    peer.subscribe("t");
    for _ in 0..100 {
        let tls = peer.stream.tls.as_mut().unwrap();
        tls.refresh_traffic_keys().unwrap();
        peer.publish("t", "with new keys");
        assert_eq!(peer.published().text(), "with new keys");
    }
    let mut tcp = peer.stream.try_clone().unwrap();
    let tls = peer.stream.tls.as_mut().unwrap();
    for _ in 0..100 {
        tls.refresh_traffic_keys().unwrap();
    }
    while tls.wants_write() {
        tls.write_tls(&mut tcp).unwrap();
    }
    let error = peer.stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
    drop(peer);
    server.settle(&[("tls_failed", 1)]);
    server.end();
}

#[test]
fn a_record_that_was_touched_ends_the_connection() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    for version in VERSIONS {
        let client = authority.client_with(Habit {
            version: Some(version),
            ..Habit::default()
        });
        let mut wire = Wire::of(Stream::connect(server.address, Some(&client)));
        wire.shake(&Options::default());
        wire.echoes();
        let mut tcp = wire.stream.try_clone().unwrap();
        let tls = wire.stream.tls.as_mut().unwrap();
        tls.writer().write_all(&[0; 100]).unwrap();
        let mut records = Vec::new();
        tls.write_tls(&mut records).unwrap();
        *records.last_mut().unwrap() ^= 1;
        tcp.write_all(&records).unwrap();
        let error = wire.stream.read(&mut [0]).unwrap_err();
        let expected = Error::AlertReceived(AlertDescription::BadRecordMac);
        assert_eq!(error.to_string(), expected.to_string());
    }
    server.settle(&[("tls_failed", 2)]);
    server.end();
}

#[test]
fn a_stream_cut_without_close_notify_is_answered_as_any_end() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    for notified in [false, true] {
        let mut wire = server.greet();
        wire.ask(3, "$sys/echo", b"the last");
        if notified {
            wire.stream.close_notify();
        } else {
            // In the midst of a record, too.
            wire.stream
                .try_clone()
                .unwrap()
                .write_all(&[0x17, 3, 3, 0, 99, 1])
                .unwrap();
            wire.shut();
        }
        assert_eq!(wire.response(), (3, Ok(b"the last".to_vec())));
        wire.expect_end();
    }
    server.settle(&[("peer_eof", 2)]);
    server.end();
}

#[test]
fn a_record_that_does_not_come_to_its_end_is_a_message_that_does_not() {
    let authority = Authority::new();
    let mut server = authority.server(&["limits.frame_timeout_ms=300"]);
    for version in VERSIONS {
        let client = authority.client_with(Habit {
            version: Some(version),
            ..Habit::default()
        });
        let mut wire = Wire::of(Stream::connect(server.address, Some(&client)));
        wire.shake(&Options::default());
        wire.echoes();
        // Whole records with parts of messages are in time if the messages are.
        let request = request_bytes(9, "$sys/echo", b"in two", false);
        let (first, rest) = request.split_at(12);
        wire.send(first);
        wire.send(rest);
        assert_eq!(wire.response(), (9, Ok(b"in two".to_vec())));
        let mut tcp = wire.stream.try_clone().unwrap();
        tcp.write_all(&[0x17, 3, 3, 0, 99, 1]).unwrap();
        wire.expect_fatal(Code::FrameTimeout);
    }
    server.settle(&[("frame_timeout", 2)]);
    server.end();
}

#[test]
fn many_hellos_at_once_leave_nothing_behind() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    let mut standing = server.peer(0);
    standing.subscribe("t");
    let hello = hello(&authority);
    const MANY: u64 = 400;
    let crowd: Vec<Stream> = (0..MANY)
        .map(|_| {
            let mut stream = Stream::connect(server.address, None);
            stream.write_all(&hello).unwrap();
            stream
        })
        .collect();
    for number in 0..100 {
        standing.publish("t", number.to_string());
        assert_eq!(standing.published().text(), number.to_string());
    }
    for mut stream in crowd {
        // The server's hello came, to each.
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first, [0x16]);
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    standing.close();
    // One that is refused is not among them.
    let none = authority.client_with(Habit {
        alpn: vec!["h2"],
        ..Habit::default()
    });
    refusal(&mut Stream::connect(server.address, Some(&none)));
    server.settle_beside_closes(&[("peer_eof", MANY), ("tls_failed", 1)]);
    server.end();
}
