//! The end of every long help: what the exit codes mean.

/// Ends every long help: scripts act on these (`base::exit`).
macro_rules! exit_codes {
    () => {
        "\n\nExit codes:
  0   done
  1   it ran and failed: a request failed, no answer came, the connection broke
  2   the command line is invalid
  69  something needed is unavailable: no server at the address, a port in use, an old kernel
  77  permission denied: the server requires another credential or right; io_uring disabled
  78  the configuration is invalid"
    };
}
pub(in crate::cli) use exit_codes;
