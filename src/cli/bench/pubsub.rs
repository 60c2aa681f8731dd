//! `ringmail bench pubsub`: messages published on some connections, delivered on others.

use super::dialect::{Protocol, Role, STAMP_BYTES, payload};
use super::participants::{Participants, Placement};
use super::report::{Load, PubSub};
use super::run::{Run, Subject, positive};
use super::slow_readers;
use super::target::Target;
use crate::base::exit::Status;
use crate::base::limits::GROUP_BYTES_MAX;
use crate::cli::args::exit_codes;
use crate::cli::failure::Failure;

/// Measure publish/subscribe: deliveries per second, latency, CPU time per delivery
///
/// Publishers and subscribers are spread over the topics in turn; a message is delivered
/// to every subscriber of its topic, and each delivery counts as one. Latency runs from
/// the publisher to the subscriber.
///
/// Without --rate a closed loop: each publisher keeps --in-flight messages that not all
/// subscribers have received yet. With --rate an open loop; see `ringmail bench help echo`.
///
/// --protocol measures other servers with the same load.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail bench pubsub --spawn                                       1 publisher, 50 subscribers
  ringmail bench pubsub --spawn --publishers 10 --subscribers 10      100 deliveries for 10 messages
  ringmail bench pubsub --spawn --publishers 10 --subscribers 10 --topics 10      ten pairs
  ringmail bench pubsub --spawn --subscribers 8 --group workers       one of the group gets each
  ringmail bench pubsub --spawn --rate 5000 --confirm
  ringmail bench pubsub --spawn --rate 1000 --slow 5000 --slow-policy drop-oldest      beside slow readers
  ringmail bench pubsub --protocol nats --address 127.0.0.1:4222 --server-pid $(pidof nats-server)",
    exit_codes!()
))]
pub struct Args {
    /// Connections that publish
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive(1_000_000))]
    publishers: u32,

    /// Connections that subscribe
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = positive(1_000_000))]
    subscribers: u32,

    /// Topics, each with its share of publishers and subscribers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive(1_000_000))]
    topics: u32,

    /// Closed loop: messages in flight of each publisher
    #[arg(long, value_name = "N", default_value_t = 16, conflicts_with = "rate", value_parser = positive(1 << 20))]
    in_flight: u32,

    /// Bytes of each payload; the first 16 hold the sender and the send time
    #[arg(long, visible_alias = "bytes", value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=1 << 26))]
    payload_bytes: u32,

    /// Subscribe as a group of this name: one of each topic's subscribers gets each message
    #[arg(long, value_name = "NAME", value_parser = parse_group)]
    group: Option<String>,

    /// Have the server confirm each message; the closed loop then waits only for that
    #[arg(long)]
    confirm: bool,

    /// Idle subscriptions beside those that receive messages
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    subscriptions: u32,

    /// How many of the idle subscriptions one connection holds
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = positive(1_000_000))]
    subscriptions_per_connection: u32,

    /// Which of the server's shards publishers and subscribers are on
    #[arg(long, value_enum, default_value_t = Placement::Any)]
    placement: Placement,

    /// The server's protocol
    #[arg(long, value_enum, default_value_t = Protocol::Ringmail)]
    protocol: Protocol,

    #[command(flatten)]
    slow: slow_readers::Args,

    #[command(flatten)]
    run: Run,

    #[command(flatten)]
    target: Target,
}

fn parse_group(text: &str) -> Result<String, String> {
    // As a word of NATS' lines and a level of MQTT's topics, too.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match text.len() {
        1..=GROUP_BYTES_MAX if text.chars().all(is_plain) => Ok(text.to_owned()),
        _ => Err("1 to 64 letters, digits, _ and -".to_owned()),
    }
}

pub fn run(args: &Args) -> Result<(), Failure> {
    args.check()?;
    let participants = args.participants();
    let subject = Subject {
        benchmark: "pubsub",
        protocol: args.protocol.name(),
        unit: "delivery",
        bytes: args.payload_bytes as usize,
        senders: args.publishers as usize,
        depth: args.in_flight as usize,
        connections: participants.connections(),
        load: Load::PubSub(PubSub {
            publishers: args.publishers,
            subscribers: args.subscribers,
            topics: args.topics,
            group: args.group.clone(),
            confirmed: args.confirm,
            idle_subscriptions: args.subscriptions,
            placement: args.placement.name(),
        }),
    };
    participants.conduct(args.protocol, &args.run, &args.target, subject)
}

