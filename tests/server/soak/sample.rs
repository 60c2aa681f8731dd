//! What the server takes and how fast it answers, second by second: a line of a table each.

use super::load::{World, quantiles};
use crate::harness::{Server, get, metric};
use std::sync::atomic::Ordering::Relaxed;

/// The head of the table, in the order of [`Sample::line`].
pub const HEAD: &str = "second,resident_kib,anonymous_kib,charged_bytes,descriptors,connections,sessions,\
                        cpu_percent,messages,answers,p50_us,p99_us,floor_p50_us,floor_p99_us";

#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub second: u64,
    pub resident_bytes: u64,
    /// Without the program's own pages.
    pub anonymous_bytes: u64,
    pub charged_bytes: u64,
    pub descriptors: usize,
    pub connections: u64,
    pub sessions: u64,
    /// Clock ticks, messages taken and requests answered, all since the begin.
    pub ticks: u64,
    pub messages: u64,
    pub answers: u64,
    /// p50 and p99 of this second's requests, and of the round trips beside them.
    pub trips_us: [f64; 2],
    pub floor_us: [f64; 2],
}

impl Sample {
    pub fn take(second: u64, server: &Server, world: &World) -> Sample {
        let (status, metrics) = get(server.admin(), "/metrics");
        assert_eq!(status, 200, "{metrics}");
        Sample {
            second,
            resident_bytes: server.resident_bytes(),
            anonymous_bytes: server.anonymous_bytes(),
            charged_bytes: metric(&metrics, "ringmail_memory_lent_bytes"),
            descriptors: server.open_descriptors(),
            connections: metric(&metrics, "ringmail_connections"),
            sessions: metric(&metrics, "ringmail_sessions"),
            ticks: server.cpu_ticks(),
            messages: world.tally.messages.load(Relaxed),
            answers: world.tally.answers.load(Relaxed),
            trips_us: quantiles(&world.tally.round_trips),
            floor_us: quantiles(&world.tally.floor_trips),
        }
    }

    /// A line of the table: of what is counted since the begin, what has come since `last`.
    pub fn line(&self, last: &Sample) -> String {
        let [p50, p99] = self.trips_us;
        let [floor_p50, floor_p99] = self.floor_us;
        format!(
            "{},{},{},{},{},{},{},{},{},{},{p50:.1},{p99:.1},{floor_p50:.1},{floor_p99:.1}",
            self.second,
            self.resident_bytes / 1024,
            self.anonymous_bytes / 1024,
            self.charged_bytes,
            self.descriptors,
            self.connections,
            self.sessions,
            self.ticks - last.ticks, // of a hundred a second
            self.messages - last.messages,
            self.answers - last.answers,
        )
    }
}
