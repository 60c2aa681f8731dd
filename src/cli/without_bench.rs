//! `ringmail bench` in a build without the feature `bench`: says how to get one that has it.

use super::failure::Failure;
use crate::base::exit::Status;
use std::ffi::OsString;

/// Load a server and measure it: not in this build
///
/// This ringmail was built without its load generator. To include it, build with
/// `cargo build --release --features bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Arguments of the load generator
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// # Errors
/// UNAVAILABLE, always.
pub fn run(_: &Args) -> Result<(), Failure> {
    let text = "this ringmail was built without the load generator; build one with it by cargo \
                build --release --features bench";
    Err(Failure::new(Status::Unavailable, text))
}
