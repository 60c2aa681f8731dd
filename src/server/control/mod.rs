//! The control thread: the part of access control that shards do not do themselves, and the
//! admin address. One thread, on tokio's current-thread runtime, on a core without a shard.
//!
//! ```text
//!   operators ── http ──► revocations ── broadcaster ──► every shard: the authority in force
//!   provider ─── jwks ──►   │                  │
//!                         store ◄── issuer ◄───┘ asks: pairs of tokens
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `host`, `error`, `blocking` | what the admin address says of the process; start errors; blocking work |
//! | `access` | from the configuration to the authority in force at the start |
//! | `http` | the admin address: one file an endpoint |
//! | `revocations`, `broadcaster` | revocations and keys; every shard has them |
//! | `jwks`, `https`, `wanted` | keeping a key set; fetching it; which keys it is asked for |
//! | `desk`, `issuer` | what shards ask: token pairs for API keys and refresh tokens |
//! | `profile` | where the CPU's time goes, what holds the memory |
//! | `store` | what survives a restart |
//! | `listing` | asking every shard for its connections and topics |
//! | `trace` (beside this folder) | exporting spans |
//!
//! [`prepare`] runs before the shards, so that mistakes are reported at the start;
//! [`Prepared::start`] runs when they are ready. A panic anywhere here ends the server, as a
//! shard's does. Without an admin address, authentication and tracing this thread does not
//! exist.

mod access;
mod blocking;
mod broadcaster;
mod desk;
mod error;
mod host;
mod http;
mod https;
mod issuer;
mod jwks;
mod listing;
mod profile;
mod revocations;
pub mod store;
mod wanted;

use super::config::{AuthMode, Config};
use super::listen;
use super::panic::panic_text;
use super::placement::pin;
use super::state;
use super::trace::{self, Exporter, Setting};
use crate::auth::ask::{ASKS_MAX, Ask, Asks};
use crate::base::clock::unix_seconds;
use crate::broker::{self, Tracing, Wall};
use crate::shard::Mailbox;
use crate::shard::sys::Board;
use access::{Access, KeySet, Keys};
use blocking::{blocking, pass_on_panic};
use broadcaster::Broadcaster;
use crossbeam_channel::{Receiver, Sender, bounded};
use desk::{Counter, answer};
pub use error::ControlError;
pub use host::Host;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub use http::harness;
use http::{Admin, Guard, Reserve};
use jwks::Summary;
use listing::Lister;
use revocations::{KeyTaker, RevocationRegistry};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use store::Store;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use wanted::Wanted;

/// How soon a failed store is tried again, at least; after a long attempt, `RECOVER_SHARE` times
/// its duration.
const RECOVER: Duration = Duration::from_secs(1);
const RECOVER_SHARE: u32 = 10;
/// How often expired entries are removed.
const SWEEP: Duration = Duration::from_secs(3600);
/// The most threads for disk work and name resolution; usually there is none.
const WORKERS_MAX: usize = 16;
/// How long the end of the thread waits for disk work in progress.
const LAST_WORK_MAX: Duration = Duration::from_secs(1);
/// And for spans that are still to be exported.
const LAST_EXPORT_MAX: Duration = Duration::from_secs(1);

/// Everything the thread needs, opened and checked.
pub struct Prepared {
    admin: Option<(SocketAddr, TcpListener)>,
    guard: Arc<Guard>,
    reserve: Option<Arc<Reserve>>,
    access: Option<Access>,
    asks: Asks,
    asked: mpsc::Receiver<Ask>,
    wanted: Arc<Wanted>,
    draining: Arc<AtomicBool>,
    /// Dropped when the first fetch of a key set has ended; `None`: there is none.
    first_fetch: Option<Sender<()>>,
    settled: Option<Receiver<()>>,
    exporter: Option<Exporter>,
}

/// Everything that is read before anything is opened.
struct Sources {
    /// `None`: there is no authentication.
    keys: Option<Keys>,
    /// `None`: nothing is traced.
    exporter: Option<Exporter>,
}

impl Sources {
    fn read(config: &Config) -> Result<Sources, ControlError> {
        let keys = match config.auth.mode {
            AuthMode::None => None,
            AuthMode::Optional | AuthMode::Required => Some(Keys::read(config)?),
        };
        let setting = Setting::of(config, trace::environment);
        let exporter = setting.map(|setting| Exporter::new(setting, trace::environment));
        Ok(Sources {
            keys,
            exporter: exporter.transpose().map_err(ControlError::Trace)?,
        })
    }
}

/// Reads what [`prepare`] reads, without opening anything. Returns warnings about a key set's file.
///
/// # Errors
/// As [`prepare`].
pub fn inspect(config: &Config) -> Result<Vec<String>, ControlError> {
    let keys = Sources::read(config)?.keys;
    let summary = keys.and_then(|keys| keys.summary);
    let is_odd = |summary: &Summary| !summary.is_usable || summary.leaves_out;
    let odd = summary.into_iter().filter(|(_, summary)| is_odd(summary));
    Ok(odd
        .map(|(name, summary)| format!("the key set of {name}: {}", summary.text))
        .collect())
}

