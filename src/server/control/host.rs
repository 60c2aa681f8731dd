//! What the admin address tells of the process beside what its shards do.

use crate::base::clock::unix_nanos;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

/// What the admin address tells of the process beside what its shards do.
#[derive(Clone, Default)]
pub struct Host {
    /// Unix seconds.
    pub started_at: f64,
    /// What the shards may take, as it was announced.
    pub memory_budget_bytes: u64,
    /// When the first certificate of the chain in force expires, in Unix seconds; `None`:
    /// there is none.
    pub certificate_expires: Option<Arc<AtomicI64>>,
}

impl Host {
    /// Of a process that starts now.
    pub fn new(memory_budget_bytes: u64, certificate_expires: Option<Arc<AtomicI64>>) -> Host {
        Host {
            started_at: unix_nanos() as f64 / 1e9,
            memory_budget_bytes,
            certificate_expires,
        }
    }
}
