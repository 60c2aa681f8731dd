//! Checks before anything starts that this system allows what a shard needs. Each obstacle comes
//! with its cause and a remedy, in one line.

use super::uring::Geometry;
use crate::base::exit::Status;
use io_uring::{IoUring, Probe, opcode};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use std::fmt;
use std::io;

/// The lowest limit of lockable memory with which glommio starts at all.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// What glommio locks for a shard: its three rings, and 64 KiB registered with each.
const GLOMMIO_BYTES: u64 = 256 * 1024;
const PAGE_BYTES: u64 = 4096;
/// Descriptors a server needs to be of use: rings, listeners, logs, and some clients.
const DESCRIPTORS_MIN: u64 = 64;
/// The first kernel with everything the driver uses (`DEFER_TASKRUN`).
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Why the server cannot start here.
#[derive(Debug)]
pub struct Obstacle {
    pub status: Status,
    pub message: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Obstacle {}

fn unavailable(message: impl Into<String>) -> Obstacle {
    Obstacle {
        status: Status::Unavailable,
        message: message.into(),
    }
}

fn forbidden(message: impl Into<String>) -> Obstacle {
    Obstacle {
        status: Status::Permission,
        message: message.into(),
    }
}

/// Lockable memory for one shard on a kernel that counts all of it (measured on Linux 6.18: 855 KiB
/// by default). Kernels from 5.12 on count less of it.
pub fn lockable_bytes(geometry: &Geometry) -> u64 {
    const SUBMISSION_BYTES: u64 = 64 + 4;
    const COMPLETION_BYTES: u64 = 16;
    const BUFFER_BYTES: u64 = 16;
    let (entries, buffers) = (u64::from(geometry.entries), u64::from(geometry.buffers));
    let parts = [
        entries * SUBMISSION_BYTES,
        u64::from(geometry.completions) * COMPLETION_BYTES + PAGE_BYTES,
        buffers * BUFFER_BYTES,
    ];
    let pages = parts.iter().map(|bytes| bytes.next_multiple_of(PAGE_BYTES));
    pages.sum::<u64>() + GLOMMIO_BYTES
}

/// Checks the system and raises the soft limits that may be raised, for shards that need this many
/// bytes of lockable memory. Returns how many descriptors this process may open.
///
/// # Errors
/// The first obstacle found.
pub fn check(lockable_bytes: u64) -> Result<u64, Obstacle> {
    check_kernel(&rustix::system::uname().release().to_string_lossy())?;
    raise_memlock(lockable_bytes)?;
    check_ring(lockable_bytes)?;
    check_calls()?;
    let descriptors = raise(Resource::Nofile, u64::MAX).unwrap_or(u64::MAX);
    if descriptors < DESCRIPTORS_MIN {
        return Err(forbidden(format!(
            "this process may open only {descriptors} files; raise LimitNOFILE in the unit, or \
             `ulimit -n`, above the number of connections it is to serve"
        )));
    }
    Ok(descriptors)
}

/// Registers for membarrier(2) while the process has a single thread: with several, the call waits
/// for all of them, and glommio would make it at a shard's first sleep.
pub fn register_membarrier() {
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;
    // SAFETY: a system call with integer arguments only. If it fails, glommio registers by itself.
    unsafe { libc::syscall(libc::SYS_membarrier, REGISTER_PRIVATE_EXPEDITED, 0) };
}

fn check_kernel(release: &str) -> Result<(), Obstacle> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        return Ok(()); // An unusual name proves nothing; the ring is tried next.
    };
    if (major, minor) < KERNEL_MIN {
        let (wanted, least) = KERNEL_MIN;
        return Err(unavailable(format!(
            "kernel {release} is too old: io_uring as used here needs Linux {wanted}.{least} or newer"
        )));
    }
    Ok(())
}

/// A limit below glommio's bound is refused. One below `wanted` may suffice: on an older kernel, or
/// with CAP_IPC_LOCK. That shows when the rings are made.
fn raise_memlock(wanted: u64) -> Result<(), Obstacle> {
    match raise(Resource::Memlock, wanted.max(MEMLOCK_BYTES_MIN)) {
        Some(bytes) if bytes < MEMLOCK_BYTES_MIN => Err(unlockable(wanted)),
        _ => Ok(()),
    }
}

fn unlockable(wanted: u64) -> Obstacle {
    let allowed = match getrlimit(Resource::Memlock).current {
        Some(bytes) => format!("this user may lock {} KiB in all", bytes >> 10),
        None => "other processes hold it".to_owned(),
    };
    forbidden(format!(
        "the rings of all shards need about {} KiB of lockable memory, but {allowed}; set \
         LimitMEMLOCK=infinity in the unit, or raise `ulimit -l`; smaller ring.entries, \
         ring.completions and ring.buffers need less",
        wanted.div_ceil(1024)
    ))
}

/// Raises a soft limit to `wanted`, or as far as the hard limit allows. Returns the limit then in
/// force; `None`: no limit.
fn raise(resource: Resource, wanted: u64) -> Option<u64> {
    let limit = getrlimit(resource);
    let current = limit.current?;
    let target = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if current < target {
        // If it is refused, the old limit stays in force.
        let _ = setrlimit(
            resource,
            Rlimit {
                current: Some(target),
                maximum: limit.maximum,
            },
        );
    }
    getrlimit(resource).current
}

/// Tries each of the three system calls: a filter may let one of them pass.
fn check_ring(lockable_bytes: u64) -> Result<(), Obstacle> {
    let tried = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(8)
        .and_then(|mut ring: IoUring| {
            ring.submitter().register_probe(&mut Probe::new())?;
            // SAFETY: an operation that names no memory.
            let pushed = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
            pushed.map_err(io::Error::other)?;
            ring.submit_and_wait(1)
        });
    match tried {
        Ok(_) => Ok(()),
        Err(error) => Err(refusal(&error, lockable_bytes)),
    }
}

