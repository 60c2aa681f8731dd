//! SIGTERM and SIGINT: the first begins the drain, the second ends the process at once.
//! SIGUSR1: the log opens its file anew, which is the log's own doing; here it is told of.

use super::boot::Drainer;
use super::log;
use crate::base::exit::Status;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io;
use std::thread;
use std::time::Duration;

/// What an end at once allows the log for its last lines.
const LAST_LINES: Duration = Duration::from_millis(200);

/// Starts the thread that waits for signals.
///
/// # Errors
/// The handlers cannot be installed or the thread not started.
pub fn watch(drainer: Drainer) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1])?;
    let wait = move || {
        let mut draining = false;
        for signal in signals.forever() {
            if signal == SIGUSR1 {
                // This line is the first in the new file.
                tracing::info!("SIGUSR1: the log's file, if it has one, is opened anew");
                continue;
            }
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
            if draining {
                tracing::warn!("{name} again: ending at once");
                // The log's own thread writes that line; an exit does not wait for it.
                log::flush(LAST_LINES);
                std::process::exit(i32::from(Status::Runtime.code()));
            }
            draining = true;
            tracing::info!("{name}: draining; once more ends at once");
            tell_service_manager(NotifyState::Stopping);
            drainer.drain();
        }
    };
    thread::Builder::new()
        .name("signal".to_owned())
        .spawn(wait)?;
    Ok(())
}

/// Tells systemd that the server is ready, once `settle` has returned and unless it is
/// ending already.
///
/// # Errors
/// The thread that waits cannot be started.
pub fn tell_ready(settle: impl FnOnce() + Send + 'static, drainer: Drainer) -> io::Result<()> {
    let wait = move || {
        settle();
        if !drainer.is_draining() {
            tell_service_manager(NotifyState::Ready);
        }
    };
    thread::Builder::new()
        .name("ready".to_owned())
        .spawn(wait)?;
    Ok(())
}

/// Tells systemd, where it started us with Type=notify.
pub fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager could not be told: {error}");
    }
}
