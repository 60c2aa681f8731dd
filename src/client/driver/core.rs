//! State shared by the handles of a connection and its driver: the conversation, and the waiting
//! calls. Handles write into it and wait; the driver moves bytes, and delivers what has arrived.
//!
//! ```text
//!   Client, Subscription …                     Driver (one task)
//!      │  lock, ask, unlock, `work` ─────────────►│ lock, write out, unlock
//!      │                                          │ read, lock, receive, unlock
//!      │◄── answers (one channel each), `changed` ┘
//! ```
//!
//! The lock is held only while messages are encoded or processed, never while waiting; wakers
//! and callbacks are called without it.
//!
//! Invariant: an id is in `waiters` exactly while the call that asked waits.

use crate::base::clock::Instant;
use crate::base::sync::{Mutex, MutexGuard};
use crate::client::builder::Options;
use crate::client::clock;
use crate::client::conversation::Conversation;
use crate::client::error::Error;
use crate::client::request::Response;
use crate::client::status::{Phase, Status};
use crate::proto::envelope::Envelope;
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};

/// The number of unsent bytes above which anything not urgent waits.
const UNSENT_BYTES_MAX: usize = 256 << 10;

/// How long to wait for the server's CLOSE.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The error of a client whose task was dropped.
const ABANDONED: &str = "the tokio runtime that this client was connected in has shut down";

type Answer = Result<Response, Error>;

pub(in crate::client) struct Core {
    pub(in crate::client) conversation: Conversation,
    pub(in crate::client) peer: SocketAddr,
    waiters: HashMap<u32, oneshot::Sender<Answer>, FixedState>,
    /// How it ended if the conversation does not know: the stream broke.
    pub(super) failure: Option<Error>,
    /// When a caller last gave up waiting for an answer.
    doubted_at: Option<Instant>,
    /// Whether the driver has ended, whatever the conversation's state.
    is_abandoned: bool,
    /// Whether calls fail instead of waiting behind a full inbox, which is not emptied meanwhile.
    pub(in crate::client) is_alone: bool,
}

impl Core {
    pub(super) fn new(conversation: Conversation, peer: SocketAddr) -> Core {
        Core {
            conversation,
            peer,
            waiters: HashMap::default(),
            failure: None,
            doubted_at: None,
            is_abandoned: false,
            is_alone: false,
        }
    }

    /// Why the connection has ended, if there will be no other.
    pub(in crate::client) fn ending(&self) -> Option<Error> {
        let ending = self.conversation.ending();
        if ending.is_none() && !self.is_abandoned {
            return None;
        }
        // The server's reason is more useful than how the stream broke.
        let told = ending.filter(|error| error.code().is_some());
        told.or_else(|| self.failure.as_ref().map(Error::copy))
            .or_else(|| self.conversation.ending())
            .or_else(|| Some(Error::ended(ABANDONED)))
    }

    /// Whether operations may be sent, and there is room for them.
    pub(in crate::client) fn is_ready(&self) -> bool {
        // Without a driver nothing written would be sent.
        !self.is_abandoned
            && self.conversation.is_open()
            && self.conversation.unsent().len() < UNSENT_BYTES_MAX
    }

    /// Whether an operation other than PUBLISH may be sent.
    pub(in crate::client) fn admits_operation(&mut self) -> bool {
        self.is_ready() && self.conversation.admits_operation()
    }

    /// Publishes if there is room for that, as `Conversation::publish`.
    pub(in crate::client) fn publish_when_ready(
        &mut self,
        envelope: Envelope<'_>,
        confirm: bool,
        is_awaited: bool,
    ) -> Option<Result<u32, Error>> {
        let is_full = confirm && self.conversation.ledger.flight.is_full();
        if !self.is_ready() || is_full || !self.conversation.admits_publish(envelope.name) {
            return None;
        }
        Some(self.conversation.publish(envelope, confirm, is_awaited))
    }

