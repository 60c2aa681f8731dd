//! The memory the shards may take, as a sum that is printed at boot and compared with what the
//! host has (ARCHITECTURE, Memory by budget).
//!
//! A bound, not a forecast: a slab or an outbox takes pages only as it fills. It counts what
//! grows with clients; the program itself, its threads' stacks and the control plane take some
//! tens of MiB more.

use std::fmt;
use std::path::Path;

use crate::base::id::ShardId;
use crate::base::limits::{REFUSALS_OPEN_MAX, RETAINED_SHARE};
use crate::server::config::{Config, Limits, Ring};

/// Bytes of a submission entry, its index, a completion and a provided buffer's entry
/// (io_uring.h: io_uring_sqe, the SQ array, io_uring_cqe, io_uring_buf).
const SUBMISSION_BYTES: u64 = 64 + 4;
const COMPLETION_BYTES: u64 = 16;
const BUFFER_ENTRY_BYTES: u64 = 16;

/// What one connection takes, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// In the slab: a session without a connection takes as much.
    pub bytes: u64,
    /// Beside it, with TLS.
    pub tls_bytes: u64,
}

/// What one shard may take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardBudget {
    /// All connections, the few that are being refused, and sessions without a connection.
    pub slab: u64,
    /// Submission and completion queues, and the ring of provided buffers.
    pub ring: u64,
    pub receive_buffers: u64,
    /// Memory lent to connections: outboxes, pending messages, sessions, subscriptions.
    pub outboxes: u64,
    pub retained: u64,
    pub histograms: u64,
}

impl ShardBudget {
    fn new(limits: &Limits, ring: &Ring, slot: Slot, histogram_bytes: u64) -> Self {
        let buffers = u64::from(ring.buffers);
        let connections = u64::from(limits.connections_max) + u64::from(REFUSALS_OPEN_MAX);
        let sessions = u64::from(limits.sessions_waiting_max);
        ShardBudget {
            slab: (connections + sessions)
                .saturating_mul(slot.bytes)
                .saturating_add(connections.saturating_mul(slot.tls_bytes)),
            ring: u64::from(ring.entries) * SUBMISSION_BYTES
                + u64::from(ring.completions) * COMPLETION_BYTES
                + buffers * BUFFER_ENTRY_BYTES,
            receive_buffers: buffers * u64::from(ring.buffer_bytes),
            outboxes: limits.outbox_bytes_shard_max,
            retained: limits.outbox_bytes_shard_max / RETAINED_SHARE,
            histograms: histogram_bytes,
        }
    }

