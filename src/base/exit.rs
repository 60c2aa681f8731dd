//! How the process ends: the exit codes scripts and systemd act on (sysexits.h).

/// Exit status of the `ringmail` binary, the same for every subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// It ran and failed: a connection broke, a request was refused, a shard panicked.
    Runtime = 1,
    /// The command line is invalid.
    Usage = 2,
    /// Something required is missing: kernel too old, no server at the address, port taken.
    Unavailable = 69,
    /// The system forbids it: io_uring disabled, memlock too short, too few descriptors.
    Permission = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl Status {
    pub const fn code(self) -> u8 {
        self as u8
    }
}
