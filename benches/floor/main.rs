//! The echoes that ringmail's own is measured against (`scripts/bench-floor`, `scripts/bench-tls`).
//!
//! - `ring` is *the floor*: a bare io_uring echo that knows no protocol, so what it costs is what the kernel's TCP costs.
//! - `tokio` is the peer to beat: an echo on tokio with `tokio_util`'s length-delimited codec, as one would write it today.
//! - `tls` is the same by tokio-rustls.
//!
//! All are plain programs, not criterion benchmarks: a server's cost can only be read from outside its process while
//! somebody else makes the load. Hence subcommands, and nothing at all to do for a plain `cargo bench`, which gets the
//! usage and a success.
//!
//! What they do not do: handshakes, heartbeats, limits, draining. A signal ends them where they stand.

mod buffer_ring;
mod ring_echo;
mod tls_echo;
mod tokio_echo;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::{Domain, Protocol, Socket, Type};

const USAGE: &str = "\
Usage: cargo bench --bench floor -- ring  --listen ADDRESS [--core N] [--buffers N] [--buffer-bytes N]
       cargo bench --bench floor -- tokio --listen ADDRESS [--core N]
       cargo bench --bench floor -- tls   --listen ADDRESS --certificate FILE --key FILE [--core N]

  ring    echo every byte, bare io_uring: what the kernel's TCP costs
  tokio   echo every message, tokio and tokio_util's length-delimited codec
  tls     the same by TLS: tokio-rustls

  --listen ADDRESS    for example 127.0.0.1:7500; port 0 picks one
  --core N            run on this core alone
  --buffers N         provided receive buffers, a power of two (default 4096)
  --buffer-bytes N    bytes of each (default 4096)
  --certificate FILE  PEM: the server's certificate, its chain behind it
  --key FILE          PEM: its private key

Once ready: `listening on ADDRESS pid PID` on standard output. SIGTERM or SIGINT: exit 0.
";

/// The kernel caps it at `net.core.somaxconn`; thousands of clients connect at once.
const BACKLOG: i32 = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    Ring,
    Tokio,
    Tls,
}

struct Options {
    echo: Echo,
    listen: SocketAddr,
    core: Option<usize>,
    buffers: buffer_ring::Size,
    /// Both are there for `Echo::Tls`.
    certificate: PathBuf,
    key: PathBuf,
}

fn main() -> ExitCode {
    // cargo adds `--bench` (or a runner `--test`) to whatever the caller wrote.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench" && argument != "--test")
        .collect();
    if arguments.is_empty() || arguments.iter().any(|a| a == "--help" || a == "-h") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match parse(&arguments) {
        Ok(options) => options,
        Err(reason) => {
            eprint!("floor: {reason}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let (name, flags) = arguments.split_first().ok_or("ring, tokio or tls?")?;
    let echo = match name.as_str() {
        "ring" => Echo::Ring,
        "tokio" => Echo::Tokio,
        "tls" => Echo::Tls,
        other => return Err(format!("there is no echo called {other:?}")),
    };
    let mut listen = None;
    let mut core = None;
    let mut buffers = buffer_ring::Size::default();
    let (mut certificate, mut key) = (PathBuf::new(), PathBuf::new());
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        let value = flags.next().ok_or(format!("{flag} needs a value"))?;
        match (flag.as_str(), echo) {
            ("--listen", _) => listen = Some(number(flag, value)?),
            ("--core", _) => core = Some(number(flag, value)?),
            ("--buffers", Echo::Ring) => buffers.count = number(flag, value)?,
            ("--buffer-bytes", Echo::Ring) => buffers.each_bytes = number(flag, value)?,
            ("--certificate", Echo::Tls) => certificate = PathBuf::from(value),
            ("--key", Echo::Tls) => key = PathBuf::from(value),
            _ => return Err(format!("{name} has no flag {flag}")),
        }
    }
    let unnamed = certificate.as_os_str().is_empty() || key.as_os_str().is_empty();
    if echo == Echo::Tls && unnamed {
        return Err("tls needs --certificate and --key".to_owned());
    }
    Ok(Options {
        echo,
        listen: listen.ok_or("--listen is missing")?,
        core,
        buffers,
        certificate,
        key,
    })
}

fn number<T: std::str::FromStr>(flag: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{flag}: cannot read {value:?}"))
}

fn run(options: &Options) -> io::Result<()> {
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        let always = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(signal, 0, always)?;
    }
    if let Some(id) = options.core {
        let mut wanted = CpuSet::new();
        if id < CpuSet::MAX_CPU {
            wanted.set(id);
        }
        sched_setaffinity(None, &wanted)
            .map_err(|error| io::Error::other(format!("cannot run on core {id}: {error}")))?;
    }
    let listener = bind(options.listen)?;
    match options.echo {
        Echo::Ring => ring_echo::serve(&listener, options.buffers, announce),
        Echo::Tokio => tokio_echo::serve(listener, announce),
        Echo::Tls => tls_echo::serve(listener, &options.certificate, &options.key, announce),
    }
}

/// A listener whose accepted sockets have TCP_NODELAY from birth: Linux hands it down, and no connection costs a call.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Said once connections are taken, for whoever waits to begin the load.
fn announce(listener: &TcpListener) -> io::Result<()> {
    let address = listener.local_addr()?;
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {address} pid {}", std::process::id())?;
    out.flush()
}
