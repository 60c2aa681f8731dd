//! Tokens of the server's own, and their end before their time: AUTH by API key brings a pair,
//! AUTH by refresh token the next (A5), POST /revocations ends who holds one (A4), and all
//! of it outlives a restart.

use crate::auth::{API_KEY, JWT};
use crate::harness::{Server, command};
use crate::peer::{AuthOk, Peer, code, publish, subscribe};
use crate::wire::PATIENCE;
use redb::{Database, ReadableTable, TableDefinition};
use ringmail::auth::key;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const REFRESH: u8 = 3;
pub const DEVICE: &str = "pump.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
pub const OPERATOR: &str = "operator.BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

const CONFIGURATION: &str = r#"
[server]
admin = "127.0.0.1:0"

[auth]
mode = "required"

[auth.issuer]
signing_secret = "of-32-bytes-and-more-0123456789abcdef"

[[auth.api_key]]
id = "pump"
sha256 = "DEVICE"
principal = "pump-7"
roles = ["device"]

[[auth.api_key]]
id = "operator"
sha256 = "OPERATOR"
principal = "operator"
roles = ["admin"]

[roles]
device.publish = ["devices/{principal}/#"]
device.subscribe = ["devices/#"]
admin.request = ["$sys/stats"]
admin.admin = true
"#;

pub struct Fixture {
    pub server: Server,
    admin: SocketAddr,
}

impl Fixture {
    pub fn start(state: &Path) -> Fixture {
        Fixture::start_with(state, &[])
    }

    pub fn start_with(state: &Path, settings: &[&str]) -> Fixture {
        let hash = |key: &str| key::hash(key.split_once('.').unwrap().1);
        let text = CONFIGURATION
            .replace("DEVICE", &hash(DEVICE))
            .replace("OPERATOR", &hash(OPERATOR));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        let settings = [&["server.admin=127.0.0.1:0"], settings].concat();
        let mut command = command(env!("CARGO_BIN_EXE_ringmail"), &[], &settings);
        command.arg("--config").arg(file.path());
        command.arg("--state-directory").arg(state);
        let mut server = Server::spawn(&mut command);
        server.watch = Some(OPERATOR.to_owned());
        let log = server.log();
        let (_, rest) = log.split_once("admin endpoints at http://").unwrap();
        let admin = rest.split_whitespace().next().unwrap().parse().unwrap();
        Fixture { server, admin }
    }

    pub fn join(&self) -> Peer {
        Peer::join(self.server.address, Default::default(), None)
    }

    pub fn auth(&self, method: u8, credential: &str) -> (Peer, AuthOk) {
        let mut peer = self.join();
        let said = peer.auth(method, credential);
        (peer, said)
    }

    fn refused(&self, method: u8, credential: &str) {
        let mut peer = self.join();
        peer.start_auth(method, credential);
        peer.fatal(code::AUTH_FAILED);
    }

