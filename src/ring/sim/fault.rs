//! What may go wrong, and how often: chances between 0 and 1, and how long a delay is.
//!
//! A chance of nought does not touch the generator, so that switching a fault off leaves
//! the others' order alone. Faults that break a connection by themselves (`breaks`,
//! `accept_aborts`) mark it, so that a harness does not blame the server for the loss.

use std::time::Duration;

/// Chances (0 to 1) and bounds of what the simulated kernel and network do to a shard.
#[derive(Clone, Debug)]
pub struct Faults {
    /// A receive completion carries fewer bytes than are there.
    pub short_receive: f32,
    /// A send takes fewer bytes than there is room for.
    pub short_send: f32,
    /// A send does nothing for a while.
    pub slow_send: f32,
    /// A completion becomes visible late, up to `late_max`.
    pub late: f32,
    pub late_max: Duration,
    /// A completion is moved a few microseconds, which reorders those of different keys.
    pub reorder: f32,
    /// A receive ends with ENOBUFS although buffers are free (they were not, a moment ago).
    pub no_buffers: f32,
    /// A multishot ends without `more`: with its data, or with nothing to say.
    pub ends: f32,
    /// A cancel takes effect late, up to `late_max`, so that data may still land.
    pub late_cancel: f32,
    /// An accept fails with EMFILE; the connection waits.
    pub accept_full: f32,
    /// An accept fails with ECONNABORTED; the connection is lost.
    pub accept_aborts: f32,
    /// A receive or a send finds the connection broken (ECONNRESET, EPIPE).
    pub breaks: f32,
    /// The peer's address is not to be had.
    pub nameless: f32,
    /// What is sent at once arrives in pieces.
    pub segments: f32,
    /// How long bytes travel, from and up to.
    pub latency: (Duration, Duration),
    /// A reset also throws away what had arrived and was not yet read.
    pub reset_discards: f32,
}

impl Faults {
    /// A kernel that does all at once, and a steady network.
    pub const fn none() -> Faults {
        Faults {
            short_receive: 0.0,
            short_send: 0.0,
            slow_send: 0.0,
            late: 0.0,
            late_max: Duration::ZERO,
            reorder: 0.0,
            no_buffers: 0.0,
            ends: 0.0,
            late_cancel: 0.0,
            accept_full: 0.0,
            accept_aborts: 0.0,
            breaks: 0.0,
            nameless: 0.0,
            segments: 0.0,
            latency: (Duration::from_micros(50), Duration::from_micros(50)),
            reset_discards: 0.0,
        }
    }

    /// Everything at once, often enough to meet within a few hundred messages.
    pub const fn all() -> Faults {
        Faults {
            breaks: 0.002,
            accept_aborts: 0.03,
            ..Faults::harmless()
        }
    }

    /// Everything that a server can live through without a connection being lost.
    pub const fn harmless() -> Faults {
        Faults {
            short_receive: 0.3,
            short_send: 0.2,
            slow_send: 0.1,
            late: 0.2,
            late_max: Duration::from_millis(5),
            reorder: 0.5,
            no_buffers: 0.05,
            ends: 0.1,
            late_cancel: 0.5,
            accept_full: 0.05,
            accept_aborts: 0.0,
            breaks: 0.0,
            nameless: 0.05,
            segments: 0.3,
            latency: (Duration::from_micros(20), Duration::from_millis(3)),
            reset_discards: 0.5,
        }
    }
}
