//! `top`: the live view of a server.

use super::access::Credential;
use super::{duration, exit_codes};
use std::time::Duration;

/// Watch a server: shards, rates, latencies, connections, topics
///
/// Polls the admin address (server.admin). Rates are between two answers, latencies of the
/// last 10 to 20 seconds. Keys: q quits, Tab shows the next table, the arrows choose the
/// column to sort by, r reverses the order, / filters, p pauses, ? lists all of them.
///
/// Addresses other than loopback require a credential whose role has admin = true. It travels
/// in the clear unless the address is https://.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail top
  ringmail top 192.0.2.7:7412 --api-key-file operator.key
  ringmail top --once
  ringmail top --once --output json | jq '.connections[0]'",
    exit_codes!()
))]
pub struct Top {
    /// The admin address: host:port, http://host:port or https://host:port
    #[arg(
        value_name = "ADDRESS",
        env = "RINGMAIL_ADMIN_ADDRESS",
        default_value = "127.0.0.1:7412"
    )]
    pub address: String,

    #[command(flatten)]
    pub credential: Credential,

    /// Time from one poll to the next
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    pub interval: Duration,

    /// Print one report, after one interval, and exit
    #[arg(long)]
    pub once: bool,

    /// With --once: text, or json: one object
    #[arg(short, long, value_enum, default_value_t = TopOutput::Text)]
    pub output: TopOutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TopOutput {
    Text,
    Json,
}
