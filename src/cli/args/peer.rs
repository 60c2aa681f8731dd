//! Which server a command talks to, and in which codec.

use super::access::Access;
use crate::cli::duration;
use std::time::Duration;

/// Where a server is expected unless it is named.
pub const ADDRESS_DEFAULT: &str = "127.0.0.1:7411";
/// Names it for all commands.
pub const ADDRESS_VARIABLE: &str = "RINGMAIL_ADDRESS";

/// Which server to talk to.
#[derive(Clone, Debug, clap::Args)]
pub struct Peer {
    /// The server: host:port or ringmail://host:port; with TLS ringmails://host:port
    #[arg(
        short,
        long,
        value_name = "ADDRESS",
        env = ADDRESS_VARIABLE,
        default_value = ADDRESS_DEFAULT
    )]
    pub address: String,

    /// The client id, a name beside the principal: 1 to 64 letters, digits, underscores,
    /// hyphens and dots
    #[arg(long, value_name = "ID", env = "RINGMAIL_CLIENT_ID")]
    pub client_id: Option<String>,

    /// If the server is not up yet, keep trying for this long: for scripts that start both.
    /// `req` waits for the service, too
    #[arg(long, value_name = "DURATION", default_value = "0", hide_default_value = true, value_parser = duration::parse_bounded)]
    pub wait: Duration,

    #[command(flatten)]
    pub access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Codec {
    Bytes,
    Json,
    Protobuf,
}
