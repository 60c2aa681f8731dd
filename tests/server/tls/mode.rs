//! Off, optional, required; the versions of TLS; ALPN; what a start refuses.

use super::authority::{Authority, Habit, VERSIONS};
use crate::harness::{Server, command, refused};
use crate::peer::Peer;
use crate::stream::Stream;
use crate::wire::{Wire, syn};
use ringmail::proto::error::Code;
use ringmail::proto::option::Options;
use rustls::{AlertDescription, Error};
use std::io::{Read, Write};
use std::process::Command;

/// What ends a handshake that the server refuses: its alert, as the client tells it.
pub fn refusal(stream: &mut Stream) -> Error {
    let wanted = syn(&Options::default());
    // With TLS 1.3 a client is done before the server has judged its certificate.
    let sent = stream.write_all(&wanted).and_then(|()| stream.flush());
    let error = sent.and_then(|()| stream.read(&mut [0])).unwrap_err();
    let inner = error.into_inner().expect("an error of rustls");
    *inner.downcast::<Error>().expect("an error of rustls")
}

#[test]
fn with_tls_optional_both_are_served_and_reach_each_other() {
    let authority = Authority::new();
    let settings = authority.settings("optional");
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = Server::start(&settings);
    let client = authority.client();
    for shard in [0, 1] {
        let mut plain = server.peer(shard);
        let mut secured = loop {
            let peer = Peer::join(server.address, Default::default(), Some(&client));
            if peer.shard == 1 - shard {
                break peer;
            }
            peer.close();
        };
        plain.subscribe("to/plain");
        secured.subscribe("to/secured");
        plain.publish("to/secured", "a");
        secured.publish("to/plain", "b");
        assert_eq!(plain.published().text(), "b");
        assert_eq!(secured.published().text(), "a");
        secured.close();
        plain.close();
    }
    server.end_beside_closes(&[]);
}

#[test]
fn with_tls_required_a_plain_syn_is_told_so() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    let mut wire = Wire::connect(server.address);
    wire.send(&syn(&Options::default()));
    wire.expect_rst(Code::TlsRequired);
    // Neither plain nor TLS.
    let mut wire = Wire::connect(server.address);
    wire.send(b"GET / HTTP/1.1\r\n\r\n");
    wire.expect_rst(Code::Malformed);
    server.settle(&[("tls_required", 1), ("malformed", 1)]);
    server.end();
}

#[test]
fn with_tls_off_a_client_hello_is_closed() {
    let authority = Authority::new();
    let mut server = Server::start(&[]);
    let mut stream = Stream::connect(server.address, Some(&authority.client()));
    stream.write_all(b"x").unwrap_err();
    drop(stream);
    // Without a word, that is: nothing a TLS client could not read.
    let mut stream = Stream::connect(server.address, None);
    stream.write_all(&[0x16, 3, 1, 0, 1]).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty(), "{answer:?}");
    drop(stream);
    server.settle(&[("malformed", 2)]);
    server.end();
}

#[test]
fn both_versions_serve_and_end_with_close_notify() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    for version in VERSIONS {
        let client = authority.client_with(Habit {
            version: Some(version),
            ..Habit::default()
        });
        for _ in 0..2 {
            let mut wire = Wire::of(Stream::connect(server.address, Some(&client)));
            wire.shake(&Options::default());
            wire.echoes();
            wire.pings();
            let tls = wire.stream.tls.as_ref().unwrap();
            assert_eq!(tls.protocol_version(), Some(version.version));
            // It fails if the FIN comes without close_notify.
            wire.close();
        }
    }
    let stats = server.settle(&[("peer_close", 4)]);
    let asked = server.asked_requests();
    assert_eq!(stats.total["tls_established"], 4 + asked);
    server.end();
}

#[test]
fn a_client_comes_back_by_ticket() {
    let authority = Authority::new();
    let server = authority.server(&[]);
    for version in VERSIONS {
        let client = authority.client_with(Habit {
            version: Some(version),
            ..Habit::default()
        });
        let kinds = [0, 1].map(|_| {
            let mut wire = Wire::of(Stream::connect(server.address, Some(&client)));
            wire.shake(&Options::default());
            wire.echoes();
            let kind = wire.stream.tls.as_ref().unwrap().handshake_kind();
            wire.close();
            kind
        });
        use rustls::HandshakeKind::{Full, Resumed};
        assert_eq!(kinds, [Some(Full), Some(Resumed)], "{version:?}");
    }
    server.end_beside_closes(&[]);
}

