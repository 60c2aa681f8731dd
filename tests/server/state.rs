//! What is on the state's disk, and what is not: a disk that is full, and what a start finds
//! that another one left.

use crate::auth::API_KEY;
use crate::harness::{after, refused};
use crate::issuer::{DEVICE, Fixture, OPERATOR};
use crate::peer::{AUTH_OK, ERROR};
use crate::wire::PATIENCE;
use rustix::process::Resource;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const NEW: &str = "the state in";

/// A file may grow no more: as on a disk without room.
fn set_full(fixture: &Fixture, is_full: bool) {
    fixture.server.limit(Resource::Fsize, is_full.then_some(0));
}

/// Asks until the answer has that status.
fn ready(fixture: &Fixture, status: u16) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let (found, text) = fixture.get("/readyz");
        if found == status {
            return text;
        }
        assert!(Instant::now() < end, "{found}, not {status}: {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_full_disk_is_told_of_and_gone_on_from_when_it_has_room() {
    let state = tempfile::tempdir().unwrap();
    let fixture = Fixture::start(state.path());
    let (before, pair) = fixture.auth(API_KEY, DEVICE);
    assert!(
        fixture
            .get("/metrics")
            .1
            .contains("\nringmail_state_failing 0\n")
    );
    for round in 1..=2 {
        set_full(&fixture, true);
        let mut peer = fixture.join();
        peer.start_auth(API_KEY, DEVICE);
        assert_eq!(peer.read().unwrap().kind, ERROR, "round {round}");
        let told = ready(&fixture, 503);
        assert!(told.contains("make room"), "{told}");
        assert!(
            fixture
                .get("/metrics")
                .1
                .contains("\nringmail_state_failing 1\n")
        );
        assert_eq!(fixture.revoke("{\"jti\":\"a\"}"), 507);
        set_full(&fixture, false);
        ready(&fixture, 200);
        assert!(
            fixture
                .get("/metrics")
                .1
                .contains("\nringmail_state_failing 0\n")
        );
        assert_eq!(fixture.revoke("{\"jti\":\"a\"}"), 200);
        let mut peer = fixture.join();
        peer.start_auth(API_KEY, DEVICE);
        assert_eq!(peer.read().unwrap().kind, AUTH_OK, "round {round}");
        peer.close();
        for told in ["cannot be written", "is written again"] {
            let is_it = |line: &str| line.contains(NEW) && line.contains(told);
            fixture.server.expect_lines(round, is_it);
        }
    }
    // What stood, stands; what was given before counts.
    before.close();
    fixture.auth(3, &pair.refresh_token).0.close();
    fixture.server.end();
}

#[test]
fn a_start_on_a_full_disk_says_so_and_is_in_nobodys_way() {
    let state = tempfile::tempdir().unwrap();
    let settings = [
        "auth.mode=required",
        "auth.jwt.secret=of-32-bytes-and-more-0123456789abcdef",
    ];
    let mut command = after("ulimit -f 0", &settings);
    command.arg("--state-directory").arg(state.path());
    let (code, errors) = refused(&mut command);
    assert_eq!(code, 69, "{errors}");
    let line = errors.lines().last().unwrap();
    assert!(
        line.contains("make room") && line.contains("--state-directory"),
        "{line}"
    );
    assert_eq!(
        fs::read_dir(state.path()).unwrap().count(),
        0,
        "left behind"
    );
    starts(state.path(), true);
    starts(state.path(), false);
}

/// Starts, and says whether the state is new.
fn starts(state: &Path, is_new: bool) {
    let fixture = Fixture::start(state);
    let is_it = |line: &str| line.contains(NEW) && line.contains("is new");
    fixture.server.expect_lines(usize::from(is_new), is_it);
    fixture.auth(API_KEY, OPERATOR).0.close();
    fixture.server.end();
}

#[test]
fn what_a_killed_start_left_is_in_nobodys_way() {
    let state = tempfile::tempdir().unwrap();
    // As versions left it that made the file under its own name; and as this one does.
    fs::write(state.path().join("access.redb"), [0; 70_000]).unwrap();
    fs::write(state.path().join("access.redb.new"), [0; 5_000]).unwrap();
    starts(state.path(), true);
    starts(state.path(), false);
}
