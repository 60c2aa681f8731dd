//! The admin address from outside: health, revocations, and what it costs to be rude.
//!
//! Servers run in this process, each on ports of its own, so that a test can give one a
//! configuration and a state directory of its own; a drain is that of the binary.

#[path = "admin/connections.rs"]
mod connections;
#[path = "admin/guard.rs"]
mod guard;
#[path = "admin/log.rs"]
mod log;
#[path = "admin/profile.rs"]
mod profile;
#[path = "admin/status.rs"]
mod status;

use ringmail::auth::key::{NewApiKey, generate};
use ringmail::server::config::{ApiKey, AuthMode, Role, Secret};
use ringmail::{Config, Running, Server};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// An answer: status, head and body.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error, which names something to do after its semicolon.
    fn error(&self) -> String {
        let json = self.json();
        let error = json["error"].as_str().unwrap().to_owned();
        assert!(error.contains(';'), "no remedy: {error}");
        assert!(
            self.head
                .to_lowercase()
                .contains("content-type: application/json")
        );
        error
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn answer_on(stream: &mut TcpStream) -> Answer {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no head: {text:?}"));
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

fn send(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = connect(address);
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    answer_on(&mut stream)
}

fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, "GET", path, "", "")
}

struct Fixture {
    running: Running,
    admin: SocketAddr,
    operator: NewApiKey,
    device: NewApiKey,
}

fn configuration() -> Config {
    let text = "[server]\nlisten = '127.0.0.1:0'\nadmin = '127.0.0.1:0'\nshards = [0, 1]\n";
    Config::from_toml(text).unwrap()
}

fn api_key(config: &mut Config, id: &str, role: &str, key: &NewApiKey) {
    config.auth.api_key.push(ApiKey {
        id: id.to_owned(),
        sha256: key.sha256.clone(),
        principal: format!("{id}-principal"),
        roles: vec![role.to_owned()],
    });
}

impl Fixture {
    /// A server whose clients authenticate, with an operator and a device.
    fn start(state: &Path) -> Fixture {
        Fixture::start_with(state, |_| {})
    }

    fn start_with(state: &Path, change: impl FnOnce(&mut Config)) -> Fixture {
        let operator = generate("op.erator").unwrap();
        let device = generate("device").unwrap();
        let mut config = configuration();
        config.auth.mode = AuthMode::Required;
        let secret = "an HS256 secret of more than 32 bytes, to sign with";
        config.auth.issuer.signing_secret = Secret::from(secret.to_owned());
        api_key(&mut config, "op.erator", "admin", &operator);
        api_key(&mut config, "device", "device", &device);
        let admin = Role {
            admin: true,
            ..Role::default()
        };
        config.roles.insert("admin".to_owned(), admin);
        config.roles.insert("device".to_owned(), Role::default());
        change(&mut config);
        let server = Server::builder().config(config).state_directory(state);
        let running = server.start().unwrap();
        Fixture {
            admin: running.admin_address().unwrap(),
            running,
            operator,
            device,
        }
    }

    fn revoke(&self, credential: &str, body: &str) -> Answer {
        let headers = format!("Authorization: Bearer {credential}\r\n");
        send(self.admin, "POST", "/revocations", &headers, body)
    }

    /// No secret is in an answer.
    fn holds_no_secret(&self, answer: &Answer) {
        for key in [&self.operator, &self.device] {
            let secret = key.key.rsplit_once('.').unwrap().1;
            assert!(!format!("{answer:?}").contains(secret), "{answer:?}");
        }
    }

    fn end(self) {
        self.running.drain();
        self.running.wait().unwrap();
    }
}

#[test]
fn health_is_told_to_whoever_asks_over_loopback() {
    let running = Server::builder().config(configuration()).start().unwrap();
    let admin = running.admin_address().unwrap();
    for path in ["/livez", "/readyz"] {
        let answer = get(admin, path);
        assert_eq!((answer.status, &*answer.body), (200, "ok\n"), "{path}");
    }
    assert_eq!(get(admin, "/nothing").status, 404);
    assert!(get(admin, "/nothing").error().contains("/livez"));
    let wrong = send(admin, "POST", "/livez", "", "");
    assert_eq!(wrong.status, 405);
    wrong.error();
    let wrong = get(admin, "/revocations");
    assert_eq!(wrong.status, 405);
    running.drain();
    running.wait().unwrap();
}

#[test]
fn without_authentication_nothing_can_be_changed() {
    let running = Server::builder().config(configuration()).start().unwrap();
    let admin = running.admin_address().unwrap();
    for headers in ["", "Authorization: Bearer op.x\r\n"] {
        let answer = send(admin, "POST", "/revocations", headers, "{\"kid\":\"x\"}");
        assert_eq!(answer.status, 403);
        assert!(answer.error().contains("auth.mode"), "{answer:?}");
    }
    running.drain();
    running.wait().unwrap();
}

