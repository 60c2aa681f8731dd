//! What may go wrong, and how often: probabilities between 0 and 1, and the lengths of delays.
//!
//! A probability of zero draws nothing from the generator. Faults that break a connection
//! (`breaks`, `receive_fails`, `send_fails`, `accept_aborts`) mark it as broken, so that a harness does not blame the server for
//! the loss.

use std::time::Duration;

/// Probabilities (0 to 1) and bounds of what the simulated kernel and network do to a shard.
#[derive(Clone, Debug)]
pub struct Faults {
    /// A receive completion carries fewer bytes than have arrived.
    pub short_receive: f32,
    /// A send takes fewer bytes than there is room for.
    pub short_send: f32,
    /// A send makes no progress for a while.
    pub slow_send: f32,
    /// A completion becomes visible late, up to `late_max`.
    pub late: f32,
    pub late_max: Duration,
    /// A completion is delayed by a few microseconds, which reorders those of different keys.
    pub reorder: f32,
    /// A receive ends with ENOBUFS although buffers are free now (as when they were not a moment
    /// ago).
    pub no_buffers: f32,
    /// A multishot operation ends without cause: with its last data, or without any.
    pub multishot_ends: f32,
    /// A cancel takes effect late, up to `late_max`, so that data may still land.
    pub late_cancel: f32,
    /// An accept fails with EMFILE; the connection waits.
    pub accept_full: f32,
    /// An accept fails with ECONNABORTED; the connection is lost.
    pub accept_aborts: f32,
    /// An accept fails with another error; the connection waits.
    pub accept_fails: f32,
    /// A receive or a send finds the connection broken (ECONNRESET, EPIPE).
    pub breaks: f32,
    /// A receive fails, whatever the send in flight does; the other end notices nothing.
    pub receive_fails: f32,
    /// Likewise a send.
    pub send_fails: f32,
    /// `poll` submits only the first of what is queued (EBUSY, EAGAIN).
    pub submits_some: f32,
    /// `poll` returns without having slept (EINTR, a wake-up without cause).
    pub wakes: f32,
    /// The peer's address cannot be read.
    pub no_peer_address: f32,
    /// What is sent in one call arrives in pieces.
    pub segments: f32,
    /// How long bytes travel, at least and at most.
    pub latency: (Duration, Duration),
    /// A reset also discards what had arrived and was not yet read.
    pub reset_discards: f32,
}

impl Faults {
    /// No faults: a kernel that does everything at once, and a network with constant latency.
    pub const fn none() -> Faults {
        Faults {
            short_receive: 0.0,
            short_send: 0.0,
            slow_send: 0.0,
            late: 0.0,
            late_max: Duration::ZERO,
            reorder: 0.0,
            no_buffers: 0.0,
            multishot_ends: 0.0,
            late_cancel: 0.0,
            accept_full: 0.0,
            accept_aborts: 0.0,
            accept_fails: 0.0,
            breaks: 0.0,
            receive_fails: 0.0,
            send_fails: 0.0,
            submits_some: 0.0,
            wakes: 0.0,
            no_peer_address: 0.0,
            segments: 0.0,
            latency: (Duration::from_micros(50), Duration::from_micros(50)),
            reset_discards: 0.0,
        }
    }

    /// All faults, often enough for each to happen within a few hundred messages.
    pub const fn all() -> Faults {
        Faults {
            breaks: 0.002,
            receive_fails: 0.001,
            send_fails: 0.001,
            accept_aborts: 0.03,
            ..Faults::harmless()
        }
    }

    /// All faults that a server can survive without losing a connection.
    pub const fn harmless() -> Faults {
        Faults {
            short_receive: 0.3,
            short_send: 0.2,
            slow_send: 0.1,
            late: 0.2,
            late_max: Duration::from_millis(5),
            reorder: 0.5,
            no_buffers: 0.05,
            multishot_ends: 0.1,
            late_cancel: 0.5,
            accept_full: 0.05,
            accept_aborts: 0.0,
            accept_fails: 0.03,
            breaks: 0.0,
            receive_fails: 0.0,
            send_fails: 0.0,
            submits_some: 0.05,
            wakes: 0.1,
            no_peer_address: 0.05,
            segments: 0.3,
            latency: (Duration::from_micros(20), Duration::from_millis(3)),
            reset_discards: 0.5,
        }
    }
}
