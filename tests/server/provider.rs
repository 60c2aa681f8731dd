//! An OpenID provider's tokens (A3, and the provider's rotation and outage): RS256, a `kid`, an
//! `aud` that is a list, and a key set behind https with a certificate of its own authority.

use crate::auth::JWT;
use crate::harness::{Server, command, get};
use crate::peer::{Peer, code, publish};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer than the 30 s between two fetches of the key set.
const ROTATION: Duration = Duration::from_secs(90);

struct Key {
    id: &'static str,
    pair: RsaKeyPair,
}

impl Key {
    fn new(id: &'static str) -> Key {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Key { id, pair }
    }

    fn jwk(&self) -> Value {
        let key = self.pair.public_key();
        let n = URL_SAFE_NO_PAD.encode(key.modulus().big_endian_without_leading_zero());
        let e = URL_SAFE_NO_PAD.encode(key.exponent().big_endian_without_leading_zero());
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id, "n": n, "e": e})
    }

    /// As such a provider writes it for client credentials.
    fn token(&self, subject: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = now.as_secs();
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.id});
        let payload = json!({
            "iss": "https://login.example/", "sub": subject, "aud": ["ringmail", "other"],
            "iat": now, "exp": now + 600, "azp": "abc", "gty": "client-credentials",
            "scope": "read:all", "roles": ["device"],
        });
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(&header), part(&payload));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let random = SystemRandom::new();
        let signed = message.as_bytes();
        (self
            .pair
            .sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature))
        .unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The provider's https server.
struct Provider {
    port: u16,
    keys: Arc<Mutex<String>>,
    is_down: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

impl Provider {
    /// Writes its authority's certificate to `ca.pem`.
    fn start(directory: &Path, key: &Key) -> Provider {
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let ca = authority.self_signed(&authority_key).unwrap();
        std::fs::write(directory.join("ca.pem"), ca.pem()).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let own_key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let own = own.signed_by(&own_key, &issuer).unwrap();
        let private = rustls_pki_types::PrivateKeyDer::try_from(own_key.serialize_der()).unwrap();
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], private)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let provider = Provider {
            port: listener.local_addr().unwrap().port(),
            keys: Arc::default(),
            is_down: Arc::default(),
            asked: Arc::default(),
        };
        provider.publish(&[key]);
        let (keys, is_down) = (provider.keys.clone(), provider.is_down.clone());
        let asked = provider.asked.clone();
        let config = Arc::new(config);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                asked.fetch_add(1, SeqCst);
                if is_down.load(SeqCst) {
                    continue;
                }
                let records = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(records, stream.unwrap());
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let body = keys.lock().unwrap().clone();
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\
                     Content-Length: {length}\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        provider
    }

    fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        *self.keys.lock().unwrap() = json!({"keys": keys}).to_string();
    }
}

fn start(directory: &Path, port: u16) -> Server {
    Server::spawn(&mut serve(directory, port))
}

fn serve(directory: &Path, port: u16) -> Command {
    let text = format!(
        "[auth]\nmode = \"required\"\n[auth.jwt]\nalgorithms = [\"RS256\"]\n\
         jwks = \"https://localhost:{port}/.well-known/jwks.json\"\n\
         issuer = \"https://login.example/\"\naudience = \"ringmail\"\n\
         [roles.device]\npublish = [\"of/{{principal}}/#\"]\nrequest = [\"$sys/stats\"]\n"
    );
    let file = directory.join("ringmail.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = command(
        env!("CARGO_BIN_EXE_ringmail"),
        &[],
        // Who cannot be judged is not counted.
        &["rate.auth_failures_per_min_per_ip=1"],
    );
    command.arg("--config").arg(file);
    command.arg("--state-directory").arg(directory);
    command.env("SSL_CERT_FILE", directory.join("ca.pem"));
    command
}

