//! `ringmail check`: is the configuration right, and what is in force?

use super::args::Check;
use super::configuration;
use super::failure::{Failure, print};
use crate::server;

/// Prints `ok`, or the configuration.
///
/// # Errors
/// Every mistake in it.
pub fn run(args: &Check) -> Result<(), Failure> {
    let config = configuration::load(&args.configuration)?;
    for warning in server::warnings(&config) {
        eprintln!("ringmail: warning: {warning}");
    }
    if args.print {
        print(config.to_toml().trim_start().as_bytes())
    } else {
        print(b"ok\n")
    }
}
