//! Builds the configuration from the arguments of `serve` and `check`.

use super::args::Configuration;
use super::failure::Failure;
use crate::base::exit::Status;
use crate::server::config::{Config, Sources};

/// The sources the arguments name, and this process's environment.
pub fn sources(args: &Configuration) -> Sources {
    let mut sources = Sources::new().environment(std::env::vars_os());
    if let Some(path) = &args.config {
        sources = sources.file(path);
    }
    // The general flag first: of two flags for one key, the specific one wins.
    for (key, value) in &args.set {
        sources = sources.flag(key, value, &format!("--set {key}"));
    }
    for (key, value, flag) in [
        ("server.listen", &args.listen, "--listen"),
        ("server.shards", &args.shards, "--shards"),
        ("log.level", &args.log_level, "--log-level"),
        ("log.format", &args.log_format, "--log-format"),
    ] {
        if let Some(value) = value {
            sources = sources.flag(key, value, flag);
        }
    }
    sources
}

/// Loads and checks it all.
///
/// # Errors
/// Exit status 78, one line for each mistake.
pub fn load(args: &Configuration) -> Result<Config, Failure> {
    Config::load(&sources(args)).map_err(|errors| Failure::new(Status::Config, errors))
}
