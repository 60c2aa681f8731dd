//! Calls: requests that are answered later. Their slots, deadlines, and the ways answers come back.
//!
//! ```text
//!   REQUEST ──► service ──open──► slot ──┬─ future on this shard ─► finished list ─┐
//!                                        └─ worker thread ─► mailbox, wake ────────┤
//!   RESPONSE ◄── connection (if it still exists) ◄── take ◄────────────────────────┘
//! ```
//!
//! A call whose deadline passes is answered REQUEST_TIMEOUT at once, but keeps its slot until its
//! service is done with it: slots bound the work in progress, not the patience of requesters. A
//! call that another connection answers ends at its deadline. Likewise when the requester's
//! connection ends: calls to other connections end with it; calls that a service of this process
//! works on keep their slots.
//!
//! Slots are shared so that no few connections can take them all: a connection may hold
//! `CALLS_PER_PLACE_LEFT` for each free one. One alone holds at most two thirds of them, four
//! together eight ninths, and a connection that holds none gets one as long as there is one. To
//! count them, each connection's calls form a list, linked through the slots.
//!
//! Invariants: each slot ends exactly once, by `take`; a [`Deferred`] dropped unfinished finishes
//! with INTERNAL; a call is in its connection's list until either ends.

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::limits::CALLS_PER_PLACE_LEFT;
use crate::base::page::Paged;
use crate::base::slab::Slab;
use crate::base::wheel::Wheel;
use crate::broker::context::mailbox::Slot;
use crate::broker::context::trace::CallSpan;
use crate::proto::envelope::Codec;
use crate::proto::error::Code;
use crate::proto::outcome::{Failure, Outcome};
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

/// The request that a call answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) connection: Key,
    pub(crate) id: u32,
    pub(crate) codec: Codec,
}

/// Where a call is processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Place {
    Shard,
    Worker,
    /// A connection on that shard answers it (see `forward`).
    Connection(ShardId),
}

/// The end of a list of slots: no slab has this index.
const NONE: u32 = u32::MAX;

/// Links in the list of a connection's calls.
#[derive(Clone, Copy)]
struct Links {
    prev: u32,
    next: u32,
}

/// The calls of the connection in a slot.
#[derive(Clone, Copy)]
struct Owner {
    /// The connection's generation: a later connection in the slot owns none of these calls.
    generation: u32,
    /// Its most recent call.
    head: u32,
    held: u32,
}

pub(crate) struct Call {
    pub(crate) asked: Asked,
    pub(crate) began: Instant,
    /// Someone waits for its answer: the requester has neither received REQUEST_TIMEOUT nor ended.
    pub(crate) awaited: bool,
    /// Its span, if its request is sampled and its answer is awaited.
    pub(crate) span: Option<Box<CallSpan>>,
    place: Place,
    /// `None`: its connection has ended.
    links: Option<Links>,
}

/// A call that ended with its connection.
pub(in crate::broker) struct Ended {
    pub(in crate::broker) call: Key,
    pub(in crate::broker) place: Place,
    pub(in crate::broker) span: Option<Box<CallSpan>>,
}

/// The open calls of one shard.
pub(crate) struct Calls {
    open: Slab<Call>,
    open_max: u32,
    /// By connection slot, up to the highest that has made a call.
    owners: Paged<Owner>,
    timers: Wheel,
    finished: Finished,
    spawned: Vec<LocalFuture>,
    /// Open calls that need this shard's executor.
    on_shard: u32,
    jobs: Sender<Job>,
    /// Where workers post the results.
    outcomes: Slot<(Key, Outcome)>,
}

impl Calls {
    pub(crate) fn new(
        open_max: u32,
        jobs: Sender<Job>,
        outcomes: Slot<(Key, Outcome)>,
        now: Instant,
    ) -> Calls {
        Calls {
            open: Slab::new(open_max),
            open_max,
            owners: Paged::new(),
            timers: Wheel::new(now),
            finished: Finished::default(),
            spawned: Vec::new(),
            on_shard: 0,
            jobs,
            outcomes,
        }
    }

    /// Opens a call.
    ///
    /// # Errors
    /// OVERLOADED: too many calls are open. TOO_MANY_REQUESTS: its connection holds its share.
    pub(in crate::broker) fn open(
        &mut self,
        asked: Asked,
        place: Place,
        now: Instant,
        deadline: Instant,
    ) -> Result<Key, Failure> {
        let left = self.open_max - self.open.len();
        let owner = *self.owner_mut(asked.connection);
        if left > 0 && owner.held >= left.saturating_mul(CALLS_PER_PLACE_LEFT) {
            let text = "few requests may still be opened on this shard, and this connection holds \
                        its share of them: wait for answers";
            return Err(Failure::of(Code::TooManyRequests, text));
        }
        let links = Links {
            prev: NONE,
            next: owner.head,
        };
        let call = Call {
            asked,
            began: now,
            awaited: true,
            span: None,
            place,
            links: Some(links),
        };
        let Some(key) = self.open.insert(call) else {
            let text = "too many requests are open on this shard; try again later";
            return Err(Failure::of(Code::Overloaded, text));
        };
        if let Some(Links { prev, .. }) = self.links_mut(owner.head) {
            *prev = key.slot;
        }
        let owner = self.owner_mut(asked.connection);
        (owner.head, owner.held) = (key.slot, owner.held + 1);
        self.timers.arm(key.slot, deadline);
        self.on_shard += u32::from(place == Place::Shard);
        Ok(key)
    }

