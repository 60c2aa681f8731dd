//! What a client tells about its connection while it goes on.

use std::fmt;

/// How a client's connection is, and how often it was made.
///
/// A watcher may miss states that pass quickly; the counts it does not: `lapses` that rose
/// says that something may have been missed, however short it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    pub phase: Phase,
    /// Connections that came to stand, the first one counted.
    pub connections: u64,
    /// How many of them did not go on where the one before was: without a session, or with
    /// one that the server did not know any more. What was published in between did not
    /// come.
    pub lapses: u64,
}

/// Where a client stands with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// It stands.
    Open,
    /// The server goes down, and the client will connect again: it gets nothing new, and
    /// still says what it has to. A client that does not reconnect stays `Open` until the
    /// server ends the connection.
    Draining,
    /// There is none, and one is being made.
    Lost,
    /// There is none, and there will be none.
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
