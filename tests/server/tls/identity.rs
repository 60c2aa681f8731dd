//! mTLS: clients must present a certificate of the CA's, and its subject's common name is
//! whom they stand for.

use super::authority::{Authority, Habit, VERSIONS};
use super::mode::refusal;
use crate::issuer::Fixture;
use crate::peer::{Peer, publish};
use crate::stream::Stream;
use crate::wire::{Wire, syn};
use aws_lc_rs::digest::{SHA256, digest};
use ringmail::blocking::{Builder, Client};
use ringmail::proto::error::Code;
use ringmail::proto::option::Options;
use rustls::{AlertDescription, Error};
use std::io::Write;

#[test]
fn a_client_is_whom_its_certificate_names() {
    let authority = Authority::new();
    let log = "log.level=info,ringmail::shard=debug";
    let mut server = authority.server(&[&authority.client_ca(), log]);
    for (name, version) in ["pump-7", "Müller & Söhne"].into_iter().zip(VERSIONS) {
        let client = authority.client_with(Habit {
            version: Some(version),
            identity: Some(authority.issue(name)),
            ..Habit::default()
        });
        // Not taken from a ticket: the certificate is asked for each time.
        for _ in 0..2 {
            let mut peer = Peer::join(server.address, Default::default(), Some(&client));
            peer.subscribe("t");
            peer.publish("t", name);
            assert_eq!(peer.published().text(), name);
            let kind = peer.stream.tls.as_ref().unwrap().handshake_kind();
            assert_eq!(kind, Some(rustls::HandshakeKind::Full));
            peer.close();
        }
        // The log quotes what has spaces.
        let shown = match name.contains(' ') {
            true => format!("{name:?}"),
            false => name.to_owned(),
        };
        let principal = format!("principal={shown}");
        server.expect_lines(2, |line| {
            line.contains("TLS established") && line.contains(&principal)
        });
    }
    let client = authority.client_with(Habit {
        identity: Some(authority.issue("who asks")),
        ..Habit::default()
    });
    server = server.secured(&client);
    server.settle(&[("peer_close", 4)]);
    server.end();
}

#[test]
fn who_has_no_certificate_or_no_valid_name_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut server = authority.server(&[&authority.client_ca()]);
    let mut refused = 0;
    for version in VERSIONS {
        let mut attempt = |identity| {
            let client = authority.client_with(Habit {
                version: Some(version),
                identity,
                ..Habit::default()
            });
            refused += 1;
            refusal(&mut Stream::connect(server.address, Some(&client)))
        };
        let without = attempt(None);
        let expected = [
            AlertDescription::CertificateRequired,
            AlertDescription::HandshakeFailure,
        ];
        assert!(
            expected.map(Error::AlertReceived).contains(&without),
            "{without:?}"
        );
        let stranger = attempt(Some(other.issue("pump-7")));
        assert!(matches!(stranger, Error::AlertReceived(_)), "{stranger:?}");
        let long = "x".repeat(129);
        for name in ["", "a/b", "+", "#", "$sys", "a\u{7}b", &long] {
            let error = attempt(Some(authority.issue(name)));
            assert!(
                matches!(error, Error::AlertReceived(_)),
                "{name:?} {error:?}"
            );
        }
    }
    let client = authority.client_with(Habit {
        identity: Some(authority.issue("who asks")),
        ..Habit::default()
    });
    server = server.secured(&client);
    server.settle(&[("tls_failed", refused)]);
    server.end();
}

/// Whether what it says first comes with the end of its handshake, or behind it.
#[test]
fn a_certificate_is_all_the_credential_that_is_needed() {
    let authority = Authority::new();
    let server = authority.server(&[&authority.client_ca(), "auth.mode=required"]);
    for version in VERSIONS {
        for together in [true, false] {
            let client = authority.client_with(Habit {
                version: Some(version),
                identity: Some(authority.issue("pump-7")),
                ..Habit::default()
            });
            let mut stream = Stream::connect(server.address, Some(&client));
            let hello = syn(&Options::default());
            if together {
                let tls = stream.tls.as_mut().unwrap();
                tls.writer().write_all(&hello).unwrap();
                stream.flush().unwrap();
            } else {
                stream.flush().unwrap();
                stream.write_all(&hello).unwrap();
            }
            let mut wire = Wire::of(stream);
            let acknowledged = wire.syn_ack();
            let options = Options::parse(&acknowledged.options).unwrap();
            assert_eq!(options.auth, Some(0), "{version:?}, together: {together}");
            wire.send(&acknowledged.ack);
            // It has no role, and yet it is somebody: FORBIDDEN, not AUTH_REQUIRED.
            assert_eq!(wire.request("$sys/echo", b""), Err(Code::Forbidden));
            wire.close();
        }
    }
    server.end();
}

/// Authorities date new certificates back: by `before` both would be revoked, and every later
/// one.
#[test]
fn one_of_several_certificates_is_revoked_by_its_fingerprint() {
    let authority = Authority::new();
    let mut settings = authority.settings("required");
    settings.push(authority.client_ca());
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let [lost, kept] = [(); 2].map(|()| authority.issue("pump-7"));
    let hash = digest(&SHA256, &lost.certificate);
    let fingerprint: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let [lost, kept] = [lost, kept].map(|pair| {
        authority.client_with(Habit {
            identity: Some(pair),
            ..Habit::default()
        })
    });
    let state = tempfile::tempdir().unwrap();
    let word = publish("devices/pump-7/x", "");
    for is_restarted in [false, true] {
        let fixture = Fixture::start_with(state.path(), &settings);
        let address = fixture.server.address;
        let join = |client| Peer::join(address, Default::default(), Some(client));
        let mut good = join(&kept);
        if !is_restarted {
            let mut held = join(&lost);
            held.ok(&word);
            let body = format!("{{\"jti\":\"{fingerprint}\"}}");
            assert_eq!(fixture.revoke(&body), 200);
            held.fatal(0x0106);
        }
        let mut wire = Wire::of(Stream::connect(address, Some(&lost)));
        wire.send(&syn(&Options::default()));
        wire.expect_rst(Code::AuthFailed);
        good.ok(&word);
        good.close();
        fixture.server.end();
    }
}

/// The library's own client, by files.
#[test]
fn the_builder_shows_a_certificate_and_says_in_words_what_is_wrong_with_the_servers() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.server(&[&authority.client_ca()]);
    let pair = authority.issue("pump-7");
    authority.write("own.pem", &pair.certificate_pem);
    authority.write("own.key", &pair.key_pem);
    let own = |builder: Builder| {
        builder.tls_identity(authority.path("own.pem"), authority.path("own.key"))
    };
    let address = server.address.to_string();
    let trusting = || Client::builder().tls_ca(authority.path("ca.pem"));
    let mut client = own(trusting()).connect(&address).unwrap();
    assert_eq!(
        client.request("$sys/echo", "hello").unwrap().payload,
        b"hello"
    );
    client.close().unwrap();

    let mistrusting = Client::builder().tls_ca(other.path("ca.pem"));
    let mismatched = trusting().tls_identity(authority.path("own.pem"), other.path("server.key"));
    for (builder, parts) in [
        (trusting(), ["aborted the handshake", "--cert"]),
        (own(mistrusting), ["signed by", "--tls-ca"]),
        (mismatched, ["own.pem", "a matching pair"]),
    ] {
        let error = builder.connect(&address).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, ringmail::client::Error::Tls { .. }),
            "{text}"
        );
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert!(!text.contains("1.2.") && !text.contains("[42"), "{text}");
    }
    drop(server);
}
