//! What ends a run early: a fault of the server or the network, in words for the operator.
//!
//! A load generator tolerates no fault: with one failed request the figures would not be about the
//! requested load, so the first fault ends the run.

use crate::base::exit::Status;
use crate::cli::failure::Failure;
use crate::client;
use crate::proto::error::Code;
use std::io;
use std::time::Duration;

/// What went wrong on one connection.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("cannot connect: {0} (is the server running?)")]
    Connect(#[source] io::Error),
    #[error(
        "cannot connect: {0} (no local port is left for this address; widen net.ipv4.ip_local_port_range)"
    )]
    Ports(#[source] io::Error),
    #[error("not established within {0:?} (see --timeout)")]
    HandshakeTimeout(Duration),
    #[error("the server refused: {code}: {text}")]
    Refused { code: Code, text: String },
    #[error("the server closed the connection: {code} {text}")]
    Closed { code: Code, text: String },
    #[error("the server closed the connection without giving a reason")]
    Eof,
    #[error("the connection broke: {0}")]
    Broken(#[source] io::Error),
    #[error("a request failed: {code}: {text}")]
    Failed { code: Code, text: String },
    #[error("{0}")]
    Answer(&'static str),
    #[error("the server said: {0}")]
    Said(String),
    #[error(
        "the server requires authentication: give a credential that it accepts (--token, --api-key)"
    )]
    AuthRequired,
    #[error("a request of {bytes} bytes, but the server accepts at most {max}")]
    TooLarge { bytes: usize, max: u32 },
}

impl Fault {
    pub fn connect(error: io::Error) -> Fault {
        if error.kind() == io::ErrorKind::AddrNotAvailable {
            Fault::Ports(error)
        } else {
            Fault::Connect(error)
        }
    }
}

/// What ends a run.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    #[error("connection {index} of {count}: {fault}", index = .index + 1)]
    Connection {
        index: usize,
        count: usize,
        #[source]
        fault: Fault,
    },
    #[error("no answer for {silence:?} with {in_flight} requests open")]
    Silent { silence: Duration, in_flight: u64 },
    #[error("{in_flight} requests were still open {waited:?} after the last was sent")]
    Undrained { waited: Duration, in_flight: u64 },
    #[error("the server does not keep up with --rate: {bytes} bytes wait to be sent")]
    Backlog { bytes: usize },
    #[error("--placement {0}: the server has too few shards, or some of them get no connections")]
    Placement(&'static str),
    #[error("interrupted")]
    Interrupted,
    #[error("connecting took longer than {0:?}")]
    Ramp(Duration),
    #[error("the server's process cannot be read: {0}")]
    Process(#[source] io::Error),
    #[error("the slow readers' publisher: {0}")]
    Publisher(#[source] Fault),
    #[error("the server does not answer $sys/stats: {0}")]
    Stats(String),
    #[error("{0}")]
    Client(#[source] client::Error),
    #[error("epoll: {0}")]
    Poll(#[source] io::Error),
}

/// Whether there is no server; a pool has tried for a while before it says so.
fn is_absence(error: &client::Error) -> bool {
    match error {
        client::Error::Connect { .. } => true,
        client::Error::PoolTimeout { cause, .. } => cause.as_deref().is_some_and(is_absence),
        _ => false,
    }
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Failure {
        let status = match &halt {
            Halt::Connection {
                fault: Fault::Connect(_) | Fault::Ports(_) | Fault::HandshakeTimeout(_),
                ..
            }
            | Halt::Ramp(_) => Status::Unavailable,
            Halt::Client(error) if is_absence(error) => Status::Unavailable,
            Halt::Client(error) if error.is_permission() => Status::Permission,
            _ => Status::Runtime,
        };
        Failure::new(status, halt)
    }
}