    /// Registers a waiter for the answer to `id`.
    pub(in crate::client) fn wait_for(&mut self, id: u32) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        self.waiters.insert(id, sender);
        receiver
    }

    /// Removes the waiter for `id`; the caller drops it, without the lock.
    #[must_use]
    fn forget(&mut self, id: u32) -> Option<oneshot::Sender<Answer>> {
        let waiter = self.waiters.remove(&id)?;
        self.conversation.ledger.forget(id);
        self.doubted_at = Some(clock::now());
        Some(waiter)
    }

    /// Whether nothing was received from the server for this long, or since a caller last waited in
    /// vain.
    pub(in crate::client) fn is_in_doubt(&self, after: Duration) -> bool {
        let heard_at = self.conversation.link().heard_at();
        self.doubted_at.is_some_and(|at| heard_at < at) || clock::now() - heard_at >= after
    }

    #[cfg(feature = "sim")]
    pub(in crate::client) fn held(&self) -> crate::client::network::Held {
        crate::client::network::Held {
            waiters: self.waiters.len(),
            unsent_bytes: self.conversation.unsent().len(),
            ..self.conversation.ledger.held()
        }
    }

    pub(in crate::client) fn status(&self) -> Status {
        let ledger = &self.conversation.ledger;
        let phase = if self.is_abandoned || self.conversation.is_over() {
            Phase::Ended
        } else if self.conversation.is_open() {
            Phase::Open
        } else if self.conversation.can_answer() {
            Phase::Draining
        } else {
            Phase::Lost
        };
        Status {
            phase,
            connections: ledger.stood_count,
            lapses: ledger.lapse_count,
        }
    }

    /// Each answer that has arrived, with its waiter.
    fn take_answered(&mut self) -> Vec<(oneshot::Sender<Answer>, Answer)> {
        let answers = self.conversation.ledger.take_answers().into_iter();
        let waited = answers.filter_map(|(id, answer)| Some((self.waiters.remove(&id)?, answer)));
        let mut answered: Vec<_> = waited.collect();
        if self.waiters.is_empty() {
            return answered;
        }
        let ending = self.ending();
        if let Some(error) = ending.or_else(|| self.stuck()) {
            for (id, waiter) in std::mem::take(&mut self.waiters) {
                self.conversation.ledger.forget(id);
                answered.push((waiter, Err(error.copy())));
            }
        }
        answered
    }

    /// Whether the awaited answers are behind a full inbox, which is not emptied meanwhile.
    fn stuck(&self) -> Option<Error> {
        let inbox = &self.conversation.ledger.inbox;
        let is_stuck = self.is_alone && self.conversation.is_paused();
        is_stuck.then(|| Error::InboxFull {
            bytes: inbox.bytes(),
        })
    }
}

pub(in crate::client) struct Shared {
    core: Mutex<Core>,
    pub(in crate::client) options: Options,
    /// Notified when something has changed that a call may wait for.
    changed: Notify,
    /// Notified when the driver has something to do.
    work: Notify,
    status: watch::Sender<Status>,
}

impl Shared {
    pub(super) fn new(core: Core, options: Options) -> Arc<Shared> {
        let (status, _) = watch::channel(core.status());
        Arc::new(Shared {
            core: Mutex::new(core),
            options,
            changed: Notify::new(),
            work: Notify::new(),
            status,
        })
    }

    pub(in crate::client) fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic under the lock is a bug of this crate; its state is still the best available.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was written or taken: wakes the driver.
    pub(in crate::client) fn wake(&self) {
        self.work.notify_one();
    }

    /// Sends CLOSE: the driver ends, whether the server answers or not.
    pub(in crate::client) fn close(&self) {
        self.lock().conversation.close(CLOSE_TIMEOUT, clock::now());
        self.spread(); // it may be over by this already
        self.wake();
    }

    pub(super) async fn wait_for_work(&self) {
        self.work.notified().await;
    }

    pub(in crate::client) fn status(&self) -> &watch::Sender<Status> {
        &self.status
    }