    pub fn total(&self) -> u64 {
        [
            self.slab,
            self.ring,
            self.receive_buffers,
            self.outboxes,
            self.retained,
            self.histograms,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// What all shards may take. Displayed in one line: the sum of each group of equal shards,
/// and, where there are several, the total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Shards of equal budget, with their count.
    groups: Vec<(u64, ShardBudget)>,
}

impl Budget {
    /// The budget of `shards` shards, if a connection takes a `slot` and a shard's histograms
    /// and counters `histogram_bytes`.
    pub fn new(config: &Config, shards: u16, slot: Slot, histogram_bytes: u64) -> Budget {
        let mut groups: Vec<(u64, ShardBudget)> = Vec::new();
        for shard in (0..shards).map(ShardId) {
            let limits = config.limits_of(shard);
            let budget = ShardBudget::new(limits, &config.ring, slot, histogram_bytes);
            match groups.iter_mut().find(|(_, other)| *other == budget) {
                Some((count, _)) => *count += 1,
                None => groups.push((1, budget)),
            }
        }
        Budget { groups }
    }

    pub fn total(&self) -> u64 {
        let sums = self
            .groups
            .iter()
            .map(|(n, shard)| n.saturating_mul(shard.total()));
        sums.fold(0, u64::saturating_add)
    }

    /// The warning, if this is more than the `available` bytes.
    pub fn warning(&self, available: Option<u64>) -> Option<String> {
        let available = available.filter(|available| *available < self.total())?;
        Some(format!(
            "the memory budget of {} exceeds the {} available: \
             lower limits.connections_max, limits.sessions_waiting_max, \
             limits.outbox_bytes_shard_max or ring.buffers",
            mib(self.total()),
            mib(available),
        ))
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (count, shard)) in self.groups.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(
                f,
                "{count} × (slab {} + ring {} + receive buffers {} + outboxes {} \
                 + retained {} + histograms {}) = {}",
                mib(shard.slab),
                mib(shard.ring),
                mib(shard.receive_buffers),
                mib(shard.outboxes),
                mib(shard.retained),
                mib(shard.histograms),
                mib(count.saturating_mul(shard.total())),
            )?;
        }
        if self.groups.len() > 1 {
            write!(f, "; in all {}", mib(self.total()))?;
        }
        Ok(())
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Bytes this process may still take: the least of MemAvailable (proc_meminfo(5)) and the
/// memory.max of its cgroup and those above (the kernel's cgroup-v2.rst). `None` where
/// neither can be read.
pub fn available() -> Option<u64> {
    available_at(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
}

fn available_at(proc: &Path, cgroups: &Path) -> Option<u64> {
    let meminfo = std::fs::read_to_string(proc.join("meminfo")).ok();
    let cgroup = std::fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"));
    let here = cgroups.join(path.unwrap_or_default());
    let above = here.ancestors().take_while(|dir| dir.starts_with(cgroups));
    let limits = above.filter_map(|dir| {
        let text = std::fs::read_to_string(dir.join("memory.max")).ok()?;
        text.trim().parse::<u64>().ok()
    });
    limits
        .chain(meminfo.and_then(|text| mem_available(&text)))
        .min()
}

fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_toml(text).unwrap()
    }

    const SLOT: Slot = Slot {
        bytes: 512,
        tls_bytes: 0,
    };

    #[test]
    fn tls_costs_connections_and_not_sessions_that_wait() {
        let config = config("[limits]\nconnections_max = 1000\nsessions_waiting_max = 10");
        let tls_bytes = 4096;
        let [plain, secured] =
            [SLOT, Slot { tls_bytes, ..SLOT }].map(|slot| Budget::new(&config, 1, slot, 0).total());
        let connections = 1000 + u64::from(REFUSALS_OPEN_MAX);
        assert_eq!(secured - plain, connections * tls_bytes);
    }

    #[test]
    fn budget_is_the_sum_of_its_parts_over_all_shards() {
        let budget = Budget::new(&Config::default(), 2, SLOT, 1 << 20);
        let one = ((65_536 + 65_536 + 64) * 512)
            + (4_096 * 68 + 16_384 * 16 + 4_096 * 16)
            + 4_096 * 4_096
            + (256 << 20)
            + (64 << 20)
            + (1 << 20);
        assert_eq!(budget.total(), 2 * one);
        assert_eq!(
            budget.to_string(),
            "2 × (slab 64.0 MiB + ring 0.6 MiB + receive buffers 16.0 MiB + outboxes 256.0 MiB \
             + retained 64.0 MiB + histograms 1.0 MiB) = 803.2 MiB"
        );
    }

    #[test]
    fn a_shard_with_limits_of_its_own_has_a_sum_of_its_own() {
        let config = config("[shard.1.limits]\noutbox_bytes_shard_max = 4194304");
        let budget = Budget::new(&config, 3, SLOT, 0);
        let text = budget.to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        let parts: Vec<&str> = text.split("; ").collect();
        assert!(parts[0].starts_with("2 × (slab 64.0 MiB + "), "{text}");
        assert!(parts[1].starts_with("1 × (slab 64.0 MiB + "), "{text}");
        assert_eq!(parts[2..], ["in all 886.8 MiB"], "{text}");
        let saved = (252 << 20) + (252 << 20) / RETAINED_SHARE;
        assert_eq!(
            budget.total(),
            Budget::new(&Config::default(), 3, SLOT, 0).total() - saved
        );
    }

    #[test]
    fn a_budget_above_the_available_memory_warns_and_names_both() {
        let budget = Budget::new(&Config::default(), 1, SLOT, 0);
        let warning = budget.warning(Some(100 << 20)).unwrap();
        assert!(warning.contains("400.6 MiB"), "{warning}");
        assert!(warning.contains("100.0 MiB"), "{warning}");
        assert_eq!(budget.warning(Some(budget.total())), None);
        assert_eq!(budget.warning(None), None);
    }

    #[test]
    fn the_largest_configuration_does_not_overflow() {
        let config =
            config("[limits]\nconnections_max = 16777216\noutbox_bytes_shard_max = 17592186044416");
        let slot = Slot {
            bytes: u64::MAX,
            tls_bytes: u64::MAX,
        };
        assert_eq!(
            Budget::new(&config, u16::MAX, slot, u64::MAX).total(),
            u64::MAX
        );
    }

    #[test]
    fn available_memory_is_the_least_of_host_and_cgroups() {
        let root = tempfile::tempdir().unwrap();
        let (proc, cgroups) = (root.path().join("proc"), root.path().join("cgroup"));
        let write = |path: std::path::PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(available_at(&proc, &cgroups), None);
        write(
            proc.join("meminfo"),
            "MemTotal:  9 kB\nMemAvailable:     2048 kB\n",
        );
        assert_eq!(available_at(&proc, &cgroups), Some(2 << 20));
        write(proc.join("self/cgroup"), "0::/system/ringmail\n");
        write(cgroups.join("system/ringmail/memory.max"), "max\n");
        assert_eq!(available_at(&proc, &cgroups), Some(2 << 20));
        write(cgroups.join("system/memory.max"), "1048576\n");
        assert_eq!(available_at(&proc, &cgroups), Some(1 << 20));
    }

    #[test]
    fn this_host_has_some_memory_available() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
