//! The arguments of the subcommands that exchange messages: `sub`, `pub`, `reply`. A part
//! of the one table; syntax only, like all of it.

use super::{Codec, Peer, duration, exit_codes};
use std::ffi::OsString;
use std::time::Duration;

/// Print the messages of topics
///
/// Each message's payload and a newline, as it came: a payload that has newlines in it, or is
/// not text, is better told apart with --output json, or taken alone with --output raw.
///
/// What is still to be read is written together, and everything that has come is written
/// before the next message is waited for. Says on standard error when it has subscribed.
/// Ctrl-C ends it with 0, or with 1 if --count was not reached.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Output of --output json, one object a line:
  {\"topic\":\"site/7/reading\",\"retain\":false,\"codec\":\"json\",\"headers\":{\"key\":\"7\"},\"payload\":{\"c\":21.5}}
  headers   traceparent, timeout_ms, expires_ms, key, schema and so on; the application's own
            under 0x40 to 0xff; each a string where it is UTF-8, else {\"base64\":\"...\"};
            a list where the same one comes more than once
  payload   itself where codec is json and it is JSON; a string where it is UTF-8; else
            payload_base64 takes its place

Examples:
  ringmail sub 'site/#'                            every reading of every site
  ringmail sub 'site/+/alarm' 'site/+/door' -v     with the topic before each payload
  ringmail sub 'site/#' --output json | jq .payload.celsius
  ringmail sub jobs --group workers                one of all workers gets each message
  ringmail sub config/site-7 --count 1 --timeout 2s   the retained message, or 1
  ringmail sub 'site/#' --session > readings.jsonl    goes on where it was after a lost connection
  ringmail sub '#' --rate > /dev/null              messages per second, once a second",
    exit_codes!()
))]
pub struct Sub {
    /// Topics; + stands for one level, # at the end for any number of them
    #[arg(required = true, value_name = "FILTER")]
    pub filters: Vec<String>,

    #[command(flatten)]
    pub peer: Peer,

    /// Stop after this many messages
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Stop, with 1, when no message has come for this long
    #[arg(short, long, value_name = "DURATION", value_parser = duration::parse_bounded_positive)]
    pub timeout: Option<Duration>,

    /// lines: each payload and a newline; raw: nothing but payloads; json: one object a line
    #[arg(short, long, value_enum, default_value_t = SubOutput::Lines)]
    pub output: SubOutput,

    /// Write the topic and a space before each payload; json has the topic by itself
    #[arg(short = 'v', long)]
    pub topic: bool,

    /// Share the messages with all others that subscribe the same filter in this group
    #[arg(short, long, value_name = "NAME")]
    pub group: Option<String>,

    /// Keep a session: after a lost connection, connect again and go on where it was
    #[arg(short, long)]
    pub session: bool,

    /// What the server does when this subscriber does not keep up; its own policy by default
    #[arg(long, value_enum, value_name = "POLICY")]
    pub slow_policy: Option<SlowPolicy>,

    /// What payloads are wanted in, where the server can translate; by default as published
    #[arg(long, value_enum)]
    pub codec: Option<Codec>,

    /// Tell on standard error, once a second, how many messages came
    #[arg(short, long)]
    pub rate: bool,

    /// Do not say when it has subscribed
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
/// The payload is the argument; - reads it from standard input to its end. Without it each
/// line of standard input is a message, without its newline, sent as soon as it is there: an
/// empty line is an empty message, and a last line without a newline is one too.
///
/// Nobody says whether a message has arrived unless --confirm asks for it: then this ends
/// with 0 only once the server has confirmed every one.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Topics from JSON:
  With --topic-from-json FIELD every line is a JSON object, published as it is on the topic
  that FIELD names: a string, or a whole number. A dot leads into an inner object (meta.site);
  \\. is a dot in a name. TOPIC, where given, comes before it, with a slash between. Blank lines
  are passed over; --codec is json unless it is given.
  A line that cannot be published stops it with 1, what came before having been sent.

Examples:
  ringmail pub site/7/reading '{\"celsius\":21.5}' --codec json
  ringmail pub site/7/config - --retain < config.toml    kept for whoever subscribes later
  ringmail pub site/7/config '' --retain                 and taken back
  ringmail pub site/7/log --confirm < readings.csv       one message a line
  tail -f app.log | ringmail pub app/log
  ringmail pub --topic-from-json sensor < readings.jsonl
  ringmail pub site --topic-from-json meta.name --skip-invalid < readings.jsonl
  ringmail pub jobs run --expires 30s --header 0x40=tenant-7",
    exit_codes!()
))]
pub struct Pub {
    /// The topic to publish on; with --topic-from-json, what comes before the field's value
    #[arg(required_unless_present = "topic_from_json")]
    pub topic: Option<String>,

