//! Who gets an answer beyond loopback, and how credentials are told apart.

use super::credential::{bearer, credential_kind, is_this_host};
use super::*;
use crate::auth::Authority;
use crate::auth::Method as Credential;
use crate::auth::key::{ApiKey, ApiKeys, generate};
use crate::auth::keyring::Keyring;
use crate::auth::rights::{Role, Roles};
use crate::auth::token::Requirements;
use crate::base::clock::Instant;
use crate::server::control::broadcaster::Broadcaster;
use crate::server::control::host::Host;
use crate::server::control::listing::Lister;
use crate::server::control::revocations::Lives;
use crate::server::control::revocations::RevocationRegistry;
use crate::server::control::store::Store;
use crate::shard::sys::Board;
use axum::http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The status of `GET path` at an address that other hosts can reach.
async fn status(registry: Option<Arc<RevocationRegistry>>, path: &str, credential: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let admin = Admin {
        board: Arc::new(Board::new(
            "x".to_owned(),
            "y".to_owned(),
            &[],
            Instant::ZERO,
        )),
        host: Host::default(),
        draining: Arc::default(),
        settled: None,
        guard: Arc::new(Guard::new(0)),
        reserve: Arc::default(),
        is_loopback: false,
        lister: Lister::new(Vec::new()),
        registry,
        wanted: Arc::default(),
        traces: None,
    };
    let ask = async {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {credential}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let status = answer.split(' ').nth(1).expect("a status");
        status.parse().expect("a number")
    };
    tokio::select! {
        () = serve(listener, Arc::new(admin)) => panic!("it ended"),
        status = ask => status,
    }
}

#[tokio::test]
async fn beyond_loopback_reading_needs_an_administrator_too() {
    let [operator, device] = ["op", "dev"].map(|id| generate(id).expect("a key"));
    let key = |id: &str, sha256: &str| ApiKey {
        id: id.into(),
        sha256: sha256.to_owned(),
        principal: id.into(),
        roles: [id.into()].into(),
    };
    let keys = ApiKeys::new([key("op", &operator.sha256), key("dev", &device.sha256)]);
    let admin = Role {
        admin: true,
        ..Role::default()
    };
    let roles = Roles::new([("op", &admin), ("dev", &Role::default())]).expect("roles");
    let requirements = Requirements::default();
    let authority = Authority::new(roles, Keyring::default(), requirements, keys.expect("keys"));
    let directory = tempfile::tempdir().expect("a directory");
    let (broadcaster, _) = Broadcaster::new(Arc::new(authority), &[]);
    let store = Arc::new(Store::open(directory.path()).expect("a store"));
    let lives = Lives {
        own_s: None,
        foreign: false,
        certificates: false,
        leeway_s: 0,
    };
    let registry = Arc::new(RevocationRegistry::new(broadcaster, store, lives));
    for path in [
        "/livez",
        "/readyz",
        "/status",
        "/metrics",
        "/connections",
        "/connections/0-0-0",
        "/topics",
        "/log",
        "/debug/pprof/heap",
        "/nothing",
        "/revocations",
    ] {
        assert_eq!(status(None, path, "").await, 403, "{path}");
        let status = async |credential: &str| {
            let registry = Some(registry.clone());
            status(registry, path, credential).await
        };
        assert_eq!(status("").await, 401, "{path}");
        assert_eq!(status("op.wrong").await, 401, "{path}");
        assert_eq!(status(&device.key).await, 403, "{path}");
        let good = status(&operator.key).await;
        // 501: the tests have no heap that is profiled.
        assert!(matches!(good, 200 | 404 | 405 | 501), "{path}: {good}");
    }
}

#[test]
fn this_host_is_an_address_or_localhost() {
    for (host, own) in [
        ("127.0.0.1:7412", true),
        ("[::1]:7412", true),
        ("::1", false),
        ("localhost:7412", true),
        ("LocalHost", true),
        ("192.0.2.7", true),
        ("example.com:7412", false),
        ("localhost.example.com", false),
        ("127.0.0.1.example.com", false),
        ("", false),
    ] {
        assert_eq!(is_this_host(&HeaderValue::from_static(host)), own, "{host}");
    }
}

#[test]
fn credentials_are_told_apart_by_their_form() {
    let rows = [
        ("op.c2VjcmV0", Credential::ApiKey),
        ("a.b.c2VjcmV0", Credential::ApiKey),
        ("eyJ.c2VjcmV0", Credential::ApiKey),
        (
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2lnbg",
            Credential::Jwt,
        ),
        ("", Credential::Jwt),
        (".x", Credential::Jwt),
    ];
    for (text, kind) in rows {
        assert_eq!(credential_kind(text.as_bytes()), kind, "{text}");
    }
    let kind = |text| bearer(&HeaderValue::from_static(text)).map(<[u8]>::to_vec);
    assert_eq!(kind("bearer  x"), Some(b"x".to_vec()));
    assert_eq!(kind("Basic x"), None);
    assert_eq!(kind("Bearer"), None);
}