/// Opens the state in `directory` and the admin address, and reads the configuration's keys.
/// `/readyz` reads `draining`.
///
/// # Errors
/// What cannot be used, and what to do.
pub fn prepare(
    config: &Config,
    directory: Option<PathBuf>,
    draining: Arc<AtomicBool>,
) -> Result<Prepared, ControlError> {
    let Sources { keys, exporter } = Sources::read(config)?;
    let access = match keys {
        None => None,
        Some(keys) => {
            let directory = match directory {
                Some(directory) => directory,
                None => state::default_directory(|name| std::env::var_os(name))?,
            };
            Some(Access::open(keys, config, &directory)?)
        }
    };
    let admin = match config.server.admin {
        Some(address) => {
            Some(bind(address).map_err(|cause| ControlError::Admin { address, cause })?)
        }
        None => None,
    };
    let wanted = Arc::new(Wanted::default());
    let (ask, asked) = mpsc::channel(ASKS_MAX);
    let asks = Asks::new(Counter {
        ask,
        wanted: wanted.clone(),
    });
    for note in trace::notes(config, trace::environment) {
        tracing::info!("{note}");
    }
    for fault in trace::ignored(config, trace::environment) {
        tracing::warn!("{fault}");
    }
    let fetches = matches!(
        &access,
        Some(Access {
            key_set: KeySet::Https(_),
            ..
        })
    );
    let (first_fetch, settled) = fetches.then(|| bounded(0)).unzip();
    let failures_per_min = config.rate.auth_failures_per_min_per_ip;
    Ok(Prepared {
        guard: Arc::new(Guard::new(failures_per_min)),
        reserve: admin.is_some().then(Arc::default),
        admin,
        access,
        asks,
        asked,
        wanted,
        draining,
        first_fetch,
        settled,
        exporter,
    })
}

fn bind(address: SocketAddr) -> io::Result<(SocketAddr, TcpListener)> {
    let listener = listen::bind_alone(address)?;
    listener.set_nonblocking(true)?;
    Ok((listener.local_addr()?, listener))
}

impl Prepared {
    /// The address of the admin endpoints.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(address, _)| *address)
    }

    /// What shards check credentials with from their first connection on; `None`: they do not.
    pub fn access(&self) -> Option<broker::Access> {
        self.access.as_ref().map(|access| broker::Access {
            authority: access.authority.clone(),
            asks: Some(self.asks.clone()),
            is_issuer: access.issuer.is_some(),
            wall: Wall::System,
        })
    }

    /// Disconnected when the first fetch of the key set has succeeded or failed: from then on this
    /// server is ready for clients. `None`: nothing is fetched.
    pub fn settled(&self) -> Option<Receiver<()>> {
        self.settled.clone()
    }

    /// What one more shard needs to trace; `None`: it does not.
    pub fn tracing(&mut self) -> Option<Tracing> {
        self.exporter.as_mut().map(Exporter::tracing)
    }

    /// Starts the thread, on `core` if one is given. `shards` already use [`Prepared::access`].
    /// `failed` receives a panic. `None`: there is nothing to do.
    ///
    /// # Errors
    /// If the thread or its runtime cannot be made.
    pub fn start(
        self,
        board: Arc<Board>,
        shards: Vec<Mailbox>,
        host: Host,
        core: Option<u32>,
        failed: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<Option<Control>> {
        if self.admin.is_none() && self.access.is_none() && self.exporter.is_none() {
            return Ok(None);
        }
        if let Some(address) = self.admin() {
            tracing::info!("admin endpoints at http://{address}");
        }
        let (stop, stopped) = oneshot::channel::<()>();
        // Created here, so that everything is in place before the server reports that it serves.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(WORKERS_MAX)
            .thread_name("control-worker")
            .build()?;
        let run = move || {
            pin(core);
            let ran = catch_unwind(AssertUnwindSafe(|| {
                self.run(runtime, board, shards, host, stopped)
            }));
            match ran {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed(error.to_string()),
                Err(panic) => failed(panic_text(&*panic)),
            }
        };
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(run)?;
        Ok(Some(Control {
            stop: Some(stop),
            thread: Some(thread),
        }))
    }

    fn run(
        self,
        runtime: Runtime,
        board: Arc<Board>,
        shards: Vec<Mailbox>,
        host: Host,
        stopped: oneshot::Receiver<()>,
    ) -> io::Result<()> {
        let ended = runtime.block_on(async {
            let mut tasks = JoinSet::new();
            let exports = self.spawn_into(&mut tasks, board, shards, host)?;
            tokio::select! {
                // An error means the same: the other end is dropped.
                _ = stopped => {
                    exports.finish().await;
                    Ok(())
                }
                Some(ended) = tasks.join_next() => {
                    pass_on_panic(ended);
                    Err(io::Error::other("one of its tasks has ended"))
                }
            }
        });
        runtime.shutdown_timeout(LAST_WORK_MAX);
        ended
    }

    /// Starts the thread's tasks, none of which ever ends.
    fn spawn_into(
        self,
        tasks: &mut JoinSet<()>,
        board: Arc<Board>,
        shards: Vec<Mailbox>,
        host: Host,
    ) -> io::Result<Exports> {
        let mut registry = None;
        let traces = self.exporter.as_ref().map(Exporter::tally);
        let exports = Exports::start(self.exporter, tasks);
        if let Some(access) = self.access {
            let (broadcaster, couriers) = Broadcaster::new(access.authority, &shards);
            for courier in couriers {
                tasks.spawn(courier.run());
            }
            tasks.spawn(recover(access.store.clone()));
            let one = Arc::new(RevocationRegistry::new(
                broadcaster,
                access.store,
                access.lives,
            ));
            tasks.spawn(sweep(one.clone()));
            let issuer = access.issuer.map(Arc::new);
            tasks.spawn(answer(self.asked, issuer, one.clone(), shards.clone()));
            let taker = KeyTaker {
                registry: one.clone(),
                fixed: access.fixed,
                algorithms: access.algorithms,
                is_fetched: matches!(access.key_set, KeySet::Https(_)),
            };
            match access.key_set {
                KeySet::None => {}
                KeySet::File(file) => drop(tasks.spawn(jwks::watch_file(file, taker))),
                KeySet::Https(origin) => {
                    let first = self.first_fetch;
                    let kept = jwks::keep(origin, taker, self.wanted.clone(), || drop(first));
                    drop(tasks.spawn(kept));
                }
            }
            registry = Some(one);
        }
        if let Some((address, listener)) = self.admin {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let admin = Admin {
                board,
                host,
                draining: self.draining,
                settled: self.settled,
                is_loopback: address.ip().to_canonical().is_loopback(),
                lister: Lister::new(shards),
                registry,
                wanted: self.wanted,
                traces,
                guard: self.guard,
                reserve: self.reserve.unwrap_or_default(),
            };
            tasks.spawn(http::serve(listener, Arc::new(admin)));
        }
        Ok(exports)
    }
}

