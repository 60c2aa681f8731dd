//! `ringmail serve`: the server, until a signal has drained it.

use super::args::Serve;
use super::configuration;
use super::failure::Failure;
use crate::base::exit::Status;
use crate::server::{Server, log};

pub(super) fn run(args: &Serve) -> Result<(), Failure> {
    let config = configuration::load(&args.configuration)?;
    // The log lives as long as the server: dropping it writes what is queued.
    let _log = log::install(&config).map_err(|error| Failure::new(Status::Config, error))?;
    let mut server = Server::builder().config(config);
    if let Some(directory) = &args.state_directory {
        server = server.state_directory(directory);
    }
    let served = server.run();
    served.map_err(|error| Failure::new(error.status(), error))
}
