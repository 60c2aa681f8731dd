//! Who a client command says it is, and how it speaks TLS.
//!
//! The secrets' variables are read by `cli::access`, not by clap: a flag then wins over every
//! variable, and no value of a variable can be shown.

use crate::client::Secret;
use std::convert::Infallible;
use std::path::PathBuf;

#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct Access {
    #[command(flatten)]
    pub credential: Credential,

    /// Use TLS, as ringmails:// does; implied by the three options below
    #[arg(long, env = "RINGMAIL_TLS", value_parser = clap::builder::FalseyValueParser::new())]
    pub tls: bool,

    /// Trust the certificate authorities in this PEM file instead of the system's
    #[arg(long, value_name = "FILE", env = "RINGMAIL_TLS_CA")]
    pub tls_ca: Option<PathBuf>,

    /// Client certificate to present (PEM, followed by its chain)
    #[arg(long, value_name = "FILE", env = "RINGMAIL_CERT")]
    pub cert: Option<PathBuf>,

    /// The certificate's private key (PEM); by default in the same file
    #[arg(
        long,
        value_name = "FILE",
        env = "RINGMAIL_CERT_KEY",
        requires = "cert"
    )]
    pub cert_key: Option<PathBuf>,
}

/// At most one is given; a flag wins over all variables.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "credential", multiple = false)]
pub struct Credential {
    /// Access token to authenticate with, if the server requires it [env: RINGMAIL_TOKEN]
    ///
    /// A secret given as a flag is moved at once to the environment, which only this user
    /// and root can read; for the first milliseconds `ps` may show it to others. Where that
    /// matters, use a file or a variable.
    #[arg(long, value_name = "TOKEN", value_parser = secret)]
    pub token: Option<Secret>,

    /// The same from a file, read again for each connection and before the token expires
    /// [env: RINGMAIL_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// API key to authenticate with, as `ringmail token key` prints it [env: RINGMAIL_API_KEY]
    #[arg(long, value_name = "KEY", value_parser = secret)]
    pub api_key: Option<Secret>,

    /// The same from a file [env: RINGMAIL_API_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
}

// clap wants a Result.
#[allow(clippy::unnecessary_wraps)]
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}