/// Refuses what one of the peers' protocols does not have.
pub fn check_protocol(
    protocol: Protocol,
    target: &Target,
    ours: &[(&str, bool)],
) -> Result<(), Failure> {
    if protocol == Protocol::Ringmail {
        return Ok(());
    }
    let spawn = [("--spawn", target.spawn)];
    match spawn.iter().chain(ours).find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((name, _)) => Err(Failure::new(
            Status::Usage,
            format_args!("{name} goes with --protocol ringmail only"),
        )),
    }
}

impl Args {
    fn check(&self) -> Result<(), Failure> {
        let usage = |message: &str| Err(Failure::new(Status::Usage, message));
        if self.topics > self.publishers || self.topics > self.subscribers {
            return usage("each of --topics needs a publisher and a subscriber");
        }
        if self.protocol == Protocol::Redis && self.group.is_some() {
            return usage("--group: Redis has no groups of subscribers");
        }
        let is_placed = self.placement != Placement::Any;
        let ours = [
            ("--confirm", self.confirm),
            ("--placement", is_placed),
            ("--slow", self.slow.readers > 0),
        ];
        check_protocol(self.protocol, &self.target, &ours)
    }

    fn participants(&self) -> Participants<'_> {
        let topic = |number: u32| format!("bench/topic-{}", number % self.topics);
        let members = |number: u32| {
            let topic = number % self.topics;
            self.subscribers / self.topics + u32::from(topic < self.subscribers % self.topics)
        };
        let publisher = |number: u32| {
            let copies = if self.group.is_some() {
                1
            } else {
                members(number)
            };
            let role = Role::Publisher {
                topic: topic(number),
                confirmed: self.confirm,
            };
            (role, copies)
        };
        let subscriber = |number: u32| Role::Subscriber {
            topic: topic(number),
            group: self.group.clone(),
        };
        let step = self.subscriptions_per_connection;
        let holder = |first: u32| Role::Holder {
            filters: first..self.subscriptions.min(first.saturating_add(step)),
        };
        Participants {
            senders: (0..self.publishers).map(publisher).collect(),
            receivers: (0..self.subscribers).map(subscriber).collect(),
            bystanders: (0..self.subscriptions)
                .step_by(step as usize)
                .map(holder)
                .collect(),
            payload: payload(self.payload_bytes as usize),
            is_confirmed: self.confirm,
            placement: self.placement,
            slow_readers: Some(&self.slow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Args {
        let words = line.split_whitespace();
        Command::try_parse_from(["pubsub"].into_iter().chain(words))
            .unwrap()
            .args
    }

    fn copies(line: &str) -> Vec<u32> {
        let senders = args(line).participants().senders;
        senders.into_iter().map(|(_, copies)| copies).collect()
    }

    #[test]
    fn a_message_is_waited_for_by_all_subscribers_of_its_topic_or_one_of_its_group() {
        assert_eq!(copies("--publishers 2 --subscribers 10"), [10, 10]);
        assert_eq!(
            copies("--publishers 3 --subscribers 7 --topics 3"),
            [3, 2, 2]
        );
        assert_eq!(
            copies("--publishers 3 --subscribers 7 --topics 3 --group g"),
            [1, 1, 1]
        );
    }

    #[test]
    fn idle_subscriptions_are_spread_over_connections_to_the_last() {
        let args = args("--subscriptions 2500");
        let participants = args.participants();
        let held: Vec<_> = (participants.bystanders.iter())
            .map(|role| match role {
                Role::Holder { filters } => filters.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(held, [0..1000, 1000..2000, 2000..2500]);
    }

    #[test]
    fn features_that_a_protocol_lacks_are_refused() {
        for wrong in [
            "--topics 2",
            "--publishers 4 --topics 4 --subscribers 3",
            "--protocol redis --group g",
            "--protocol nats --confirm",
            "--protocol mqtt --placement same",
            "--protocol redis --spawn",
            "--protocol nats --slow 10",
        ] {
            let failure = args(wrong).check().unwrap_err();
            assert_eq!(failure.status, Status::Usage, "{wrong}");
        }
        for right in ["--confirm --group g", "--protocol nats --group g"] {
            assert!(args(right).check().is_ok(), "{right}");
        }
        assert!(Command::try_parse_from(["pubsub", "--group", "a b"]).is_err());
        assert!(Command::try_parse_from(["pubsub", "--payload-bytes", "15"]).is_err());
    }
}