#[test]
fn revoking_needs_a_credential_whose_role_is_admin() {
    let state = tempfile::tempdir().unwrap();
    let server = Fixture::start(state.path());
    let body = "{\"jti\":\"some-token\"}";
    let answer = send(server.admin, "POST", "/revocations", "", body);
    assert_eq!(answer.status, 401);
    assert!(
        answer
            .head
            .to_lowercase()
            .contains("www-authenticate: bearer")
    );
    assert!(answer.error().contains("Bearer"));
    let operator = server.operator.key.clone();
    let shorter = &operator[..operator.len() - 1];
    for wrong in [
        shorter,
        "x.y.z",
        "eyJ.eyJ.x",
        "op.erator.",
        ".",
        "",
        "é",
        &"x".repeat(8000),
    ] {
        let answer = server.revoke(wrong, body);
        assert_eq!(answer.status, 401, "{wrong}: {answer:?}");
        answer.error();
        server.holds_no_secret(&answer);
    }
    let basic = format!("Authorization: Basic {operator}\r\n");
    assert_eq!(
        send(server.admin, "POST", "/revocations", &basic, body).status,
        401
    );
    let answer = server.revoke(&server.device.key, body);
    assert_eq!(answer.status, 403);
    assert!(answer.error().contains("admin = true"));
    server.holds_no_secret(&answer);
    let answer = server.revoke(&operator, body);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["jti"], "some-token");
    assert!(answer.json()["forget_at"].as_u64().unwrap() > 1_700_000_000);
    server.end();
}

#[test]
fn a_revocation_is_exactly_what_it_should_be_or_an_error_says_why() {
    let state = tempfile::tempdir().unwrap();
    let server = Fixture::start(state.path());
    let operator = server.operator.key.clone();
    for bad in [
        "",
        "{",
        "[]",
        "{}",
        "null",
        "{\"jti\":1}",
        "{\"jti\":\"\"}",
        "{\"sub\":\"a\"}",
        "{\"sub\":\"a\",\"before\":\"1\"}",
        "{\"sub\":\"a\",\"before\":-1}",
        "{\"sub\":\"a\",\"before\":1.5}",
        "{\"sub\":\"a/b\",\"before\":1}",
        "{\"jti\":\"a\",\"kid\":\"b\"}",
        "{\"jti\":\"a\",\"more\":1}",
        "{\"jti\":\"a\",\"jti\":\"b\"}",
        "{\"jti\":\"a\"} x",
        "{\"sub\":\"a\",\"before\":1700000000000}",
    ] {
        let answer = server.revoke(&operator, bad);
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
        answer.error();
    }
    for (good, name) in [
        ("{\"jti\":\"a\"}", "jti"),
        ("{\"sub\":\"a\",\"before\":1700000000}", "sub"),
        ("{\"kid\":\"a\"}", "kid"),
    ] {
        let answer = server.revoke(&operator, good);
        assert_eq!(answer.status, 200, "{good}: {answer:?}");
        assert_eq!(answer.json()[name], "a");
        assert_eq!(
            answer.json()["forget_at"].is_null(),
            name == "kid",
            "{answer:?}"
        );
    }
    server.end();
}

#[test]
fn revocations_outlive_the_server_and_its_directory_is_its_own() {
    let state = tempfile::tempdir().unwrap();
    let server = Fixture::start(state.path());
    let other = {
        let mut config = configuration();
        config.auth.mode = AuthMode::Required;
        let server = Server::builder().config(config);
        server.state_directory(state.path()).start()
    };
    let error = other.err().expect("the directory is taken");
    assert_eq!(error.status().code(), 78);
    assert!(error.to_string().contains("--state-directory"), "{error}");
    // Whoever is the operator, until tomorrow.
    let tomorrow = unix_now() + 23 * 3600;
    let body = format!("{{\"sub\":\"op.erator-principal\",\"before\":{tomorrow}}}");
    let answer = server.revoke(&server.operator.key, &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(server.revoke(&server.operator.key, &body).status, 401);
    server.end();
    // Another key, the same principal.
    let server = Fixture::start(state.path());
    assert_eq!(server.revoke(&server.operator.key, &body).status, 401);
    server.end();
}

fn unix_now() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    since.unwrap().as_secs()
}

