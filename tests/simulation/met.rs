//! What all runs of a trial have met with together: features, faults, reasons, codes. A trial
//! asks for what it is there to reach, so that it cannot stop reaching it unseen.

use super::seed;
use super::server::Server;
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::ring::sim::client::traffic::Record;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// How often each was met, by its name: a counter's or a fault's label, `closed: ` with a
/// reason's, `code: ` with one that clients were told, or a trial's own word.
#[derive(Default)]
pub struct Met(Mutex<BTreeMap<String, u64>>);

impl Met {
    pub fn add(&self, what: impl Into<String>, count: u64) {
        *self.0.lock().unwrap().entry(what.into()).or_default() += count;
    }

    /// All that a server has counted, and the faults of its world.
    pub fn take_server(&self, server: &Server) {
        for &counter in Counter::ALL {
            self.add(counter.label(), server.count(counter));
        }
        for &reason in Reason::ALL {
            self.add(format!("closed: {}", reason.label()), server.closed(reason));
        }
        for (fault, count) in server.world.met() {
            self.add(fault, count);
        }
    }

    /// The codes that a client was told.
    pub fn take_record(&self, record: &Record) {
        let errors = record.errors.iter().map(|one| one.1);
        let failures = record.asked.iter().filter_map(|one| one.answer?.failed);
        let ends = record.connections.iter();
        let ends = ends.flat_map(|one| [one.refused, one.close_heard]);
        for code in errors.chain(failures).chain(ends.flatten()) {
            self.add(format!("code: {code:?}"), 1);
        }
    }

    /// # Panics
    /// One of these was never met, by the seeds that the test runs by itself.
    pub fn ask_for(&self, all: &[&str]) {
        let met = self.0.lock().unwrap();
        println!("met: {met:?}");
        if seed::are_asked_for() {
            return;
        }
        let never = |one: &&&str| met.get(**one).is_none_or(|&count| count == 0);
        let never: Vec<_> = all.iter().filter(never).collect();
        assert!(never.is_empty(), "never met: {never:?}");
    }
}
