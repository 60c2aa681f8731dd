//! What the endpoints speak about.

use super::guard::Guard;
use super::reserve::Reserve;
use crate::server::control::host::Host;
use crate::server::control::listing::Lister;
use crate::server::control::revocations::RevocationRegistry;
use crate::server::control::wanted::Wanted;
use crate::server::trace::Tally;
use crate::shard::sys::Board;
use crossbeam_channel::Receiver;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What the endpoints speak about.
pub struct Admin {
    pub board: Arc<Board>,
    pub host: Host,
    pub draining: Arc<AtomicBool>,
    /// See `Prepared::settled`.
    pub settled: Option<Receiver<()>>,
    pub is_loopback: bool,
    pub lister: Lister,
    /// `None`: there is no authentication.
    pub registry: Option<Arc<RevocationRegistry>>,
    /// Informed when a token names an unknown key.
    pub wanted: Arc<Wanted>,
    /// `None`: nothing is traced.
    pub traces: Option<Arc<Tally>>,
    pub guard: Arc<Guard>,
    pub reserve: Arc<Reserve>,
}
