//! The end of every long help: what the exit codes mean.

/// Ends every long help: scripts act on these (`base::exit`).
macro_rules! exit_codes {
    () => {
        "\n\nExit codes:
  0   done
  1   it ran and failed: a request failed, no answer came, the connection broke
  2   the command line is not understood
  69  something needed is not there: no server at the address, a port taken, an old kernel
  77  it is forbidden: the server wants another credential or right; io_uring disabled
  78  the configuration is wrong"
    };
}
pub(in crate::cli) use exit_codes;
