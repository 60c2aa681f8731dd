//! The arguments of the subcommands that exchange messages: `sub`, `pub`, `reply`. A part
//! of the one table; syntax only, like all of it.

use super::{Codec, Peer, duration, exit_codes};
use std::ffi::OsString;
use std::time::Duration;

/// Print the messages of topics
///
/// Prints each payload as it was received, and a newline. If payloads contain newlines or are
/// not text, --output json keeps them apart, and --output raw prints them with nothing added.
///
/// Messages that have arrived are written together, all of them before it waits for the next
/// one. Reports on standard error when it has subscribed. Ctrl-C ends it with 0, or with 1
/// if --count was not reached.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Output of --output json, one object per line:
  {\"topic\":\"site/7/reading\",\"retain\":false,\"codec\":\"json\",\"headers\":{\"key\":\"7\"},\"payload\":{\"c\":21.5}}
  headers   traceparent, timeout_ms, expires_ms, key, schema and so on; the application's own
            under 0x40 to 0xff; each a string if it is UTF-8, else {\"base64\":\"...\"};
            a list if the same header occurs more than once
  payload   the JSON itself if codec is json and it parses; else a string if it is UTF-8; else
            payload_base64 takes its place

Examples:
  ringmail sub 'site/#'                            every reading of every site
  ringmail sub 'site/+/alarm' 'site/+/door' -v     with the topic before each payload
  ringmail sub 'site/#' --output json | jq .payload.celsius
  ringmail sub jobs --group workers                each message goes to one of all workers
  ringmail sub config/site-7 --count 1 --timeout 2s   the retained message, or exit with 1
  ringmail sub 'site/#' --session > readings.jsonl    continues after a lost connection
  ringmail sub '#' --rate > /dev/null              messages per second, once a second",
    exit_codes!()
))]
pub struct Sub {
    /// Topics; + matches one level, # at the end any number of levels
    #[arg(required = true, value_name = "FILTER")]
    pub filters: Vec<String>,

    #[command(flatten)]
    pub peer: Peer,

    /// Stop after this many messages
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Stop, with 1, when no message has arrived for this long
    #[arg(short, long, value_name = "DURATION", value_parser = duration::parse_bounded_positive)]
    pub timeout: Option<Duration>,

    /// lines: each payload and a newline; raw: payloads only; json: one object per line
    #[arg(short, long, value_enum, default_value_t = SubOutput::Lines)]
    pub output: SubOutput,

    /// Write the topic and a space before each payload; json always includes the topic
    #[arg(short = 'v', long)]
    pub topic: bool,

    /// Share the messages with all others that subscribe to the same filter in this group
    #[arg(short, long, value_name = "NAME")]
    pub group: Option<String>,

    /// Keep a session: after a lost connection, reconnect and continue where it left off
    #[arg(short, long)]
    pub session: bool,

    /// What the server does when this subscriber does not keep up; by default, its own policy
    #[arg(long, value_enum, value_name = "POLICY")]
    pub slow_policy: Option<SlowPolicy>,

    /// Codec to receive payloads in, where the server can translate; by default as published
    #[arg(long, value_enum)]
    pub codec: Option<Codec>,

    /// Report once a second, on standard error, how many messages arrived
    #[arg(short, long)]
    pub rate: bool,

    /// Do not report when it has subscribed
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SubOutput {
    Lines,
    Raw,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SlowPolicy {
    Disconnect,
    DropOldest,
    DropNewest,
    LatestPerKey,
}

/// Publish messages
///
/// The payload is the argument; - reads it from standard input to its end. Without one, each
/// line of standard input is a message, without its newline, sent as soon as it is read: an
/// empty line is an empty message, and a last line without a newline counts as well.
///
/// The server does not acknowledge messages unless --confirm asks for it: then this command
/// exits with 0 only after the server has confirmed every message.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Topics from JSON:
  With --topic-from-json FIELD every line is a JSON object, published unchanged on the topic
  that FIELD contains: a string, or a whole number. A dot leads into an inner object (meta.site);
  \\. is a dot in a name. If TOPIC is given, it precedes the field's value, with a slash between.
  Blank lines are skipped; --codec is json unless given.
  A line that cannot be published stops it with 1; the lines before it have been sent.

Examples:
  ringmail pub site/7/reading '{\"celsius\":21.5}' --codec json
  ringmail pub site/7/config - --retain < config.toml    kept for later subscribers
  ringmail pub site/7/config '' --retain                 and cleared again
  ringmail pub site/7/log --confirm < readings.csv       one message per line
  tail -f app.log | ringmail pub app/log
  ringmail pub --topic-from-json sensor < readings.jsonl
  ringmail pub site --topic-from-json meta.name --skip-invalid < readings.jsonl
  ringmail pub jobs run --expires 30s --header 0x40=tenant-7",
    exit_codes!()
))]
pub struct Pub {
    /// The topic to publish on; with --topic-from-json, a prefix to the field's value
    #[arg(required_unless_present = "topic_from_json")]
    pub topic: Option<String>,

