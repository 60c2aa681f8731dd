//! What is logged before a server starts: warnings, and the most memory it may take.

use super::access;
use super::budget::{self, Budget, Slot};
use super::certificate;
use super::config::{self, Config, TlsMode};
use super::trace;
use crate::base::id::ShardId;
use crate::base::limits::TLS_STATE_BYTES;
use crate::metrics::histogram::Histograms;
use crate::metrics::topics::Topics;

/// Logs it and returns the budget in bytes. `descriptors`: how many the process may open.
pub(super) fn announce(config: &Config, cores: &[u32], descriptors: u64) -> u64 {
    let warnings = [
        config::warnings(config),
        access::warnings(config),
        certificate::warnings(config),
    ];
    for warning in warnings.iter().flatten() {
        tracing::warn!("{warning}");
    }
    let shards = cores.len() as u16;
    let tls = match config.tls.mode {
        TlsMode::Off => 0,
        TlsMode::Optional | TlsMode::Required => TLS_STATE_BYTES,
    };
    let slot = Slot {
        bytes: crate::shard::slot_bytes() as u64,
        tls_bytes: tls as u64,
    };
    // One set being recorded, one on its way to the stats thread, and there: the total, two
    // windows, and the published copies of both, twice while they are replaced.
    let histograms = (9 * Histograms::default().bytes() + Topics::BYTES) as u64;
    let budget = Budget::new(config, shards, slot, histograms + trace::ring_bytes(config));
    tracing::info!("memory budget: {budget}");
    if let Some(warning) = budget.warning(budget::available()) {
        tracing::warn!("{warning}");
    }
    let wanted: u64 = (0..shards)
        .map(|shard| u64::from(config.limits_of(ShardId(shard)).connections_max))
        .sum();
    if wanted > descriptors {
        tracing::info!(
            "this process may open {descriptors} files, but limits.connections_max allows \
             {wanted} connections: the server stops accepting while descriptors are short; \
             raise LimitNOFILE (ulimit -n)"
        );
    }
    budget.total()
}