    /// The status of the answer.
    pub fn revoke(&self, body: &str) -> u16 {
        let length = body.len();
        self.ask(&format!(
            "POST /revocations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {OPERATOR}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ))
        .0
    }

    /// Status and body of the answer.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ))
    }

    fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}

/// A claim of a token, without looking at its signature.
fn claim(token: &str, name: &str) -> serde_json::Value {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let json: serde_json::Value = serde_json::from_slice(&engine.decode(payload).unwrap()).unwrap();
    json[name].clone()
}

#[test]
fn an_api_key_brings_a_pair_and_a_refresh_token_the_next() {
    let state = tempfile::tempdir().unwrap();
    let fixture = Fixture::start(state.path());
    let (mut peer, first) = fixture.auth(API_KEY, DEVICE);
    assert_eq!(first.principal, "pump-7");
    assert!((890..=900).contains(&first.expires_in_s), "{first:?}");
    peer.ok(&publish("devices/pump-7/x", ""));
    peer.close();
    let (mut by_token, said) = fixture.auth(JWT, &first.access_token);
    assert_eq!(said.principal, "pump-7");
    by_token.ok(&publish("devices/pump-7/x", ""));
    by_token.close();

    let (peer, second) = fixture.auth(REFRESH, &first.refresh_token);
    assert_eq!(second.principal, "pump-7");
    assert_ne!(second.refresh_token, first.refresh_token);
    // Within ten seconds the same successor, for whoever has not got the answer.
    let (again, same) = fixture.auth(REFRESH, &first.refresh_token);
    assert_eq!(same.refresh_token, second.refresh_token);
    peer.close();
    again.close();
    let (third, _) = fixture.auth(REFRESH, &second.refresh_token);
    third.close();
    fixture.refused(REFRESH, "AAAA");
    fixture.server.end_beside_closes(&[("auth_failed", 1)]);
}

/// Moves every use of a refresh token in the store back by a minute, as if the server had
/// been down for that long.
fn age(state: &Path) {
    type Used = (&'static [u8; 16], u32, u64);
    const TOKENS: TableDefinition<&[u8; 32], Used> = TableDefinition::new("tokens");
    let database = Database::open(state.join("access.redb")).unwrap();
    let change = database.begin_write().unwrap();
    {
        let mut tokens = change.open_table(TOKENS).unwrap();
        let mut used = Vec::new();
        for entry in tokens.iter().unwrap() {
            let (hash, row) = entry.unwrap();
            let (family, number, used_at) = row.value();
            if used_at != 0 {
                used.push((*hash.value(), (*family, number, used_at - 60)));
            }
        }
        assert!(!used.is_empty());
        for (hash, (family, number, used_at)) in used {
            tokens.insert(&hash, (&family, number, used_at)).unwrap();
        }
    }
    change.commit().unwrap();
}

/// Two have it, and one of them is a thief: neither gets anything any more (A5).
#[test]
fn a_refresh_token_used_again_later_ends_its_family() {
    let state = tempfile::tempdir().unwrap();
    let fixture = Fixture::start(state.path());
    let (peer, first) = fixture.auth(API_KEY, DEVICE);
    peer.close();
    let (peer, second) = fixture.auth(REFRESH, &first.refresh_token);
    peer.close();
    let (peer, other) = fixture.auth(API_KEY, DEVICE);
    peer.close();
    fixture.server.end_beside_closes(&[]);

    age(state.path());
    let fixture = Fixture::start(state.path());
    fixture.refused(REFRESH, &first.refresh_token);
    fixture.refused(REFRESH, &second.refresh_token);
    let warned = "a refresh token was used twice";
    fixture.server.expect_lines(1, |line| line.contains(warned));
    // Another family of the same API key goes on.
    let (peer, _) = fixture.auth(REFRESH, &other.refresh_token);
    peer.close();
    fixture.server.end_beside_closes(&[("auth_failed", 2)]);
}

#[test]
fn messages_behind_auth_wait_for_its_answer() {
    let state = tempfile::tempdir().unwrap();
    let fixture = Fixture::start(state.path());
    let mut peer = fixture.join();
    let mut body = vec![API_KEY];
    body.extend(DEVICE.as_bytes());
    let mut bytes = peer.framed(crate::peer::AUTH, &body);
    bytes.extend(peer.framed(0x10, b"\0\0\0\x07\0\0\x10devices/pump-7/x"));
    peer.write(&bytes);
    let got = peer.read().unwrap();
    assert_eq!(got.kind, crate::peer::AUTH_OK, "{got:?}");
    assert_eq!(peer.answer(), (7, Ok(())));
    peer.close();
    fixture.server.end_beside_closes(&[]);
}

#[test]
fn who_is_revoked_is_gone_and_stays_out_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let fixture = Fixture::start(state.path());
    let (first, pair) = fixture.auth(API_KEY, DEVICE);
    first.close();
    let (mut held, _) = fixture.auth(JWT, &pair.access_token);
    held.ok(&subscribe("devices/#"));
    let (mut other, kept) = fixture.auth(API_KEY, DEVICE);
    let id = claim(&pair.access_token, "jti");
    assert_eq!(fixture.revoke(&format!("{{\"jti\":{id}}}")), 200);
    // Every shard has it when the answer comes: nothing more is delivered.
    other.ok(&publish("devices/pump-7/x", "too late"));
    let got = held.read().expect("an ERROR");
    assert_eq!(
        (got.kind, got.u16(0), got.body[6]),
        (0x04, 0x0106, 1),
        "{got:?}"
    );
    held.ended();
    fixture.refused(JWT, &pair.access_token);
    other.close();
    fixture
        .server
        .end_beside_closes(&[("revoked", 1), ("auth_failed", 1)]);

    let fixture = Fixture::start(state.path());
    fixture.refused(JWT, &pair.access_token);
    // Its refresh token went with it; that of another AUTH has outlived the restart.
    fixture.refused(REFRESH, &pair.refresh_token);
    let (peer, next) = fixture.auth(REFRESH, &kept.refresh_token);
    peer.close();
    let (peer, _) = fixture.auth(JWT, &next.access_token);
    peer.close();
    fixture.server.end_beside_closes(&[("auth_failed", 2)]);
}

/// Whatever is shown, right or wrong, and however much is logged.
#[test]
fn no_secret_reaches_a_log_an_answer_or_the_command_line() {
    let state = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::start_with(state.path(), &["log.level=trace"]);
    let (peer, pair) = fixture.auth(API_KEY, DEVICE);
    peer.close();
    fixture.auth(JWT, &pair.access_token).0.close();
    let (peer, next) = fixture.auth(REFRESH, &pair.refresh_token);
    peer.close();
    let wrong = "pump.CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC";
    fixture.refused(API_KEY, wrong);
    fixture.refused(JWT, &format!("{}x", pair.access_token));
    fixture.refused(REFRESH, "DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD");
    assert_eq!(fixture.revoke("{\"kid\":\"none\"}"), 200);
    let stats = format!("{:?}", fixture.server.stats());
    let pid = fixture.server.pid();
    let command_line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let log = fixture.server.log();
    assert!(log.contains("AUTH refused"), "{log}");
    let (device, operator) = (
        DEVICE.split_once('.').unwrap(),
        OPERATOR.split_once('.').unwrap(),
    );
    let signatures = [&pair, &next].map(|pair| pair.access_token.rsplit_once('.').unwrap().1);
    for secret in [
        device.1,
        operator.1,
        wrong.split_once('.').unwrap().1,
        "of-32-bytes-and-more-0123456789abcdef",
        signatures[0],
        signatures[1],
        &pair.refresh_token,
        &next.refresh_token,
        "DDDDDDDD",
    ] {
        for text in [&log, &stats, &command_line] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
    fixture.server.end();
}

#[test]
fn all_tokens_of_somebody_from_before_an_instant_end() {
    let state = tempfile::tempdir().unwrap();
    let fixture = Fixture::start(state.path());
    let (mut peer, pair) = fixture.auth(API_KEY, DEVICE);
    let issued = claim(&pair.access_token, "iat").as_u64().unwrap();
    let body = format!("{{\"sub\":\"pump-7\",\"before\":{}}}", issued + 1);
    assert_eq!(fixture.revoke(&body), 200);
    peer.fatal(0x0106);
    fixture.refused(JWT, &pair.access_token);
    // What is issued later is good again.
    let end = Instant::now() + PATIENCE;
    loop {
        let mut peer = fixture.join();
        peer.start_auth(API_KEY, DEVICE);
        if peer.read().unwrap().kind == crate::peer::AUTH_OK {
            break peer.close();
        }
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(200));
    }
    fixture.server.end();
}