    /// The calls of an existing connection; an empty list if it has made none.
    fn owner_mut(&mut self, connection: Key) -> &mut Owner {
        const NOBODY: Owner = Owner {
            generation: 0,
            head: NONE,
            held: 0,
        };
        while self.owners.len() <= u64::from(connection.slot) {
            self.owners.add_page(|_| NOBODY);
        }
        let owner = &mut self.owners[connection.slot];
        if owner.generation != connection.generation {
            *owner = Owner {
                generation: connection.generation,
                ..NOBODY
            };
        }
        owner
    }

    fn links_mut(&mut self, slot: u32) -> Option<&mut Links> {
        let key = self.open.key_of(slot)?;
        self.open.get_mut(key)?.links.as_mut()
    }

    /// Takes a call out of its connection's list.
    fn unlink(&mut self, links: Links, connection: Key) {
        let Links { prev, next } = links;
        if let Some(after) = self.links_mut(next) {
            after.prev = prev;
        }
        let first = match self.links_mut(prev) {
            Some(before) => {
                before.next = next;
                false
            }
            None => true,
        };
        let owner = self.owners.get_mut(connection.slot);
        if let Some(owner) = owner.filter(|one| one.generation == connection.generation) {
            owner.held -= 1;
            if first {
                owner.head = next;
            }
        }
    }

    /// Ends the next call of a connection that has ended. One that a service of this shard works on
    /// keeps its slot until the service is done, but no one waits for it.
    pub(in crate::broker) fn end_next(&mut self, connection: Key) -> Option<Ended> {
        let owner = self.owners.get(connection.slot)?;
        if owner.generation != connection.generation {
            return None;
        }
        let call = self.open.key_of(owner.head)?;
        self.timers.cancel(call.slot);
        let ended = self.open.get_mut(call)?;
        ended.awaited = false;
        let (place, span) = (ended.place, ended.span.take());
        if let Some(links) = ended.links.take() {
            self.unlink(links, connection);
        }
        if matches!(place, Place::Connection(_)) {
            self.open.remove(call);
        }
        Some(Ended { call, place, span })
    }

    /// Keeps the span of an open call.
    pub(in crate::broker) fn trace(&mut self, call: Key, span: Box<CallSpan>) {
        if let Some(call) = self.open.get_mut(call) {
            call.span = Some(span);
        }
    }

    /// Whether a call is open: its connection exists, and its deadline has not passed.
    pub(in crate::broker) fn is_open(&self, call: Key) -> bool {
        self.open.contains(call)
    }

    /// It is known by now which shard answers an open call.
    pub(in crate::broker) fn assign(&mut self, call: Key, shard: ShardId) {
        if let Some(call) = self.open.get_mut(call) {
            debug_assert!(matches!(call.place, Place::Connection(_)));
            call.place = Place::Connection(shard);
        }
    }

    pub(in crate::broker) fn deferred(&self, call: Key) -> Deferred {
        Deferred {
            call,
            finished: Some(self.finished.clone()),
        }
    }

    pub(in crate::broker) fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.spawned.push(Box::pin(future));
    }

    pub(in crate::broker) fn offload(
        &self,
        call: Key,
        work: impl FnOnce() -> Outcome + Send + 'static,
    ) {
        let outcomes = self.outcomes.clone();
        let job = move || {
            let outcome = catch_unwind(AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(Failure::of(Code::Internal, "the service panicked")));
            outcomes.post((call, outcome));
        };
        if self.jobs.send(Box::new(job)).is_err() {
            // The workers have ended: the server is shutting down, and the call fails.
            let failure = Failure::of(Code::Shutdown, "the server is shutting down");
            self.finished.borrow_mut().push((call, Err(failure)));
        }
    }

    /// Runs something on a worker that is not a call and reports its result by itself. It must not
    /// panic.
    pub(in crate::broker) fn work(&self, work: impl FnOnce() + Send + 'static) {
        // Workers outlive their shards, so the send succeeds.
        let _ = self.jobs.send(Box::new(work));
    }

    /// Takes the futures to be given to the executor.
    pub(crate) fn take_spawned(&mut self) -> Vec<LocalFuture> {
        std::mem::take(&mut self.spawned)
    }

    /// Open calls that the executor must get time to work on.
    pub(crate) fn on_shard(&self) -> u32 {
        self.on_shard
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.finished.borrow().is_empty() && self.spawned.is_empty()
    }

    /// The next call finished on this shard.
    pub(crate) fn pop_finished(&mut self) -> Option<(Key, Outcome)> {
        self.finished.borrow_mut().pop()
    }

    /// Ends a call and returns it, unless it has ended already.
    pub(crate) fn take(&mut self, key: Key) -> Option<Call> {
        let call = self.open.remove(key)?;
        self.timers.cancel(key.slot);
        self.on_shard -= u32::from(call.place == Place::Shard);
        if let Some(links) = call.links {
            self.unlink(links, call.asked.connection);
        }
        Some(call)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_due()
    }

    /// A request whose deadline has passed, and its span; each is returned once.
    pub(crate) fn pop_overdue(&mut self, now: Instant) -> Option<(Asked, Option<Box<CallSpan>>)> {
        self.timers.advance(now);
        while let Some(slot) = self.timers.pop_due() {
            let key = self.open.key_of(slot);
            let Some(key) = key else { continue };
            let Some(call) = self.open.get_mut(key) else {
                continue;
            };
            call.awaited = false;
            let overdue = (call.asked, call.span.take());
            if matches!(call.place, Place::Connection(_)) {
                self.take(key);
            }
            return Some(overdue);
        }
        None
    }

    pub(crate) fn len(&self) -> u32 {
        self.open.len()
    }
}

/// An open call; whoever holds this finishes it, on its shard.
pub struct Deferred {
    call: Key,
    finished: Option<Finished>,
}

impl Deferred {
    /// Answers the request. An answer after the request's deadline is dropped and counted.
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
