//! Layer 4: everything around the shards: configuration, certificates, boot, signals, log,
//! statistics, the control thread.

mod access;
mod announce;
mod boot;
pub mod budget;
pub mod certificate;
pub mod config;
pub mod control;
mod inspect;
mod listen;
pub mod log;
mod notify;
mod panic;
mod placement;
mod plan;
pub mod schema;
mod signal;
mod state;
mod stats;
pub mod trace;
mod validity;

pub use boot::{Drainer, Error, Running};
pub use inspect::inspect;
pub use plan::PRODUCT;

use crate::base::id::ShardId;
use crate::broker::Service;
use boot::Factory;
use config::Config;
use std::path::PathBuf;
use std::sync::Arc;

/// A server to start: its configuration and the services of the embedding program.
///
/// ```no_run
/// use ringmail::{Reply, Request, Server};
///
/// let server = Server::builder()
///     .service("text/upper", |_shard| |request: Request<'_>, reply: Reply<'_>| {
///         reply.send(&request.payload().to_ascii_uppercase());
///     })
///     .start()?;
/// println!("serving on {}", server.address());
/// server.wait()?;
/// # Ok::<(), ringmail::ServerError>(())
/// ```
pub struct Server {
    config: Config,
    services: Vec<(String, Factory)>,
    state_directory: Option<PathBuf>,
}

impl Server {
    /// A server with the default configuration and no services but `$sys/…`.
    pub fn builder() -> Server {
        Server {
            config: Config::default(),
            services: Vec::new(),
            state_directory: None,
        }
    }

    /// Sets the configuration.
    pub fn config(mut self, config: Config) -> Server {
        self.config = config;
        self
    }

    /// Sets the directory for state that must survive a restart: refresh tokens and revocations.
    /// It is created if it is missing, and used only if clients authenticate. Without it:
    /// STATE_DIRECTORY (systemd), else `$XDG_STATE_HOME/ringmail`, else
    /// `~/.local/state/ringmail`.
    pub fn state_directory(mut self, directory: impl Into<PathBuf>) -> Server {
        self.state_directory = Some(directory.into());
        self
    }

    /// Adds a service. The factory runs once on each shard, so that each shard has its own
    /// instance and needs no locks.
    pub fn service<S: Service + 'static>(
        mut self,
        name: impl Into<String>,
        factory: impl Fn(ShardId) -> S + Send + Sync + 'static,
    ) -> Server {
        self.services
            .push((name.into(), Arc::new(move |shard| Box::new(factory(shard)))));
        self
    }

    /// Starts the shards and returns when all of them serve.
    ///
    /// # Errors
    /// The configuration does not fit this host, io_uring is not allowed, or an address or the
    /// state directory is not available; each error says what to do.
    pub fn start(self) -> Result<Running, Error> {
        boot::boot(&self.config, self.services, self.state_directory)
    }

    /// Serves until SIGTERM, SIGINT or SIGQUIT has drained the server: for a process that does
    /// nothing else. It also catches all other signals that would end the process.
    ///
    /// # Errors
    /// As [`Server::start`]; or a shard failed, after which the process must end.
    pub fn run(self) -> Result<(), Error> {
        crate::ring::probe::register_membarrier();
        let signals = signal::catch().map_err(Error::Thread)?;
        let running = self.start()?;
        if signals.serve(running.drainer()) {
            signal::tell_ready(running.settle(), running.drainer()).map_err(Error::Thread)?;
        }
        running.wait()?;
        tracing::info!("drained");
        Ok(())
    }
}
