//! What other threads say to a shard, by its `mailbox`.
//!
//! Rare things only: results of worker threads, descriptors handed over, the control plane.
//! Messages between connections of different shards do not travel here.

use crate::auth::{Authority, ask};
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::broker::context::mailbox::{self, Completion, ReplyTo};
use crate::broker::mesh::Mesh;
use crate::broker::peers::transport::Transport;
use crate::broker::publish::finding::Finding;
use crate::broker::session::seek::Seek;
use crate::metrics::histogram::Histograms;
use crate::proto::outcome::Outcome;
use crate::ring::driver::Socket;
use crate::shard::listing::Listing;
use crate::shard::stream::Stream;
use std::sync::Arc;

pub enum Command {
    /// Take over a connection that another shard accepted, already counted in the connection counts.
    Adopt(Socket),
    /// A worker thread is done with a call.
    Finish(Key, Outcome),
    /// Tell every client, answer what was taken, close, and end by then.
    Drain(Instant),
    /// Swap this empty set for the histograms recorded since the last swap.
    Collect(Box<Histograms>),
    /// The mailboxes of all shards, by their ids, and this one's links to them: from now on
    /// it accepts connections.
    Join(Vec<Mailbox>, Mesh),
    /// Tell whether this shard has a session that a connection of another wants to resume.
    Seek(Box<Seek>),
    /// Whether the session is known that this connection wants to resume.
    Sought(Key, bool),
    /// Take over a connection of another shard that resumes a session of this one.
    Move(Box<Moved>),
    /// Check credentials by this from now on, and end who would be let in no more.
    Authority(Arc<Authority>, Completion),
    /// The control thread's answer to an ask of this connection's, which had this number.
    Authenticated(Key, u64, Box<ask::Answer>),
    /// A worker has checked a payload.
    Checked(Box<Finding>),
    /// Tell of the connections, or of the topics.
    Listing(Listing),
    /// End this connection for an operator; told whether there was one to end.
    Kick(Key, ReplyTo<bool>),
}

/// A shard's mailbox, and its own end of that.
pub type Mailbox = mailbox::Mailbox<Command>;
pub type Inbox = mailbox::Inbox<Command>;

/// A transport on its way to another shard, with its stream.
pub struct Moved {
    pub(super) transport: Transport,
    pub(super) stream: Stream,
}
