//! The log: tracing, as text or one JSON object a line, written by a thread of its own.
//!
//! The queue to that thread is bounded and lossy: a full disk or a stuck pipe costs lines,
//! which are counted, never a shard's time.

use super::config::{Config, LogFormat};
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that may wait for the writing thread.
const LINES_MAX: usize = 16_384;

/// Keeps the writing thread; dropping it writes what is queued.
pub struct Log {
    _guard: WorkerGuard,
    dropped: ErrorCounter,
}

impl Log {
    /// Lines lost because the target was slow.
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

/// Installs the process's log as the configuration says.
///
/// # Errors
/// The log file cannot be opened, or the process has a log already.
pub fn install(config: &Config) -> io::Result<Log> {
    let to_terminal = config.log.file.is_empty() && io::stderr().is_terminal();
    let target: Box<dyn Write + Send> = if config.log.file.is_empty() {
        Box::new(io::stderr())
    } else {
        let opened = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&config.log.file);
        Box::new(opened.map_err(|error| named(&config.log.file, &error))?)
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .finish(target);
    let log = Log {
        _guard: guard,
        dropped: writer.error_counter(),
    };
    let text = match config.log.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => to_terminal,
    };
    subscribe(&config.log.level, writer, text, to_terminal)?;
    Ok(log)
}

fn subscribe(level: &str, writer: NonBlocking, text: bool, colour: bool) -> io::Result<()> {
    // What peers make rustls say is for who asks for it by name: anybody could fill the log.
    let filter = EnvFilter::try_new(format!("rustls=off,{level}")).map_err(io::Error::other)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    let installed = if text {
        subscriber.with_ansi(colour).try_init()
    } else {
        subscriber.json().flatten_event(true).try_init()
    };
    installed.map_err(io::Error::other)
}

fn named(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("log.file {path}: {error}"))
}
