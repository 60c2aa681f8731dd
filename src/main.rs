//! The `ringmail` binary: arguments in, one line on standard error and an exit code out.

use clap::Parser;
use ringmail::cli::args::Args;
use ringmail::cli::{conceal, run};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let concealed = conceal();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are data on standard output, and no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let Err(failure) = concealed.and_then(|()| run(&args)) else {
        return ExitCode::SUCCESS;
    };
    let mut stderr = std::io::stderr().lock();
    for line in failure.message.lines() {
        let _ = writeln!(stderr, "ringmail: {line}");
    }
    ExitCode::from(failure.status.code())
}
