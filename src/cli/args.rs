//! The command line as one table: every subcommand and flag, from which help, completions
//! and manual pages are made. Syntax only: what a value means is its subcommand's business.

mod access;
mod exit;
mod message;
mod peer;
mod token;
mod top;

pub use access::{Access, Credential};
pub(super) use exit::exit_codes;
pub use message::{Pub, Reply, SlowPolicy, Sub, SubOutput};
pub use peer::{ADDRESS_DEFAULT, ADDRESS_VARIABLE, Codec, Peer};
pub use token::{Inspect, Issue, Key, Refresh, Token, TokenCommand};
pub use top::{Top, TopOutput};

use super::duration;
use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// A message server for devices and services: thread per core, io_uring, shared nothing
///
/// ringmail carries messages between devices and services over MCP, the Message
/// Communication Protocol: a small binary protocol over TCP. This one program is the server,
/// the tools to talk to one, and the load to measure it with.
///
/// Data is written to standard output, everything else to standard error. Addresses are
/// host:port, ringmail://host:port, or ringmails://host:port for TLS; durations are 250ms, 10s, 1.5m, or plain seconds.
/// An empty environment variable counts as not set.
#[derive(Debug, clap::Parser)]
#[command(
    name = "ringmail",
    version,
    arg_required_else_help = true,
    after_help = concat!(
        "Examples:
  ringmail serve                          a server on 127.0.0.1:7411, no file needed
  ringmail ping                           round trips to it, until Ctrl-C
  ringmail sub 'site/#'                   every message of every site, until Ctrl-C
  ringmail pub site/7/door open           one message; or one per line of standard input
  ringmail req '$sys/echo' hello          one request, its answer on standard output
  ringmail reply text/upper --exec 'tr a-z A-Z'   a service: a command that answers
  ringmail bench echo --spawn             measure a server on this machine
  ringmail top                            watch a server live
  ringmail check --config ringmail.toml   report every mistake in a configuration at once
  ringmail help req                       what a subcommand can do",
        exit_codes!()
    )
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Of this process. An empty variable is one that is not set, as it is where a script or
    /// a container passes on what it does not have.
    ///
    /// # Errors
    /// What is not understood; or help and version, which are asked for.
    pub fn of_process() -> Result<Args, clap::Error> {
        let matches = without_empty(Args::command()).try_get_matches()?;
        Args::from_arg_matches(&matches).map_err(|error| error.format(&mut Args::command()))
    }
}

fn without_empty(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| match is_empty(&arg) {
            true => arg.env(Resettable::Reset),
            false => arg,
        })
        .mut_subcommands(without_empty)
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Serve(Serve),
    Check(Check),
    Pub(Pub),
    Sub(Sub),
    Req(Req),
    Reply(Reply),
    Ping(Ping),
    Bench(super::bench::Args),
    Token(Token),
    Top(Top),
    Completions(Completions),
    Man(Man),
}

/// Where the configuration comes from, the same for `serve` and `check`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Configuration {
    /// The configuration file; without it the defaults apply
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Address to listen on (server.listen)
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// Cores that get a shard: all, 0-3 or [0, 2] (server.shards)
    #[arg(long, value_name = "CORES")]
    pub shards: Option<String>,

    /// What to log: error, warn, info, debug, trace, or per target (log.level)
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// auto, text or json (log.format)
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Set any key; may be given several times
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// Run the server
///
/// Listens on 127.0.0.1:7411 unless told otherwise. Each key of the configuration is taken
/// from the first of these that sets it: flag, environment (RINGMAIL__SECTION__KEY), file,
/// default.
///
/// SIGTERM, SIGINT or SIGQUIT drains: the server notifies its clients, answers what it has accepted, and
/// exits with 0 within server.drain_timeout_ms. A second signal ends it at once.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail serve
  ringmail serve --config /etc/ringmail/ringmail.toml
  ringmail serve --listen 127.0.0.1:7500 --shards 0-1 --log-level debug
  ringmail serve --set ring.busy_poll_us=50 --set limits.connections_max=1000",
    exit_codes!()
))]
pub struct Serve {
    #[command(flatten)]
    pub configuration: Configuration,

    /// Where to keep what must survive a restart (refresh tokens, revocations); by default
    /// $STATE_DIRECTORY, $XDG_STATE_HOME/ringmail or ~/.local/state/ringmail. Used only with
    /// auth.mode = "required"
    #[arg(long, value_name = "DIR", env = "RINGMAIL_STATE_DIRECTORY")]
    pub state_directory: Option<PathBuf>,
}

