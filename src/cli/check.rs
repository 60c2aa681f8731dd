//! `ringmail check`: whether the configuration is valid, and what it amounts to.

use super::args::Check;
use super::configuration;
use super::failure::{Failure, note, print};
use crate::server;

/// Prints `ok`, or the configuration.
///
/// # Errors
/// Every error in it, and every file it names that cannot be used.
pub fn run(args: &Check) -> Result<(), Failure> {
    let config = configuration::load(&args.configuration)?;
    let notes = server::inspect(&config).map_err(|error| Failure::new(error.status(), error))?;
    notes.iter().for_each(note);
    if args.print {
        print(config.to_toml().trim_start().as_bytes())
    } else {
        print(b"ok\n")
    }
}