    /// What to publish; - reads standard input to its end
    #[arg(conflicts_with = "topic_from_json", allow_negative_numbers = true)]
    pub payload: Option<OsString>,

    #[command(flatten)]
    pub peer: Peer,

    /// Take the topic of each line from this field of it
    #[arg(long, value_name = "FIELD")]
    pub topic_from_json: Option<String>,

    /// Pass over lines that cannot be published, telling so, instead of stopping
    #[arg(long, requires = "topic_from_json")]
    pub skip_invalid: bool,

    /// Keep the last message of each topic for who subscribes later; an empty one clears it
    #[arg(short, long)]
    pub retain: bool,

    /// Wait until the server has confirmed every message; the first it refuses ends with 1
    #[arg(short, long)]
    pub confirm: bool,

    /// Keep a session: after a lost connection, connect again and repeat what was not
    /// confirmed, no message twice; implies --confirm. Sessions are in the server's memory: if it
    /// was killed, this says that what had been confirmed and not yet delivered is lost
    #[arg(short, long)]
    pub session: bool,

    /// What the payload is written in: bytes unless it is given, json with --topic-from-json
    #[arg(long, value_enum)]
    pub codec: Option<Codec>,

    /// The messages' key: subscribers that fall behind may ask for the latest of each key
    #[arg(short, long)]
    pub key: Option<String>,

    /// Drop a message that could not be delivered within this time
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

/// Answer requests by the output of a command
///
/// Each request runs CMD with `sh -c`: the payload is its standard input, its standard output
/// is the answer. When it exits with another status than 0, the request fails with code 0x1000
/// and that status, and the last line it wrote to standard error as the text. A signal counts
/// as status 128 and its number, a command that took too long as 124, and 125 is an answer
/// that could not be made: too large, too many requests waiting, no `sh`.
///
/// Says on standard error when it serves. Ctrl-C ends it with 0, the commands too.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Environment of CMD:
  RINGMAIL_SERVICE      the service asked for
  RINGMAIL_ADDRESS      the server: what ringmail in CMD talks to
  RINGMAIL_CODEC        bytes, json or protobuf: what the payload is written in
  RINGMAIL_TIMEOUT_MS   how long the requester waits, where it says
  RINGMAIL_SCHEMA, RINGMAIL_TRACEPARENT, RINGMAIL_HEADER_40 to RINGMAIL_HEADER_FF
                        the request's headers, where they are there and are text

Examples:
  ringmail reply text/upper --exec 'tr a-z A-Z'
  ringmail reply 'host/uptime' --exec uptime --parallel 4
  ringmail reply site/forecast --codec json --timeout 2s --exec ./forecast.py
  ringmail req text/upper hello                 asks the first of these",
    exit_codes!()
))]
pub struct Reply {
    /// The service to answer for; a filter answers for all that it matches
    pub service: String,

    /// The command that answers
    #[arg(short, long, value_name = "CMD")]
    pub exec: OsString,

    #[command(flatten)]
    pub peer: Peer,

    /// Commands that may run at once; further requests wait
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub parallel: u16,

    /// How long a command may take; then it is killed, with all it started
    #[arg(short, long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse_bounded_positive)]
    pub timeout: Duration,

    /// What the answers are written in; by default what their requests are
    #[arg(long, value_enum)]
    pub codec: Option<Codec>,

    /// Stop after this many answers
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Do not say when it serves
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
