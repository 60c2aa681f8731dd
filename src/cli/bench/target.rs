//! Which server is loaded, and where the generator runs: the arguments that all benchmarks share,
//! and their handling.

use super::fault::{Fault, Halt};
use super::process::{self, Process};
use super::spawn::Server;
use crate::base::exit::Status;
use crate::cli::access;
use crate::cli::args::{ADDRESS_DEFAULT, ADDRESS_VARIABLE, Access};
use crate::cli::duration;
use crate::cli::failure::Failure;
use crate::client::{Address, Credential, Tls};
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde::Serialize;
use std::env;
use std::io::{self, StdoutLock, Write, stdout};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// With `--wait`, the time between two checks for a server.
const WAIT_INTERVAL: Duration = Duration::from_millis(50);

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// One JSON object.
    Json,
}

impl Output {
    /// Puts a report on standard output.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn print(
        self,
        report: &impl Serialize,
        write_table: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut out = stdout().lock();
        let written = match self {
            Output::Json => serde_json::to_writer(&mut out, report)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out)),
            Output::Table => write_table(&mut out),
        };
        written.map_err(|error| Failure::new(Status::Runtime, format_args!("stdout: {error}")))
    }
}

#[derive(Debug, clap::Args)]
pub struct Target {
    /// The server: host:port or ringmail://host:port; with TLS ringmails://host:port
    /// [env: RINGMAIL_ADDRESS] [default: 127.0.0.1:7411]
    // Not clap's own `env`: a variable that is set for the other commands would conflict
    // with --spawn.
    #[arg(short, long, value_name = "ADDRESS", conflicts_with = "spawn")]
    address: Option<String>,

    /// The server's process id, to measure its CPU time and memory
    #[arg(long, value_name = "PID", conflicts_with = "spawn")]
    pub server_pid: Option<u32>,

    /// Start a server of this program, and stop it afterwards
    #[arg(long)]
    pub spawn: bool,

    /// Cores of the spawned server's shards, as in `serve --shards`
    #[arg(long, value_name = "CORES", default_value = "0", requires = "spawn")]
    pub spawn_shards: String,

    /// Configuration of the spawned server
    #[arg(long, value_name = "FILE", requires = "spawn")]
    pub server_config: Option<PathBuf>,

    /// Core for the load to run on; by default with --spawn, the last one without a shard
    #[arg(long)]
    pub core: Option<usize>,

    /// How long to wait for connections, and for any answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse_bounded_positive)]
    pub timeout: Duration,

    /// If the server is not up yet, keep trying for this long
    #[arg(long, value_name = "DURATION", default_value = "0", hide_default_value = true, conflicts_with = "spawn", value_parser = duration::parse_bounded)]
    wait: Duration,

    #[command(flatten)]
    pub access: Access,

    /// Do not show progress
    #[arg(long, short)]
    pub quiet: bool,

    /// How to print the result
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Where to connect, and whether with TLS.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint { address, tls: None }
    }
}

impl Endpoint {
    /// TLS for a new connection, if it is spoken.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn secure(&self) -> Result<Option<Box<ClientConnection>>, Fault> {
        let Some((config, name)) = &self.tls else {
            return Ok(None);
        };
        let connection = ClientConnection::new(Arc::clone(config), name.clone());
        let connection =
            connection.map_err(|error| Fault::Connect(std::io::Error::other(error)))?;
        Ok(Some(Box::new(connection)))
    }
}

/// A server to be loaded, with this process prepared for it.
#[derive(Debug)]
pub struct Site {
    pub address: SocketAddr,
    /// The same, and whether by TLS.
    pub endpoint: Endpoint,
    /// The credential for a server that requires authentication.
    pub credential: Option<Credential>,
    /// The process to measure.
    pub process: Option<Process>,
    /// The core this thread is pinned to.
    pub core: Option<usize>,
    /// Set by SIGINT, SIGTERM and SIGHUP.
    pub interrupted: Arc<AtomicBool>,
    spawned: Option<Server>,
}

impl Target {
    /// The server that is named, by the flag or by the variable that all commands know.
    pub fn address(&self) -> String {
        let of_environment = || {
            env::var(ADDRESS_VARIABLE)
                .ok()
                .filter(|text| !text.is_empty())
        };
        let named = self.address.clone().or_else(of_environment);
        named.unwrap_or_else(|| ADDRESS_DEFAULT.to_owned())
    }

    /// Makes room for `connections`, starts the server if asked, pins this thread.
    ///
    /// # Errors
    /// Too few descriptors, no such address, process or core, a server that does not start.
    pub fn prepare(&self, connections: usize) -> Result<Site, Failure> {
        // Before the server is spawned: it inherits the limit.
        process::reserve_descriptors(connections)?;
        let credential = access::credential(&self.access)?;
        let interrupted = watch_signals()?;
        let spawned = match self.spawn {
            true => Some(Server::start(
                &self.spawn_shards,
                self.server_config.as_deref(),
            )?),
            false => None,
        };
        let pid = spawned.as_ref().map(Server::pid).or(self.server_pid);
        let address = match &spawned {
            Some(server) => server.address,
            None => self.wait_for_server(&interrupted)?,
        };
        let tls = self.tls(address)?;
        let core = self.core.or_else(|| {
            let free = |cores| free_core(cores, &self.spawn_shards);
            self.spawn.then(process::cores).and_then(free)
        });
        if let Some(core) = core {
            process::pin(core)?;
        }
        Ok(Site {
            address,
            endpoint: Endpoint { address, tls },
            credential,
            process: pid.map(Process::open).transpose()?,
            core,
            interrupted,
            spawned,
        })
    }
}

