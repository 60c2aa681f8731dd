//! Before anything starts: does this system allow what a shard needs? Each answer that is
//! no comes with its cause and a remedy, in one line.

use crate::base::exit::Status;
use io_uring::IoUring;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;
use std::io;

/// Bytes of lockable memory that glommio asks for, per process.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// Descriptors a server needs to serve anybody: rings, listeners, logs, and some clients.
const DESCRIPTORS_MIN: u64 = 64;
/// The first kernel with all that the driver uses (`DEFER_TASKRUN`).
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

/// Checks the system and raises the soft limits that may be raised. Returns how many
/// descriptors this process may open.
///
/// # Errors
/// The first obstacle found.
pub fn check() -> Result<u64, Obstacle> {
    check_kernel(&rustix::system::uname().release().to_string_lossy())?;
    raise_memlock()?;
    check_ring()?;
    let descriptors = raise(Resource::Nofile, u64::MAX).unwrap_or(u64::MAX);
    if descriptors < DESCRIPTORS_MIN {
        return Err(forbidden(format!(
            "this process may open only {descriptors} files; raise LimitNOFILE in the unit, or \
             `ulimit -n`, to one more than the connections it shall serve"
        )));
    }
    Ok(descriptors)
}

/// Registers for membarrier(2) while the process has one thread: later it waits for all of
/// them, and glommio would do it at a shard's first sleep.
pub fn register_membarrier() {
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;
    // SAFETY: a system call with two integers. If it fails glommio registers by itself.
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

fn raise_memlock() -> Result<(), Obstacle> {
    match raise(Resource::Memlock, MEMLOCK_BYTES_MIN) {
        Some(bytes) if bytes < MEMLOCK_BYTES_MIN => Err(forbidden(format!(
            "only {bytes} bytes of memory may be locked and {MEMLOCK_BYTES_MIN} are needed; set \
             LimitMEMLOCK=infinity in the unit, or raise `ulimit -l`"
        ))),
        _ => Ok(()),
    }
}

/// Raises a soft limit to `wanted`, or as far as the hard limit lets it. What is in force
/// then; `None`: no limit.
fn raise(resource: Resource, wanted: u64) -> Option<u64> {
    let limit = getrlimit(resource);
    let current = limit.current?;
    let target = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if current < target {
        // If it is refused, what was in force still is.
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

fn check_ring() -> Result<(), Obstacle> {
    let made = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(8)
        .map(|_: IoUring| ());
    made.map_err(|error| explain(&error, disabled().as_deref()))
}

/// `kernel.io_uring_disabled`, where the kernel has it.
fn disabled() -> Option<String> {
    let value = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    Some(value.trim().to_owned())
}

fn explain(error: &io::Error, disabled: Option<&str>) -> Obstacle {
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
            "this kernel has no io_uring, or a container hides it: build it with CONFIG_IO_URING, \
             or allow the io_uring system calls",
        ),
        (Some(libc::ENOMEM), _) => forbidden(
            "the kernel has no memory to lock for io_uring: set LimitMEMLOCK=infinity in the unit, \
             or raise `ulimit -l`",
        ),
        (Some(libc::EMFILE | libc::ENFILE), _) => forbidden(
            "no descriptor is left to make a ring with: raise LimitNOFILE in the unit, or `ulimit -n`",
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
        let obstacle = |code, disabled| explain(&io::Error::from_raw_os_error(code), disabled);
        let by_sysctl = obstacle(libc::EPERM, Some("2"));
        assert_eq!(by_sysctl.status, Status::Permission);
        assert!(by_sysctl.message.contains("kernel.io_uring_disabled=0"));
        let by_seccomp = obstacle(libc::EPERM, Some("0"));
        assert_eq!(by_seccomp.status, Status::Permission);
        assert!(by_seccomp.message.contains("seccomp"));
        assert!(
            obstacle(libc::ENOMEM, None)
                .message
                .contains("LimitMEMLOCK")
        );
        assert_eq!(obstacle(libc::ENOSYS, None).status, Status::Unavailable);
        assert_eq!(obstacle(libc::EINVAL, None).status, Status::Unavailable);
        assert!(obstacle(libc::EMFILE, None).message.contains("LimitNOFILE"));
    }
}
