//! A token or secret that is read from a file or from standard input.

use crate::base::exit::Status;
use crate::cli::access;
use crate::cli::failure::Failure;
use crate::client::Secret;
use std::io::Read;
use std::path::Path;

/// Bytes of a token on standard input: more than any token has.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

/// Reads the secret from a file, or from standard input.
pub(super) fn read_input(file: Option<&Path>) -> Result<Secret, Failure> {
    if let Some(file) = file.filter(|file| *file != Path::new("-")) {
        return access::read(file).map_err(|text| Failure::new(Status::Usage, text));
    }
    let mut text = String::new();
    let mut input = std::io::stdin().lock().take(INPUT_BYTES_MAX);
    input.read_to_string(&mut text).map_err(|error| {
        Failure::new(
            Status::Usage,
            format!("no token on standard input: {error}"),
        )
    })?;
    match text.trim() {
        "" => Err(Failure::new(
            Status::Usage,
            "nothing on standard input; give the token there, or name a file",
        )),
        text => Ok(Secret::new(text)),
    }
}
