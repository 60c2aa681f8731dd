//! Boot and shutdown, in order.
//!
//! ```text
//!   probe ► cores ► certificate ► budget ► listeners, state ► shard threads ► all ready ► shards connected
//!     ► stats and control threads ► serving
//!   drain: command to every shard ► each ends when it has drained ► workers, stats and control threads end
//! ```
//!
//! A shard or control thread that fails or panics ends the whole process: running with half the
//! shards would be worse than a restart.

use super::access;
use super::announce::announce;
use super::certificate::{CertificateError, CertificateWatcher};
use super::config::{Config, ConfigErrors};
use super::control::{self, Control, ControlError, Host, Prepared};
use super::listen;
use super::panic::panic_text;
use super::placement::{available_cores, control_core, lower_priority, pin, worker_count};
use super::plan::{PRODUCT, Plan};
use super::schema::{self, SchemaTopics};
use super::state::StateError;
use super::stats::{self, Collector};
use crate::base::clock::Instant;
use crate::base::exit::Status;
use crate::base::id::ShardId;
use crate::broker::{
    Access, Admission, Entropy, Job, LinkSize, Service, Tracing, connect_shards, mailbox,
};
use crate::metrics::counter::Counters;
use crate::metrics::histogram::Histograms;
use crate::ring::driver::Driver;
use crate::ring::probe;
use crate::ring::uring::Uring;
use crate::shard::sys::{self, Board};
use crate::shard::tls::TlsSettings;
use crate::shard::{Command, ConnectionCounts, Inbox, Mailbox, Setup, Shard, executor, worker};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Makes a service of the embedding program; called for each shard.
pub(super) type Factory = Arc<dyn Fn(ShardId) -> Box<dyn Service> + Send + Sync>;

/// Why a server did not start, or ended otherwise than by a drain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    #[error("{0}")]
    Host(#[from] probe::Obstacle),
    #[error("cannot listen on {address}: {cause}{}", remedy(.cause))]
    Listen {
        address: SocketAddr,
        cause: io::Error,
    },
    #[error("cannot serve the admin address {address}: {cause}{}", admin_remedy(.cause))]
    Admin {
        address: SocketAddr,
        cause: io::Error,
    },
    #[error("{0}")]
    State(StateError),
    /// Keys, roles or a collector that cannot be used.
    #[error("{0}")]
    Access(String),
    #[error("the control thread failed: {0}")]
    Control(String),
    #[error("shard {shard} failed: {cause}")]
    Shard { shard: ShardId, cause: String },
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

impl Error {
    /// The exit status this error asks for.
    pub fn status(&self) -> Status {
        match self {
            Error::Config(_) | Error::Certificate(_) => Status::Config,
            Error::Host(obstacle) => obstacle.status,
            Error::Listen { cause, .. } | Error::Admin { cause, .. }
                if cause.kind() == io::ErrorKind::PermissionDenied =>
            {
                Status::Permission
            }
            Error::Listen { .. } | Error::Admin { .. } => Status::Unavailable,
            Error::State(error) => error.status(),
            Error::Access(_) => Status::Config,
            Error::Shard { .. } | Error::Control(_) | Error::Thread(_) => Status::Runtime,
        }
    }
}

impl From<ControlError> for Error {
    fn from(error: ControlError) -> Error {
        match error {
            ControlError::Admin { address, cause } => Error::Admin { address, cause },
            ControlError::State(error) => Error::State(error),
            ControlError::Access(error) | ControlError::Trace(error) => Error::Access(error),
        }
    }
}

fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            "; another server uses the port: stop it, or choose another port with server.listen or --listen"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one"
        }
        io::ErrorKind::AddrNotAvailable => "; this host does not have that address",
        _ => "",
    }
}

fn admin_remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            "; another server uses the port: stop it, or choose another port with server.admin (\"\" for \
             none)"
        }
        _ => remedy(cause),
    }
}

