//! A bounded mailbox of a shard, and the means to wake the shard when something is posted. What is
//! posted is defined in `command`.

use crate::base::wake::Waker;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Arc;

/// Capacity of one mailbox, in commands.
const COMMANDS_MAX: usize = 8192;

/// Tells the waiter that a command has been carried out. Dropped without a call if the shard has
/// ended: there is then nothing left to tell about.
pub struct Completion(Box<dyn FnOnce() + Send>);

impl Completion {
    pub fn new(tell: impl FnOnce() + Send + 'static) -> Completion {
        Completion(Box::new(tell))
    }

    /// For commands that no one waits for.
    pub fn nobody() -> Completion {
        Completion::new(|| ())
    }

    pub(crate) fn tell(self) {
        (self.0)();
    }
}

/// Passes a shard's answer to the asker. Dropped without a call if the shard has ended.
pub struct ReplyTo<T>(Box<dyn FnOnce(T) + Send>);

impl<T> ReplyTo<T> {
    pub fn new(tell: impl FnOnce(T) + Send + 'static) -> ReplyTo<T> {
        ReplyTo(Box::new(tell))
    }

    pub(crate) fn tell(self, answer: T) {
        (self.0)(answer);
    }
}

/// Posts commands to one shard. Cheap to clone.
pub struct Mailbox<T> {
    sender: Sender<T>,
    waker: Waker,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Mailbox<T> {
        Mailbox {
            sender: self.sender.clone(),
            waker: self.waker.clone(),
        }
    }
}

/// A command that could not be posted, and why.
pub(crate) enum Unposted<T> {
    /// The mailbox is full; there will be room later.
    Full(T),
    /// The shard has ended.
    Ended(T),
}

/// The shard's own end of its mailbox.
pub struct Inbox<T>(Receiver<T>);

/// A mailbox for the shard that `waker` wakes.
pub fn mailbox<T>(waker: Waker) -> (Mailbox<T>, Inbox<T>) {
    let (sender, receiver) = bounded(COMMANDS_MAX);
    (Mailbox { sender, waker }, Inbox(receiver))
}

impl<T> Mailbox<T> {
    /// Posts a command. If the mailbox is full or its shard has ended, the command is returned.
    pub fn post(&self, command: T) -> Result<(), T> {
        self.try_post(command).map_err(|unposted| match unposted {
            Unposted::Full(command) | Unposted::Ended(command) => command,
        })
    }

    /// The same, with the reason, for callers that may try again.
    pub(crate) fn try_post(&self, command: T) -> Result<(), Unposted<T>> {
        let sent = self.sender.try_send(command);
        sent.map_err(|error| match error {
            TrySendError::Full(command) => Unposted::Full(command),
            TrySendError::Disconnected(command) => Unposted::Ended(command),
        })?;
        self.waker.wake();
        Ok(())
    }

    /// The waker of its shard.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Posts a command, waiting for room: must not be called on a shard. If the shard has ended,
    /// the command is dropped: an ended shard needs none.
    pub fn post_waiting(&self, command: T) {
        if self.sender.send(command).is_ok() {
            self.waker.wake();
        }
    }
}

impl<T: Send + 'static> Mailbox<T> {
    /// A poster for one kind of content, wrapped into a command: its holder need not know what else
    /// the mailbox takes.
    pub(crate) fn slot<U: 'static>(&self, wrap: fn(U) -> T) -> Slot<U> {
        let mailbox = self.clone();
        Slot(Arc::new(move |thing| mailbox.post_waiting(wrap(thing))))
    }
}

/// Posts one kind of content to a shard, waiting for room: not from a shard. Cheap to clone.
pub(crate) struct Slot<U>(Arc<dyn Fn(U) + Send + Sync>);

impl<U> Clone for Slot<U> {
    fn clone(&self) -> Slot<U> {
        Slot(Arc::clone(&self.0))
    }
}

impl<U> Slot<U> {
    pub(in crate::broker) fn post(&self, thing: U) {
        (self.0)(thing);
    }
}

impl<T> Inbox<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.try_recv().ok()
    }
}
