//! Gauges of one shard: what it held when it was last asked.
//!
//! The shard writes them when its histograms are collected, at most once a second, so they cost
//! nothing per message. Anyone may read them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! gauges {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// What a shard holds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Gauge { $($(#[$doc])* $name,)* }

        impl Gauge {
            pub const ALL: &'static [Gauge] = &[$(Gauge::$name,)*];

            pub const fn label(self) -> &'static str {
                match self { $(Gauge::$name => $label,)* }
            }
        }
    };
}

gauges! {
    /// Sessions, including those whose client is away.
    Sessions = "sessions",
    /// Retained messages: every shard keeps all of them.
    Retained = "retained",
    RetainedBytes = "retained_bytes",
    /// Calls that are not yet answered, and requests that connections of this shard have to answer.
    CallsOpen = "calls_open",
    ErrandsOpen = "errands_open",
    /// Batches of publications that are being fanned out, a slice per turn.
    Fanouts = "fanouts",
    /// Batches that other shards have not processed yet, and connections that wait for them.
    MeshBatches = "mesh_batches",
    MeshBlocked = "mesh_blocked",
    /// Bytes lent to connections (outboxes, pending messages, sessions, subscriptions), and how
    /// many may be lent.
    MemoryLentBytes = "memory_lent_bytes",
    MemoryMaxBytes = "memory_max_bytes",
    /// Receive buffers that are not lent out, and how many there are in all. Zero where there are
    /// none.
    BuffersFree = "buffers_free",
    Buffers = "buffers",
}

const GAUGES: usize = Gauge::ALL.len();

/// The gauges of one shard.
#[derive(Debug)]
pub struct Gauges([AtomicU64; GAUGES]);

impl Default for Gauges {
    fn default() -> Gauges {
        Gauges([const { AtomicU64::new(0) }; GAUGES])
    }
}

impl Gauges {
    /// Only the owning shard may call this.
    pub fn put(&self, gauge: Gauge, value: u64) {
        self.0[gauge as usize].store(value, Relaxed);
    }

    pub fn read(&self, gauge: Gauge) -> u64 {
        self.0[gauge as usize].load(Relaxed)
    }
}
