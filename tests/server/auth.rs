//! Authentication (PROTOCOL.md, Authentication): who gets in, for how long, and how the
//! others learn nothing.
//!
//! - SYN-ACK offers the methods; the first message must be AUTH, PING, PONG and CLOSE aside
//! - a failed AUTH is fatal, with one text whatever was wrong
//! - AUTH again replaces the rights, for the same principal only
//! - a credential that expires ends its connection

use crate::harness::{Server, command};
use crate::peer::{AUTH, ERROR, Got, PUBLISH, Peer, code, op, publish, request, subscribe};
use crate::wire::PATIENCE;
use ringmail::auth::issue::{NewToken, issue};
use ringmail::auth::key;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const JWT: u8 = 1;
pub const API_KEY: u8 = 2;

pub const SECRET: &str = "of-32-bytes-and-more-0123456789abcdef";
/// The API key by which a test asks for statistics.
const WATCH: &str = "watch.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

const CONFIGURATION: &str = r#"
[auth]
mode = "required"

[auth.jwt]
secret = "SECRET"

[[auth.api_key]]
id = "watch"
sha256 = "SHA256"
principal = "watch"
roles = ["watch"]

[roles]
watch.request = ["$sys/stats"]
reader.subscribe = ["devices/#"]
named.publish = ["of/{client_id}/#"]

[roles.device]
publish = ["devices/{principal}/#"]
subscribe = ["devices/{principal}/#", "broadcast/#"]
request = ["$sys/echo", "math/add"]
serve = ["devices/{principal}/+"]
"#;

fn unix() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// An HS256 token that lives so many seconds.
pub fn token(subject: &str, roles: &[&str], seconds: u64) -> String {
    let roles: Vec<Box<str>> = roles.iter().map(|&role| role.into()).collect();
    let new = NewToken {
        subject,
        roles: &roles,
        issued_at: unix(),
        expires: unix() + seconds,
        ..NewToken::default()
    };
    issue(SECRET.as_bytes(), new).unwrap().token
}

/// A server that asks everybody who they are: devices have their own topics, readers those
/// of all devices.
pub fn guarded(settings: &[&str]) -> Server {
    let file = tempfile::NamedTempFile::new().unwrap();
    let watch = key::hash(WATCH.split_once('.').unwrap().1);
    let text = CONFIGURATION
        .replace("SHA256", &watch)
        .replace("SECRET", SECRET);
    std::fs::write(&file, text).unwrap();
    let mut command = command(env!("CARGO_BIN_EXE_ringmail"), &[], settings);
    let state = tempfile::tempdir().unwrap();
    command.arg("--config").arg(file.path());
    command.arg("--state-directory").arg(state.path());
    let mut server = Server::spawn(&mut command);
    server.state = Some(state);
    server.watch = Some(WATCH.to_owned());
    server
}

fn anyone(address: SocketAddr) -> Peer {
    Peer::join(address, Default::default(), None)
}

fn device(server: &Server, name: &str) -> Peer {
    let mut peer = anyone(server.address);
    peer.auth(JWT, &token(name, &["device"], 60));
    peer
}

/// The fatal ERROR's text.
fn text_of(peer: &mut Peer) -> String {
    let got: Got = peer.read().expect("an ERROR");
    assert_eq!((got.kind, got.body[6]), (ERROR, 1), "{got:?}");
    assert_eq!(got.u16(0), code::AUTH_FAILED, "{got:?}");
    peer.ended();
    String::from_utf8(got.body[7..].to_vec()).unwrap()
}

