//! What a client reports about its connection.

use std::fmt;

/// The state of a client's connection, and how often it was established.
///
/// A watcher may miss states that pass quickly, but not the counts: a risen `lapses` means that
/// messages may have been missed, however short the interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    pub phase: Phase,
    /// Connections established, including the first.
    pub connections: u64,
    /// How many of them did not resume the previous one: without a session, or with one that the
    /// server no longer knew. Messages published in the meantime were not delivered.
    pub lapses: u64,
}

/// The phase of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// It is established.
    Open,
    /// The server is shutting down, and the client will reconnect: it receives nothing new, and
    /// still sends what it has to. A client that does not reconnect stays `Open` until the
    /// server ends the connection.
    Draining,
    /// There is no connection, and the client is trying to establish one.
    Lost,
    /// There is no connection, and there will be none.
    Ended,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Open => "open",
            Phase::Draining => "draining",
            Phase::Lost => "lost",
            Phase::Ended => "ended",
        })
    }
}
