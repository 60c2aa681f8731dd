//! Commands from other threads to a shard, through its `mailbox`.
//!
//! Only infrequent ones: results of worker threads, handed-over descriptors, the control plane.
//! Messages between connections on different shards do not travel this way.

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
    /// Take over a connection that another shard accepted and has already counted for this one.
    Adopt(Socket),
    /// A worker thread has finished a call.
    Finish(Key, Outcome),
    /// Tell every client, answer accepted requests, close, and end by this time.
    Drain(Instant),
    /// Swap this empty set for the histograms recorded since the last swap.
    Collect(Box<Histograms>),
    /// The mailboxes of all shards, by id, and this shard's links to its neighbours: it accepts
    /// connections from now on.
    Join(Vec<Mailbox>, Mesh),
    /// Report whether this shard has the session that a connection of another shard wants to
    /// resume.
    Seek(Box<Seek>),
    /// The answer: whether the session that this connection wants to resume exists.
    Sought(Key, bool),
    /// Take over a connection of another shard that resumes a session of this one.
    Move(Box<Moved>),
    /// Check credentials against this authority from now on, and end connections it would not
    /// admit.
    Authority(Arc<Authority>, Completion),
    /// The control thread's answer to the request of this connection with this number.
    Authenticated(Key, u64, Box<ask::Answer>),
    /// A worker has checked a payload.
    Checked(Box<Finding>),
    /// List connections or topics.
    Listing(Listing),
    /// End this connection for an operator; the reply says whether there was one to end.
    Kick(Key, ReplyTo<bool>),
}

/// A shard's mailbox, and the receiving end of it.
pub type Mailbox = mailbox::Mailbox<Command>;
pub type Inbox = mailbox::Inbox<Command>;

/// A transport and its stream on their way to another shard.
pub struct Moved {
    pub(super) transport: Transport,
    pub(super) stream: Stream,
}