/// Tries what a shard needs beside rings: a library would panic without it.
fn check_calls() -> Result<(), Obstacle> {
    let pinned = sched_getaffinity(None).and_then(|cores| sched_setaffinity(None, &cores));
    let tried = pinned.and_then(|()| eventfd(0, EventfdFlags::CLOEXEC));
    match tried {
        Err(errno @ (Errno::PERM | Errno::ACCESS | Errno::NOSYS)) => {
            Err(forbidden_call(&errno.into()))
        }
        // A shard reports other errors, if they matter to it.
        _ => Ok(()),
    }
}

/// Why a shard did not start, if the system refused it something: mostly its rings.
pub fn shard_obstacle(error: &io::Error, lockable_bytes: u64) -> Option<Obstacle> {
    use io::ErrorKind::{PermissionDenied, Unsupported};
    match error.kind() {
        // Rings are allowed: the probe has made one.
        PermissionDenied | Unsupported => Some(forbidden_call(error)),
        _ => error.raw_os_error().map(|_| refusal(error, lockable_bytes)),
    }
}

/// Why no ring could be made, for shards that need this much lockable memory in all.
fn refusal(error: &io::Error, lockable_bytes: u64) -> Obstacle {
    explain(error, disabled().as_deref(), lockable_bytes)
}

/// The system allows rings, but not another call that a shard makes.
fn forbidden_call(error: &io::Error) -> Obstacle {
    forbidden(format!(
        "a system call that a shard needs is forbidden here ({error}), most likely by a seccomp \
         filter: allow eventfd2 and sched_setaffinity in addition to the io_uring calls, as \
         systemd's @system-service does"
    ))
}

/// `kernel.io_uring_disabled`, where the kernel has it.
fn disabled() -> Option<String> {
    let value = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    Some(value.trim().to_owned())
}

fn explain(error: &io::Error, disabled: Option<&str>, lockable_bytes: u64) -> Obstacle {
    match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM | libc::EACCES), Some("1" | "2")) => forbidden(
            "io_uring is disabled here: set `sysctl kernel.io_uring_disabled=0`, or 1 and add the \
             server's group to kernel.io_uring_group",
        ),
        (Some(libc::EPERM | libc::EACCES), _) => forbidden(
            "io_uring is forbidden here, most likely by a seccomp filter: allow io_uring_setup, \
             io_uring_enter and io_uring_register for this process or container",
        ),
        (Some(libc::ENOSYS), _) => unavailable(
            "this kernel has no io_uring, or a container hides all or part of it: build the \
             kernel with CONFIG_IO_URING, or allow io_uring_setup, io_uring_enter and io_uring_register",
        ),
        (Some(libc::ENOMEM), _) => unlockable(lockable_bytes),
        (Some(libc::EMFILE | libc::ENFILE), _) => forbidden(
            "no descriptor is left to create a ring: raise LimitNOFILE in the unit, or `ulimit -n`",
        ),
        _ => unavailable(format!(
            "io_uring cannot be set up here: {error}; Linux 6.1 or newer is needed"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_named_with_what_is_needed() {
        let obstacle = check_kernel("5.15.0-91-generic").unwrap_err();
        assert_eq!(obstacle.status, Status::Unavailable);
        assert!(obstacle.message.contains("5.15.0-91") && obstacle.message.contains("6.1"));
        assert!(check_kernel("6.0.19").is_err());
        for release in ["6.1.0-13-amd64", "6.18.44", "7.0.0", "custom"] {
            assert!(check_kernel(release).is_ok(), "{release}");
        }
    }

    #[test]
    fn each_refusal_of_the_kernel_has_its_cause_and_remedy() {
        let obstacle =
            |code, disabled| explain(&io::Error::from_raw_os_error(code), disabled, 900 << 10);
        let by_sysctl = obstacle(libc::EPERM, Some("2"));
        assert_eq!(by_sysctl.status, Status::Permission);
        assert!(by_sysctl.message.contains("kernel.io_uring_disabled=0"));
        let by_seccomp = obstacle(libc::EPERM, Some("0"));
        assert_eq!(by_seccomp.status, Status::Permission);
        assert!(by_seccomp.message.contains("seccomp"));
        let unlockable = obstacle(libc::ENOMEM, None);
        assert_eq!(unlockable.status, Status::Permission);
        for told in ["900 KiB", "LimitMEMLOCK", "ring.entries"] {
            assert!(unlockable.message.contains(told), "{unlockable}");
        }
        assert_eq!(obstacle(libc::ENOSYS, None).status, Status::Unavailable);
        assert_eq!(obstacle(libc::EINVAL, None).status, Status::Unavailable);
        assert!(obstacle(libc::EMFILE, None).message.contains("LimitNOFILE"));
    }
    #[test]
    fn a_refusal_to_a_shard_concerns_rings_only_if_memory_or_descriptors_are_short() {
        let os = io::Error::from_raw_os_error;
        for (error, part) in [
            (os(libc::EPERM), Some("eventfd2")),
            (os(libc::ENOSYS), Some("eventfd2")),
            (io::ErrorKind::PermissionDenied.into(), Some("eventfd2")),
            (os(libc::ENOMEM), Some("LimitMEMLOCK")),
            (os(libc::EMFILE), Some("LimitNOFILE")),
            (io::Error::other("its own fault"), None),
        ] {
            let told = shard_obstacle(&error, 900 << 10);
            let is_told = told
                .as_ref()
                .is_some_and(|told| told.message.contains(part.unwrap_or("")));
            assert_eq!(is_told, part.is_some(), "{error}: {told:?}");
        }
    }
}