impl Target {
    /// The server's address, once a server listens there or `--wait` has passed.
    fn wait_for_server(&self, interrupted: &AtomicBool) -> Result<SocketAddr, Failure> {
        let patience = Instant::now() + self.wait;
        loop {
            let address = resolve(&self.address());
            let is_there = || {
                let address = address.as_ref().ok()?;
                TcpStream::connect_timeout(address, self.timeout).ok()
            };
            // If there is none, the connection attempt reports it in better words.
            if self.wait.is_zero()
                || is_there().is_some()
                || Instant::now() >= patience
                || interrupted.load(Ordering::Relaxed)
            {
                return address;
            }
            thread::sleep(WAIT_INTERVAL);
        }
    }

    fn tls(
        &self,
        address: SocketAddr,
    ) -> Result<Option<(Arc<ClientConfig>, ServerName<'static>)>, Failure> {
        let usage = |text: String| Failure::new(Status::Usage, text);
        let named = match self.spawn {
            true => None,
            false => Address::parse(&self.address()).ok(),
        };
        let secure = named.as_ref().is_some_and(|named| named.secure);
        let tls = access::tls(&self.access).or_else(|| secure.then(Tls::default));
        let Some(tls) = tls else {
            return Ok(None);
        };
        let config = tls.config();
        let config = config.map_err(|error| Failure::new(Status::Unavailable, error))?;
        let host = named.map_or_else(|| address.ip().to_string(), |named| named.host);
        let name = ServerName::try_from(host.clone()).map_err(|error| {
            usage(format!(
                "{host}: {error}; it is not a name that a \
                                            certificate can have"
            ))
        })?;
        Ok(Some((config, name)))
    }
}

impl Site {
    /// Ends the spawned server, if there is one, after a run with this result.
    ///
    /// # Errors
    /// The run's own end, with the server's last words if it died; else the server's.
    pub fn leave<T>(mut self, result: Result<T, Halt>) -> Result<T, Failure> {
        match (result, self.spawned.take()) {
            (Ok(value), None) => Ok(value),
            (Ok(value), Some(server)) => server.stop().map(|()| value),
            (Err(halt @ Halt::Interrupted), _) | (Err(halt), None) => Err(halt.into()),
            (Err(halt), Some(mut server)) => {
                let mut failure = Failure::from(halt);
                if let Some(death) = server.death() {
                    failure.message = format!("{}\n{}", failure.message, death.message);
                }
                Err(failure)
            }
        }
    }
}

/// SIGINT, SIGTERM and SIGHUP end the run in order (a spawned server with it); a second one at once.
fn watch_signals() -> Result<Arc<AtomicBool>, Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::flag;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&interrupted))
            .and_then(|_| flag::register(signal, Arc::clone(&interrupted)))
            .map_err(|error| {
                Failure::new(
                    Status::Runtime,
                    format_args!("signals cannot be watched: {error}"),
                )
            })?;
    }
    Ok(interrupted)
}

fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let plain = address
        .strip_prefix("ringmail://")
        .or_else(|| address.strip_prefix("ringmails://"))
        .unwrap_or(address);
    let unavailable = |why: String| {
        Failure::new(
            Status::Unavailable,
            format_args!("--address {address}: {why}"),
        )
    };
    match plain.to_socket_addrs() {
        Ok(mut found) => found
            .next()
            .ok_or_else(|| unavailable("no address".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Err(Failure::new(
            Status::Usage,
            format_args!("--address {address}: not host:port ({error})"),
        )),
        Err(error) => Err(unavailable(error.to_string())),
    }
}

/// The last core without a shard; none when every core has one, or the list says "all".
fn free_core(cores: Vec<usize>, shards: &str) -> Option<usize> {
    let mut taken = Vec::new();
    for part in shards.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        taken.push(first.parse().ok()?..=last.parse().ok()?);
    }
    cores
        .into_iter()
        .rev()
        .find(|core| !taken.iter().any(|range| range.contains(core)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_keeps_away_from_the_shards() {
        let free = |shards: &str| free_core(vec![0, 1, 2, 3], shards);
        assert_eq!(free("0"), Some(3));
        assert_eq!(free("2-3"), Some(1));
        assert_eq!(free("0,3"), Some(2));
        assert_eq!(free("0-3"), None);
        assert_eq!(free("all"), None);
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(resolve("127.0.0.1:7").unwrap().port(), 7);
        assert_eq!(resolve("ringmail://127.0.0.1:7").unwrap().port(), 7);
        assert_eq!(resolve("127.0.0.1").unwrap_err().status, Status::Usage);
    }
}
