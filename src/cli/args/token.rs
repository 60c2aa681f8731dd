//! `token`: keys and tokens made, looked at and renewed.

use super::{Peer, duration, exit_codes};
use std::path::PathBuf;
use std::time::Duration;

/// Make API keys and access tokens, look into a token, renew one
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
/// Prints the key on standard output, this once: it is for the device. The configuration gets
/// its hash only, in the lines printed on standard error.
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

    /// Who the device is; by default its key's name
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,

    /// A role it gets, by its name in the server's file; may be given several times
    #[arg(long = "role", value_name = "ROLE", default_value = "device")]
    pub roles: Vec<String>,
}

/// Sign an access token (HS256)
///
/// For servers whose auth.jwt.secret is the same secret. Prints the token.
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

    /// Who the token is for: one level of a topic
    #[arg(long, value_name = "NAME")]
    pub subject: String,

    /// A role it gets, by its name in the server's file; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,

    /// How long it is good for, in whole seconds
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration::parse)]
    pub ttl: Duration,

    /// Who issues it (auth.jwt.issuer)
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub issuer: String,

    /// Which server it is for (auth.jwt.audience)
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub audience: String,
}

/// Show what a token says
///
/// Prints header, claims and times, not the signature. Whether the token is any good is told
/// only with a key to verify it with.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail token inspect < token
  ringmail token inspect token --secret-file secret
  ringmail token inspect token --public-key public.pem",
    exit_codes!()
))]
pub struct Inspect {
    /// File with the token; without it, or for -, standard input
    pub file: Option<PathBuf>,

    /// Verify it by this secret (HS256)
    #[arg(long, value_name = "FILE", conflicts_with = "public_key")]
    pub secret_file: Option<PathBuf>,

    /// Verify it by this public key in PEM (RS256, ES256, EdDSA)
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
}

/// Exchange a refresh token for a new pair
///
/// Prints one JSON object: principal, access_token, refresh_token, expires_in_s (null: never).
/// The refresh token shown is worn out by it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail token refresh --refresh-file refresh > pair.json
  jq -r .refresh_token pair.json | ringmail token refresh",
    exit_codes!()
))]
pub struct Refresh {
    /// File with the refresh token; without it, or for -, standard input
    #[arg(long, value_name = "FILE")]
    pub refresh_file: Option<PathBuf>,

    #[command(flatten)]
    pub peer: Peer,

    /// How long to wait for the connection and the answer
    #[arg(short, long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub timeout: Duration,
}
