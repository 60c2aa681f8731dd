//! `ringmail man`: the manual pages, made from the table of arguments.

use super::args::{Args, Man};
use super::failure::{Failure, print};
use crate::base::exit::Status;
use clap::CommandFactory;

/// # Errors
/// Standard output or the directory cannot be written.
pub fn run(args: &Man) -> Result<(), Failure> {
    // The short forms `help ping` and `ping --help` say the same: no page for `help`.
    let command = Args::command().disable_help_subcommand(true);
    match &args.dir {
        Some(dir) => clap_mangen::generate_to(command, dir).map_err(|error| {
            let dir = dir.display();
            let text = format!("cannot write manual pages to {dir}: {error}; name a directory that exists and may be written");
            Failure::new(Status::Runtime, text)
        }),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut page)
                .map_err(Failure::output)?;
            print(&page)
        }
    }
}
