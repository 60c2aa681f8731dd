//! Queries about a shard's connections, and their results, as values.

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::top::Top;
use crate::broker::context::mailbox::ReplyTo;
use crate::metrics::topics::Tally;
use std::net::SocketAddr;
use std::time::Duration;

/// A query, and where to send the result.
pub enum Listing {
    Connections(Box<Query>, ReplyTo<Seen>),
    Topics(ReplyTo<Box<Tally>>),
}

/// The sort order of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Queued,
    Age,
    In,
    Out,
    Oldest,
    RoundTrip,
    Id,
}

/// Which connections are wanted.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub sort: Sort,
    /// Largest first; ties by key, highest first.
    pub descending: bool,
    /// How many to return, at most; never more than `LISTED_CONNECTIONS_MAX`.
    pub most: usize,
    pub principal: Option<Box<str>>,
    pub client_id: Option<Box<str>>,
}

impl Query {
    /// Sorts rows as asked for, also those merged from several shards.
    pub fn sort(&self, rows: &mut [Row]) {
        let value = |row: &Row| match self.sort {
            Sort::Queued => row.queued_bytes,
            Sort::Age => seniority(row.opened),
            Sort::In => row.bytes_in,
            Sort::Out => row.bytes_out,
            Sort::Oldest => nanos(row.oldest_queued),
            Sort::RoundTrip => row.round_trip.map_or(0, nanos),
            Sort::Id => 0,
        };
        rows.sort_unstable_by(|a, b| {
            let order = (value(a), a.shard, a.key).cmp(&(value(b), b.shard, b.key));
            match self.descending {
                true => order.reverse(),
                false => order,
            }
        });
    }
}

/// The result of a shard.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Connections that match.
    pub total: u64,
    /// Sessions waiting for their clients.
    pub sessions_waiting: u64,
    /// The first `most` connections, unsorted.
    pub rows: Vec<Row>,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Row {
    pub shard: ShardId,
    pub key: Key,
    /// Its address, unless the peer has reset it.
    pub address: Option<SocketAddr>,
    pub principal: Option<Box<str>>,
    pub client_id: Option<Box<str>>,
    pub opened: Instant,
    pub age: Duration,
    pub messages_in: u64,
    pub bytes_in: u64,
    pub messages_out: u64,
    pub bytes_out: u64,
    pub queued_bytes: u64,
    /// How long the oldest of them has waited, at least.
    pub oldest_queued: Duration,
    /// Round-trip time of the last PING; a connection that is never silent is sent none.
    pub round_trip: Option<Duration>,
    pub session: bool,
    pub state: State,
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not yet established, including TLS.
    Handshake,
    /// Established, but AUTH has not been accepted yet.
    Authenticating,
    Open,
    /// Publications wait for it, or it is not read from because its answers wait.
    Slow,
    /// Moving to the session it resumes.
    Resuming,
    Closing,
}

impl State {
    pub const fn label(self) -> &'static str {
        match self {
            State::Handshake => "handshake",
            State::Authenticating => "authenticating",
            State::Open => "open",
            State::Slow => "slow",
            State::Resuming => "resuming",
            State::Closing => "closing",
        }
    }
}

/// A connection's rank in an order, and its key.
pub(super) type Rank = (u64, u32, u32);

/// A connection listing in progress.
pub(super) struct Walk {
    pub(super) query: Box<Query>,
    pub(super) tell: ReplyTo<Seen>,
    /// The next slot to look at, and the end of the range.
    pub(super) slot: u32,
    pub(super) end: u32,
    pub(super) top: Top<Rank>,
    /// The best, once all slots have been looked at.
    pub(super) picked: Option<Vec<Key>>,
    pub(super) seen: Seen,
}

/// The greater, the earlier the connection opened. Ages would not do: the shards look at their
/// connections at different times, so two pages could both contain the same connection.
pub(super) fn seniority(opened: Instant) -> u64 {
    !opened.as_nanos()
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
