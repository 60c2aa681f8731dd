//! What is asked of a shard about its connections, and what it has seen of them, as values.

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::top::Top;
use crate::broker::context::mailbox::ReplyTo;
use crate::metrics::topics::Tally;
use std::net::SocketAddr;
use std::time::Duration;

/// What is asked, and who is told.
pub enum Listing {
    Connections(Box<Query>, ReplyTo<Seen>),
    Topics(ReplyTo<Box<Tally>>),
}

/// What connections are put in order by.
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
    /// The greatest first; equal ones by their keys, the highest first.
    pub descending: bool,
    /// So many of the foremost; more than `LISTED_CONNECTIONS_MAX` are not told.
    pub most: usize,
    pub principal: Option<Box<str>>,
    pub client_id: Option<Box<str>>,
}

impl Query {
    /// Puts rows in the order asked for, those of several shards too.
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

/// What a shard has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Connections that match.
    pub total: u64,
    /// Sessions that wait for their clients.
    pub sessions_waiting: u64,
    /// The foremost, in no order.
    pub rows: Vec<Row>,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Row {
    pub shard: ShardId,
    pub key: Key,
    /// Where it comes from, unless it has been reset.
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
    /// How long the oldest of that has waited, at least.
    pub oldest_queued: Duration,
    /// Of the last PING; a connection that is never silent is sent none.
    pub round_trip: Option<Duration>,
    pub session: bool,
    pub state: State,
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not yet established, TLS included.
    Handshake,
    /// Established, and AUTH has not been accepted yet.
    Authenticating,
    Open,
    /// Publications wait for it, or it waits to be read from because its answers do.
    Slow,
    /// On its way to the session it resumes.
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

/// A connection's place in an order, and the connection.
pub(super) type Rank = (u64, u32, u32);

/// A listing of connections in progress.
pub(super) struct Walk {
    pub(super) query: Box<Query>,
    pub(super) tell: ReplyTo<Seen>,
    /// The next slot to look at, and the first not to.
    pub(super) slot: u32,
    pub(super) end: u32,
    pub(super) top: Top<Rank>,
    /// The foremost, once all slots were looked at.
    pub(super) picked: Option<Vec<Key>>,
    pub(super) seen: Seen,
}

/// The greater, the earlier it opened. Ages would not do: the shards look at their connections
/// at moments of their own, so a page and the next could each have the same connection.
pub(super) fn seniority(opened: Instant) -> u64 {
    !opened.as_nanos()
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
