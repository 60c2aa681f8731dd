//! What the kernel says about a process: CPU time and memory from `/proc`, descriptor
//! limits, pinning.
//!
//! CPU time is the sum over the threads of `schedstat`'s run time, in nanoseconds (proc(5));
//! where that is not kept, `stat`'s ticks of 10 ms. A thread that ends between two samples
//! is not counted: servers keep their threads.

use crate::base::exit::Status;
use crate::cli::failure::Failure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

/// Ticks a second in `/proc/PID/stat`: USER_HZ, part of the kernel's interface.
const TICKS_PER_S: u64 = 100;

/// Descriptors beside the connections: standard streams, epoll, files of the report, /proc.
const DESCRIPTORS_SPARE: u64 = 64;

/// A process looked at from outside.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pub pid: u32,
}

/// CPU time used so far.
#[derive(Debug)]
pub enum CpuTime {
    /// Nanoseconds by thread.
    Threads(HashMap<u32, u64>),
    Ticks(u64),
}

impl CpuTime {
    /// CPU time used between an earlier sample and this one.
    pub fn since(&self, earlier: &CpuTime) -> Duration {
        match (self, earlier) {
            (CpuTime::Threads(now), CpuTime::Threads(before)) => {
                let used = |(tid, ns): (&u32, &u64)| {
                    ns.saturating_sub(before.get(tid).copied().unwrap_or(0))
                };
                Duration::from_nanos(now.iter().map(used).sum())
            }
            (CpuTime::Ticks(now), CpuTime::Ticks(before)) => {
                Duration::from_millis(now.saturating_sub(*before) * 1000 / TICKS_PER_S)
            }
            _ => Duration::ZERO,
        }
    }
}

/// Resident memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All resident pages.
    pub resident_bytes: u64,
    /// Those that are not of a file: heap, stacks, anonymous mappings.
    pub anonymous_bytes: u64,
}

impl Process {
    /// # Errors
    /// No process has this number, or its CPU time may not be read.
    pub fn open(pid: u32) -> Result<Process, Failure> {
        let process = Process { pid };
        match process.cpu_time() {
            Ok(_) => Ok(process),
            Err(error) => Err(Failure::new(
                Status::Unavailable,
                format_args!("process {pid} cannot be read: {error}"),
            )),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    pub fn cpu_time(&self) -> io::Result<CpuTime> {
        match self.thread_times() {
            Ok(threads) if threads.values().any(|&ns| ns > 0) => Ok(CpuTime::Threads(threads)),
            _ => parse_ticks(&fs::read_to_string(self.path("stat"))?).map(CpuTime::Ticks),
        }
    }

    fn thread_times(&self) -> io::Result<HashMap<u32, u64>> {
        let mut threads = HashMap::new();
        for entry in fs::read_dir(self.path("task"))? {
            let entry = entry?;
            let Some(tid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            match fs::read_to_string(entry.path().join("schedstat")) {
                Ok(text) => {
                    let ns = text
                        .split_whitespace()
                        .next()
                        .and_then(|ns| ns.parse().ok());
                    threads.insert(tid, ns.ok_or_else(|| unreadable("schedstat"))?);
                }
                // The thread has ended meanwhile.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(threads)
    }

    /// The most that has been resident so far.
    pub fn resident_peak_bytes(&self) -> io::Result<u64> {
        parse_kib(&fs::read_to_string(self.path("status"))?, "VmHWM:")
            .ok_or_else(|| unreadable("status"))
    }

    pub fn memory(&self) -> io::Result<Memory> {
        parse_memory(&fs::read_to_string(self.path("status"))?)
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH) || (error.kind() == io::ErrorKind::NotFound)
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} not understood"))
}

/// utime + stime, fields 14 and 15; counted behind the name, which may hold anything.
fn parse_ticks(stat: &str) -> io::Result<u64> {
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let mut ticks = fields.unwrap_or("").split_whitespace().skip(11);
    let mut next = || ticks.next().and_then(|field| field.parse::<u64>().ok());
    match (next(), next()) {
        (Some(user), Some(system)) => Ok(user + system),
        _ => Err(unreadable("stat")),
    }
}

/// A field of `/proc/PID/status`, in bytes.
fn parse_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn parse_memory(status: &str) -> io::Result<Memory> {
    match (parse_kib(status, "VmRSS:"), parse_kib(status, "RssAnon:")) {
        (Some(resident_bytes), Some(anonymous_bytes)) => Ok(Memory {
            resident_bytes,
            anonymous_bytes,
        }),
        _ => Err(unreadable("status")),
    }
}

/// CPU time of this process so far.
pub fn own_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.max(0) as u32)
}

/// Makes room for `connections` descriptors: raises the soft limit as far as the hard one allows.
///
/// # Errors
/// PERMISSION, with the remedy, when the hard limit is too low.
pub fn reserve_descriptors(connections: usize) -> Result<(), Failure> {
    let need = connections as u64 + DESCRIPTORS_SPARE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= need) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|hard| hard < need) {
        let hard = limit.maximum.unwrap_or(0);
        return Err(Failure::new(
            Status::Permission,
            format_args!(
                "{connections} connections need {need} file descriptors, the limit is {hard}: \
                 raise it (ulimit -Hn {need}, or LimitNOFILE={need} in a unit)"
            ),
        ));
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| {
        Failure::new(
            Status::Permission,
            format_args!("the limit of file descriptors cannot be raised to {need}: {error}"),
        )
    })
}

