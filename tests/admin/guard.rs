//! What nobody keeps others from at the admin address: places, budgets, and pages of other
//! origins in an operator's browser.

use super::{Fixture, connect, get, send};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Asks, and keeps the connection. False: the server has closed it.
fn ask_and_keep(stream: &mut TcpStream) -> bool {
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    if stream.write_all(request).is_err() {
        return false;
    }
    while !answer.ends_with(b"ok\n") {
        match stream.read(&mut piece) {
            Ok(count @ 1..) => answer.extend_from_slice(&piece[..count]),
            _ => return false,
        }
    }
    true
}

/// Connections that ask now and then, and so never end by themselves soon, hold every place.
#[test]
fn connections_that_are_kept_make_room_for_the_next() {
    let state = tempfile::tempdir().unwrap();
    let server = Fixture::start(state.path());
    let mut kept: Vec<TcpStream> = (0..200).map(|_| connect(server.admin)).collect();
    let stand = kept
        .iter_mut()
        .filter_map(|stream| ask_and_keep(stream).then_some(()));
    assert!(stand.count() >= 64);
    // A connection's whole life is 60 s: in that time each place would become free.
    for path in ["/livez", "/readyz", "/metrics", "/status"] {
        let mut stream = connect(server.admin);
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect(path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    // Those that had waited longest have gone.
    let left = kept
        .iter_mut()
        .filter_map(|stream| ask_and_keep(stream).then_some(()));
    assert!((1..=72).contains(&left.count()));
    server.end();
}

fn refused(server: &Fixture, reason: &str) -> u64 {
    let metrics = get(server.admin, "/metrics").body;
    let name = format!("ringmail_admin_requests_refused_total{{reason=\"{reason}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&*name));
    line.expect(&metrics).parse().unwrap()
}

#[test]
fn wrong_credentials_have_a_budget_and_a_good_one_gets_in_beside_them() {
    let state = tempfile::tempdir().unwrap();
    let server = Fixture::start_with(state.path(), |config| {
        config.rate.auth_failures_per_min_per_ip = 3;
    });
    let body = "{\"jti\":\"some-token\"}";
    let statuses = |credentials: &[&str]| -> Vec<u16> {
        let shown = credentials.iter().map(|one| server.revoke(one, body));
        shown.map(|answer| answer.status).collect()
    };
    let old = "op.erator.an-old-secret";
    assert_eq!(statuses(&[old; 6]), [401, 401, 401, 429, 429, 429]);
    assert!(server.revoke(old, body).error().contains("wait a minute"));
    let good = &*server.operator.key;
    assert_eq!(statuses(&[good, good]), [200, 200]);
    let guesses = ["op.erator.a", "op.erator.b", "op.erator.c", good];
    assert_eq!(statuses(&guesses), [401, 401, 429, 429]);
    // Other keys are looked at, and what else is wrong is not told to be.
    assert_eq!(
        statuses(&[&server.device.key, "nobody.x", "a.b.c"]),
        [403, 429, 429]
    );
    assert_eq!(
        (refused(&server, "credential"), refused(&server, "rate")),
        (7, 8)
    );
    server.end();
}

/// Fetch Metadata, and `Origin` where there is none.
#[test]
fn a_page_from_elsewhere_changes_nothing_and_has_nothing_dear_done() {
    let state = tempfile::tempdir().unwrap();
    let server = Fixture::start(state.path());
    let profile = "/debug/pprof/profile?seconds=1";
    let key = &server.operator.key;
    let bearer = format!("Authorization: Bearer {key}\r\n");
    let foreign = [
        "Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: image\r\n",
        "Sec-Fetch-Site: same-site\r\nOrigin: http://localhost:3000\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost:1\r\n",
    ];
    for headers in foreign {
        for (method, path) in [
            ("GET", profile),
            ("GET", "/debug/pprof/heap"),
            ("GET", "/connections"),
            ("GET", "/topics"),
            ("PUT", "/log"),
            ("POST", "/revocations"),
            ("DELETE", "/connections/0-0-0"),
        ] {
            let answer = send(
                server.admin,
                method,
                path,
                &format!("{bearer}{headers}"),
                "",
            );
            assert_eq!(answer.status, 403, "{method} {path} {headers}: {answer:?}");
            answer.error();
        }
        for path in ["/", "/livez", "/readyz", "/metrics"] {
            let answer = send(server.admin, "GET", path, headers, "");
            assert_eq!(answer.status, 200, "{path} {headers}");
        }
    }
    assert_eq!(refused(&server, "origin"), 7 * foreign.len() as u64);
    // The server's own page, an address typed in, and tools.
    for headers in [
        "",
        "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost\r\n",
        "Sec-Fetch-Site: none\r\n",
        "Origin: http://localhost\r\n",
    ] {
        let headers = format!("{bearer}{headers}");
        let answer = send(server.admin, "GET", "/connections", &headers, "");
        assert_eq!(answer.status, 200, "{headers}");
        let answer = send(
            server.admin,
            "POST",
            "/revocations",
            &headers,
            "{\"jti\":\"x\"}",
        );
        assert_eq!(answer.status, 200, "{headers}");
    }
    server.end();
}
