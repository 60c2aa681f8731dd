//! The `ringmail` binary: arguments in, one line on standard error and an exit code out.

use ringmail::cli::args::Args;
use ringmail::cli::{conceal, run};
use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

/// jemalloc, for its heap can be profiled while it is in use (`GET /debug/pprof/heap`). Only
/// here: who embeds the library chooses an allocator for itself.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// What jemalloc is told at its start: to note the stack of about one allocation in 512 KiB
/// (2^19). From the start, because what leaks has been taken long before somebody looks. A
/// shard allocates nothing for a message, so that there is next to nothing to note.
/// `_RJEM_MALLOC_CONF` in the environment overrides it.
// SAFETY: nothing else has this name, by which jemalloc looks for a pointer to a string with
// a zero at its end (jemalloc(3), TUNING); that is what a reference to this array is.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 45] = b"prof:true,prof_active:true,lg_prof_sample:19\0";

fn main() -> ExitCode {
    let concealed = conceal();
    let args = match Args::of_process() {
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
    failure.tell();
    ExitCode::from(failure.status.code())
}