/// A server that is serving. Dropping it does not end it; [`Running::drain`] does.
pub struct Running {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    drainer: Drainer,
    ended: Receiver<Ended>,
    board: Arc<Board>,
    settled: Option<Receiver<()>>,
    /// Dropped with the server: ends the stats thread.
    _stats: Sender<()>,
    /// The same for the thread that watches the certificate.
    _certificate: Option<Sender<()>>,
    /// The same for the control thread, and waits for its end.
    _control: Option<Control>,
}

impl Running {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the admin endpoints; `None`: there are none (`server.admin`).
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Everything counted so far.
    pub fn stats(&self) -> crate::proto::sys::Stats {
        self.board.stats()
    }

    /// The returned function waits until the first fetch of the key set has succeeded or failed:
    /// until then most credentials cannot be checked. Without a key set to fetch it returns at
    /// once.
    pub(super) fn settle(&self) -> impl FnOnce() + Send + use<> {
        let settled = self.settled.clone();
        // Nothing is ever sent: the channel closes.
        move || {
            let _ = settled.map(|settled| settled.recv());
        }
    }

    /// A handle to begin the drain from another thread.
    pub fn drainer(&self) -> Drainer {
        self.drainer.clone()
    }

    /// Begins the drain: clients get DRAIN, and accepted operations are answered. [`Running::wait`]
    /// returns once it is complete.
    pub fn drain(&self) {
        self.drainer.drain();
    }

