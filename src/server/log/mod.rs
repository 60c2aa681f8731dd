//! The log: tracing, as text or one JSON object per line, written by its own thread.
//!
//! ```text
//!   any thread ─ levels ─ line ──► queue ──► writer's thread: repeats ──► target
//!                (reload)          bounded                   summed up    standard error, file
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `layer`, `line` | from an event to its line |
//! | `writer` | the queue and the thread behind it |
//! | `repeat` | lines that say the same are summed up |
//! | `target` | where lines go; a file is reopened on request or when deleted |
//!
//! **Logging never blocks.** The queue is bounded in bytes and lossy: a full disk or a stuck
//! pipe costs lines, which are counted ([`lines_dropped`]) and reported in the log once it can
//! be written again, but never a shard's time. Errors, including panics, have room in the queue
//! that no other line may use, and are never summed up.
//!
//! Why not tracing-appender: its queue does not distinguish errors from other lines, it does not
//! count lines that could not be written, and at the end it prints on standard output.

mod layer;
mod line;
mod repeat;
mod target;
mod writer;

use super::config::{Config, LogFormat, is_log_level};
use super::panic::panic_text;
use layer::Lines;
use line::Layout;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;
use target::Target;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};
use writer::Queue;

/// How long the end of the log waits for queued lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A process has one log, as it has one tracing subscriber.
static CONTROL: OnceLock<Control> = OnceLock::new();

/// Keeps the log; dropping it writes what is queued, if its target takes it within a second.
pub struct Log(());

impl Drop for Log {
    fn drop(&mut self) {
        flush(LAST_LINES);
    }
}

/// Installs the process's log as configured, and a panic hook that logs to it.
///
/// # Errors
/// The log file cannot be opened, or the process has a log already.
pub fn install(config: &Config) -> io::Result<Log> {
    let to_terminal = config.log.file.is_empty() && io::stderr().is_terminal();
    let target = match &*config.log.file {
        "" => Target::stderr(),
        path => Target::file(path).map_err(|error| named(path, &error))?,
    };
    let layout = match (config.log.format, to_terminal) {
        (LogFormat::Json, _) | (LogFormat::Auto, false) => Layout::Json,
        (LogFormat::Text, colour) | (LogFormat::Auto, colour @ true) => Layout::Text { colour },
    };
    let levels = levels(&config.log.level).map_err(io::Error::other)?;
    let queue = writer::start(target, layout)?;
    let (filter, handle) = reload::Layer::new(levels);
    tracing_subscriber::registry()
        .with(filter)
        .with(Lines::new(layout, queue.clone()))
        .try_init()
        .map_err(io::Error::other)?;
    let control = Control {
        levels: handle,
        level: Mutex::new(config.log.level.clone()),
        layout,
        file: Some(config.log.file.clone()).filter(|file| !file.is_empty()),
        queue,
    };
    // Cannot fail: installing the subscriber succeeded only the first time.
    let _ = CONTROL.set(control);
    // The default hook writes to standard error, which may be a pipe without a reader: then a shard
    // that panics would hang there and never end the process.
    std::panic::set_hook(Box::new(tell_panic));
    Ok(Log(()))
}

fn named(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("log.file {path}: {error}"))
}

/// Parses the levels of the log.
fn levels(text: &str) -> Result<Targets, String> {
    is_log_level(text)?;
    let compact = text.replace(char::is_whitespace, "");
    // Lines of rustls that peers cause are logged only if its level is set by name: otherwise any
    // peer could fill the log.
    Targets::from_str(&format!("rustls=off,{compact}")).map_err(|error| error.to_string())
}

fn tell_panic(panic: &PanicHookInfo<'_>) {
    let text = panic_text(panic.payload());
    let location = panic.location().map(tracing::field::display);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured)
        .then(|| tracing::field::display(backtrace));
    let thread = thread::current();
    let thread = thread.name();
    tracing::error!(thread, location, backtrace, "{text}");
}

/// The process's log while it runs, if [`install`] made it.
pub fn control() -> Option<&'static Control> {
    CONTROL.get()
}

/// How many lines were lost since the start, because the target was slow or could not be written.
pub fn lines_dropped() -> u64 {
    let tally = control().map(|control| &control.queue.tally);
    tally.map_or(0, |tally| tally.dropped.load(Ordering::Relaxed))
}

/// Waits until everything logged before is written, but no longer than `patience`.
pub fn flush(patience: Duration) {
    if let Some(control) = control() {
        control.queue.flush(patience);
    }
}

/// Queries and settings of a running log.
pub struct Control {
    levels: reload::Handle<Targets, Registry>,
    /// The levels as they were given.
    level: Mutex<String>,
    layout: Layout,
    file: Option<String>,
    queue: Queue,
}

impl Control {
    /// The levels in force, as `log.level` has them.
    pub fn level(&self) -> String {
        let level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        level.clone()
    }

    /// Puts other levels in force, until the end of the process.
    ///
    /// # Errors
    /// Why `level` is invalid, and what is valid; the levels stay unchanged.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        let levels = levels(level)?;
        // Held during the change, so that of two concurrent ones the last reported is also the one
        // in force.
        let mut told = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        self.levels
            .reload(levels)
            .map_err(|error| error.to_string())?;
        level.clone_into(&mut told);
        // Libraries that log without tracing are held back before they reach the filter.
        log::set_max_level(match LevelFilter::current() {
            LevelFilter::OFF => log::LevelFilter::Off,
            LevelFilter::ERROR => log::LevelFilter::Error,
            LevelFilter::WARN => log::LevelFilter::Warn,
            LevelFilter::INFO => log::LevelFilter::Info,
            LevelFilter::DEBUG => log::LevelFilter::Debug,
            _ => log::LevelFilter::Trace,
        });
        Ok(())
    }

    /// `json` or `text`.
    pub fn format(&self) -> &'static str {
        match self.layout {
            Layout::Json => "json",
            Layout::Text { .. } => "text",
        }
    }

    /// The path of the file; `None`: standard error.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// How many lines were summed up since the start instead of being written.
    pub fn lines_repeated(&self) -> u64 {
        self.queue.tally.repeated.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::levels;
    use tracing::Level;

    #[test]
    fn levels_are_by_target_and_rustls_is_silent_unless_named() {
        let some = levels("info, ringmail::shard = debug").expect("levels");
        assert!(some.would_enable("ringmail::shard::accept", &Level::DEBUG));
        assert!(!some.would_enable("ringmail::server", &Level::DEBUG));
        assert!(some.would_enable("ringmail::server", &Level::INFO));
        assert!(!some.would_enable("rustls::conn", &Level::ERROR));
        let named = levels("warn,rustls=trace").expect("levels");
        assert!(named.would_enable("rustls::conn", &Level::TRACE));
        let off = levels("off").expect("levels");
        assert!(!off.would_enable("ringmail", &Level::ERROR));
    }

    #[test]
    fn an_invalid_level_is_refused() {
        for bad in [
            "",
            "loud",
            "info,",
            "info,=debug",
            "ringmail=loud",
            "info,ringmail",
        ] {
            assert!(levels(bad).is_err(), "{bad:?}");
        }
    }
}