#[test]
fn a_body_that_is_too_long_is_refused_however_it_comes() {
    let state = tempfile::tempdir().unwrap();
    let server = Fixture::start(state.path());
    let operator = server.operator.key.clone();
    let padded = |bytes: usize| {
        let body = "{\"jti\":\"a\"}";
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    assert_eq!(server.revoke(&operator, &padded(4096)).status, 200);
    for bytes in [4097, 65_536, 900_000] {
        let answer = server.revoke(&operator, &padded(bytes));
        assert_eq!(answer.status, 413, "{bytes}");
        assert!(answer.error().contains("4096"));
    }
    // Without saying how long it will be.
    let mut stream = connect(server.admin);
    let head = format!(
        "POST /revocations HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {operator}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("400\r\n{}\r\n", " ".repeat(1024));
    stream.write_all(chunk.repeat(8).as_bytes()).unwrap();
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(answer_on(&mut stream).status, 413);
    // One that never ends is cut: nobody waits for it, and no memory is taken.
    let mut stream = connect(server.admin);
    stream.write_all(head.as_bytes()).unwrap();
    let end = Instant::now() + PATIENCE;
    while stream.write_all(chunk.as_bytes()).is_ok() {
        assert!(Instant::now() < end, "an endless body is read forever");
    }
    // A head that is too long likewise.
    let long = format!("X: {}\r\n", "x".repeat(64 << 10));
    let mut stream = connect(server.admin);
    let request = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{long}\r\n");
    // It may be cut before all of it is sent.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(get(server.admin, "/livez").status, 200);
    server.end();
}

#[test]
fn whoever_says_little_is_closed_and_the_next_is_served() {
    let state = tempfile::tempdir().unwrap();
    let server = Fixture::start(state.path());
    // Every place there is, and more, by peers that never end what they begin.
    let mut slow: Vec<TcpStream> = (0..80).map(|_| connect(server.admin)).collect();
    for (count, stream) in slow.iter_mut().enumerate() {
        let begun: &[u8] = match count % 3 {
            0 => b"",
            1 => b"GET /livez HTTP/1.1\r\nHost: localhost\r\n",
            _ => b"G",
        };
        stream.write_all(begun).unwrap();
    }
    assert_eq!(get(server.admin, "/livez").status, 200);
    for stream in &mut slow {
        // Closed, with or without a word.
        let mut said = Vec::new();
        let end = stream.read_to_end(&mut said);
        assert!(end.is_ok() || end.unwrap_err().kind() != std::io::ErrorKind::WouldBlock);
    }
    // A body that does not come is told so.
    let mut stream = connect(server.admin);
    let operator = &server.operator.key;
    let head = format!(
        "POST /revocations HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {operator}\r\nContent-Length: 20\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let answer = answer_on(&mut stream);
    assert_eq!(answer.status, 408);
    answer.error();
    server.end();
}

/// The binary.
struct Process {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    fn start() -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringmail"))
            .args(["serve", "--listen", "127.0.0.1:0", "--shards", "0-1"])
            .args(["--log-format", "text", "--set", "server.admin=127.0.0.1:0"])
            .args(["--set", "server.drain_timeout_ms=30000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut listen, mut admin) = (None, None);
        while listen.is_none() || admin.is_none() {
            let line = lines.next().expect("it did not start").unwrap();
            let after = |mark: &str| {
                let (_, rest) = line.split_once(mark)?;
                rest.split(' ').next()?.parse().ok()
            };
            listen = listen.or(after("listening on "));
            admin = admin.or(after("admin endpoints at http://"));
        }
        std::thread::spawn(move || lines.for_each(drop));
        let (listen, admin) = (listen.unwrap(), admin.unwrap());
        Process {
            child,
            listen,
            admin,
        }
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn readyz_says_no_from_the_beginning_of_a_drain_and_livez_yes_to_its_end() {
    let mut server = Process::start();
    // A request that is answered when the test says so keeps the drain going.
    let directory = tempfile::tempdir().unwrap();
    let (begun, go) = (directory.path().join("begun"), directory.path().join("go"));
    // The directory may go before the work has looked again.
    let work = format!(
        "touch {begun}; while [ -e {begun} ] && [ ! -e {go} ]; do sleep 0.01; done",
        begun = begun.display(),
        go = go.display()
    );
    let tool = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmail"));
        command
            .args(args)
            .args(["--address", &server.listen.to_string()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Killed(command.spawn().unwrap())
    };
    let _reply = tool(&["reply", "slow/one", "--exec", &work]);
    let end = Instant::now() + PATIENCE;
    let mut asking = tool(&["req", "slow/one", "x"]);
    while !begun.exists() {
        assert!(Instant::now() < end, "the service was never asked");
        // Asked before the service was there: once more.
        if asking.0.try_wait().unwrap().is_some() {
            asking = tool(&["req", "slow/one", "x"]);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(get(server.admin, "/readyz").status, 200);
    server.terminate();
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = get(server.admin, "/readyz");
        if answer.status == 503 {
            assert!(answer.error().contains("draining"));
            break;
        }
        assert!(Instant::now() < end, "it never drained");
    }
    assert_eq!(get(server.admin, "/livez").status, 200);
    std::fs::write(&go, "").unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_taken_admin_port_is_named_and_the_server_does_not_start() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_ringmail"))
        .args(["serve", "--listen", "127.0.0.1:0", "--shards", "0"])
        .args(["--set", &format!("server.admin={address}")])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{errors}");
    let line = errors
        .lines()
        .find(|line| line.starts_with("ringmail: "))
        .unwrap();
    assert!(
        line.contains(&address) && line.contains("server.admin"),
        "{line}"
    );
}