#[test]
fn nothing_but_auth_and_signs_of_life_before_auth() {
    let server = guarded(&[]);
    for (kind, body) in [
        (PUBLISH, vec![0, 0, 0, 0, 0, 0, 1, b'a']),
        (0x0A, vec![0; 20]),
        (0x09, vec![0; 4]),
    ] {
        let mut peer = anyone(server.address);
        peer.send(kind, &body);
        peer.fatal(code::AUTH_REQUIRED);
    }
    let mut peer = anyone(server.address);
    peer.send(0x01, b"alive");
    assert_eq!(peer.read().unwrap().body, b"alive");
    peer.auth(JWT, &token("a", &["device"], 60));
    peer.ok(&publish("devices/a/x", ""));
    peer.close();
    let peer = anyone(server.address);
    peer.close();
    server.end_beside_closes(&[("auth_required", 3)]);
}

#[test]
fn who_says_nothing_is_asked_to_leave() {
    let server = guarded(&["limits.auth_timeout_ms=200"]);
    let mut peer = anyone(server.address);
    peer.fatal(code::AUTH_REQUIRED);
    server.end_beside_closes(&[("auth_required", 1)]);
}

#[test]
fn an_api_key_and_a_token_say_who_someone_is() {
    let server = guarded(&[]);
    let mut peer = anyone(server.address);
    let said = peer.auth(API_KEY, WATCH);
    assert_eq!((said.expires_in_s, &*said.principal), (0, "watch"));
    assert!(said.access_token.is_empty() && said.refresh_token.is_empty());
    peer.close();
    let mut peer = anyone(server.address);
    let said = peer.auth(JWT, &token("thing-7", &["device"], 60));
    assert_eq!(said.principal, "thing-7");
    assert!((50..=60).contains(&said.expires_in_s), "{said:?}");
    peer.close();
    server.end_beside_closes(&[]);
}

