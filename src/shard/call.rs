//! Calls that are answered later: their slots, deadlines and the ways answers come back.
//!
//! ```text
//!   REQUEST ──► service ──open──► slot ──┬─ future on this shard ─► finished list ─┐
//!                                        └─ worker thread ─► mailbox, wake ────────┤
//!   RESPONSE ◄── connection (if it still stands) ◄── take ◄────────────────────────┘
//! ```
//!
//! A call whose deadline passes is answered REQUEST_TIMEOUT at once, but keeps its slot
//! until its service is done with it: slots bound the work that is going on, not the
//! patience of requesters. A call that another connection answers ends at its deadline.
//!
//! Invariant: each slot ends exactly once, by `take`; a [`Deferred`] dropped unfinished
//! finishes itself with INTERNAL.

use super::command::{Command, Mailbox};
use super::service::{Failure, Outcome};
use super::trace::CallSpan;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::slab::Slab;
use crate::base::wheel::Wheel;
use crate::proto::envelope::Codec;
use crate::proto::error::Code;
use crossbeam_channel::Sender;
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;

/// Work for a worker thread.
pub type Job = Box<dyn FnOnce() + Send>;
/// A service's future, for the shard's executor.
pub type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

type Finished = Rc<RefCell<Vec<(Key, Outcome)>>>;

/// The request a call answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) connection: Key,
    pub(super) id: u32,
    pub(super) codec: Codec,
}

/// Where a call is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Shard,
    Worker,
    /// Another connection answers it (see `forward`), of this shard or another.
    Connection,
}

pub(super) struct Call {
    pub(super) asked: Asked,
    pub(super) began: Instant,
    /// Its requester has been told REQUEST_TIMEOUT.
    pub(super) timed_out: bool,
    /// Its span, if its request is sampled and it has not timed out.
    pub(super) span: Option<Box<CallSpan>>,
    place: Place,
}

/// The open calls of one shard.
pub(super) struct Calls {
    open: Slab<Call>,
    timers: Wheel,
    finished: Finished,
    spawned: Vec<LocalFuture>,
    /// Open calls that need this shard's executor to run.
    on_shard: u32,
    jobs: Sender<Job>,
    mailbox: Mailbox,
}

impl Calls {
    pub(super) fn new(open_max: u32, jobs: Sender<Job>, mailbox: Mailbox, now: Instant) -> Calls {
        Calls {
            open: Slab::new(open_max),
            timers: Wheel::new(now),
            finished: Finished::default(),
            spawned: Vec::new(),
            on_shard: 0,
            jobs,
            mailbox,
        }
    }

    /// Opens a call; `None` when too many are open.
    pub(super) fn open(
        &mut self,
        asked: Asked,
        place: Place,
        now: Instant,
        deadline: Instant,
    ) -> Option<Key> {
        let key = self.open.insert(Call {
            asked,
            began: now,
            timed_out: false,
            span: None,
            place,
        })?;
        self.timers.arm(key.slot, deadline);
        self.on_shard += u32::from(place == Place::Shard);
        Some(key)
    }

    /// Keeps the span of an open call.
    pub(super) fn trace(&mut self, call: Key, span: Box<CallSpan>) {
        if let Some(call) = self.open.get_mut(call) {
            call.span = Some(span);
        }
    }

    pub(super) fn deferred(&self, call: Key) -> Deferred {
        Deferred {
            call,
            finished: Some(self.finished.clone()),
        }
    }

    pub(super) fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.spawned.push(Box::pin(future));
    }

    pub(super) fn offload(&self, call: Key, work: impl FnOnce() -> Outcome + Send + 'static) {
        let mailbox = self.mailbox.clone();
        let job = move || {
            let outcome = catch_unwind(AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(Failure::of(Code::Internal, "the service panicked")));
            mailbox.post_waiting(Command::Finish(call, outcome));
        };
        if self.jobs.send(Box::new(job)).is_err() {
            // The workers are gone: the server is ending, and so is this call.
            let failure = Failure::of(Code::Shutdown, "the server is ending");
            self.finished.borrow_mut().push((call, Err(failure)));
        }
    }

    /// Has a worker do something that is no call, and tell this shard what came of it. It must
    /// not panic.
    pub(super) fn work(&self, work: impl FnOnce() -> Command + Send + 'static) {
        let mailbox = self.mailbox.clone();
        // Workers outlive their shards: somebody takes it.
        let _ = self
            .jobs
            .send(Box::new(move || mailbox.post_waiting(work())));
    }

    /// The futures to be given to the executor.
    pub(super) fn take_spawned(&mut self) -> Vec<LocalFuture> {
        std::mem::take(&mut self.spawned)
    }

    /// Open calls that the executor must get a chance to work on.
    pub(super) fn on_shard(&self) -> u32 {
        self.on_shard
    }

    pub(super) fn is_idle(&self) -> bool {
        self.finished.borrow().is_empty() && self.spawned.is_empty()
    }

    /// A call that has been finished on this shard.
    pub(super) fn pop_finished(&mut self) -> Option<(Key, Outcome)> {
        self.finished.borrow_mut().pop()
    }

    /// Ends a call: what it was, unless it has ended already.
    pub(super) fn take(&mut self, key: Key) -> Option<Call> {
        let call = self.open.remove(key)?;
        self.timers.cancel(key.slot);
        self.on_shard -= u32::from(call.place == Place::Shard);
        Some(call)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_due()
    }

    /// A request whose deadline has passed, and its span; each is told once.
    pub(super) fn pop_overdue(&mut self, now: Instant) -> Option<(Asked, Option<Box<CallSpan>>)> {
        self.timers.advance(now);
        while let Some(slot) = self.timers.pop_due() {
            let key = self.open.key_of(slot);
            let Some(key) = key else { continue };
            let Some(call) = self.open.get_mut(key) else {
                continue;
            };
            call.timed_out = true;
            let overdue = (call.asked, call.span.take());
            if call.place == Place::Connection {
                self.open.remove(key);
            }
            return Some(overdue);
        }
        None
    }

    pub(super) fn len(&self) -> u32 {
        self.open.len()
    }
}

/// A call to be finished by whoever holds this, on its shard.
pub struct Deferred {
    call: Key,
    finished: Option<Finished>,
}

impl Deferred {
    /// Answers the request. An answer past the request's deadline is dropped and counted.
    pub fn finish(mut self, outcome: Outcome) {
        self.put(outcome);
    }

    fn put(&mut self, outcome: Outcome) {
        if let Some(finished) = self.finished.take() {
            finished.borrow_mut().push((self.call, outcome));
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        self.put(Err(Failure::of(
            Code::Internal,
            "the service did not answer",
        )));
    }
}