/// The cores this process may run on.
pub fn cores() -> Vec<usize> {
    let own = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU)
        .filter(|&core| own.is_set(core))
        .collect()
}

/// Pins this thread to a core.
///
/// # Errors
/// USAGE when there is no such core for this process.
pub fn pin(core: usize) -> Result<(), Failure> {
    let mut wanted = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        wanted.set(core);
    }
    // An empty set is refused as well.
    if sched_setaffinity(None, &wanted).is_err() {
        return Err(Failure::new(
            Status::Usage,
            format_args!("--core {core}: this process may run on cores {:?}", cores()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_process_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 1 1 20 0 4 0 100";
        assert_eq!(parse_ticks(stat).unwrap(), 300);
        assert!(parse_ticks("12 (x").is_err());
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t     512 kB\n";
        let memory = parse_memory(status).unwrap();
        assert_eq!(memory.resident_bytes, 2 << 20);
        assert_eq!(memory.anonymous_bytes, 512 << 10);
        assert!(parse_memory("Name:\tx\n").is_err());
    }

    #[test]
    fn a_threads_work_counts_from_its_own_start() {
        let before = CpuTime::Threads([(1, 100), (2, 50)].into());
        let after = CpuTime::Threads([(1, 160), (3, 40)].into());
        assert_eq!(after.since(&before), Duration::from_nanos(100));
        assert_eq!(
            CpuTime::Ticks(25).since(&CpuTime::Ticks(5)),
            Duration::from_millis(200)
        );
    }

    #[test]
    fn this_process_can_be_read_and_a_missing_one_is_named() {
        let own = Process::open(std::process::id()).unwrap();
        assert!(own.memory().unwrap().resident_bytes > 0);
        // PID_MAX_LIMIT is 2^22.
        assert!(
            Process::open(1 << 23)
                .unwrap_err()
                .message
                .contains("8388608")
        );
    }

    #[test]
    fn descriptors_beyond_the_hard_limit_are_refused_with_the_remedy() {
        let Some(hard) = getrlimit(Resource::Nofile).maximum else {
            return;
        };
        let failure = reserve_descriptors(hard as usize).unwrap_err();
        assert_eq!(failure.status, Status::Permission);
        assert!(failure.message.contains("ulimit -Hn"));
    }
}
