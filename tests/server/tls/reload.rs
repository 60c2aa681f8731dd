//! The certificate is exchanged while connections stand.

use super::authority::Authority;
use crate::harness::refused;
use crate::peer::Peer;
use crate::wire::PATIENCE;
use ringmail::server::config::Config;
use rustix::process::Resource;
use rustls::pki_types::CertificateDer;
use std::time::{Duration, Instant};

fn shown(peer: &Peer) -> CertificateDer<'static> {
    let tls = peer.stream.tls.as_ref().unwrap();
    tls.peer_certificates().unwrap()[0].clone().into_owned()
}

fn goes_on(peer: &mut Peer) {
    peer.publish("t", "still there");
    assert_eq!(peer.published().text(), "still there");
}

#[test]
fn a_new_certificate_is_for_new_connections_and_a_wrong_one_for_none() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    let mut standing: Vec<Peer> = (0..2).map(|shard| server.peer(shard)).collect();
    for peer in &mut standing {
        peer.subscribe("t");
    }
    let first = shown(&standing[0]);
    let next = authority.issue("the server");
    authority.put(&next);
    let end = Instant::now() + PATIENCE;
    for shard in 0..2 {
        loop {
            let peer = server.peer(shard);
            let found = shown(&peer);
            peer.close();
            if found == next.certificate {
                break;
            }
            assert_eq!(found, first);
            assert!(Instant::now() < end, "never reloaded: {}", server.log());
        }
    }
    for peer in &mut standing {
        peer.publish("t", "to both");
    }
    for peer in &mut standing {
        assert_eq!(peer.published().text(), "to both");
        assert_eq!(peer.published().text(), "to both");
        assert_eq!(shown(peer), first);
    }
    standing.pop().unwrap().close();

    // A key of another certificate's; then nothing at all.
    authority.write("server.key", &authority.issue("another").key_pem);
    let mut kept = 0;
    for (told, then) in [("is not the key of", true), ("cannot be read", false)] {
        let end = Instant::now() + PATIENCE;
        while !server.log().contains(told) {
            assert!(Instant::now() < end, "never told: {}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        kept += 1;
        assert_eq!(server.log().matches("keeping the current").count(), kept);
        goes_on(&mut standing[0]);
        let peer = server.peer(0);
        assert_eq!(shown(&peer), next.certificate);
        peer.close();
        if then {
            std::fs::remove_file(authority.path("server.pem")).unwrap();
        }
    }
    // And mended.
    let last = authority.issue("the server");
    authority.put(&last);
    let end = Instant::now() + PATIENCE;
    loop {
        let peer = server.peer(1);
        let found = shown(&peer);
        peer.close();
        if found == last.certificate {
            break;
        }
        assert!(Instant::now() < end, "never mended: {}", server.log());
    }
    standing.pop().unwrap().close();
    server.settle_beside_closes(&[]);
    server.end();
}

/// What clients will refuse is said where an operator looks: by `check`, at the start, and
/// when it takes the place of a valid one.
#[test]
fn a_certificate_that_is_valid_no_more_or_not_yet_is_said_with_its_date() {
    let authority = Authority::new();
    let settings = authority.settings("required");
    let check = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ringmail"));
        command.arg("check");
        for setting in &settings {
            command.args(["--set", setting]);
        }
        refused(&mut command)
    };
    let (code, said) = check();
    assert_eq!((code, &*said), (0, ""));
    let server = authority.server(&[]);
    let dated = |(from, until), said: &str| {
        authority.put(&authority.issue_within("the server", from, until));
        server.expect_lines(1, |line| line.contains("WARN") && line.contains(said));
        let (code, errors) = check();
        assert_eq!(code, 0, "{errors}");
        assert!(errors.contains(said), "{errors}");
    };
    dated((2020, 2021), "has expired on 2021-01-01 00:00:00 UTC");
    dated((3000, 3001), "is not valid before 3000-01-01 00:00:00 UTC");
    let late = authority.server(&[]);
    late.expect_lines(1, |line| {
        line.contains("WARN") && line.contains("3000-01-01")
    });
    late.end();
    server.end();
}

#[test]
fn a_pem_file_is_read_whole_or_refused_with_its_line() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    let (next, other) = (authority.issue("the server"), authority.issue("another"));
    let ca = std::fs::read_to_string(authority.path("ca.pem")).unwrap();
    // A mark, no line between two, and blanks before one: a chain of two. And two keys.
    let chain = format!("\u{feff}{}  {ca}", next.certificate_pem.trim_end());
    authority.write("server.key", &format!("{}{}", other.key_pem, next.key_pem));
    authority.write("server.pem", &chain);
    server.expect_lines(1, |line| line.contains("certificate reloaded"));
    let peer = server.peer(0);
    let tls = peer.stream.tls.as_ref().unwrap();
    let shown = tls.peer_certificates().unwrap();
    assert_eq!(
        shown,
        [next.certificate.clone(), authority.certificate.clone()]
    );
    peer.close();
    let line = next.certificate_pem.trim_end().lines().count();
    authority.write("server.pem", &format!("{}# and {ca}", next.certificate_pem));
    let told = format!("is not valid PEM: line {} ", line + 1);
    server.expect_lines(1, |line| line.contains(&told));
    server.settle_beside_closes(&[]);
    server.end();
}

/// Nothing tells from outside when a file can be read again: it is tried.
#[test]
fn a_certificate_that_could_not_be_read_once_is_tried_until_it_can() {
    let authority = Authority::new();
    let mut server = authority.server(&[]);
    let first = server.peer(0);
    let next = authority.issue("the server");
    // No descriptor is left to open the files with.
    server.limit(Resource::Nofile, Some(3));
    authority.put(&next);
    server.expect_lines(1, |line| {
        line.contains("cannot be read: Too many open files")
    });
    server.limit(Resource::Nofile, None);
    server.expect_lines(1, |line| line.contains("certificate reloaded"));
    let second = server.peer(0);
    assert_eq!(shown(&second), next.certificate);
    first.close();
    second.close();
    server.settle_beside_closes(&[]);
    server.end();
}

#[test]
fn what_the_keys_of_tls_need_of_each_other_is_checked() {
    for (text, problem) in [
        (
            "mode = \"required\"\nkey = \"k\"",
            "tls.certificate is not set",
        ),
        (
            "mode = \"optional\"\ncertificate = \"c\"",
            "tls.key is not set",
        ),
        ("client_ca = \"a\"", "tls.client_ca requires"),
    ] {
        let error = Config::from_toml(&format!("[tls]\n{text}")).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
        assert_eq!(error.iter().count(), 1, "{error}");
    }
    let whole = "[tls]\nmode = \"required\"\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = \"a\"";
    Config::from_toml(whole).unwrap();
    Config::from_toml("[tls]\ncertificate = \"c\"\nkey = \"k\"").unwrap();
}