#[test]
fn alpn_is_answered_and_a_client_of_another_protocol_is_refused() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    for (alpn, agreed) in [
        (vec![], None),
        (vec!["mcp/1"], Some(&b"mcp/1"[..])),
        (vec!["h2", "mcp/1"], Some(b"mcp/1")),
    ] {
        let client = authority.client_with(Habit {
            alpn,
            ..Habit::default()
        });
        let mut wire = Wire::of(Stream::connect(server.address, Some(&client)));
        wire.shake(&Options::default());
        let tls = wire.stream.tls.as_ref().unwrap();
        assert_eq!(tls.alpn_protocol(), agreed);
        wire.close();
    }
    for version in VERSIONS {
        let client = authority.client_with(Habit {
            version: Some(version),
            alpn: vec!["h2", "http/1.1"],
            ..Habit::default()
        });
        let mut stream = Stream::connect(server.address, Some(&client));
        let expected = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
        assert_eq!(refusal(&mut stream), expected);
    }
    server.settle(&[("peer_close", 3), ("tls_failed", 2)]);
    server.end();
}

#[test]
fn a_version_too_old_is_refused_with_an_alert() {
    let mut server = Authority::new().server(&[]);
    // A ClientHello of TLS 1.0, by hand: version, random, no session, one suite, no compression.
    let mut hello = vec![3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut record = vec![
        0x16,
        3,
        1,
        0,
        hello.len() as u8 + 4,
        1,
        0,
        0,
        hello.len() as u8,
    ];
    record.extend(hello);
    let mut stream = Stream::connect(server.address, None);
    stream.write_all(&record).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer[0], 0x15, "an alert: {answer:?}");
    drop(stream);
    server.settle(&[("tls_failed", 1)]);
    server.end();
}

#[test]
fn what_cannot_be_served_from_is_refused_at_the_start() {
    let authority = Authority::new();
    let (other, bad) = (authority.issue("another"), "not a certificate");
    authority.write("other.key", &other.key_pem);
    authority.write("bad.pem", bad);
    let named = |name: &str| authority.path(name).display().to_string();
    let usual = authority.settings("required");
    for (settings, told) in [
        (
            format!("tls.certificate={}", named("missing.pem")),
            ["tls.certificate", "missing.pem", "cannot be read"],
        ),
        (
            format!("tls.certificate={}", named("bad.pem")),
            ["tls.certificate", "bad.pem", "no certificate"],
        ),
        (
            format!("tls.key={}", named("other.key")),
            ["tls.key", "other.key", "is not the key of"],
        ),
        (
            format!("tls.key={}", named("server.pem")),
            ["tls.key", "server.pem", "no private key"],
        ),
        (
            format!("tls.client_ca={}", named("server.key")),
            ["tls.client_ca", "server.key", "no certificate"],
        ),
    ] {
        let mut all: Vec<&str> = usual.iter().map(String::as_str).collect();
        all.push(&settings);
        let serve = command(env!("CARGO_BIN_EXE_ringmail"), &[], &all);
        let mut check = Command::new(env!("CARGO_BIN_EXE_ringmail"));
        check.arg("check");
        for setting in &all {
            check.args(["--set", setting]);
        }
        for mut command in [serve, check] {
            let (status, errors) = refused(command.stdout(std::process::Stdio::null()));
            assert_eq!(status, 78, "{errors}");
            for part in told {
                assert!(errors.contains(part), "{part:?} in {errors}");
            }
            let secret = other.key_pem.lines().nth(1).unwrap();
            assert!(
                !errors.contains(secret) && !errors.contains(bad),
                "{errors}"
            );
        }
    }
}

#[test]
fn a_key_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let authority = Authority::new();
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(authority.path("server.key"), readable).unwrap();
    let server = authority.server(&[]);
    let log = server.log();
    assert!(
        log.contains("tls.key") && log.contains("chmod 600"),
        "{log}"
    );
    server.end();
    let mut check = Command::new(env!("CARGO_BIN_EXE_ringmail"));
    check.arg("check");
    for setting in authority.settings("required") {
        check.args(["--set", &setting]);
    }
    let output = check.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("chmod 600"), "{errors}");
}
