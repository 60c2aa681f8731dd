//! Ctrl-C and SIGTERM, for subcommands that run until they are told to end: the first asks
//! for an orderly end, the second ends the process at once, whatever it waits for.

use super::failure::Failure;
use crate::base::exit::Status;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long such a subcommand may wait between two checks for a signal.
pub const SLICE: Duration = Duration::from_millis(100);

/// Whether a signal has asked the process to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Watches for signals from now on.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn watch() -> Result<Interrupt, Failure> {
        let interrupt = Interrupt::default();
        interrupt.register().map_err(|error| {
            let text = format!("cannot watch for signals: {error}");
            Failure::new(Status::Runtime, text)
        })?;
        Ok(interrupt)
    }

    fn register(&self) -> io::Result<()> {
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset and sets it, the second finds it
            // set. The status is the one that shells report for a death by signal.
            flag::register_conditional_shutdown(signal, 128 + signal, self.0.clone())?;
            flag::register(signal, self.0.clone())?;
        }
        Ok(())
    }

    pub fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
