//! Collecting the histograms, at most once a second: they are sent out, and the gauges are updated.

use crate::metrics::gauge::Gauge;
use crate::metrics::histogram::Histograms;
use crate::ring::driver::Driver;
use crate::shard::state::Shard;

impl<D: Driver> Shard<D> {
    pub(super) fn collect(&mut self, empty: Box<Histograms>) {
        self.put_gauges();
        let full = std::mem::replace(&mut self.broker.resources.histograms, empty);
        // When the server is shutting down, no one may be receiving any more.
        let _ = self.histograms_out.try_send((self.id, full));
    }

    fn put_gauges(&self) {
        let broker = &self.broker;
        let resources = &broker.resources;
        let (free, all) = self.driver.buffers();
        let values = [
            (Gauge::Sessions, broker.sessions.len()),
            (Gauge::Retained, broker.router.retained_count()),
            (Gauge::RetainedBytes, broker.router.retained_bytes()),
            (Gauge::CallsOpen, resources.calls.len() as usize),
            (Gauge::ErrandsOpen, broker.forwarded.len() as usize),
            (Gauge::Fanouts, broker.fanouts.len()),
            (Gauge::MeshBatches, broker.mesh.batches_out()),
            (Gauge::MeshBlocked, broker.lists.count_blocked()),
            (Gauge::MemoryLentBytes, resources.pool.charged_bytes()),
            (
                Gauge::MemoryMaxBytes,
                resources.limits.outbox_bytes_shard_max,
            ),
            (Gauge::BuffersFree, free),
            (Gauge::Buffers, all),
        ];
        for (gauge, value) in values {
            resources.counters.gauges.put(gauge, value as u64);
        }
    }
}
