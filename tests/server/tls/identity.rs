//! mTLS: clients must present a certificate of the CA's, and its subject's common name is
//! whom they stand for.

use super::authority::{Authority, Habit, VERSIONS};
use super::mode::refusal;
use crate::peer::Peer;
use crate::stream::Stream;
use rustls::{AlertDescription, Error};

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
        let log = server.log();
        let told = log.lines().filter(|line| {
            line.contains("TLS established") && line.contains(&format!("principal={name:?}"))
        });
        assert_eq!(told.count(), 2, "{log}");
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
