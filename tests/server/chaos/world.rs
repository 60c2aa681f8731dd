//! What clients share: where the server is, what they are to do at the time, and what a trial
//! sees of each.

use super::history::{Clock, Record, Time};
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a fault tells a client to do.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    Reset,
    Fin,
    Close,
    /// A reset, and it never comes back for its session.
    Abandon,
    /// Half a message, then a reset.
    Torn,
    /// Comes back for its session while its old connection stands.
    TakeOver,
    /// Reads nothing for a while.
    Pause(Duration),
}

/// What all clients of a server do at the time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    Work,
    /// Nothing new; what is open is brought to its end.
    Rest,
    /// CLOSE, and gone.
    Leave,
    /// The server is no more.
    Over,
}

/// What clients share.
pub struct World {
    pub clock: Clock,
    pub addresses: Vec<SocketAddr>,
    pub tls: Option<Arc<ClientConfig>>,
    /// Slow clients may be ended, sessions that are away overflow.
    pub is_tight: bool,
    pub phase: AtomicU8,
    /// SIGTERM was sent, or is about to be.
    pub is_draining: AtomicBool,
    /// The state cannot be written.
    pub is_full: AtomicBool,
    /// Up to which of its identities each client's was revoked.
    pub revoked: Vec<AtomicU32>,
    /// Counts what has come, by which faults are paced.
    pub progress: AtomicU64,
}

impl Seat {
    /// What no server may do.
    pub fn wrong(&self, at: Time, what: &str) {
        self.record
            .lock()
            .unwrap()
            .wrong
            .push(format!("at {at}: {what}"));
    }
}

impl World {
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Work,
            1 => Phase::Rest,
            2 => Phase::Leave,
            _ => Phase::Over,
        }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }
}

/// What a trial sees of a client.
pub struct Seat {
    pub record: Mutex<Record>,
    /// It is connected and nothing of its own is open.
    pub at_rest: AtomicBool,
    pub identity: AtomicU32,
    /// The session's key it had last.
    pub key: Mutex<Option<[u8; 16]>>,
}