/// Check a configuration and report every mistake at once
///
/// Reads what `serve` would read with the same arguments and environment. Prints ok, or one
/// line for each mistake with its place and the remedy. It does not look at the host:
/// whether cores, memory and ports are available shows when the server starts.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail check --config ringmail.toml
  ringmail check --config ringmail.toml --print   what is in force, defaults included
  ringmail check --set limits.connections_max=many",
    exit_codes!()
))]
pub struct Check {
    #[command(flatten)]
    pub configuration: Configuration,

    /// Print the whole configuration in force as TOML, secrets redacted, instead of ok
    #[arg(short, long)]
    pub print: bool,
}

/// Send one request and print the answer
///
/// The payload is the argument. Without one, or with -, it is read from standard input to its
/// end; but if that is a terminal and - is not given, the payload is empty.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail req '$sys/echo' hello
  ringmail req '$sys/stats' --output json | jq .payload
  ringmail req '$sys/stats' --codec protobuf | protoc --decode=ringmail.Stats ringmail.proto
  ringmail req site/forecast --codec json --timeout 250ms < question.json
  ringmail req --address ringmail://mail.example:7411 '$sys/time'",
    exit_codes!()
))]
pub struct Req {
    /// The service to ask
    pub service: String,

    /// What to send; - reads standard input
    pub payload: Option<OsString>,

    #[command(flatten)]
    pub peer: Peer,

    /// How long to wait for the connection, and then for the answer; also sent to the server
    #[arg(short, long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub timeout: Duration,

    /// Codec of the payload, and with most services of the answer
    #[arg(long, value_enum, default_value_t = Codec::Bytes)]
    pub codec: Codec,

    /// raw: the answer's bytes unchanged, plus a newline on a terminal; json: one
    /// object with the answer, its codec, size and time
    #[arg(short, long, value_enum, default_value_t = ReqOutput::Raw)]
    pub output: ReqOutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReqOutput {
    Raw,
    Json,
}

/// Measure round trips to a server, like ping(8)
///
/// Sends PING messages over one connection, one at a time, and prints each round trip, then
/// a summary. Ctrl-C stops it early; the summary is still printed.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail ping
  ringmail ping --count 1000 --interval 0 --quiet
  ringmail ping --count 5 --output json | jq -r 'select(.type == \"summary\").p99_ms'",
    exit_codes!()
))]
pub struct Ping {
    #[command(flatten)]
    pub peer: Peer,

    /// Stop after this many; by default, at Ctrl-C
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Time from one PING to the next; 0: as fast as the answers arrive
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    pub interval: Duration,

    /// Bytes that each PING carries, at most 64
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = 8, value_parser = clap::value_parser!(u8).range(..=64))]
    pub payload_bytes: u8,

    /// How long to wait for the connection, and then for each answer
    #[arg(short, long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    pub timeout: Duration,

    /// Print only the summary
    #[arg(short, long)]
    pub quiet: bool,

    /// text, or json: one object per line, the summary last
    #[arg(short, long, value_enum, default_value_t = PingOutput::Text)]
    pub output: PingOutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PingOutput {
    Text,
    Json,
}

/// Print a shell's completion script
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail completions bash > ~/.local/share/bash-completion/completions/ringmail
  ringmail completions zsh > ~/.zfunc/_ringmail
  ringmail completions fish > ~/.config/fish/completions/ringmail.fish",
    exit_codes!()
))]
pub struct Completions {
    /// The shell to complete for
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Print the manual page, or write one page for each subcommand
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail man | man -l -
  ringmail man --dir /usr/local/share/man/man1",
    exit_codes!()
))]
pub struct Man {
    /// Write ringmail.1, ringmail-req.1 and so on into DIR instead of printing ringmail.1
    #[arg(short, long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as section.key=value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_table_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_set_flag_keeps_everything_after_the_first_equals_sign() {
        let args = Args::try_parse_from(["ringmail", "check", "--set", "auth.jwt.secret=a=b"]);
        let Command::Check(check) = args.unwrap().command else {
            panic!("check is parsed as check");
        };
        let wanted = ("auth.jwt.secret".to_owned(), "a=b".to_owned());
        assert_eq!(check.configuration.set, [wanted]);
        assert!(key_value("listen=1").is_err() && key_value("server.listen").is_err());
    }
}
