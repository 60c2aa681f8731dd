//! What all runs of a test have reached together: features, faults, close reasons, codes. A test
//! requires what it exists to reach, so that it cannot stop reaching it unnoticed.

use super::seed;
use super::server::Server;
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::Report;
use ringmail::ring::sim::client::traffic::Record;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// How often each was reached, by name: a counter's or a fault's label, `closed: ` with a reason's
/// label, `code: ` with a code that clients received, or a name of the test's own.
#[derive(Default)]
pub struct Coverage(Mutex<BTreeMap<String, u64>>);

impl Coverage {
    pub fn add(&self, what: impl Into<String>, count: u64) {
        *self.0.lock().unwrap().entry(what.into()).or_default() += count;
    }

    /// Adds a server's counters, and the faults of its world.
    pub fn add_server(&self, server: &Server) {
        for &counter in Counter::ALL {
            self.add(counter.label(), server.count(counter));
        }
        for &reason in Reason::ALL {
            self.add(format!("closed: {}", reason.label()), server.closed(reason));
        }
        for (fault, count) in server.world.coverage() {
            self.add(fault, count);
        }
    }

    /// Adds the codes that a client received.
    pub fn add_record(&self, record: &Record) {
        let errors = record.errors.iter().map(|one| one.1);
        let failures = record.requested.iter().filter_map(|one| one.answer?.failed);
        let ends = record.connections.iter();
        let ends = ends.flat_map(|one| [one.refused, one.close_received]);
        for code in errors.chain(failures).chain(ends.flatten()) {
            self.add(format!("code: {code:?}"), 1);
        }
    }

    /// Adds the codes that a client which makes requests received.
    pub fn add_report(&self, report: &Report) {
        let codes = report.errors.iter().chain(&report.failures);
        let ends = [report.refused, report.close_received];
        for code in codes.copied().chain(ends.into_iter().flatten()) {
            self.add(format!("code: {code:?}"), 1);
        }
    }

    /// # Panics
    /// If one of these was never reached, or something that is said to be beyond was, unless the environment chose the seeds.
    pub fn require(&self, all: &[&str]) {
        let reached = self.0.lock().unwrap();
        println!("reached: {reached:?}");
        if seed::are_overridden() {
            return;
        }
        let never = |one: &&&str| reached.get(**one).is_none_or(|&count| count == 0);
        let never: Vec<_> = all.iter().filter(never).collect();
        assert!(never.is_empty(), "never reached: {never:?}");
        let is_reached = |one: &&(&str, &str)| reached.get(one.0).is_some_and(|&count| count > 0);
        let beyond: Vec<_> = BEYOND.iter().filter(is_reached).collect();
        assert!(beyond.is_empty(), "reached, so require it: {beyond:?}");
    }
}

/// What no simulation may reach, and why.
const BEYOND: &[(&str, &str)] = &[("closed: internal", "no client makes a server fail")];

/// What no random test here has to reach: where it is tested, or why it is not reached.
const ELSEWHERE: &[(&str, &str)] = &[
    ("auth_unavailable", "tests/simulation/access/rule.rs"),
    ("closed: unavailable", "tests/simulation/access/rule.rs"),
    ("code: Unavailable", "tests/simulation/access/rule.rs"),
    (
        "deliveries_forbidden",
        "tests/simulation/access/rule.rs, in effect",
    ),
    ("responses_unasked", "tests/server/request.rs"),
    ("closed: peer_refused", "tests/server/handshake.rs"),
    ("closed: auth_required", "tests/server/auth.rs"),
    ("code: AuthRequired", "tests/server/auth.rs"),
    ("closed: address_denied", "tests/server/rate.rs"),
    ("code: AddressDenied", "tests/server/rate.rs"),
    ("closed: tls_required", "tests/server/tls/mode.rs"),
    ("code: TlsRequired", "tests/server/tls/mode.rs"),
    ("closed: tls_failed", "tests/server/tls/hostile.rs"),
    ("closed: overloaded", "tests/simulation/routing/memory.rs"),
    ("code: Overloaded", "tests/simulation/routing/memory.rs"),
    (
        "code: TooManyRequests",
        "tests/simulation/routing/request.rs",
    ),
    ("code: SlowConsumer", "tests/simulation/routing/slow.rs"),
    ("code: HandshakeTimeout", "tests/simulation/peer.rs"),
    ("code: FrameTimeout", "tests/simulation/peer.rs"),
    (
        "code: HeartbeatTimeout",
        "tests/server/heartbeat.rs: a peer that has gone does not read it",
    ),
    (
        "closed: forbidden",
        "the eleventh error of a second ends as too_many_errors",
    ),
    ("closed: too_many_subscriptions", "likewise"),
    (
        "closed: too_many_requests",
        "no ERROR has this code: a RESPONSE has",
    ),
    ("code: Normal", "a server's CLOSE gives a reason"),
];

/// Every counter, close reason and code is one that a test here requires, or stands in `BEYOND`.
#[test]
fn everything_is_required_of_a_test_or_said_to_be_beyond() {
    let counters = Counter::ALL.iter().map(|one| one.label().to_owned());
    let reasons = Reason::ALL
        .iter()
        .map(|one| format!("closed: {}", one.label()));
    let codes = Code::LISTED.iter().map(|one| format!("code: {one:?}"));
    let required: Vec<&str> = [
        super::routing::random::REACHED,
        super::routing::random::REACHED_WITH_FAULTS,
        super::routing::random::REACHED_IN_LITTLE_ROOM,
        super::routing::random::REACHED_TRACED,
        super::access::random::REACHED,
        super::chaos::REACHED,
        super::drain::REACHED,
        super::tls::REACHED,
    ]
    .concat();
    let is_said = |one: &String| {
        let is_beyond = BEYOND.iter().chain(ELSEWHERE).any(|(name, _)| name == one);
        assert!(
            !(is_beyond && required.contains(&one.as_str())),
            "{one} is both"
        );
        is_beyond || required.contains(&one.as_str())
    };
    let all = counters.chain(reasons).chain(codes);
    let missing: Vec<String> = all.filter(|one| !is_said(one)).collect();
    assert!(missing.is_empty(), "required of no test: {missing:?}");
}
