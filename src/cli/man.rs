//! `ringmail man`: the manual pages, made from the table of arguments.
//!
//! clap_mangen writes all of a page except the examples and exit codes at its end: it would join
//! their lines into paragraphs, and examples are copied by the line.

use super::args::{Args, Man};
use super::failure::{Failure, print};
use crate::base::exit::Status;
use clap::CommandFactory;
use roff::{Roff, roman};
use std::io;
use std::path::Path;

/// # Errors
/// Standard output or the directory cannot be written.
pub fn run(args: &Man) -> Result<(), Failure> {
    // The short forms `help ping` and `ping --help` say the same: no page for `help`.
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    match &args.dir {
        Some(dir) => write_all(&command, dir).map_err(|error| {
            let dir = dir.display();
            let text = format!("cannot write manual pages to {dir}: {error}");
            Failure::new(Status::Runtime, text)
        }),
        None => print(&page(&command).map_err(Failure::output)?),
    }
}

/// Writes a page for the command and for each subcommand, in a directory that is created if
/// missing.
fn write_all(command: &clap::Command, dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for below in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_all(below, dir)?;
    }
    let name = clap_mangen::Man::new(command.clone()).get_filename();
    std::fs::write(dir.join(name), page(command)?)
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let man = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let help = command
        .get_after_long_help()
        .or_else(|| command.get_after_help());
    if let Some(help) = help {
        verbatim(&help.to_string()).to_writer(&mut page)?;
    }
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    Ok(page)
}

/// Paragraphs of a heading and lines that stay lines.
fn verbatim(help: &str) -> Roff {
    let mut roff = Roff::new();
    for paragraph in help.split("\n\n") {
        let mut lines = paragraph.lines();
        let Some(heading) = lines.next() else {
            continue;
        };
        let heading = heading.trim_end_matches(':').to_uppercase();
        roff.control("SH", [heading.as_str()]);
        roff.control("nf", []);
        for line in lines {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff
}
