//! Acquiring a connection, holding it, giving it back.
//!
//! A connection outside the books is in a [`Lease`], on its way to whoever waits, while it is
//! tried, and in the caller's hands: dropped anywhere, by a cancelled future or a panic, it
//! goes back. So none is lost and none is counted twice.

use super::maker::Maker;
use super::settings::{Settings, later};
use super::status::{PoolStatus, Reason};
use super::stock::{Kept, Stock, Ticket};
use super::task;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, consume_budget};
use tokio::time::{Instant, timeout_at};

/// Why `acquire` brought nothing.
#[derive(Debug)]
pub(super) enum Refusal<E> {
    /// `acquire_timeout` has passed.
    TimedOut {
        waited: Duration,
        status: Box<PoolStatus>,
        /// Why no connection could be made, if that was it.
        cause: Option<Arc<E>>,
    },
    /// No connection can be made, and trying again will not help.
    Failed(E),
    /// The pool is closed.
    Closed,
}

/// What comes to who waits.
pub(super) enum Grant<M: Maker> {
    Lease(Lease<M>),
    Failed(M::Error),
}

/// What the handles and tasks of one pool share.
pub(super) struct Shared<M: Maker> {
    stock: Mutex<Stock<M>>,
    pub maker: Arc<M>,
    pub settings: Settings,
    runtime: Handle,
    /// Told when nothing is open.
    emptied: Notify,
    upkeep: OnceLock<AbortHandle>,
}

impl<M: Maker> Drop for Shared<M> {
    fn drop(&mut self) {
        if let Some(upkeep) = self.upkeep.get() {
            upkeep.abort();
        }
    }
}

impl<M: Maker> Shared<M> {
    /// An empty pool, with its upkeep running on this runtime.
    pub fn open(maker: M, settings: Settings, runtime: &Handle) -> Arc<Shared<M>> {
        let shared = Arc::new(Shared {
            stock: Mutex::new(Stock::new(settings, Instant::now())),
            maker: Arc::new(maker),
            settings,
            runtime: runtime.clone(),
            emptied: Notify::new(),
            upkeep: OnceLock::new(),
        });
        let upkeep = task::upkeep(Arc::downgrade(&shared), settings.upkeep_interval());
        let _ = shared.upkeep.set(runtime.spawn(upkeep).abort_handle());
        shared
    }

    fn lock(&self) -> MutexGuard<'_, Stock<M>> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the books, and sees to what follows from that: dials, closes.
    ///
    /// Tasks are spawned behind the lock: a runtime that has ended drops them at once, and
    /// they book their end.
    pub fn change<R>(self: &Arc<Self>, change: impl FnOnce(&mut Stock<M>) -> R) -> R {
        let (result, dials, leaving) = {
            let mut stock = self.lock();
            let result = change(&mut stock);
            let dials = stock.begin_dials(Instant::now());
            let leaving = std::mem::take(&mut stock.leaving);
            stock.check_invariants();
            if stock.status().open == 0 {
                self.emptied.notify_waiters();
            }
            (result, dials, leaving)
        };
        for _ in 0..dials {
            let slot = task::Slot::new(self);
            self.runtime.spawn(task::dial(slot, self.maker.clone()));
        }
        for connection in leaving {
            let closing = task::Closing::new(self);
            let maker = self.maker.clone();
            self.runtime.spawn(task::close(closing, maker, connection));
        }
        result
    }

    pub fn status(&self) -> PoolStatus {
        self.lock().status()
    }

    /// A connection that answers: an idle one, or a new one; in the order of the calls.
    ///
    /// # Errors
    /// As [`Refusal`] tells them.
    pub async fn acquire(self: &Arc<Self>) -> Result<Lease<M>, Refusal<M::Error>> {
        let started = Instant::now();
        let deadline = later(started, self.settings.acquire_timeout);
        // Who acquires one after the other lets others run now and then.
        consume_budget().await;
        let mut place = Place::new(self);
        while let Some(lease) = place.wait(deadline).await? {
            match lease.try_out(deadline).await {
                Trial::Sound(lease) => return Ok(lease),
                Trial::Faulty => {}
                Trial::Unknown => break,
            }
        }
        Err(self.timed_out(started))
    }

    fn timed_out(self: &Arc<Self>, started: Instant) -> Refusal<M::Error> {
        self.change(|stock| {
            stock.count_timed_out();
            Refusal::TimedOut {
                waited: started.elapsed(),
                status: Box::new(stock.status()),
                cause: stock.last_failure.clone(),
            }
        })
    }

    /// Ends it: see `Pool::close`.
    pub async fn close(self: &Arc<Self>) {
        let waiting = self.change(Stock::close);
        drop(waiting);
        loop {
            let emptied = self.emptied.notified();
            if self.status().open == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// A place in the line, given up when it is dropped.
struct Place<'a, M: Maker> {
    shared: &'a Arc<Shared<M>>,
    ticket: Option<Ticket>,
    /// It may still stand in the line.
    is_queued: bool,
}

impl<M: Maker> Drop for Place<'_, M> {
    fn drop(&mut self) {
        self.leave();
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

    fn leave(&mut self) {
        if let Some(ticket) = self.ticket
            && std::mem::take(&mut self.is_queued)
        {
            // What goes with it goes without the lock.
            let waiter = self.shared.change(|stock| stock.leave_line(ticket));
            drop(waiter);
        }
    }

    /// What comes first; `None`: nothing in time. Asked again it has its old place.
    async fn wait(&mut self, deadline: Instant) -> Result<Option<Lease<M>>, Refusal<M::Error>> {
        let taken = self.shared.change(|stock| {
            let ticket = *self.ticket.get_or_insert_with(|| stock.ticket());
            match stock.is_closed {
                true => Err(Refusal::Closed),
                false => Ok(stock.take(ticket)),
            }
        })?;
        let mut receiver = match taken {
            Ok(kept) => return Ok(Some(Lease::new(kept, self.shared.clone()))),
            Err(receiver) => receiver,
        };
        self.is_queued = true;
        let granted = match timeout_at(deadline, &mut receiver).await {
            Ok(granted) => granted.ok(),
            Err(_) => {
                // It may have come this very moment; after this it cannot any more.
                self.leave();
                match receiver.try_recv() {
                    Ok(grant) => Some(grant),
                    Err(_) => return Ok(None),
                }
            }
        };
        self.is_queued = false;
        match granted {
            Some(Grant::Lease(lease)) => Ok(Some(lease)),
            Some(Grant::Failed(error)) => Err(Refusal::Failed(error)),
            None => Err(Refusal::Closed),
        }
    }
}

/// What trying a connection has shown.
enum Trial<M: Maker> {
    Sound(Lease<M>),
    Faulty,
    /// Nothing, before there was no more time.
    Unknown,
}

/// A connection outside the books; dropped, it is given back.
pub(super) struct Lease<M: Maker> {
    /// `None` only once it has gone.
    kept: Option<Kept<M::Connection>>,
    /// The caller has had it: what is given back has been used until then.
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

    /// Of the pool it belongs to.
    pub fn status(&self) -> PoolStatus {
        self.shared.status()
    }

    /// Takes it out; the lease is nothing any more.
    pub fn take(mut self) -> Option<Kept<M::Connection>> {
        self.kept.take()
    }

    /// Looks at one, and asks it if it has rested for a while.
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
        let shared = &self.shared;
        shared.change(|stock| match fault {
            _ if stock.is_closed => stock.retire(kept.connection, Reason::Pool),
            Some(reason) => stock.retire(kept.connection, reason),
            None => stock.put(kept, shared),
        });
    }
}