    /// What to publish; - reads standard input to its end
    #[arg(conflicts_with = "topic_from_json", allow_negative_numbers = true)]
    pub payload: Option<OsString>,

    #[command(flatten)]
    pub peer: Peer,

    /// Take each line's topic from this field of the line
    #[arg(long, value_name = "FIELD")]
    pub topic_from_json: Option<String>,

    /// Skip and report lines that cannot be published, instead of stopping
    #[arg(long, requires = "topic_from_json")]
    pub skip_invalid: bool,

    /// Keep the last message of each topic for later subscribers; an empty one clears it
    #[arg(short, long)]
    pub retain: bool,

    /// Wait until the server has confirmed every message; stop with 1 at the first it refuses
    #[arg(short, long)]
    pub confirm: bool,

    /// Keep a session: after a lost connection, reconnect and repeat what was not confirmed,
    /// without publishing any message twice; implies --confirm. The server keeps sessions in
    /// memory: if it was killed, messages confirmed but not yet delivered are lost, and this
    /// command says so
    #[arg(short, long)]
    pub session: bool,

    /// Codec of the payload; by default bytes, with --topic-from-json json
    #[arg(long, value_enum)]
    pub codec: Option<Codec>,

    /// The messages' key: for subscribers that want only the latest of each key when they
    /// fall behind
    #[arg(short, long)]
    pub key: Option<String>,

    /// Drop a message that cannot be delivered within this time
    #[arg(short, long, value_name = "DURATION", value_parser = duration::parse)]
    pub expires: Option<Duration>,

    /// Name of the payload's message type
    #[arg(long, value_name = "NAME")]
    pub schema: Option<String>,

    /// A header of the application's own, KEY from 0x40 to 0xff; may be given several times
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = header)]
    pub headers: Vec<(u8, String)>,

    /// How long to wait for the connection, and for the confirmation of what was sent
    #[arg(short, long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// Answer requests with the output of a command
///
/// Each request runs CMD with `sh -c`: the payload is its standard input, its standard output
/// is the answer. If it exits with a status other than 0, the request fails with code 0x1000
/// plus that status, and with the last line on its standard error as the text. A signal
/// counts as status 128 plus its number, a command that took too long as 124, and 125 means
/// that there is no answer: too large, too many requests waiting, no `sh`.
///
/// Reports on standard error when it serves. Ctrl-C ends it, and the commands, with 0.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Environment of CMD:
  RINGMAIL_SERVICE      the requested service
  RINGMAIL_ADDRESS      the server, so that ringmail within CMD talks to the same one
  RINGMAIL_CODEC        the payload's codec: bytes, json or protobuf
  RINGMAIL_TIMEOUT_MS   how long the requester waits, if it says
  RINGMAIL_SCHEMA, RINGMAIL_TRACEPARENT, RINGMAIL_HEADER_40 to RINGMAIL_HEADER_FF
                        the request's headers, those that are present and text

Examples:
  ringmail reply text/upper --exec 'tr a-z A-Z'
  ringmail reply 'host/uptime' --exec uptime --parallel 4
  ringmail reply site/forecast --codec json --timeout 2s --exec ./forecast.py
  ringmail req text/upper hello                 a request to the first of these",
    exit_codes!()
))]
pub struct Reply {
    /// The service to serve; a filter serves all services that it matches
    pub service: String,

    /// The command that answers
    #[arg(short, long, value_name = "CMD")]
    pub exec: OsString,

    #[command(flatten)]
    pub peer: Peer,

    /// How many commands may run at once; further requests wait
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub parallel: u16,

    /// How long a command may take; then it is killed, with everything it started
    #[arg(short, long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse_bounded_positive)]
    pub timeout: Duration,

    /// Codec of the answers; by default that of their requests
    #[arg(long, value_enum)]
    pub codec: Option<Codec>,

    /// Stop after this many answers
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Do not report when it serves
    #[arg(short, long)]
    pub quiet: bool,
}

fn header(text: &str) -> Result<(u8, String), String> {
    let expected = "write it as KEY=VALUE, KEY from 0x40 to 0xff (64 to 255)";
    let (key, value) = text.split_once('=').ok_or(expected)?;
    let parsed = match key.strip_prefix("0x").or_else(|| key.strip_prefix("0X")) {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => key.parse(),
    };
    match parsed {
        Ok(key @ 0x40..) => Ok((key, value.to_owned())),
        _ => Err(expected.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_key_is_the_applications_own_in_hexadecimal_or_decimal() {
        assert_eq!(header("0x40=a=b"), Ok((0x40, "a=b".to_owned())));
        assert_eq!(header("255="), Ok((255, String::new())));
        for text in [
            "0x3f=x", "63=x", "256=x", "0x100=x", "key=x", "0x40", "=x", "0x+4=x",
        ] {
            assert!(header(text).is_err(), "{text}");
        }
    }
}
