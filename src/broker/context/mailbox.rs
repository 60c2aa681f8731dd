//! A bounded mailbox of a shard's, and the means to wake its owner: for whatever is posted
//! there. What that is stands in `command`.

use crate::base::wake::Waker;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Arc;

/// Commands that may wait in one mailbox.
const COMMANDS_MAX: usize = 8192;

/// Tells whoever waits for it that a command has been carried out. Dropped unsaid when the
/// shard has ended: then there is nobody it could be about.
pub struct Completion(Box<dyn FnOnce() + Send>);

impl Completion {
    pub fn new(tell: impl FnOnce() + Send + 'static) -> Completion {
        Completion(Box::new(tell))
    }

    /// Where nobody waits.
    pub fn nobody() -> Completion {
        Completion::new(|| ())
    }

    pub(crate) fn tell(self) {
        (self.0)();
    }
}

/// Takes a shard's answer to whoever asked. Dropped unsaid when the shard has ended.
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

/// A command that came back, and why.
pub(crate) enum Unposted<T> {
    /// There is room later.
    Full(T),
    /// The shard has ended.
    Ended(T),
}

/// A shard's own end of its mailbox.
pub struct Inbox<T>(Receiver<T>);

/// A mailbox for the shard that `waker` wakes.
pub fn mailbox<T>(waker: Waker) -> (Mailbox<T>, Inbox<T>) {
    let (sender, receiver) = bounded(COMMANDS_MAX);
    (Mailbox { sender, waker }, Inbox(receiver))
}

impl<T> Mailbox<T> {
    /// Posts a command unless the mailbox is full or its shard has ended: then the command
    /// comes back.
    pub fn post(&self, command: T) -> Result<(), T> {
        self.try_post(command).map_err(|unposted| match unposted {
            Unposted::Full(command) | Unposted::Ended(command) => command,
        })
    }

    /// The same, for who might try again.
    pub(crate) fn try_post(&self, command: T) -> Result<(), Unposted<T>> {
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
    pub fn post_waiting(&self, command: T) {
        if self.sender.send(command).is_ok() {
            self.waker.wake();
        }
    }
}

impl<T: Send + 'static> Mailbox<T> {
    /// The way for one kind of thing, whatever else the mailbox takes: who posts it need not
    /// know that.
    pub(crate) fn slot<U: 'static>(&self, wrap: fn(U) -> T) -> Slot<U> {
        let mailbox = self.clone();
        Slot(Arc::new(move |thing| mailbox.post_waiting(wrap(thing))))
    }
}

/// Posts one kind of thing to a shard, waiting for room: not from a shard. Cheap to clone.
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