/// A1, A2, A6 from outside: the details are unit tests of `auth`.
#[test]
fn whatever_is_wrong_the_answer_is_the_same() {
    let server = guarded(&["rate.auth_failures_per_min_per_ip=0"]);
    let good = token("a", &["device"], 60);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other = issue(
        b"another secret, just as long as that",
        NewToken {
            subject: "a",
            expires: unix() + 60,
            ..NewToken::default()
        },
    );
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ.";
    let wrong: Vec<(u8, String)> = vec![
        (JWT, none.to_owned()),
        (
            JWT,
            format!("{head}.{}", signature.replace(['a', 'b', 'c'], "d") + "A"),
        ),
        (JWT, other.unwrap().token),
        (JWT, token("a", &["device"], 0)),
        (JWT, token("a/b", &["device"], 60)),
        (JWT, token("+", &["device"], 60)),
        (JWT, String::new()),
        (JWT, "x".repeat(8192)),
        (
            API_KEY,
            "watch.BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        ),
        (
            API_KEY,
            "nobody.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        ),
        (API_KEY, "watch".to_owned()),
        (3, "no refresh tokens here".to_owned()),
        (0, good.clone()),
        (9, good.clone()),
    ];
    let mut texts = Vec::new();
    for (method, credential) in &wrong {
        // Within the leeway a token that has just expired is still good.
        if *credential == wrong[3].1 {
            continue;
        }
        let mut peer = anyone(server.address);
        peer.start_auth(*method, credential);
        texts.push(text_of(&mut peer));
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    let log = server.log();
    assert!(!log.contains(SECRET) && !log.contains(signature), "{log}");
    server.end_beside_closes(&[("auth_failed", wrong.len() as u64 - 1)]);
}

#[test]
fn a_credential_of_16_kib_is_read_and_a_longer_one_refused() {
    let server = guarded(&[]);
    let mut peer = anyone(server.address);
    let many: Vec<String> = (0..300).map(|n| format!("role-{n:04}")).collect();
    let mut roles: Vec<&str> = many.iter().map(String::as_str).collect();
    roles.push("device");
    let long = token("a", &roles, 60);
    assert!((4096..8192).contains(&long.len()), "{}", long.len());
    peer.auth(JWT, &long);
    peer.ok(&publish("devices/a/x", ""));
    peer.close();
    let mut peer = anyone(server.address);
    // From the header alone.
    peer.write(&[b'M', b'C', 1, AUTH, 0, 0, 0x40, 0x40]);
    peer.fatal(code::AUTH_FAILED);
    server.end_beside_closes(&[("auth_failed", 1)]);
}

/// A7.
#[test]
fn rights_are_checked_for_each_operation() {
    let server = guarded(&[]);
    let mut a = device(&server, "a");
    a.ok(&publish("devices/a/x", "1"));
    a.ok(&subscribe("devices/a/#"));
    a.ok(&subscribe("broadcast/+/now"));
    a.ok(&op(0x22, "devices/a/restart"));
    a.ok(&op(0x13, "devices/a/gone"));
    for refused in [
        publish("devices/b/x", ""),
        publish("devices", ""),
        subscribe("devices/#"),
        subscribe("devices/+/x"),
        subscribe("+/a/#"),
        subscribe("#"),
        subscribe("$sys/#"),
    ] {
        assert_eq!(
            a.refused(&refused),
            code::FORBIDDEN,
            "{:?}",
            String::from_utf8_lossy(&refused.name)
        );
    }
    // Ten errors a second are too many for one connection.
    let gone = std::mem::replace(&mut a, device(&server, "a"));
    gone.close();
    for refused in [
        op(0x22, "devices/a/#"),
        op(0x22, "math/add"),
        op(0x13, "devices/b/gone"),
    ] {
        assert_eq!(
            a.refused(&refused),
            code::FORBIDDEN,
            "{:?}",
            String::from_utf8_lossy(&refused.name)
        );
    }
    let id = a.start(&request("$sys/echo", "hello"));
    assert_eq!(a.responded(id), Ok(b"hello".to_vec()));
    let id = a.start(&request("$sys/info", ""));
    assert_eq!(a.responded(id), Err(code::FORBIDDEN));
    let id = a.start(&request("math/sub", ""));
    assert_eq!(a.responded(id), Err(code::FORBIDDEN));
    let id = a.start(&request("math/add", ""));
    assert_eq!(a.responded(id), Err(code::NO_SERVICE));
    let id = a.start(&request("a/+", ""));
    assert_eq!(a.responded(id), Err(code::BAD_NAME));
    a.close();
    server.end_beside_closes(&[]);
}

#[test]
fn no_role_is_no_right_and_an_unknown_one_gives_none() {
    let server = guarded(&[]);
    for roles in [&[][..], &["nobody-knows"]] {
        let mut peer = anyone(server.address);
        peer.auth(JWT, &token("a", roles, 60));
        assert_eq!(peer.refused(&publish("a", "")), code::FORBIDDEN);
        assert_eq!(peer.refused(&subscribe("a")), code::FORBIDDEN);
        peer.close();
    }
    // {client_id} stands for nothing where there is none.
    let mut peer = anyone(server.address);
    peer.auth(JWT, &token("a", &["named"], 60));
    assert_eq!(peer.refused(&publish("of/a/x", "")), code::FORBIDDEN);
    peer.close();
    server.end_beside_closes(&[]);
}

#[test]
fn auth_again_renews_and_narrows_for_the_same_principal_only() {
    let server = guarded(&[]);
    let mut watcher = anyone(server.address);
    watcher.auth(JWT, &token("eye", &["reader", "device"], 60));
    watcher.ok(&subscribe("devices/#"));
    watcher.ok(&subscribe("devices/eye/in"));
    let mut a = device(&server, "a");
    a.ok(&publish("devices/a/x", "seen"));
    assert_eq!(watcher.published().payload(), b"seen");
    // The wide subscription goes, the other stays.
    watcher.auth(JWT, &token("eye", &["device"], 60));
    a.ok(&publish("devices/a/x", "not seen"));
    watcher.ok(&publish("devices/eye/in", "still"));
    assert_eq!(watcher.published().payload(), b"still");
    watcher.quiet();
    assert_eq!(watcher.refused(&subscribe("devices/#")), code::FORBIDDEN);
    watcher.start_auth(JWT, &token("a", &["device"], 60));
    text_of(&mut watcher);
    a.close();
    server.end_beside_closes(&[("auth_failed", 1)]);
}

#[test]
fn auth_again_and_again_is_too_much() {
    let server = guarded(&[]);
    let mut peer = device(&server, "a");
    let again = token("a", &["device"], 60);
    for _ in 0..10 {
        peer.auth(JWT, &again);
    }
    peer.start_auth(JWT, &again);
    peer.fatal(code::RATE_LIMITED);
    server.end_beside_closes(&[("rate_limited", 1)]);
}

/// A4: a credential that expires ends the connection, unless it is renewed.
#[test]
fn what_expires_ends_unless_it_is_renewed() {
    let server = guarded(&[]);
    let mut peer = anyone(server.address);
    let mut other = anyone(server.address);
    peer.auth(JWT, &token("a", &["device"], 2));
    other.auth(JWT, &token("b", &["device"], 2));
    other.auth(JWT, &token("b", &["device"], 600));
    peer.fatal(code::AUTH_EXPIRED);
    std::thread::sleep(Duration::from_millis(500));
    other.ok(&publish("devices/b/x", ""));
    other.close();
    server.end_beside_closes(&[("auth_expired", 1)]);
}

/// Whose fault it is decides: a wrong key bars itself, guesses the key they are at, and
/// neither a good one behind the same address nor a connection that stands.
#[test]
fn too_many_wrong_credentials_bar_what_was_wrong() {
    let mut server = guarded(&["rate.auth_failures_per_min_per_ip=3"]);
    let mut device = device(&server, "a");
    let shown = |method, credential: &str, expected| {
        let mut peer = anyone(server.address);
        peer.start_auth(method, credential);
        peer.fatal(expected);
    };
    // A device with an old key, which it shows again and again.
    for expected in [code::AUTH_FAILED; 3]
        .into_iter()
        .chain([code::RATE_LIMITED; 5])
    {
        shown(API_KEY, "watch.an-old-one", expected);
    }
    let mut watch = anyone(server.address);
    watch.auth(API_KEY, WATCH);
    // Guesses: the key is closed, from this address.
    let guesses = [
        ("watch.guess-1", code::AUTH_FAILED),
        ("watch.guess-2", code::AUTH_FAILED),
        ("watch.guess-3", code::RATE_LIMITED),
    ];
    for (guess, expected) in guesses {
        shown(API_KEY, guess, expected);
    }
    shown(API_KEY, WATCH, code::RATE_LIMITED);
    // Whatever else is wrong from here is not told to be; what is good gets in.
    shown(API_KEY, "nobody.x", code::RATE_LIMITED);
    shown(JWT, "no.token.at-all", code::RATE_LIMITED);
    let mut other = anyone(server.address);
    other.auth(JWT, &token("b", &["device"], 60));
    other.close();
    device.auth(JWT, &token("a", &["device"], 60));
    watch.auth(API_KEY, WATCH);
    device.close();
    // A connection is counted as closed when its peer has had the time to read why.
    let end = Instant::now() + PATIENCE;
    loop {
        let id = watch.start(&request("$sys/stats", ""));
        let stats = watch.responded(id).unwrap();
        let stats: serde_json::Value = serde_json::from_slice(&stats).unwrap();
        assert_eq!(stats["total"]["address_refused"], 0);
        assert_eq!(stats["total"]["auth_refused"], 14);
        let closed = |reason: &str| stats["closed"][reason].as_u64();
        if (closed("auth_failed"), closed("rate_limited")) == (Some(5), Some(9)) {
            break;
        }
        assert!(Instant::now() < end, "{stats}");
        std::thread::sleep(Duration::from_millis(20));
    }
    watch.close();
    server.watch = None;
    server.end();
}