    /// After each change: publish the new status first, then deliver answers to their calls and
    /// wake the owners of mailboxes, so that a caller that learns of the end finds it in the
    /// status.
    pub(super) fn spread(&self) {
        let status = self.lock().status();
        // Not under the lock: a reader of the status may hold its borrow while it waits for the
        // lock.
        self.status.send_if_modified(|told| {
            let is_new = *told != status;
            *told = status;
            is_new
        });
        let mut core = self.lock();
        let answered = core.take_answered();
        if status.phase == Phase::Ended {
            core.conversation.ledger.inbox.wake_all();
        }
        let woken = core.conversation.ledger.inbox.take_woken();
        drop(core);
        for (waiter, answer) in answered {
            let _ = waiter.send(answer);
        }
        woken.into_iter().for_each(std::task::Waker::wake);
        self.changed.notify_waiters();
    }

    /// The driver has ended: fails all waiting calls.
    pub(super) fn abandon(&self) {
        self.lock().is_abandoned = true;
        self.spread();
    }

    // ---- waiting ----

    /// Waits until `take` returns something.
    ///
    /// # Errors
    /// What ended the connection for good.
    pub(in crate::client) async fn when<T>(
        &self,
        mut take: impl FnMut(&mut Core) -> Option<T>,
    ) -> Result<T, Error> {
        let mut changed = pin!(self.changed.notified());
        let mut is_patient = false;
        loop {
            changed.as_mut().enable();
            let is_unsent = {
                let mut core = self.lock();
                if let Some(found) = take(&mut core) {
                    return Ok(found);
                }
                if let Some(error) = core.ending() {
                    return Err(error);
                }
                if let Some(error) = core.stuck() {
                    return Err(error);
                }
                !core.conversation.unsent().is_empty()
            };
            // The answer it waits for may be to something that is only buffered.
            if is_unsent && !std::mem::replace(&mut is_patient, true) {
                self.wake();
            }
            changed.as_mut().await;
            changed.set(self.changed.notified());
        }
    }

    /// Sends an operation as soon as operations may be sent, and waits for the answer. Dropping the
    /// future stops waiting.
    ///
    /// # Errors
    /// Those of `ask`, of the answer, and what ended the connection.
    pub(in crate::client) async fn call(
        &self,
        mut ask: impl FnMut(&mut Core) -> Option<Result<u32, Error>>,
    ) -> Answer {
        let (id, answer) = self
            .when(|core| ask(core).map(|asked| asked.map(|id| (id, core.wait_for(id)))))
            .await??;
        self.wake();
        let _guard = Guard { shared: self, id };
        answer.await.unwrap_or_else(|_| Err(Error::silent()))
    }

    /// Applies a call's timeout.
    ///
    /// # Errors
    /// `Timeout`, or the known reason why no answer came; and the call's own errors.
    pub(in crate::client) async fn within<T>(
        &self,
        what: &'static str,
        after: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.within_of(what, after, &AtomicBool::new(false), call)
            .await
    }

    /// As [`Shared::within`], of a call that notes whether something has been sent: then why there
    /// is no connection does not say what became of that.
    pub(in crate::client) async fn within_of<T>(
        &self,
        what: &'static str,
        after: Duration,
        is_sent: &AtomicBool,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if let Ok(done) = tokio::time::timeout(after, call).await {
            return done;
        }
        let core = self.lock();
        let inbox = &core.conversation.ledger.inbox;
        Err(match core.conversation.setback() {
            Some(error) if !core.conversation.can_answer() => match is_sent.load(Relaxed) {
                false => error,
                true => Error::Io {
                    what: "the connection broke before the answer came",
                    source: std::io::Error::other(error),
                },
            },
            _ if inbox.is_full() => Error::InboxFull {
                bytes: inbox.bytes(),
            },
            _ => Error::Timeout { what, after },
        })
    }
}

/// A call that waits for its answer.
struct Guard<'a> {
    shared: &'a Shared,
    id: u32,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let waiter = self.shared.lock().forget(self.id);
        drop(waiter);
    }
}
