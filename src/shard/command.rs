//! What other threads say to a shard: a bounded mailbox and the means to wake its owner.
//!
//! Rare things only: results of worker threads, descriptors handed over, the control plane.
//! Messages between connections of different shards do not travel here.

use super::mesh::Mesh;
use super::resume::Moved;
use super::service::Outcome;
use crate::auth::Denied;
use crate::auth::ask::Issuance;
use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::metrics::histogram::Histograms;
use crate::ring::driver::{Socket, Waker};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Commands that may wait in one mailbox.
const COMMANDS_MAX: usize = 8192;

pub enum Command {
    /// Take over a connection that another shard accepted, already counted in the census.
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
    /// The issuer has decided on an AUTH.
    Issue(Box<Issued>),
    /// End all whose credential is revoked by now, and say so.
    EndRevoked(Sender<ShardId>),
    /// Take over a connection of another shard that resumes a session of this one.
    Move(Box<Moved>),
}

/// What the issuer has decided on an [`Ask`](crate::auth::ask::Ask).
pub struct Issued {
    pub connection: Key,
    /// The ask's.
    pub number: u64,
    pub outcome: Result<Issuance, Denied>,
}

/// Posts commands to one shard. Cheap to clone.
#[derive(Clone)]
pub struct Mailbox {
    sender: Sender<Command>,
    waker: Waker,
}

/// A shard's own end of its mailbox.
pub struct Inbox(Receiver<Command>);

/// A mailbox for the shard that `waker` wakes.
pub fn mailbox(waker: Waker) -> (Mailbox, Inbox) {
    let (sender, receiver) = bounded(COMMANDS_MAX);
    (Mailbox { sender, waker }, Inbox(receiver))
}

impl Mailbox {
    /// Posts a command unless the mailbox is full or its shard has ended: then the command
    /// comes back.
    pub fn post(&self, command: Command) -> Result<(), Command> {
        match self.sender.try_send(command) {
            Ok(()) => {
                self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => Err(command),
        }
    }

    /// What wakes its shard.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Posts a command, waiting for room: not from a shard. A shard that has ended needs no
    /// commands.
    pub(super) fn post_waiting(&self, command: Command) {
        if self.sender.send(command).is_ok() {
            self.waker.wake();
        }
    }
}

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn pop(&self) -> Option<Command> {
        self.0.try_recv().ok()
    }
}
