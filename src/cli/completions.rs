//! `ringmail completions`: a shell's completion script, made from the table of arguments.

use super::args::{Args, Completions};
use super::failure::{Failure, print};
use clap::CommandFactory;

/// # Errors
/// If standard output cannot be written.
pub fn run(args: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "ringmail", &mut script);
    print(&script)
}
