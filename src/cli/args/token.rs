//! `token`: keys and tokens made, looked at and renewed.

use super::{Peer, duration, exit_codes};
use std::path::PathBuf;
use std::time::Duration;

/// Make API keys and access tokens; inspect or renew a token
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail token key thermostat-17
  ringmail token issue --secret-file secret --subject thermostat-17 --role device
  ringmail token inspect < token
  ringmail token refresh --address ringmails://mail.example:7411 --refresh-file refresh",
    exit_codes!()
))]
pub struct Token {
    #[command(subcommand)]
    pub command: TokenCommand,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum TokenCommand {
    Key(Key),
    Issue(Issue),
    Inspect(Inspect),
    Refresh(Refresh),
}

/// Make an API key
///
/// Prints the key, for the device, on standard output; it is not stored anywhere. Prints the
/// lines for the server's configuration, which hold only its hash, on standard error.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail token key thermostat-17 > thermostat-17.key
  ringmail token key gateway --principal site-7 --role device --role reader",
    exit_codes!()
))]
pub struct Key {
    /// The key's name: 1 to 64 of A-Z a-z 0-9 _ - .
    pub id: String,

    /// The device's principal; by default the key's name
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,

    /// A role to grant, by its name in the server's configuration; may be given several times
    #[arg(long = "role", value_name = "ROLE", default_value = "device")]
    pub roles: Vec<String>,
}

/// Sign an access token (HS256)
///
/// Prints a token for servers whose auth.jwt.secret is the same secret.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail token issue --secret-file secret --subject thermostat-17 --role device
  ringmail token issue --secret-file secret --subject ops --role admin --ttl 1h --audience mail",
    exit_codes!()
))]
pub struct Issue {
    /// File with the secret, as auth.jwt.secret_file names it
    #[arg(long, value_name = "FILE")]
    pub secret_file: PathBuf,

    /// The principal that the token is for: one topic level
    #[arg(long, value_name = "NAME")]
    pub subject: String,

    /// A role to grant, by its name in the server's configuration; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,

    /// How long it is valid, in whole seconds
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration::parse)]
    pub ttl: Duration,

    /// The issuer (auth.jwt.issuer)
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub issuer: String,

    /// The server it is for (auth.jwt.audience)
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub audience: String,
}

/// Show what a token says
///
/// Prints header, claims and times, not the signature. Verifies the token only if a key is
/// given.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail token inspect < token
  ringmail token inspect token --secret-file secret
  ringmail token inspect token --public-key public.pem",
    exit_codes!()
))]
pub struct Inspect {
    /// File with the token; by default, or for -, standard input
    pub file: Option<PathBuf>,

    /// Verify it with this secret (HS256)
    #[arg(long, value_name = "FILE", conflicts_with = "public_key")]
    pub secret_file: Option<PathBuf>,

    /// Verify it with this public key in PEM (RS256, ES256, EdDSA)
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
}

/// Exchange a refresh token for a new pair
///
/// Prints one JSON object: principal, access_token, refresh_token, expires_in_s (null: never).
/// The refresh token presented cannot be used again.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail token refresh --refresh-file refresh > pair.json
  jq -r .refresh_token pair.json | ringmail token refresh",
    exit_codes!()
))]
pub struct Refresh {
    /// File with the refresh token; by default, or for -, standard input
    #[arg(long, value_name = "FILE")]
    pub refresh_file: Option<PathBuf>,

    #[command(flatten)]
    pub peer: Peer,

    /// How long to wait for the connection and the answer
    #[arg(short, long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub timeout: Duration,
}
