//! Requests to the admin address, right and wrong, with and without a credential.
//!
//! Every answer is HTTP with a status that the address uses; a refusal is JSON with its remedy;
//! nobody changes anything, or reads beyond loopback, without an administrator's key; and no
//! answer has a key in it.

use super::Draw;
use ringmail::server::control::harness::Harness;
use serde_json::Value;
use std::{env, fs, process, thread};

const METHODS: &[&str] = &[
    "GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "get",
];
const PATHS: &[&str] = &[
    "/",
    "/livez",
    "/readyz",
    "/status",
    "/metrics",
    "/connections",
    "/connections/0-0-0",
    "/connections/",
    "/topics",
    "/log",
    "/revocations",
    "/debug/pprof/heap",
    "/nothing",
    "*",
];
const QUERIES: &[&str] = &[
    "?sort=age&order=asc",
    "?limit=10&offset=5",
    "?limit=0",
    "?limit=9&limit=9",
    "?principal=%00",
    "?format=svg",
    "?%",
    "?sort=%ff",
    "?client_id=a+b",
    "?x=1",
    "?format=proto",
];
const BODIES: &[&str] = &[
    r#"{"jti":"a"}"#,
    r#"{"kid":"b"}"#,
    r#"{"sub":"c","before":5}"#,
    r#"{"sub":"c"}"#,
    "{}",
    "null",
    r#"{"level":"info"}"#,
    r#"{"level":"info,x=loud"}"#,
    r#"{"jti":"a","kid":"b"}"#,
];
/// What the endpoints and what is in front of them answer with.
const STATUSES: &[u16] = &[
    200, 400, 401, 403, 404, 405, 408, 409, 411, 413, 414, 415, 422, 431, 501, 503, 505, 507,
];

thread_local! {
    static ADMIN: [Harness; 2] = {
        let own = format!("ringmail-fuzz-{}-{:?}", process::id(), thread::current().id());
        let directory = env::temp_dir().join(own);
        let at = |name: &str, is_loopback| {
            let path = directory.join(name);
            fs::create_dir_all(&path).expect("a directory");
            Harness::new(&path, is_loopback).expect("an admin address")
        };
        let both = [at("near", true), at("far", false)];
        // What is open goes on; what is left behind is nothing.
        fs::remove_dir_all(&directory).expect("it was made here");
        both
    };
}

pub fn run(input: &[u8]) {
    ADMIN.with(|both| ask(both, input));
}

fn ask(both: &[Harness; 2], input: &[u8]) {
    let mut draw = Draw::new(input);
    let flags = draw.byte();
    let is_near = flags & 1 == 0;
    let admin = &both[usize::from(!is_near)];
    let (mut said, mut has_key, mut only_changes) = (Vec::new(), false, true);
    if flags & 2 != 0 {
        said.extend_from_slice(draw.rest());
        only_changes = false;
    } else {
        for _ in 0..4 {
            let from = said.len();
            has_key |= request(&mut draw, &admin.keys, &mut said);
            only_changes &= [&b"PUT "[..], b"POST ", b"DELETE "]
                .iter()
                .any(|method| said[from..].starts_with(method));
            if draw.is_empty() {
                break;
            }
        }
    }
    // This takes as long as it is asked to, of the processor's own time.
    if find(&said, b"/debug/pprof/profile").is_some() {
        return;
    }
    let answered = admin.answer(&said);
    for key in &admin.keys {
        assert!(find(&answered, key.as_bytes()).is_none(), "a key is told");
    }
    // A body may have a request behind it.
    only_changes &= find(&said, b"GET ").is_none() && find(&said, b"HEAD ").is_none();
    if only_changes && !has_key {
        assert!(
            find(&answered, b"HTTP/1.1 200").is_none(),
            "changed without a key"
        );
    }
    check(&answered, has_key, is_near, &said);
}

/// Adds one request; whether it has an administrator's key.
fn request(draw: &mut Draw<'_>, keys: &[String; 2], said: &mut Vec<u8>) -> bool {
    let (method, path) = (*draw.pick(METHODS), *draw.pick(PATHS));
    said.extend(format!("{method} {path}").bytes());
    match draw.byte() & 3 {
        0 => {}
        1 => said.extend(draw.pick(QUERIES).bytes()),
        2 => {
            said.push(b'?');
            said.extend_from_slice(draw.piece());
        }
        _ => said.extend_from_slice(draw.piece()),
    }
    said.extend(b" HTTP/1.1\r\n");
    let host = *draw.pick(&["localhost:7412", "127.0.0.1", "[::1]", "example.com", ""]);
    said.extend(format!("Host: {host}\r\n").bytes());
    let credential = draw.byte() & 7;
    match credential {
        0..=2 => said.extend(format!("Authorization: Bearer {}\r\n", keys[0]).bytes()),
        3 => said.extend(format!("Authorization: bearer {}\r\n", keys[1]).bytes()),
        4 => {
            said.extend(b"Authorization: ");
            said.extend_from_slice(draw.piece());
            said.extend(b"\r\n");
        }
        _ => {}
    }
    match draw.byte() & 7 {
        0 => said.extend(b"Origin: http://localhost:7412\r\n"),
        1 => said.extend(b"Origin: http://example.com\r\n"),
        2 => said.extend(b"Sec-Fetch-Site: cross-site\r\n"),
        3 => said.extend_from_slice(draw.piece()),
        _ => {}
    }
    let body = match draw.byte() & 3 {
        0 => &b""[..],
        1 => draw.pick(BODIES).as_bytes(),
        _ => draw.piece(),
    };
    match draw.byte() & 3 {
        0 => {
            said.extend(format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).bytes());
            said.extend_from_slice(body);
            said.extend(b"\r\n0\r\n\r\n");
        }
        1 => {
            let length = usize::from(draw.u16());
            said.extend(format!("Content-Length: {length}\r\n\r\n").bytes());
            said.extend_from_slice(body);
        }
        _ => {
            said.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            said.extend_from_slice(body);
        }
    }
    credential <= 2
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// The answers, one by one; that of a HEAD has no body.
fn check(mut answers: &[u8], has_key: bool, is_near: bool, said: &[u8]) {
    let only_get = said.starts_with(b"GET ") && find(said, b"HEAD ").is_none();
    while !answers.is_empty() {
        let head_end = find(answers, b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&answers[..head_end]).expect("a head of text");
        let (line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = line.strip_prefix("HTTP/1.").expect("HTTP").get(2..5);
        let status: u16 = status
            .and_then(|status| status.parse().ok())
            .expect("a status");
        assert!(STATUSES.contains(&status), "{line}");
        let field = |name: &str| {
            let mut all = fields
                .split("\r\n")
                .filter_map(|field| field.split_once(": "));
            all.find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        };
        let length = field("content-length").map_or(0, |length| length.parse().expect("a length"));
        let body = &answers[head_end + 4..];
        // Of HEAD the length is told and nothing comes: then the rest is not looked at.
        let Some(body) = body.get(..length).filter(|_| only_get || length == 0) else {
            return;
        };
        let is_json = field("content-type") == Some("application/json");
        if status >= 400 && is_json {
            let said: Value = serde_json::from_slice(body).expect("JSON");
            let error = said["error"].as_str().expect("an error's text");
            assert!(
                error.contains("; ") || error.contains(": ") || error.contains(", "),
                "{error}"
            );
        }
        let is_page = field("content-type").is_some_and(|kind| kind.starts_with("text/html"));
        if status == 200 && !has_key && !is_near {
            assert!(is_page, "read from afar without a key: {head}");
        }
        answers = &answers[head_end + 4 + length..];
    }
}
