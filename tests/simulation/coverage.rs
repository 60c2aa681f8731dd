//! What all runs of a test have reached together: features, faults, close reasons, codes. A test
//! requires what it exists to reach, so that it cannot stop reaching it unnoticed.

use super::seed;
use super::server::Server;
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
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

    /// # Panics
    /// If one of these was never reached, unless the environment chose the seeds.
    pub fn require(&self, all: &[&str]) {
        let reached = self.0.lock().unwrap();
        println!("reached: {reached:?}");
        if seed::are_overridden() {
            return;
        }
        let never = |one: &&&str| reached.get(**one).is_none_or(|&count| count == 0);
        let never: Vec<_> = all.iter().filter(never).collect();
        assert!(never.is_empty(), "never reached: {never:?}");
    }
}