/// The exporter's task, if there is one: it ends after the others.
struct Exports(Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>);

impl Exports {
    fn start(exporter: Option<Exporter>, tasks: &mut JoinSet<()>) -> Exports {
        Exports(exporter.map(|exporter| {
            let (stop, stopped) = oneshot::channel();
            let (done, ended) = oneshot::channel();
            tasks.spawn(exporter.run(stopped, done));
            (stop, ended)
        }))
    }

    /// Lets it export what is left, in bounded time.
    async fn finish(self) {
        if let Some((stop, ended)) = self.0 {
            drop(stop);
            if timeout(LAST_EXPORT_MAX, ended).await.is_err() {
                tracing::warn!("the last spans did not reach the collector in time");
            }
        }
    }
}

/// The running thread. Dropping it ends the thread, and waits for that.
pub struct Control {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has already reported its panic.
            let _ = thread.join();
        }
    }
}

async fn sweep(registry: Arc<RevocationRegistry>) {
    loop {
        registry.sweep(unix_seconds()).await;
        sleep(SWEEP).await;
    }
}

/// Reopens the store after a disk failure, as soon as that is possible.
async fn recover(store: Arc<Store>) {
    let mut rest = RECOVER;
    loop {
        sleep(rest).await;
        let began = Instant::now();
        let store = store.clone();
        blocking(move || store.recover()).await;
        // Repairing reads the whole file: a large one must not be read all the time.
        rest = RECOVER.max(began.elapsed() * RECOVER_SHARE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a task of the thread; returns its panic's message, if it panics.
    async fn told_of(task: impl Future<Output = ()> + Send + 'static) -> Option<String> {
        let mut tasks = JoinSet::new();
        tasks.spawn(task);
        let ended = tasks.join_next().await.expect("a task");
        let passed = catch_unwind(AssertUnwindSafe(|| pass_on_panic(ended)));
        passed.err().map(|panic| panic_text(&*panic))
    }

    #[tokio::test]
    async fn a_panic_of_a_task_or_of_its_work_on_the_disk_is_the_threads() {
        assert_eq!(told_of(async {}).await, None);
        let told = told_of(async { panic!("a task") }).await;
        assert_eq!(told.as_deref(), Some("it panicked: a task"));
        let told = told_of(blocking(|| panic!("its work"))).await;
        assert_eq!(told.as_deref(), Some("it panicked: its work"));
        // A task that is cancelled, as all are in the end, has not panicked.
        let mut tasks = JoinSet::new();
        let handle = tasks.spawn(std::future::pending());
        handle.abort();
        pass_on_panic(tasks.join_next().await.expect("a task"));
    }
}
