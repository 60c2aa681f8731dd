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

/// How long such a subcommand may wait without looking whether it was told to end.
pub const SLICE: Duration = Duration::from_millis(100);

/// Whether the process was told to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Watches from here on.
    ///
    /// # Errors
    /// The system does not let signals be watched.
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
            // In this order: the first signal finds the flag down and sets it, the second
            // finds it up. The status is the one that shells give a death by signal.
            flag::register_conditional_shutdown(signal, 128 + signal, self.0.clone())?;
            flag::register(signal, self.0.clone())?;
        }
        Ok(())
    }

    pub fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
