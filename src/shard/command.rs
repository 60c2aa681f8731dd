//! What other threads say to a shard: a bounded mailbox and the means to wake its owner.
//!
//! Rare things only: results of worker threads, descriptors handed over, the control plane.
//! Messages between connections of different shards do not travel here.

use super::check::Finding;
use super::mesh::Mesh;
use super::resume::{Moved, Seek};
use super::survey::Survey;
use crate::auth::{Authority, ask};
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::metrics::histogram::Histograms;
use crate::proto::outcome::Outcome;
use crate::ring::driver::{Socket, Waker};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Arc;

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
    /// Tell whether this shard has a session that a connection of another wants to resume.
    Seek(Box<Seek>),
    /// Whether the session is known that this connection wants to resume.
    Sought(Key, bool),
    /// Take over a connection of another shard that resumes a session of this one.
    Move(Box<Moved>),
    /// Check credentials by this from now on, and end who would be let in no more.
    Authority(Arc<Authority>, Told),
    /// The control thread's answer to an ask of this connection's, which had this number.
    Authenticated(Key, u64, Box<ask::Answer>),
    /// A worker has checked a payload.
    Checked(Box<Finding>),
    /// Tell of the connections, or of the topics.
    Survey(Survey),
    /// End this connection for an operator; told whether there was one to end.
    Kick(Key, Tell<bool>),
}

/// Tells whoever waits for it that a command has been carried out. Dropped unsaid when the
/// shard has ended: then there is nobody it could be about.
pub struct Told(Box<dyn FnOnce() + Send>);

impl Told {
    pub fn new(tell: impl FnOnce() + Send + 'static) -> Told {
        Told(Box::new(tell))
    }

    /// Where nobody waits.
    pub fn nobody() -> Told {
        Told::new(|| ())
    }

    pub(super) fn tell(self) {
        (self.0)();
    }
}

/// Takes a shard's answer to whoever asked. Dropped unsaid when the shard has ended.
pub struct Tell<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Tell<T> {
    pub fn new(tell: impl FnOnce(T) + Send + 'static) -> Tell<T> {
        Tell(Box::new(tell))
    }

    pub(super) fn tell(self, answer: T) {
        (self.0)(answer);
    }
}

/// Posts commands to one shard. Cheap to clone.
#[derive(Clone)]
pub struct Mailbox {
    sender: Sender<Command>,
    waker: Waker,
}

/// A command that came back, and why.
pub(super) enum Unposted {
    /// There is room later.
    Full(Command),
    /// The shard has ended.
    Ended(Command),
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
        self.try_post(command).map_err(|unposted| match unposted {
            Unposted::Full(command) | Unposted::Ended(command) => command,
        })
    }

    /// The same, for who might try again.
    pub(super) fn try_post(&self, command: Command) -> Result<(), Unposted> {
        let sent = self.sender.try_send(command);
        sent.map_err(|error| match error {
            TrySendError::Full(command) => Unposted::Full(command),
            TrySendError::Disconnected(command) => Unposted::Ended(command),
        })?;
        self.waker.wake();
        Ok(())
    }

    /// What wakes its shard.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Posts a command, waiting for room: not from a shard. A shard that has ended needs no
    /// commands: what it does not get is dropped.
    pub fn post_waiting(&self, command: Command) {
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
