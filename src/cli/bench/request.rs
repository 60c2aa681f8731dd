//! `ringmail bench request`: requests answered by connections of the generator's own, through
//! the server.

use super::dialect::{Protocol, Role, STAMP_BYTES, payload};
use super::participants::{Participants, Placement};
use super::pubsub::check_protocol;
use super::report::{Load, Request};
use super::run::{Run, Subject, positive};
use super::target::Target;
use crate::base::exit::Status;
use crate::cli::args::exit_codes;
use crate::cli::failure::Failure;
use crate::proto::name::check_topic;

/// The service asked for.
const SERVICE: &str = "bench/service";

/// Measure requests to a service that connections answer: throughput, latency, CPU time
///
/// The responders are connections of the generator too, and answer each request at once with
/// its payload: this measures the server's work of carrying requests and answers. With
/// --service another responder answers, and the result includes its time.
/// For requests to a service of the server itself see `ringmail bench echo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:
  ringmail bench request --spawn
  ringmail bench request --spawn --requesters 10 --responders 4 --in-flight 16
  ringmail bench request --spawn --rate 10000 --plot latency.svg
  ringmail bench request --service orders/echo --address 127.0.0.1:7411
  ringmail bench request --protocol nats --address 127.0.0.1:4222",
    exit_codes!()
))]
pub struct Args {
    /// Connections that send requests
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = positive(1_000_000))]
    requesters: u32,

    /// Connections that answer
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive(1_000_000))]
    responders: u32,

    /// Send requests to a service that others serve; it must answer with the request's payload
    #[arg(long, value_name = "NAME", conflicts_with_all = ["responders", "placement"])]
    service: Option<String>,

    /// Closed loop: open requests of each requester
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "rate", value_parser = positive(1 << 20))]
    in_flight: u32,

    /// Bytes of each payload; the first 16 hold the sender and the send time
    #[arg(long, visible_alias = "bytes", value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=1 << 26))]
    payload_bytes: u32,

    /// Which of the server's shards requesters and responders are on
    #[arg(long, value_enum, default_value_t = Placement::Any)]
    placement: Placement,

    /// The server's protocol: ringmail or nats
    #[arg(long, value_enum, default_value_t = Protocol::Ringmail)]
    protocol: Protocol,

    #[command(flatten)]
    run: Run,

    #[command(flatten)]
    target: Target,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    args.check()?;
    let participants = args.participants();
    let subject = Subject {
        benchmark: "request",
        protocol: args.protocol.name(),
        unit: "request",
        bytes: args.payload_bytes as usize,
        senders: args.requesters as usize,
        depth: args.in_flight as usize,
        connections: participants.connections(),
        load: Load::Request(Request {
            requesters: args.requesters,
            responders: participants.receivers.len() as u32,
            placement: args.placement.name(),
        }),
    };
    participants.conduct(args.protocol, &args.run, &args.target, subject)
}

impl Args {
    fn check(&self) -> Result<(), Failure> {
        if matches!(self.protocol, Protocol::Redis | Protocol::Mqtt) {
            return Err(Failure::new(
                Status::Usage,
                "bench request: --protocol must be ringmail or nats; the others have no requests",
            ));
        }
        if let Some(service) = &self.service {
            check_topic(service).map_err(|refusal| {
                let text = format!("bench request: --service {service:?}: {refusal}");
                Failure::new(Status::Usage, text)
            })?;
        }
        let is_placed = self.placement != Placement::Any;
        check_protocol(self.protocol, &self.target, &[("--placement", is_placed)])
    }

    fn participants(&self) -> Participants<'static> {
        let service = || self.service.as_deref().unwrap_or(SERVICE).to_owned();
        let responders = match self.service {
            Some(_) => 0,
            None => self.responders,
        };
        let requester = |_| {
            let service = service();
            (Role::Requester { service }, 1)
        };
        let responder = |_| {
            let service = service();
            Role::Responder { service }
        };
        Participants {
            senders: (0..self.requesters).map(requester).collect(),
            receivers: (0..responders).map(responder).collect(),
            bystanders: Vec::new(),
            payload: payload(self.payload_bytes as usize),
            is_confirmed: false,
            placement: self.placement,
            slow_readers: None,
        }
    }
}
