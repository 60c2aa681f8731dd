//! Layer 5: the command line. One file per subcommand; arguments are syntax only.

pub mod bench;
pub mod failure;
