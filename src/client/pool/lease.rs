//! Acquiring a connection, holding it, returning it.
//!
//! A connection outside the books is in a [`Lease`] while it is being checked or in use: wherever
//! that is dropped, by a cancelled future or a panic, the connection is returned. A connection
//! granted to a waiting caller is in the books; an abandoned [`Place`] passes it on. So none is
//! lost and none is counted twice.

use super::maker::Maker;
use super::settings::later;
use super::shared::Shared;
use super::status::{PoolStatus, Reason};
use super::stock::{Grant, Kept, Stock, Ticket};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::consume_budget;
use tokio::time::{Instant, timeout_at};

/// Why `acquire` failed.
#[derive(Debug)]
pub(super) enum Refusal<E> {
    /// `acquire_timeout` has passed.
    TimedOut {
        waited: Duration,
        status: Box<PoolStatus>,
        /// Why no connection could be made, if that was the cause.
        cause: Option<Arc<E>>,
    },
    /// No connection can be made, and trying again will not help.
    Failed(E),
    /// The pool is closed.
    Closed,
}

/// Acquires a connection that answers, an idle or a new one, in the order of the calls.
///
/// # Errors
/// As in [`Refusal`].
pub(super) async fn acquire<M: Maker>(
    shared: &Arc<Shared<M>>,
) -> Result<Lease<M>, Refusal<M::Error>> {
    let started = Instant::now();
    let deadline = later(started, shared.settings.acquire_timeout);
    // Lets other tasks run now and then if one acquires in a loop.
    consume_budget().await;
    let mut place = Place::new(shared);
    while let Some(lease) = place.wait(deadline).await? {
        match lease.try_out(deadline).await {
            Trial::Sound(lease) => return Ok(lease),
            Trial::Faulty => {}
            Trial::Unknown => break,
        }
    }
    Err(timed_out(shared, started))
}

fn timed_out<M: Maker>(shared: &Arc<Shared<M>>, started: Instant) -> Refusal<M::Error> {
    shared.change(|stock| {
        stock.count_timed_out();
        Refusal::TimedOut {
            waited: started.elapsed(),
            status: Box::new(stock.status()),
            cause: stock.last_failure.clone(),
        }
    })
}

/// A place in the queue, given up when it is dropped.
struct Place<'a, M: Maker> {
    shared: &'a Arc<Shared<M>>,
    ticket: Option<Ticket>,
    /// Whether it may still be in the queue.
    is_queued: bool,
}

impl<M: Maker> Drop for Place<'_, M> {
    fn drop(&mut self) {
        if let Some(Grant::Connection(kept)) = self.leave() {
            // Dropped without the lock held, so that it can be returned.
            drop(Lease::new(kept, self.shared.clone()));
        }
    }
}

impl<'a, M: Maker> Place<'a, M> {
    fn new(shared: &'a Arc<Shared<M>>) -> Place<'a, M> {
        Place {
            shared,
            ticket: None,
            is_queued: false,
        }
    }

    /// Leaves the queue, with what has been granted to it meanwhile.
    fn leave(&mut self) -> Option<Grant<M>> {
        let ticket = self
            .ticket
            .filter(|_| std::mem::take(&mut self.is_queued))?;
        self.shared.change(|stock| stock.leave_line(ticket))
    }

    /// Waits for a grant; `None`: nothing in time. A later call keeps the old place.
    async fn wait(&mut self, deadline: Instant) -> Result<Option<Lease<M>>, Refusal<M::Error>> {
        let taken = self.shared.change(|stock| {
            let ticket = *self.ticket.get_or_insert_with(|| stock.ticket());
            match stock.is_closed {
                true => Err(Refusal::Closed),
                false => Ok(stock.take(ticket)),
            }
        })?;
        let receiver = match taken {
            Ok(kept) => return Ok(Some(Lease::new(kept, self.shared.clone()))),
            Err(receiver) => receiver,
        };
        self.is_queued = true;
        let in_time = timeout_at(deadline, receiver).await.is_ok();
        // Something may have been granted at the same moment.
        match self.leave() {
            Some(Grant::Connection(kept)) => Ok(Some(Lease::new(kept, self.shared.clone()))),
            Some(Grant::Failed(error)) => Err(Refusal::Failed(error)),
            None if in_time => Err(Refusal::Closed),
            None => Ok(None),
        }
    }
}

/// The result of checking a connection.
enum Trial<M: Maker> {
    Sound(Lease<M>),
    Faulty,
    /// No result within the time.
    Unknown,
}

/// A connection outside the books; dropping this returns it.
pub(super) struct Lease<M: Maker> {
    /// `None` only once it has been returned.
    kept: Option<Kept<M::Connection>>,
    /// Whether the caller has had it, so that it counts as used until it is returned.
    is_used: bool,
    shared: Arc<Shared<M>>,
}

impl<M: Maker> Lease<M> {
    pub fn new(kept: Kept<M::Connection>, shared: Arc<Shared<M>>) -> Lease<M> {
        Lease {
            kept: Some(kept),
            is_used: false,
            shared,
        }
    }

    pub fn connection(&self) -> Option<&M::Connection> {
        self.kept.as_ref().map(|kept| &kept.connection)
    }

    /// The pool it belongs to.
    pub fn status(&self) -> PoolStatus {
        self.shared.status()
    }

    /// Checks a connection, with a PING if it has been idle for a while.
    async fn try_out(mut self, deadline: Instant) -> Trial<M> {
        let Some(kept) = &self.kept else {
            return Trial::Faulty;
        };
        let (now, settings) = (Instant::now(), &self.shared.settings);
        let maker = self.shared.maker.clone();
        let expired = kept.is_expired(now).then_some(Reason::Lifetime);
        if let Some(reason) = maker.fault(&kept.connection).or(expired) {
            self.retire(reason);
            return Trial::Faulty;
        }
        if maker.is_in_doubt(&kept.connection, settings.check_after) {
            let until = deadline.min(later(now, settings.check_timeout));
            match timeout_at(until, maker.answers(&kept.connection)).await {
                Ok(true) => {}
                Err(_) if until == deadline => return Trial::Unknown,
                Err(_) => {
                    let shared = self.shared.clone();
                    shared.change(|stock| stock.retire_doubtful(&maker));
                    self.retire(Reason::Dead);
                    return Trial::Faulty;
                }
                Ok(false) => {
                    self.retire(Reason::Dead);
                    return Trial::Faulty;
                }
            }
        }
        self.is_used = true;
        self.shared.change(Stock::count_acquired);
        Trial::Sound(self)
    }

    fn retire(mut self, reason: Reason) {
        if let Some(kept) = self.kept.take() {
            let retire = |stock: &mut Stock<M>| stock.retire(kept.connection, reason);
            self.shared.change(retire);
        }
    }
}

impl<M: Maker> Drop for Lease<M> {
    fn drop(&mut self) {
        let Some(mut kept) = self.kept.take() else {
            return;
        };
        let now = Instant::now();
        if self.is_used {
            kept.idle_since = now;
        }
        let fault = self.shared.maker.fault(&kept.connection);
        let fault = fault.or(kept.is_expired(now).then_some(Reason::Lifetime));
        self.shared.change(|stock| match fault {
            _ if stock.is_closed => stock.retire(kept.connection, Reason::Pool),
            Some(reason) => stock.retire(kept.connection, reason),
            None => stock.put(kept),
        });
    }
}