/// Shows a token again and again until it is accepted: keys may have to be fetched first, and
/// until then it cannot be judged.
fn auth(server: &Server, token: &str) -> Peer {
    let end = Instant::now() + ROTATION;
    loop {
        let mut peer = Peer::join(server.address, Default::default(), None);
        peer.start_auth(JWT, token);
        match peer.read().expect("an answer").kind {
            crate::peer::AUTH_OK => return peer,
            _ => assert!(Instant::now() < end, "never accepted; {}", server.log()),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Until the first fetch has ended nobody is sent here, and who comes is asked to come again:
/// the server's inability is not held against them.
#[test]
fn until_the_key_set_is_here_good_tokens_are_put_off() {
    let directory = tempfile::tempdir().unwrap();
    let key = Key::new("2026-10");
    let provider = Provider::start(directory.path(), &key);
    let notified = UnixDatagram::bind(directory.path().join("notify")).unwrap();
    notified.set_nonblocking(true).unwrap();
    // It is asked, and does not answer.
    let silence = provider.keys.lock().unwrap();
    let mut command = serve(directory.path(), provider.port);
    command.args(["--set", "server.admin=127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", directory.path().join("notify"));
    let server = Server::spawn(&mut command);
    let (status, body) = get(server.admin(), "/readyz");
    let told = notified.recv(&mut [0; 64]);
    // On a machine that stood still for its 10 s the fetch has failed, which is an answer.
    if !server.log().contains("no key set") {
        assert_eq!(status, 503, "{body}");
        assert!(told.is_err(), "ready before the key set is here");
    }
    let token = key.token("abc");
    for _ in 0..5 {
        let mut peer = Peer::join(server.address, Default::default(), None);
        peer.start_auth(JWT, &token);
        peer.fatal(code::UNAVAILABLE);
    }
    // What is wrong whichever key signed it is wrong now.
    let mut peer = Peer::join(server.address, Default::default(), None);
    peer.start_auth(JWT, "no.token.at-all");
    peer.fatal(code::AUTH_FAILED);
    drop(silence);
    notified.set_nonblocking(false).unwrap();
    notified.set_read_timeout(Some(ROTATION)).unwrap();
    let mut told = [0; 64];
    let length = notified.recv(&mut told).unwrap();
    assert!(told[..length].starts_with(b"READY=1"));
    assert_eq!(get(server.admin(), "/readyz").0, 200);
    let mut peer = auth(&server, &token);
    peer.ok(&publish("of/abc/x", ""));
    peer.close();
    server.end();
}

#[test]
fn a_providers_tokens_are_good_through_its_rotation_and_its_outage() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second, foreign) = (Key::new("2026-10"), Key::new("2026-11"), Key::new("x"));
    let provider = Provider::start(directory.path(), &first);
    let server = start(directory.path(), provider.port);
    let mut standing = auth(&server, &first.token("abc@clients"));
    standing.ok(&publish("of/abc@clients/x", ""));

    // The provider signs with another key now: fetched when the first such token comes,
    // while connections stand.
    provider.publish(&[&first, &second]);
    let mut renewed = auth(&server, &second.token("abc@clients"));
    renewed.ok(&publish("of/abc@clients/x", ""));
    standing.ok(&publish("of/abc@clients/x", ""));
    let asked = provider.asked.load(SeqCst);
    assert!(asked >= 2, "asked {asked} times");

    // The provider is away: what is known goes on, a flood of unknown keys asks once, and
    // nobody knows whether these exist.
    provider.is_down.store(true, SeqCst);
    standing.auth(JWT, &second.token("abc@clients"));
    for _ in 0..50 {
        let mut stranger = Peer::join(server.address, Default::default(), None);
        stranger.start_auth(JWT, &foreign.token("abc@clients"));
        stranger.fatal(code::UNAVAILABLE);
    }
    auth(&server, &first.token("other")).close();
    assert!(provider.asked.load(SeqCst) <= asked + 1);
    renewed.close();
    standing.close();
    server.end();
}
