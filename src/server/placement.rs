//! Threads: the available cores, the number of workers, and where other threads run, at what
//! priority.

use super::config::{Config, ControlCore};
use std::thread;

pub(super) fn available_cores() -> Vec<u32> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.iter().map(|core| core.id as u32).collect()
}

/// The number of workers: as many as there are cores, at least two. They share the cores with
/// everything else, at a lower priority than the shards.
pub(super) fn worker_count() -> usize {
    thread::available_parallelism()
        .map_or(2, usize::from)
        .max(2)
}

pub(super) fn lower_priority() {
    // On Linux this sets the calling thread's own priority; if refused, the thread runs at the
    // default one.
    let _ = rustix::process::setpriority_process(None, 10);
}

/// The core of the threads other than shards, if they get one.
pub(super) fn control_core(config: &Config, shard_cores: &[u32]) -> Option<u32> {
    match config.server.control_core {
        ControlCore::Core(core) => Some(core),
        ControlCore::Any => available_cores()
            .into_iter()
            .find(|core| !shard_cores.contains(core)),
    }
}

pub(super) fn pin(core: Option<u32>) {
    if let Some(core) = core {
        core_affinity::set_for_current(core_affinity::CoreId { id: core as usize });
    }
}
