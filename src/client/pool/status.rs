//! What a pool reports about itself.

use std::fmt;

/// A pool at one moment, and what it has done since it was opened.
///
/// `open = idle + lent + dialing + closing`, at most `connections_max`; and
/// `made = idle + lent` and all in `closed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The bound that the pool was opened with.
    pub connections_max: usize,
    /// All connections, including those being opened or closed.
    pub open: usize,
    /// Available to be lent.
    pub idle: usize,
    /// Lent to callers.
    pub lent: usize,
    /// Being opened; also while waiting for the next attempt.
    pub dialing: usize,
    /// Being closed.
    pub closing: usize,
    /// Calls of `acquire` that wait.
    pub waiting: usize,

    /// Calls of `acquire` that returned a connection.
    pub acquired: u64,
    /// Calls of `acquire` that ended by `acquire_timeout`.
    pub timed_out: u64,
    /// Connections opened.
    pub made: u64,
    /// Failed attempts to open one.
    pub failed: u64,
    /// Connections ended, by reason.
    pub closed: Closed,
}

/// Connections that a pool has ended, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// It was idle for `idle_timeout`.
    pub idle: u64,
    /// It had reached its lifetime.
    pub lifetime: u64,
    /// It broke, or did not answer a PING.
    pub dead: u64,
    /// Its server is shutting down.
    pub draining: u64,
    /// When it was returned, a clone, a subscription or a service still used it.
    pub shared: u64,
    /// The pool was closed.
    pub pool: u64,
}

impl Closed {
    pub fn sum(&self) -> u64 {
        self.idle + self.lifetime + self.dead + self.draining + self.shared + self.pool
    }

    pub(super) fn count(&mut self, reason: Reason) {
        *match reason {
            Reason::Idle => &mut self.idle,
            Reason::Lifetime => &mut self.lifetime,
            Reason::Dead => &mut self.dead,
            Reason::Draining => &mut self.draining,
            Reason::Shared => &mut self.shared,
            Reason::Pool => &mut self.pool,
        } += 1;
    }
}

/// Why a connection ends; the fields of [`Closed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Idle,
    Lifetime,
    Dead,
    Draining,
    Shared,
    Pool,
}

impl fmt::Display for PoolStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} connections open: {} idle, {} lent, {} being opened, {} being closed; {} \
             waiting",
            self.open,
            self.connections_max,
            self.idle,
            self.lent,
            self.dialing,
            self.closing,
            self.waiting
        )
    }
}