    /// Waits until the server has drained.
    ///
    /// # Errors
    /// A shard failed: it panicked (as a service called inline or a service's future may), or its
    /// ring broke; or the control thread panicked. The shard's connections are gone while the other
    /// shards go on in their threads: the program must end its process, as `ringmail serve` does
    /// (exit status 1), and its supervisor must restart it.
    pub fn wait(self) -> Result<(), Error> {
        for _ in 0..self.drainer.shards.len() {
            // The channel cannot close early: each shard thread reports before it ends.
            match self.ended.recv() {
                Ok(Ended::Shard(_, Ok(()))) => {}
                Ok(Ended::Shard(shard, Err(error))) => {
                    let cause = error.to_string();
                    return Err(Error::Shard { shard, cause });
                }
                Ok(Ended::Control(cause)) => return Err(Error::Control(cause)),
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// Begins a server's drain from any thread.
#[derive(Clone)]
pub struct Drainer {
    shards: Vec<Mailbox>,
    timeout: Duration,
    /// For `/readyz`.
    draining: Arc<AtomicBool>,
}

impl Drainer {
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + self.timeout;
        for shard in &self.shards {
            // A shard that has ended, or whose mailbox overflows, ends with the process.
            let _ = shard.post(Command::Drain(deadline));
        }
    }
}

/// Boots a server. Returns when every shard serves. `directory` is for its state.
pub(super) fn boot(
    config: &Config,
    services: Vec<(String, Factory)>,
    directory: Option<PathBuf>,
) -> Result<Running, Error> {
    let cores = config.cores_of(&available_cores())?;
    let lockable_bytes = lockable_bytes(config, cores.len());
    let descriptors = probe::check(lockable_bytes)?;
    let watcher = CertificateWatcher::open(config)?;
    let topics = schema::load(config)?;
    let memory_budget_bytes = announce(config, &cores, descriptors);
    let (address, listeners) = bind(config, cores.len())?;
    let draining = Arc::new(AtomicBool::new(false));
    let mut control = control::prepare(config, directory, draining.clone())?;
    let (admin, settled) = (control.admin(), control.settled());

    let board = Board::new(PRODUCT.to_owned(), config.digest(), &cores, Instant::now());
    let board = Arc::new(board);
    let (jobs, work) = worker::queue();
    worker::start(worker_count(), &work, lower_priority).map_err(Error::Thread)?;
    let (histograms, collected) = stats::channel(cores.len());
    let (ready_in, ready) = bounded(cores.len());
    // Room for the control thread's report as well: no sender blocks.
    let (ended_in, ended) = bounded(cores.len() + 1);
    let shared = Shared {
        access: control.access(),
        admission: access::admission(config)?.map(Arc::new),
        topics: topics.map(Arc::new),
        connection_counts: Arc::new(ConnectionCounts::new(cores.len())),
        board: board.clone(),
        services: services.into(),
        jobs,
        histograms,
        tls: watcher.as_ref().map(CertificateWatcher::settings),
        ready: ready_in,
    };
    start_shards(config, &cores, listeners, &shared, &mut control, &ended_in)?;
    drop(shared);
    let shards = wait_ready(cores.len(), &ready, &ended, lockable_bytes)?;
    introduce(&shards);
    let collector = Collector::new(board.clone(), shards.clone(), collected);
    let core = control_core(config, &cores);
    let stats = start_stats(collector, core)?;
    let host = Host::new(
        memory_budget_bytes,
        watcher.as_ref().map(CertificateWatcher::expires),
    );
    let watch = watcher.map(|watcher| watcher.watch(move || pin(core)));
    let watch = watch.transpose().map_err(Error::Thread)?;
    let failed = move |cause| drop(ended_in.send(Ended::Control(cause)));
    let control = control.start(board.clone(), shards.clone(), host, core, failed);
    let control = control.map_err(Error::Thread)?;
    tracing::info!(shards = cores.len(), ?cores, "listening on {address}");
    let drainer = Drainer {
        shards,
        timeout: Duration::from_millis(u64::from(config.server.drain_timeout_ms)),
        draining,
    };
    Ok(Running {
        address,
        admin,
        drainer,
        ended,
        board,
        settled,
        _stats: stats,
        _certificate: watch,
        _control: control,
    })
}

fn bind(config: &Config, count: usize) -> Result<(SocketAddr, Vec<TcpListener>), Error> {
    let address = config.server.listen;
    listen::bind(address, count, config.accept.backlog)
        .map_err(|cause| Error::Listen { address, cause })
}

/// A thread for each shard.
fn start_shards(
    config: &Config,
    cores: &[u32],
    listeners: Vec<TcpListener>,
    shared: &Shared,
    control: &mut Prepared,
    ended: &Sender<Ended>,
) -> Result<(), Error> {
    for (index, (&core, listener)) in cores.iter().zip(listeners).enumerate() {
        let id = ShardId(index as u16);
        let start = Start {
            id,
            plan: Plan::new(config, id),
            listener,
            counters: shared.board.counters()[index].clone(),
            tracing: control.tracing(),
        };
        let (shared, ended) = (shared.clone(), ended.clone());
        let thread = move || run_shard(core, start, shared, &ended);
        thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(thread)
            .map_err(Error::Thread)?;
    }
    Ok(())
}

/// Gives each shard the mailboxes of all and its links to the others: from then on it accepts
/// connections.
fn introduce(shards: &[Mailbox]) {
    let wakers: Vec<_> = shards.iter().map(Mailbox::waker).cloned().collect();
    for (shard, mesh) in shards
        .iter()
        .zip(connect_shards(&wakers, LinkSize::default()))
    {
        // The mailbox is new and has room.
        let _ = shard.post(Command::Join(shards.to_vec(), mesh));
    }
}

/// What all shards share.
#[derive(Clone)]
struct Shared {
    access: Option<Access>,
    admission: Option<Arc<Admission>>,
    topics: Option<Arc<SchemaTopics>>,
    connection_counts: Arc<ConnectionCounts>,
    board: Arc<Board>,
    services: Arc<[(String, Factory)]>,
    jobs: Sender<Job>,
    histograms: Sender<(ShardId, Box<Histograms>)>,
    tls: Option<TlsSettings>,
    ready: Sender<(ShardId, Mailbox)>,
}

struct Start {
    id: ShardId,
    plan: Plan,
    listener: TcpListener,
    counters: Arc<Counters>,
    tracing: Option<Tracing>,
}

fn run_shard(core: u32, start: Start, shared: Shared, ended: &Sender<Ended>) {
    let id = start.id;
    let run = || executor::run(core as usize, move || make_shard(start, &shared));
    let result = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(panic) => Err(io::Error::other(panic_text(&*panic))),
    };
    // Wakes the waiter; there is none once the server value is dropped.
    let _ = ended.send(Ended::Shard(id, result));
}

/// A thread that the server cannot do without has ended.
enum Ended {
    Shard(ShardId, io::Result<()>),
    /// The control thread ends only by a panic, or with the server.
    Control(String),
}

fn make_shard(start: Start, shared: &Shared) -> io::Result<Shard<Uring>> {
    let Start {
        id,
        plan,
        listener,
        counters,
        tracing,
    } = start;
    let driver = Uring::new(&plan.geometry, listener)?;
    let (mailbox, inbox): (Mailbox, Inbox) = mailbox(driver.waker());
    let topics = shared.topics.as_ref();
    let schemas = topics.map(|topics| topics.build(plan.settings.message_bytes_max));
    let setup = Setup {
        id,
        settings: plan.settings,
        limits: plan.limits,
        completions_per_turn: plan.completions_per_turn,
        counters,
        connection_counts: shared.connection_counts.clone(),
        balance: plan.balance,
        tls: shared.tls.clone(),
        mailbox: mailbox.clone(),
        inbox,
        entropy: Entropy::system(),
        access: shared.access.clone(),
        admission: shared.admission.clone(),
        schemas: schemas.transpose().map_err(io::Error::other)?,
        jobs: shared.jobs.clone(),
        histograms: shared.histograms.clone(),
        tracing,
    };
    let mut shard = Shard::new(driver, setup);
    sys::install(&mut shard, shared.board.clone());
    for (name, factory) in shared.services.iter() {
        shard.serve(name, factory(id));
    }
    let _ = shared.ready.send((id, mailbox));
    Ok(shard)
}

/// The mailboxes of all shards by id, once each is ready, or why one is not.
fn wait_ready(
    count: usize,
    ready: &Receiver<(ShardId, Mailbox)>,
    ended: &Receiver<Ended>,
    lockable_bytes: u64,
) -> Result<Vec<Mailbox>, Error> {
    let mut mailboxes = Vec::with_capacity(count);
    while mailboxes.len() < count {
        crossbeam_channel::select! {
            recv(ready) -> made => mailboxes.extend(made),
            recv(ended) -> end => if let Ok(Ended::Shard(shard, Err(error))) = end {
                return Err(not_begun(shard, &error, lockable_bytes));
            },
        }
    }
    mailboxes.sort_by_key(|(id, _)| *id);
    Ok(mailboxes.into_iter().map(|(_, mailbox)| mailbox).collect())
}

fn not_begun(shard: ShardId, error: &io::Error, lockable_bytes: u64) -> Error {
    match probe::shard_obstacle(error, lockable_bytes) {
        Some(obstacle) => Error::Host(obstacle),
        None => Error::Shard {
            shard,
            cause: error.to_string(),
        },
    }
}

/// Lockable memory that all shards together may need.
fn lockable_bytes(config: &Config, shards: usize) -> u64 {
    let geometry = |shard| Plan::new(config, ShardId(shard)).geometry;
    let shards = (0..shards).map(|shard| probe::lockable_bytes(&geometry(shard as u16)));
    shards.sum()
}

fn start_stats(collector: Collector, core: Option<u32>) -> Result<Sender<()>, Error> {
    let (stop_in, stop) = bounded::<()>(0);
    let run = move || {
        pin(core);
        collector.run(&stop);
    };
    thread::Builder::new()
        .name("stats".to_owned())
        .spawn(run)
        .map_err(Error::Thread)?;
    Ok(stop_in)
}
