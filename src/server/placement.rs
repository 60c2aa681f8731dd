//! Threads: which cores there are, how many workers, where the others run and at what priority.

use super::config::{Config, ControlCore};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::thread;

pub(super) fn available_cores() -> Vec<u32> {
    let own = sched_getaffinity(None).unwrap_or_default();
    let cores = (0..CpuSet::MAX_CPU).filter(|&core| own.is_set(core));
    cores.map(|core| core as u32).collect()
}

/// Workers share the cores with everything else and give way to the shards: as many as
/// there are cores, two at least.
pub(super) fn worker_count() -> usize {
    thread::available_parallelism()
        .map_or(2, usize::from)
        .max(2)
}

pub(super) fn lower_priority() {
    // On Linux this sets the calling thread's own; if refused it works at the usual one.
    let _ = rustix::process::setpriority_process(None, 10);
}

/// The core of the threads beside the shards, if they get one.
pub(super) fn control_core(config: &Config, shard_cores: &[u32]) -> Option<u32> {
    match config.server.control_core {
        ControlCore::Core(core) => Some(core),
        ControlCore::Any => available_cores()
            .into_iter()
            .find(|core| !shard_cores.contains(core)),
    }
}

/// The calling thread to its core; where it may not go there it stays.
pub(super) fn pin(core: Option<u32>) {
    let core = core.map(|core| core as usize);
    if let Some(core) = core.filter(|&core| core < CpuSet::MAX_CPU) {
        let mut wanted = CpuSet::new();
        wanted.set(core);
        let _ = sched_setaffinity(None, &wanted);
    }
}
