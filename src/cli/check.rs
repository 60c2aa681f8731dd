//! `ringmail check`: is the configuration right, and what is in force?

use super::args::Check;
use super::configuration;
use super::failure::{Failure, note, print};
use crate::base::exit::Status;
use crate::server::{self, certificate, trace};

/// Prints `ok`, or the configuration.
///
/// # Errors
/// Every mistake in it, and the files of `[tls]` that cannot be served from.
pub fn run(args: &Check) -> Result<(), Failure> {
    let config = configuration::load(&args.configuration)?;
    certificate::check(&config).map_err(|error| Failure::new(Status::Config, error))?;
    certificate::warnings(&config).iter().for_each(note);
    server::warnings(&config).iter().for_each(note);
    let traces = trace::notes(&config, trace::environment);
    traces.iter().for_each(note);
    if args.print {
        print(config.to_toml().trim_start().as_bytes())
    } else {
        print(b"ok\n")
    }
}
