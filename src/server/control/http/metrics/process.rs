//! What the kernel knows of this process (proc_pid_status(5), getrlimit(2),
//! proc_pid_fd(5)), under the names that every Prometheus client library uses.

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

/// A figure that cannot be read is `None`, and not reported.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) descriptors: Option<u64>,
    /// `u64::MAX`: no limit.
    pub(super) descriptors_max: Option<u64>,
    pub(super) threads: Option<u64>,
}

/// Opened in advance: when it is needed there may be no descriptor left.
static STATUS: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/status").ok());

/// Opens the files that are read later.
pub fn prepare() {
    LazyLock::force(&STATUS);
}

impl Process {
    pub(super) fn read() -> Process {
        let status = STATUS.as_ref().and_then(|file| text(file).ok());
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Process::of(
            &status.unwrap_or_default(),
            Path::new("/proc/self/fd"),
            most,
        )
    }

    fn of(status: &str, folder: &Path, descriptors_max: u64) -> Process {
        Process {
            resident_bytes: field(status, "VmRSS:").and_then(|kib| kib.checked_mul(1024)),
            descriptors: descriptors(folder),
            descriptors_max: Some(descriptors_max),
            threads: field(status, "Threads:"),
        }
    }

    /// CPU time of all threads since the process began.
    pub(super) fn cpu() -> Duration {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        )
    }
}

/// The first number after `name` in the line that begins with it.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Reads a /proc file from its beginning, which yields current values.
fn text(file: &File) -> io::Result<String> {
    let mut bytes = vec![0; 16 << 10];
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// How many descriptors are open. Since Linux 6.2 this is the directory's size; before, they have
/// to be listed.
fn descriptors(folder: &Path) -> Option<u64> {
    match fs::metadata(folder).ok()?.len() {
        0 => Some(fs::read_dir(folder).ok()?.count() as u64),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_threads_and_descriptors() {
        let process = Process::read();
        assert!(
            process.resident_bytes.is_some_and(|bytes| bytes > 1 << 20),
            "{process:?}"
        );
        assert!(
            process.threads.is_some_and(|threads| threads >= 1),
            "{process:?}"
        );
        let (open, most) = (
            process.descriptors.unwrap(),
            process.descriptors_max.unwrap(),
        );
        assert!(open >= 3 && open <= most, "{process:?}");
    }

    #[test]
    fn descriptors_are_those_that_are_open() {
        let before = Process::read().descriptors.unwrap();
        let held: Vec<_> = (0..500)
            .map(|_| fs::File::open("/dev/null").unwrap())
            .collect();
        let after = Process::read().descriptors.unwrap();
        // Other tests open and close some meanwhile.
        assert!(after >= before + 300, "{before} {after}");
        drop(held);
    }

    #[test]
    fn without_proc_nothing_is_reported() {
        let nowhere = tempfile::tempdir().unwrap();
        let told = Process::of("", &nowhere.path().join("fd"), 9);
        let limit = Process {
            descriptors_max: Some(9),
            ..Process::default()
        };
        assert_eq!(told, limit);
    }
}
