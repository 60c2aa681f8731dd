//! Signals: none that can be caught ends the server without a line in the log.
//!
//! | signal | effect |
//! |---|---|
//! | TERM, INT, QUIT | the first begins the drain, the second ends the process at once |
//! | USR1 | the log reopens its file by itself; here only a line says so |
//! | HUP | a line: the configuration is not read again |
//! | USR2, ALRM, VTALRM, IO, PWR, STKFLT, XCPU, real-time ones | a line |
//! | PIPE, PROF, XFSZ | nothing: the write fails with an error that is reported; profiles use PROF |
//! | ABRT, BUS, SYS, TRAP, and ILL, FPE, SEGV | the kernel's core dump: that is what they are for |
//!
//! They are caught before anything starts: a signal during the start is handled after it.

use super::boot::Drainer;
use super::log;
use super::notify::{self, State};
use crate::base::exit::Status;
use libc::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGPWR, SIGQUIT, SIGSTKFLT, SIGTERM, SIGUSR1, SIGUSR2,
    SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;
use std::borrow::Cow;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long an immediate end waits for the log's last lines.
const LAST_LINES: Duration = Duration::from_millis(200);
const DRAINING: [i32; 3] = [SIGTERM, SIGINT, SIGQUIT];
const IGNORED: [i32; 8] = [
    SIGHUP, SIGUSR2, SIGALRM, SIGVTALRM, SIGIO, SIGPWR, SIGSTKFLT, SIGXCPU,
];
/// A line for one of these would be one for each line of a log that has reached its limit, or
/// for each sample of a profile.
const SILENT: [i32; 2] = [SIGPROF, SIGXFSZ];

/// The signals of a server that may not have started yet.
pub(super) struct Caught(Arc<Mutex<Wanted>>);

#[derive(Default)]
struct Wanted {
    drain: bool,
    /// Set once the server serves.
    drainer: Option<Drainer>,
}

/// Catches the signals, and starts the thread that acts on them.
///
/// # Errors
/// The handlers cannot be installed or the thread not started.
pub(super) fn catch() -> io::Result<Caught> {
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    let told = DRAINING.into_iter().chain(IGNORED).chain([SIGUSR1]);
    let mut signals = Signals::new(told.chain(real_time))?;
    for signal in SILENT {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    let caught = Caught(Arc::default());
    let wanted = caught.0.clone();
    let wait = move || {
        for signal in signals.forever() {
            act(signal, &wanted);
        }
    };
    thread::Builder::new()
        .name("signal".to_owned())
        .spawn(wait)?;
    Ok(caught)
}

impl Caught {
    /// From now on there is a server to drain. Returns whether no drain has been requested yet.
    pub(super) fn serve(&self, drainer: Drainer) -> bool {
        let mut wanted = locked(&self.0);
        if wanted.drain {
            drainer.drain();
        }
        wanted.drainer = Some(drainer);
        !wanted.drain
    }
}

/// Tells systemd that the server is ready, once `settle` has returned, unless the server is ending
/// already.
///
/// # Errors
/// The thread that waits cannot be started.
pub(super) fn tell_ready(
    settle: impl FnOnce() + Send + 'static,
    drainer: Drainer,
) -> io::Result<()> {
    let wait = move || {
        settle();
        if !drainer.is_draining() {
            notify::tell(State::Ready);
        }
    };
    thread::Builder::new()
        .name("ready".to_owned())
        .spawn(wait)?;
    Ok(())
}

fn locked(wanted: &Mutex<Wanted>) -> MutexGuard<'_, Wanted> {
    wanted.lock().unwrap_or_else(PoisonError::into_inner)
}

fn act(signal: i32, wanted: &Mutex<Wanted>) {
    let name = name(signal);
    if DRAINING.contains(&signal) {
        return drain(&name, &mut locked(wanted));
    }
    match signal {
        // This becomes the first line of the new file.
        SIGUSR1 => tracing::info!("SIGUSR1: reopening the log file, if there is one"),
        SIGHUP => tracing::warn!(
            "SIGHUP is ignored: the configuration is read only at the start; restart the server \
             to apply changes (certificates and key sets are reloaded by themselves)"
        ),
        _ => tracing::warn!("{name} is ignored: it has no meaning here"),
    }
}

fn drain(name: &str, wanted: &mut Wanted) {
    if wanted.drain {
        tracing::warn!("{name} again: exiting at once");
        // The log's own thread writes that line; an exit does not wait for it.
        log::flush(LAST_LINES);
        std::process::exit(i32::from(Status::Runtime.code()));
    }
    wanted.drain = true;
    tracing::info!("{name}: draining; a second signal exits at once");
    notify::tell(State::Stopping);
    if let Some(drainer) = &wanted.drainer {
        drainer.drain();
    }
}

fn name(signal: i32) -> Cow<'static, str> {
    match (signal, signal - libc::SIGRTMIN()) {
        (SIGPWR, _) => "SIGPWR".into(),
        (SIGSTKFLT, _) => "SIGSTKFLT".into(),
        (_, more @ 0..) => format!("SIGRTMIN+{more}").into(),
        _ => signal_hook::low_level::signal_name(signal)
            .unwrap_or("a signal")
            .into(),
    }
}
